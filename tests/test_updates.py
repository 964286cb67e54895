"""What rows of training say of the optimizer and of time: its rate, the norms of gradient and update, seconds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from fit import dataset, experiment, fit, go_on, new_run, started

from aecli.core.learner import OF_UPDATES, watched
from aecli.core.model import Batch
from aecli.reports.facts import _clock, series
from aecli.runs import checkpoint, commits
from aecli.runs.directory import Run
from aecli.runs.inherited import inherit, started_from
from aecli.runs.records import Row, validated
from aecli.runs.state import init, state_template
from aecli.runs.trained import load
from aecli.system.placement import placement
from aecli.training.loop import train

DATA = dataset(train=16)
LINEAR = "variant: bottleneck, latent: 3, net: linear"


def rows(run: Run, split: str = "train") -> list[dict[str, Any]]:
    return [row.as_json() for row in run.rows() if row.split == split]


def weights(run: Run, step: int) -> dict[str, Any]:
    """Those of a checkpoint, as they are trained: not averaged."""
    found = load(run, "last", print)
    assert found.step == step
    return {path: np.asarray(leaf) for path, leaf in checkpoint.leaves(found.state).items() if "params" in path.split("/")}


def norm(arrays: dict[str, Any]) -> float:
    return float(np.sqrt(sum(np.square(array, dtype=np.float64).sum() for array in arrays.values())))


def test_the_norms_are_those_of_what_the_weights_moved_by(tmp_path: Path) -> None:
    """Plain descent moves them by the rate times the gradient. Runs of one step and of two differ in the second alone, since
    neither the batch of 16 images nor what is made of them is drawn."""
    ends, moved = [], []
    for steps in (1, 2):
        e = experiment(LINEAR, f"steps: {steps}, log_every: 1", optimizer="name: sgd, b1: 0, learning_rate: 1e-3")
        run, _ = fit(tmp_path / str(steps), e, DATA)
        ends.append(weights(run, steps))
        moved.append(rows(run)[-1])
    step = {path: array - ends[0][path] for path, array in ends[1].items()}
    assert moved[1]["update_norm"] == pytest.approx(norm(step), rel=1e-3)
    assert moved[1]["gradient_norm"] == pytest.approx(norm(step) / 1e-3, rel=1e-3)
    assert moved[0]["gradient_norm"] != moved[1]["gradient_norm"]
    assert moved[1]["learning_rate"] == 1e-3


def test_the_gradient_is_told_as_it_was_before_it_was_clipped(tmp_path: Path) -> None:
    told = []
    for more in ("", ", clip_norm: 0.5"):
        e = experiment(LINEAR, "steps: 1", optimizer=f"name: sgd, b1: 0, learning_rate: 1e-2{more}")
        told.append(rows(fit(tmp_path / str(len(told)), e, DATA)[0])[0])
    assert told[0]["gradient_norm"] == told[1]["gradient_norm"] > 1
    assert told[1]["update_norm"] == pytest.approx(0.5 * 1e-2, rel=1e-5)
    assert told[0]["update_norm"] == pytest.approx(told[0]["gradient_norm"] * 1e-2, rel=1e-5)


def test_the_rate_is_the_one_of_the_rows_last_step(tmp_path: Path) -> None:
    optimizer = "name: adamw, learning_rate: 1e-2, warmup: 3, schedule: cosine"
    e = experiment(LINEAR, "steps: 8, log_every: 2", optimizer=optimizer)
    run, _ = fit(tmp_path, e, DATA)
    schedule = e.optimizer.learning_rate_at(8)
    expected = [float(schedule(step - 1)) for step in (2, 4, 6, 8)]
    assert [row["learning_rate"] for row in rows(run)] == pytest.approx(expected, rel=1e-6)
    assert all(row.keys() >= set(OF_UPDATES) for row in rows(run))
    assert all(row.keys().isdisjoint(OF_UPDATES) for row in rows(run, "validation"))


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "lion", "muon"])
def test_every_optimizer_tells_its_rate(name: str) -> None:
    optimizer = experiment(LINEAR, optimizer=f"name: {name}, learning_rate: 1e-2, warmup: 5, clip_norm: 1.0").optimizer
    params = {"kernel": np.ones((3, 4), np.float32), "bias": np.ones(4, np.float32)}
    rule, rates = optimizer.build(9), []
    state = rule.init(params)
    for _ in range(3):
        rates.append(float(optimizer.learning_rate_now(state, 9)))
        _, state = rule.update(params, state, params)
    assert rates == pytest.approx([0, 2e-3, 4e-3])


def test_frozen_weights_have_no_part_in_the_norms() -> None:
    told = []
    for more in ("", ", freeze: [encoder]"):
        e = experiment(LINEAR, optimizer=f"name: sgd, b1: 0, learning_rate: 1.0{more}")
        state = init(e, DATA.spec, 16, placement(1))
        image = np.asarray(DATA.train.images[:16], np.float32) / 255
        batch = Batch(image, np.asarray(DATA.train.labels[:16]), np.ones(16, bool))
        step = jax.jit(
            lambda state, e=e, batch=batch: watched(lambda s: e.model.train_step(s, batch, jax.random.key(0)), state, True)
        )
        after, _, updates = step(state)
        told.append(updates)
        before = checkpoint.leaves(state)
        moved = {path: np.asarray(leaf) - before[path] for path, leaf in checkpoint.leaves(after).items() if "params" in path}
        assert float(updates["update_norm"]) == pytest.approx(norm(moved), rel=1e-3)
    assert 0 < float(told[1]["gradient_norm"]) < float(told[0]["gradient_norm"])


def test_networks_with_an_optimizer_each_have_rates_and_norms_of_their_own(tmp_path: Path) -> None:
    """And one that rests in a row's last step tells nothing there."""
    gan = "variant: gan, hidden: [4, 6], latent: 5, discriminator_steps: 2, discriminator_rate: 3.0"
    e = experiment(gan, "steps: 4, log_every: 1", optimizer="learning_rate: 1e-3, b1: 0, schedule: linear")
    run, _ = fit(tmp_path, e, DATA)
    generator, discriminator = (
        [[row.get(f"{network}_{name}") for row in rows(run)] for name in OF_UPDATES] for network in ("generator", "discriminator")
    )
    assert [None not in each for each in discriminator] == [True] * 3
    assert [[value is None for value in each] for each in generator] == [[True, False, True, False]] * 3
    assert discriminator[0] == pytest.approx([3e-3, 2.25e-3, 1.5e-3, 0.75e-3])
    assert generator[0][1::2] == pytest.approx([1e-3, 0.5e-3]), (
        "of two updates the second is at half of the schedule, as the run is"
    )
    assert not set(OF_UPDATES) & rows(run)[0].keys()


