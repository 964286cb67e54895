"""A budget of operations or minutes is turned into steps once, and the run is then one of so many steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fit import dataset, experiment
from made_runs import made
from process import TINY, called

from aecli.config.load import parse
from aecli.errors import SettingError
from aecli.reports import member
from aecli.reports.groups import differing, grouped
from aecli.runs import commits
from aecli.runs.directory import Run
from aecli.runs.records import Budget
from aecli.runs.state import state_template
from aecli.sweeps.draft import held_key
from aecli.sweeps.holding import hold
from aecli.system.placement import placement
from aecli.training.call import flop_of_step
from aecli.verbs import budget
from aecli.verbs.bench import speed_of

VAE = "variant: vae, hidden: [12], latent: 3"
COSINE = TINY.replace("learning_rate: 1e-3", "learning_rate: 1e-3, schedule: cosine")
DATA = dataset()


def of(train: str, model: str = VAE) -> Budget | None:
    e = experiment(model, train)
    return budget.in_steps(e, DATA, placement(e.data.batch_size))


def arrays(run: Run) -> dict[str, str]:
    """The SHA-256 of every array of the last checkpoint."""
    return {leaf.path: leaf.sha256 for leaf in commits.read(run.checkpoints, commits.steps(run.checkpoints)[-1]).leaves}


@pytest.mark.parametrize("data", ["batch_size: 16", "batch_size: 16, binarize: dynamic"])
@pytest.mark.parametrize("model", [VAE, "variant: autoregressive, width: 8, layers: 1"])
def test_the_operations_of_a_step_are_those_that_bench_tells(model: str, data: str) -> None:
    e = experiment(model, "minutes: 60", data)
    template = state_template(e.without_budget(), DATA.spec, len(DATA.train), placement(16))
    assert flop_of_step(e.without_budget(), DATA.spec, template) == speed_of(e, DATA, 0.01).flop_per_step > 0


def test_operations_are_as_many_steps_as_fit_in_them() -> None:
    each = speed_of(experiment(VAE), DATA, 0.01).flop_per_step
    for amount, steps in ((each, 1), (2.999 * each, 2), (1000 * each, 1000)):
        found = of(f"flop: {amount!r}")
        assert found is not None and (found.steps, found.per_step) == (steps, each)
    assert of("steps: 3") is None and of("epochs: 3") is None


@pytest.mark.parametrize(("flop", "told"), [(1.0, "1 FLOP are less than a step, which is "), (1e30, "2,147,483,647")])
def test_operations_for_less_than_a_step_or_for_too_many_are_refused(flop: float, told: str) -> None:
    with pytest.raises(SettingError, match=told) as error:
        of(f"flop: {flop}")
    assert error.value.path == ("train", "flop")


@pytest.mark.parametrize(
    ("minutes", "seconds", "steps"),
    [
        (1.0, (0.5, 0.0), 120),
        (1.0, (0.5, 3.0), 38),  # a validation after every three steps, and the last: 57 s of 1.5 s each
        (0.001, (0.5, 3.0), 1),
    ],
)
def test_minutes_are_steps_and_the_validations_between_them(
    minutes: float, seconds: tuple[float, float], steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "_seconds", lambda *_: seconds)
    found = of(f"minutes: {minutes}")  # passes of 48 images, 16 a step
    assert found is not None and found.steps == steps


@pytest.mark.parametrize(("setting", "amount"), [("flop", 1.2e6), ("minutes", 0.001)])
def test_a_run_of_a_budget_is_that_of_its_steps_to_the_bit_and_is_measured_once(
    setting: str, amount: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    length = f"train.{setting}={amount}"
    (tmp_path / "c.yaml").write_text(COSINE)
    done = called("train", "c.yaml", "--set", length, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "runs" / done.stdout.strip())
    found = run.info().budget
    assert found is not None and (found.setting, found.amount) == (setting, amount) and found.told in done.stderr
    train = parse(run.resolved_config(), "x").experiment.train
    assert (train.steps, train.epochs, train.flop, train.minutes) == (found.steps, None, None, None)
    assert run.recorded().step == found.steps
    if setting == "flop":
        each = run.recorded().flop_per_step
        assert each == found.per_step and found.steps == amount // each

    alone = called("train", "c.yaml", "--set", f"train.steps={found.steps}", "--name", "alone", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    other = Run(tmp_path / "runs" / alone.stdout.strip())
    assert arrays(run) == arrays(other)
    assert run.resolved_config() == other.resolved_config()

    def never(*_: Any) -> None:
        raise AssertionError("a resume measures again")

    monkeypatch.setattr(budget, "in_steps", never)
    again = called("train", "--resume", run.id, "--set", f"train.steps={found.steps + 2}", cwd=tmp_path)
    assert again.returncode == 0 and run.recorded().step == found.steps + 2
    refused = called("train", "--resume", run.id, "--set", length, cwd=tmp_path)
    assert refused.returncode == 2 and "only train.steps, train.epochs and train.trackers may change" in refused.stderr
    assert "length     train." in called("show", run.id, cwd=tmp_path).stdout


def test_check_takes_a_budget_and_tells_its_steps(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(TINY)
    told = called("check", "c.yaml", "--set", "train.flop=1e9", cwd=tmp_path)
    assert told.returncode == 0 and "train.flop: 1000000000 is " in told.stdout
    little = called("check", "c.yaml", "--set", "train.flop=100", cwd=tmp_path)
    assert little.returncode == 2 and "--set train.flop=100: " in little.stderr and "less than a step" in little.stderr
    smoke = called("check", "c.yaml", "--smoke", "--set", "train.minutes=60", cwd=tmp_path)
    assert smoke.returncode == 0 and "2 steps" in smoke.stdout


def test_a_sweep_gives_each_cell_the_steps_of_equal_operations(tmp_path: Path) -> None:
    """A cell is the run that `train` makes of its flags."""
    (tmp_path / "c.yaml").write_text(TINY)
    runs: list[Run] = []
    for hidden in ("[16]", "[64]"):
        done = called("train", "c.yaml", "--set", "train.flop=1e7", "--set", f"model.hidden={hidden}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        runs.append(Run(tmp_path / "runs" / done.stdout.strip()))
    small, large = runs
    assert small.recorded().step > 2 * large.recorded().step
    for run in runs:
        each = run.recorded().flop_per_step
        assert each is not None and 0 <= 1e7 - each * run.recorded().step < each
    assert differing([member.read(run, "test") for run in runs]) == ("model.hidden",), "what was asked for is alike"


def test_a_sweep_refuses_operations_that_are_too_few_for_a_cell_before_it_begins(tmp_path: Path) -> None:
    flags = [["train.flop=5e5", f"model.hidden={hidden}"] for hidden in ("[16]", "[64]")]
    small, large = hold(TINY, "c.yaml", tmp_path, flags, (), None)
    assert small.setting is None and large.setting is not None and "less than a step" in large.setting[2]
    few, many = (parse(TINY, "c.yaml", [f"train.flop={flop}"]).experiment for flop in (5e5, 5e6))
    assert held_key(few) != held_key(many), "cells that differ in it are held each"


def budgeted(root: Path, seed: int, steps: int, recorded: int) -> Run:
    """A run of ten minutes that were so many `recorded` steps, and that is of so many now."""
    asked = {"setting": "minutes", "amount": 10.0, "per_step": 600 / recorded, "steps": recorded}
    run = made(root, seed=seed, budget=asked)
    resolved = run.path / "config.resolved.yaml"
    resolved.write_text(resolved.read_text().replace("steps: 40", f"steps: {steps}"))
    return run


def test_seeds_of_equal_minutes_are_one_group_whatever_their_steps(tmp_path: Path) -> None:
    one, two = budgeted(tmp_path, 0, 100, 100), budgeted(tmp_path, 1, 120, 120)
    longer = budgeted(tmp_path, 2, 500, 120)
    groups = grouped([member.read(run, "test") for run in (one, two, longer)])
    assert [len(group.members) for group in groups] == [2, 1], "one that was made longer is of its steps"
