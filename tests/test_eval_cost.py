"""What an evaluator costs is counted before it runs, and what costs much runs for those alone who ask for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from fit import dataset, experiment, fit, started, subject
from process import TINY, aecli, called

from aecli.api import load as load_run
from aecli.data.eval_batches import EVAL_BATCH
from aecli.errors import UsageError
from aecli.evaluation import cost
from aecli.evaluation.evaluators import likelihood
from aecli.evaluation.registry import EVALUATORS, chosen
from aecli.evaluation.request import OF_SAMPLES, EvalRequest
from aecli.runs.directory import Run
from aecli.runs.trained import load
from aecli.sweeps import cell
from aecli.verbs.eval_times import of_left_out
from aecli.verbs.evaluate import Measured, evaluate_run

VAE = "variant: vae, hidden: [16], latent: 3, likelihood: gaussian"
GAUSSIAN = TINY.replace("latent: 3", "latent: 3, likelihood: gaussian").replace("steps: 40", "steps: 4")


def test_operations_are_those_of_the_products_that_will_be_made() -> None:
    data = dataset(train=300, held_out=16)
    e, state = started(VAE, data)
    batch = EVAL_BATCH  # the last one is filled up
    encoder, decoder = batch * 2 * (64 * 16 + 16 * 6), batch * 2 * (3 * 16 + 16 * 64)
    assert cost.of_features(subject(e.model, state, data)) == (2 + 1 + 1) * encoder
    assert cost.of_features(subject(e.model, state, data, split="validation")) == (2 + 1) * encoder
    assert cost.of_clustering(subject(e.model, state, data)) == encoder
    # Ten codes at once, of which a last few may not count.
    assert cost.of_likelihood(subject(e.model, state, data, samples=20)) == 2 * (encoder + 10 * decoder)
    assert cost.of_likelihood(subject(e.model, state, data, samples=11)) == 2 * (encoder + 10 * decoder)


def test_an_exact_likelihood_is_a_pass_and_classes_are_one_each() -> None:
    data = dataset()
    e, state = started("variant: autoregressive, net: made, hidden: [16], levels: 2, conditional: true", data)
    ours = subject(e.model, state, data, binarize="fixed")
    once = cost.of_likelihood(ours)
    assert once > 0 and cost.of_classification(ours) == 3 * once
    assert cost.of_likelihood(subject(e.model, state, data, binarize="fixed", samples=7)) == once


def test_a_likelihood_that_there_is_not_costs_nothing() -> None:
    data = dataset()
    e, state = started("variant: vae, hidden: [16], latent: 3", data)
    assert cost.of_likelihood(subject(e.model, state, data)) == 0


CASES: Sequence[tuple[dict[str, Any], set[str]]] = (
    ({}, {"likelihood", "representation", "clustering"}),
    ({"everything": True}, set()),
    ({"also": ("representation",)}, {"likelihood", "clustering"}),
    ({"also": OF_SAMPLES, "samples": 20}, {"representation", "clustering"}),
    ({"samples": 20}, {"likelihood", "representation", "clustering"}),
    ({"only": ("likelihood",)}, set()),
    ({"skip": ("likelihood",)}, {"representation", "clustering"}),
    ({"everything": True, "skip": ("likelihood",)}, set()),
)


@pytest.mark.parametrize(("request_", "left_out"), CASES)
def test_what_costs_much_runs_if_it_is_asked_for(
    request_: dict[str, Any], left_out: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "LARGEST_FLOP", 100.0)
    data = dataset()
    e, state = started(VAE, data)
    found = chosen(subject(e.model, state, data, **request_))
    assert set(found.left_out) == left_out and not left_out & set(found.names)
    asked = set(request_.get("only", ())) or {"objective", "reconstruction", "likelihood", "representation", "clustering"}
    assert asked - left_out - set(request_.get("skip", ())) <= set(found.names)
    assert all(flop == EVALUATORS[name].flop(subject(e.model, state, data, **request_)) for name, flop in found.left_out.items())


def test_little_is_left_out_of_no_small_model() -> None:
    data = dataset()
    e, state = started(VAE, data)
    assert not chosen(subject(e.model, state, data)).left_out


def test_an_accelerator_is_asked_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cost.is_large(2e12) and not cost.is_large(9e11)
    monkeypatch.setattr(cost.jax, "default_backend", lambda: "gpu")
    assert cost.is_large(2e14) and not cost.is_large(2e12)


def test_all_and_some_alone_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="--all and --only"):
        EvalRequest(only=("objective",), everything=True).check()


def test_what_is_left_out_is_told_with_its_cost_and_how_to_run_it() -> None:
    line = of_left_out("likelihood", 3.4e13, {"likelihood": 112.4}, stays=False)
    took = " (112 s the last time)"
    assert line == f"no likelihood: 3.4e+13 operations of the network{took}; aecli eval --only likelihood runs it, or --all"
    assert of_left_out("likelihood", 3.4e13, {}, stays=False) == line.replace(took, "")
    assert of_left_out("likelihood", 3.4e13, {}, stays=True).startswith("likelihood stays as it was measured: 3.4e+13")


def trained_run(folder: Path, monkeypatch: pytest.MonkeyPatch, *skip: str) -> tuple[Run, Callable[..., Measured]]:
    """A run of two steps, whose every evaluator is dear, and how it is measured without some of them."""
    monkeypatch.setattr(cost, "LARGEST_FLOP", 100.0)
    data = dataset()
    run, *_ = fit(folder, experiment(VAE, "steps: 2"), data)
    trained = load(run, "last", print)

    def measured(**request: Any) -> Measured:
        return evaluate_run(run, trained, data, EvalRequest(skip=("denoising", "clustering", *skip), **request))

    return run, measured


def test_numbers_that_were_asked_for_stay_when_they_are_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, measured = trained_run(tmp_path, monkeypatch)
    first = measured()
    assert "nll_nats" not in first.metrics and "knn_accuracy" not in first.metrics and "mse" in first.metrics
    told = [note.split(":")[0] for note in first.notes[-2:]]
    assert told == ["no likelihood", "no representation"], "what to do about it is told last"
    every = measured(everything=True, samples=20)
    assert {"nll_nats", "knn_accuracy"} <= every.metrics.keys() and not any("operations" in note for note in every.notes)
    again = measured()
    assert again.metrics["nll_nats"].metric.value == every.metrics["nll_nats"].metric.value
    assert again.metrics.keys() == every.metrics.keys()
    told = [note.split(":")[0] for note in again.notes[-2:]]
    assert told == ["likelihood stays as it was measured", "representation stays as it was measured"]


def test_the_program_and_a_handle_leave_out_and_measure_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "LARGEST_FLOP", 100.0)
    (tmp_path / "c.yaml").write_text(GAUSSIAN)
    assert called("train", "c.yaml", cwd=tmp_path).returncode == 0
    skip = "denoising,clustering,generation"

    def numbers(*flags: str) -> tuple[set[str], str]:
        done = called("eval", "last", "--skip", skip, "--json", *flags, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return set(json.loads(done.stdout)), done.stderr

    few, told = numbers()
    assert "mse" in few and not few & {"nll_nats", "knn_accuracy"}
    assert "note: no likelihood: " in told and "aecli eval --only likelihood runs it, or --all" in told
    usual, _ = numbers("--importance-samples", str(EvalRequest().samples))
    assert "nll_nats" in usual, "the usual number, asked for"
    more, told = numbers("--importance-samples", "20")
    assert more - few >= {"nll_nats"} and "knn_accuracy" not in more
    assert "no likelihood" not in told and "no representation" in told
    run = load_run(next(path for path in (tmp_path / "runs").iterdir() if path.name.startswith("c-")))
    assert run.evaluate(skip=skip).keys() == more
    every = run.evaluate(skip=skip, everything=True)
    assert every.keys() - more >= {"knn_accuracy"} and every["nll_nats"].protocol["samples"] == 500
    assert run.evaluate(only="representation").keys() == every.keys()
    with pytest.raises(UsageError, match="--all and --only"):
        run.evaluate(only="objective", everything=True)


def test_pieces_of_an_interrupted_evaluator_outlive_one_that_leaves_it_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, measured = trained_run(tmp_path, monkeypatch, "representation")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(likelihood, "_in_nats", interrupt)
        with pytest.raises(KeyboardInterrupt):
            measured(everything=True)
    pieces = run.path / "eval" / ".test.unfinished"
    assert list(pieces.glob("likelihood-*.npz"))
    measured()
    assert list(pieces.glob("likelihood-*.npz")), "minutes of work"
    assert "nll_nats" in measured(everything=True).metrics and not pieces.exists()


def test_the_program_says_what_contradicts_itself(tmp_path: Path) -> None:
    done = aecli("eval", "last", "--all", "--only", "objective", cwd=tmp_path)
    assert done.returncode == 2 and "--all and --only do not go together" in done.stderr


def test_a_sweep_measures_on_test_what_it_chooses_by(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[EvalRequest] = []

    def evaluate(run: Any, request: EvalRequest) -> Measured:
        asked.append(request)
        return Measured({}, (), request.split)

    monkeypatch.setattr(cell, "evaluate", evaluate)
    sweep, of, run = mock.Mock(), mock.Mock(), mock.Mock()
    for evaluator, only in (("likelihood", None), ("likelihood", ["reconstruction"]), (None, [])):
        plan = mock.Mock(evaluator=evaluator, only=only)
        for split in ("validation", "test"):
            assert cell._measure(sweep, plan, of, run, split) is None
    validation, test, narrow_validation, narrow_test, plain_validation, plain_test = asked
    assert validation.only == narrow_validation.only == ["likelihood"]
    assert test.asks_for("likelihood") and not test.only and not test.asks_for("representation")
    assert narrow_test.only == ["reconstruction"]
    assert not plain_test.asks_for("likelihood") and not plain_validation.asks_for("likelihood")