def test_a_run_from_another_ones_weights_begins_its_schedule_anew(tmp_path: Path) -> None:
    e = experiment(LINEAR, "steps: 4, log_every: 1", optimizer="learning_rate: 1e-2, schedule: linear")
    source, _ = fit(tmp_path, e, DATA)
    _, fresh = started(LINEAR, DATA)
    trained = load(source, "last", print)
    first = started_from(init(e, DATA.spec, 16, placement(16)), inherit(fresh, trained, source.id))
    assert int(first.step) == 4, "the learner's own count comes along"
    run = new_run(tmp_path, e, DATA)
    with run.locked():
        place = placement(16)
        train(e, run, DATA, state_template(e, DATA.spec, 16, place), place, print, first)
    assert [row["learning_rate"] for row in rows(run)] == [row["learning_rate"] for row in rows(source)]


def test_seconds_go_on_over_a_resume_and_end_with_those_of_the_state(tmp_path: Path) -> None:
    e = experiment(LINEAR, "steps: 6, log_every: 2, checkpoint_every: 2, keep: 9")
    whole, _ = fit(tmp_path, e, DATA)
    cut = Run(tmp_path / "cut")
    shutil.copytree(whole.path, cut.path)
    for later in (4, 6):
        (cut.checkpoints / f"{later}.commit.json").unlink()
    first = [row.seconds for row in whole.rows()]
    go_on(cut, e, DATA)
    told = [row.seconds for row in cut.rows()]
    assert None not in told and told == sorted(told) and told[0] == first[0] and len(told) == len(first)
    assert told[-1] == cut.recorded().seconds
    updates = [{name: row[name] for name in OF_UPDATES} for row in rows(cut)]
    assert updates == [{name: row[name] for name in OF_UPDATES} for row in rows(whole)], "of the same bits"


def test_a_run_whose_seconds_nobody_counted_tells_none(tmp_path: Path) -> None:
    """An older version began it."""
    e = experiment(LINEAR, "steps: 4, log_every: 2, checkpoint_every: 2, keep: 9")
    run, _ = fit(tmp_path, e, DATA)
    for later in (3, 4):
        (run.checkpoints / f"{later}.commit.json").unlink(missing_ok=True)
    commit = run.checkpoints / "2.commit.json"
    kept = json.loads(commit.read_text())
    del kept["extra"]["progressed"]["seconds"]
    commit.write_text(json.dumps(commits.sealed(kept)))
    assert go_on(run, e, DATA).resumed_from == 2
    assert [row.seconds is None for row in run.rows() if row.step == 4] == [True, True]


def test_lines_and_curves_are_of_the_models_values() -> None:
    told = {"split": "train", "step": 10, "epoch": 1.0, "loss": 2.0, "images_per_s": 320.0, "steps": 10, "seconds": 0.5}
    row = validated(Row, {**told, "learning_rate": 1e-3, "generator_gradient_norm": 2.0, "update_norm": 0.1})
    assert row.values == {"loss": 2.0, "images_per_s": 320.0} and list(series([row])) == ["loss"]
    assert row.as_json()["generator_gradient_norm"] == 2.0


def test_curves_over_time_are_by_the_seconds_that_rows_tell() -> None:
    told = {"split": "train", "epoch": 1.0, "loss": 2.0, "images_per_s": 320.0, "steps": 10}
    old = [validated(Row, {**told, "step": step}) for step in (10, 20)]
    assert _clock(old, 32) == {10: 1.0, 20: 2.0}
    assert _clock([validated(Row, {**told, "step": 10, "seconds": 0.7}), *old[1:]], 32) == {10: 0.7, 20: 1.7}
    assert _clock([validated(Row, {"split": "train", "epoch": 1.0, "step": 10, "seconds": 0.7})], 32) == {10: 0.7}


def test_what_is_told_of_an_update_is_no_value_of_a_line() -> None:
    """By its names, and by those with the place of a learner before them."""
    told = dict.fromkeys([name for each in OF_UPDATES for name in (each, f"generator_{each}")], 1.0)
    assert Row.model_validate({"split": "train", "step": 1, "epoch": 1.0, "loss": 2.0, **told}).values == {"loss": 2.0}
