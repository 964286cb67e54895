"""The loop: what it writes and when, how it ends, and what it keeps."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
from collections.abc import Generator
from pathlib import Path

import jax
import pytest
from fit import dataset, experiment, fit, go_on, new_run

import aecli
from aecli.config.load import load as load_config
from aecli.data.sources.registry import check_name
from aecli.errors import CheckpointError, ConfigError, DivergedError, InterruptedRun, SettingError
from aecli.runs import checkpoint, commits
from aecli.runs.state import state_template
from aecli.runs.trained import best_step, load
from aecli.system.placement import placement
from aecli.system.signals import Signals
from aecli.training.call import all_finite
from aecli.training.loop import Training
from aecli.verbs import check

VAE = "variant: vae, hidden: [12], latent: 3"
DATA = dataset()


def test_rows_come_at_their_steps_and_evaluations_at_the_ends_of_epochs(tmp_path: Path) -> None:
    run, _ = fit(tmp_path, experiment(VAE, "epochs: 4, eval_every: 2, log_every: 5", "batch_size: 20"), DATA)
    rows = run.rows()
    assert [row.step for row in rows if row.split == "train"] == [5, 10]
    assert [row.step for row in rows if row.split == "validation"] == [5, 10]  # 96 and 192 of 48 images, 20 at a time
    assert all(row.epoch == round(row.step * 20 / 48, 4) for row in rows)
    assert {"loss", "rate_nats", "distortion_nats"} <= rows[0].values.keys()
    assert commits.steps(run.checkpoints) == [5, 10]
    assert run.state() == "completed" and run.recorded().step == 10


def test_training_values_are_averages_over_every_example_since_the_last_row(tmp_path: Path) -> None:
    e = experiment(VAE, "steps: 6, log_every: 1")
    fine, _ = fit(tmp_path, e, DATA)
    coarse, _ = fit(tmp_path, experiment(VAE, "steps: 6, log_every: 3"), DATA)
    losses = [row.values["loss"] for row in fine.rows() if row.split == "train"]
    averages = [row.values["loss"] for row in coarse.rows() if row.split == "train"]
    assert averages == pytest.approx([sum(losses[:3]) / 3, sum(losses[3:]) / 3], rel=1e-5)


def test_the_best_checkpoint_stays_and_patience_ends_the_run(tmp_path: Path) -> None:
    """A learning rate that ruins what little warming up achieved: the first evaluations are the best."""
    e = experiment(
        VAE,
        "steps: 400, patience: 3, log_every: 50",
        "batch_size: 16",
        "name: sgd, learning_rate: 5.0, warmup: 400, clip_norm: 1.0",
    )
    run, training = fit(tmp_path, e, DATA)
    recorded = run.recorded()
    values = {row.step: row.values["loss"] for row in run.rows() if row.split == "validation"}
    best = min(values, key=lambda step: values[step])
    assert recorded.best_step == best and recorded.best_value == values[best]
    assert training.at.step == best + 3 * 3 < 400 and "stopped early" in recorded.reason
    kept = commits.steps(run.checkpoints)
    assert best in kept and kept[-1] == training.at.step and len(kept) == 3
    assert best_step(run, commits.steps(run.checkpoints)) == best
    assert [load(run, which, print).step for which in ("best", "last")] == [best, kept[-1]]


def test_a_monitor_that_stands_still_is_not_better(tmp_path: Path) -> None:
    """A rate too small to move a weight: the first evaluation stays the best, and patience runs out."""
    e = experiment(VAE, "epochs: 9, patience: 2", "batch_size: 16", "name: sgd, learning_rate: 1e-30, b1: 0.0")
    run, training = fit(tmp_path, e, DATA)
    values = {row.values["loss"] for row in run.rows() if row.split == "validation"}
    assert len(values) == 1 and run.recorded().best_step == 3 and training.at.step == 9


def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_step(tmp_path: Path) -> None:
    e = experiment(
        VAE, "steps: 60, checkpoint_every: 1, log_every: 60", "batch_size: 16", "name: sgd, learning_rate: 1e3, warmup: 50"
    )
    run = new_run(tmp_path, e, DATA)
    with pytest.raises(DivergedError, match=r"not finite at step \d+") as caught:
        go_on(run, e, DATA)
    assert run.state() == "diverged" and "step" in run.recorded().reason
    named = int(caught.value.message.split("at step ")[1].split(";")[0])
    kept = commits.steps(run.checkpoints)
    assert kept and kept[-1] in (named - 1, named)
    template = state_template(e, DATA.spec, len(DATA.train), placement(16))
    restored = checkpoint.restore(run.checkpoints, template, print)
    assert restored is not None and all_finite(restored.state), "what was kept is sound"


def test_a_monitor_that_is_measured_and_not_reported_is_refused_before_a_run_is_there(tmp_path: Path) -> None:
    config = tmp_path / "a.yaml"
    config.write_text("data: {name: digits}\nmodel: {variant: sparse, units: 9, k: 2}\n")
    sets = ["train.steps=5", "train.monitor=explained_variance"]
    with pytest.raises(ConfigError) as checked:
        check.hold_against_data(load_config(config, sets, check_name))
    with pytest.raises(ConfigError) as trained:
        aecli.train(config, {"train.steps": 5, "train.monitor": "explained_variance"}, runs_dir=tmp_path / "runs")
    for error in (checked.value, trained.value):
        said = error.render()
        assert "is measured at validations" in said and "metrics: l0, loss, mse" in said, said
    assert not aecli.list_runs(runs_dir=tmp_path / "runs")


def test_a_monitor_that_does_not_exist_is_refused_before_training(tmp_path: Path) -> None:
    e = experiment(VAE, "steps: 5, monitor: rate_nat")
    run = new_run(tmp_path, e, DATA)
    with pytest.raises(SettingError) as caught:
        go_on(run, e, DATA)
    assert caught.value.path == ("train", "monitor") and caught.value.label == "did you mean 'rate_nats'?"
    assert run.state() == "failed" and not run.rows()
    fit(tmp_path, experiment(VAE, "steps: 5, monitor: rate_nats"), DATA)


def test_without_a_validation_split_the_last_checkpoint_is_the_one(tmp_path: Path) -> None:
    data = dataset(held_out=16)
    data = dataclasses.replace(data, validation=data.validation.part(0, 0))
    run, _ = fit(tmp_path, experiment(VAE, "epochs: 2, log_every: 100"), data)
    assert [row.split for row in run.rows()] == ["train"]
    assert best_step(run, commits.steps(run.checkpoints)) is None and commits.steps(run.checkpoints) == [3, 6]


@pytest.mark.parametrize("batch", [5, 6, 16])
def test_any_batch_size_trains_and_evaluates_on_as_many_devices_as_divide_it(tmp_path: Path, batch: int) -> None:
    _, training = fit(tmp_path, experiment(VAE, "epochs: 1", f"batch_size: {batch}"), DATA)
    assert training.at.evaluated == training.at.step


@contextlib.contextmanager
def compilations() -> Generator[list[str]]:
    """The names of the programs that are compiled within it."""
    compiled: list[str] = []

    def listen(event: str, seconds: float, **facts: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(str(facts["fun_name"]))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_the_steps_are_compiled_once_beside_the_first_state(tmp_path: Path) -> None:
    """What is compiled from the form of the state is what its steps run."""
    with compilations() as compiled:
        fit(tmp_path, experiment(f"{VAE}, beta: 1.125", "steps: 2"), dataset(held_out=16))
    for program in ("_first_state", "advance"):
        assert sum(program in name for name in compiled) == 1, compiled


@pytest.mark.parametrize("tier", ["device", "memmap"])
def test_nothing_is_compiled_again_between_epochs_and_at_evaluation(tmp_path: Path, tier: str) -> None:
    e = experiment(f"{VAE}, beta: 1.{len(tier)}", "epochs: 3, log_every: 2")
    data = dataset(tier=tier)
    with compilations() as compiled:
        fit(tmp_path, e, data)
    assert sum("advance" in name for name in compiled) == 1
    with compilations() as compiled:
        fit(tmp_path, e, data)
    assert not compiled


def test_a_signal_ends_a_run_at_a_step_with_its_state_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    e = experiment(VAE, "steps: 300, log_every: 100, eval_every: 100")
    whole, _ = fit(tmp_path, e, DATA)
    run = new_run(tmp_path, e, DATA)
    evaluated = iter([17, 43, 99, 150, 250])
    stop = Training._stop_if_asked
    for number in evaluated:

        def asked(self, at=number):
            if self.at.step >= at:
                self._signals.received = signal.SIGTERM
            stop(self)

        monkeypatch.setattr(Training, "_stop_if_asked", asked)
        with pytest.raises(InterruptedRun) as caught:
            go_on(run, e, DATA)
        assert caught.value.signum == signal.SIGTERM and run.state() == "interrupted"
        assert commits.steps(run.checkpoints)[-1] >= number
        assert f"--resume {run.id}" in str(caught.value.help)
    monkeypatch.setattr(Training, "_stop_if_asked", stop)
    go_on(run, e, DATA)
    assert digests(run.checkpoints, 300) == digests(whole.checkpoints, 300)
    assert [row.step for row in run.rows()] == [row.step for row in whole.rows()]


def test_an_evaluation_that_a_signal_cut_is_done_at_the_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aecli.training import loop as module

    e = experiment(VAE, "epochs: 4, log_every: 100")
    run, real, calls = new_run(tmp_path, e, DATA), module.validate, iter([False, True])

    def cut(*arguments, **keywords):
        if next(calls, False):
            signals[0].received = signal.SIGINT
        return real(*arguments, **keywords)

    signals: list[Signals] = []
    enter = Signals.__enter__

    def noted(self):
        signals.append(self)
        return enter(self)

    monkeypatch.setattr(Signals, "__enter__", noted)
    monkeypatch.setattr(module, "validate", cut)
    with pytest.raises(InterruptedRun):
        go_on(run, e, DATA)
    assert [row.step for row in run.rows() if row.split == "validation"] == [3]
    monkeypatch.setattr(module, "validate", real)
    go_on(run, e, DATA)
    assert [row.step for row in run.rows() if row.split == "validation"] == [3, 6, 9, 12]


def test_the_last_evaluation_counts_even_if_a_signal_cut_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    e = experiment(VAE, "steps: 3, log_every: 100")
    whole, _ = fit(tmp_path, e, DATA)
    run, stop = new_run(tmp_path, e, DATA), Training._stop_if_asked

    def asked(self):
        if self.at.step == 3:
            self._signals.received = signal.SIGINT
        stop(self)

    monkeypatch.setattr(Training, "_stop_if_asked", asked)
    with pytest.raises(InterruptedRun):
        go_on(run, e, DATA)
    assert best_step(run, commits.steps(run.checkpoints)) is None
    monkeypatch.setattr(Training, "_stop_if_asked", stop)
    go_on(run, e, DATA)
    assert best_step(run, commits.steps(run.checkpoints)) == 3 == run.recorded().best_step
    assert run.recorded().best_value == whole.recorded().best_value
    assert digests(run.checkpoints, 3) == digests(whole.checkpoints, 3)


def test_patience_needs_a_validation_split(tmp_path: Path) -> None:
    data = dataclasses.replace(DATA, validation=DATA.validation.part(0, 0))
    with pytest.raises(SettingError) as caught:
        fit(tmp_path, experiment(VAE, "steps: 5, patience: 3"), data)
    assert caught.value.path == ("train", "patience")


def test_a_damaged_newest_checkpoint_is_passed_over_and_the_run_ends_with_the_same_bits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    e = experiment(VAE, "steps: 12, checkpoint_every: 3, eval_every: 100, keep: 9")
    whole, _ = fit(tmp_path, e, DATA)
    expected = digests(whole.checkpoints, 12)
    for step in (9, 12):
        (whole.checkpoints / str(step) / "manifest.ocdbt").write_bytes(b"")
    whole.set_state("interrupted")
    said: list[str] = []
    training = go_on(whole, e, DATA, said.append)
    assert training.resumed_from == 6 and digests(whole.checkpoints, 12) == expected
    assert (
        "checkpoint 12 is damaged" in said[0]
        and "checkpoint 9 is damaged" in said[1]
        and "resuming at step 6" in capsys.readouterr().err
    )
    for step in commits.steps(whole.checkpoints):
        (whole.checkpoints / str(step) / "manifest.ocdbt").write_bytes(b"")
    with pytest.raises(CheckpointError):
        go_on(whole, e, DATA)
    assert whole.state() == "failed"


def digests(folder: Path, step: int) -> dict[str, str]:
    return {leaf["path"]: leaf["sha256"] for leaf in json.loads((folder / f"{step}.commit.json").read_text())["leaves"]}
