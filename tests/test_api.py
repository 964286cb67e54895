"""aecli from Python: what it gives equals what the verbs give, and what it cannot do it says in their words."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import shutil
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any
from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest
from fit import dataset, experiment, fit, new_run, subject
from process import ENDLESS, TINY, called, commits, environment, wait_for
from safetensors import safe_open

import aecli
from aecli.api import TrainedRun
from aecli.config import variants
from aecli.core.abilities import abilities
from aecli.errors import AecliError, CheckpointError, ConfigError, RunError, UsageError
from aecli.evaluation.codes import codes_of_split, features_without_labels
from aecli.evaluation.evaluators import likelihood
from aecli.runs import checkpoint
from aecli.runs import commits as steps_of
from aecli.runs.state import init
from aecli.runs.trained import load
from aecli.system.placement import placement
from aecli.verbs import train

DATA = dataset(train=60, held_out=1000)
MODELS = {
    "autoregressive": "net: made, levels: 2, hidden: [20]",
    "denoising": "hidden: [4, 6]",
    "hvae": "hidden: 12, latent: 3",
    "sparse": "penalty: batch_topk, units: 30, k: 4",
    "vae": "hidden: [12], latent: 3, conditional: true",
    "vq": "hidden: [4], codes: 8, dimension: 2, prior_width: 8, prior_layers: 1",
}
DRAWN = "variant: vae, hidden: [12], latent: 3"
ENCODES = [name for name in variants.variants() if "encodes" in abilities(variants.load(name))]


@pytest.fixture(scope="module", params=[*ENCODES, "drawn"])
def codes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedRun, Any, Any]:
    """A run of each variant that encodes, the codes of its test split, and the features that probes are given."""
    drawn = request.param == "drawn"
    text = DRAWN if drawn else f"variant: {request.param}, {MODELS.get(request.param, 'latent: 3')}"
    e = experiment(text, "steps: 3", f"batch_size: 16, binarize: {'dynamic' if drawn else 'none'}")
    run = new_run(tmp_path_factory.mktemp("runs"), e, DATA)
    state = init(e, DATA.spec, len(DATA.train), placement(16))  # to train it would take most of the time, and changes nothing
    at = {"step": 1, "best_step": None, "best_value": None, "stale": 0, "evaluated": 0}
    checkpoint.save(run.checkpoints, 1, state, {"progressed": at, "metrics_offset": 0})
    trained = load(run, "last", print)
    ours = subject(trained.model, trained.state, DATA, binarize=e.data.binarize, place=trained.place)
    return aecli.load(run.path), codes_of_split(ours), features_without_labels(ours)


@pytest.mark.parametrize("n", [0, 1, 127, 1000])
def test_encode_gives_the_bits_that_an_evaluation_had(codes: tuple[TrainedRun, Any, Any], n: int) -> None:
    run, of_split, features = codes
    images, labels = DATA.test.images[:n], DATA.test.labels[:n]
    assert of_split.dtype == np.float32 and np.isfinite(of_split).all() and len(np.unique(of_split, axis=0)) > 5
    found = run.encode(images, labels)
    assert found.dtype == np.float32 and found.tobytes() == of_split[:n].tobytes()
    if "represents" not in run.abilities:
        assert run.encode(images[..., 0]).tobytes() == features[:n].tobytes()


def test_a_frozen_draw_is_encoded_as_it_is(codes: tuple[TrainedRun, Any, Any]) -> None:
    """Bits are what a draw of them is, so that one rule serves images that are drawn and those that were."""
    run, _, _ = codes
    bits = DATA.test.images[:9] > 100
    assert np.array_equal(run.encode(bits), run.encode(bits.astype(np.float64)))
    assert np.array_equal(run.encode(bits), run.encode(bits.astype(np.uint8) * np.uint8(255)))


def test_arrays_of_all_kinds_are_the_same_images(codes: tuple[TrainedRun, Any, Any]) -> None:
    run, _, _ = codes
    images = DATA.test.images[:5]
    floats = images / np.float32(255)
    for same in (floats, floats.astype(np.float64), floats.astype(">f4"), jnp.asarray(floats), floats.tolist(), floats[..., 0]):
        assert np.allclose(run.encode(same), run.encode(floats), atol=1e-6), type(same)
    if run.config["data"]["binarize"] == "none":
        assert np.allclose(run.encode(images), run.encode(floats), atol=1e-4)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config, and a run of it that has been measured."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "tiny.yaml").write_text(TINY.replace("latent: 3", "latent: 3, likelihood: gaussian"))
    aecli.train(folder / "tiny.yaml", {"train.steps": 30}, runs_dir=folder / "runs", name="first")
    return folder


@pytest.fixture(scope="module")
def run(place: Path) -> TrainedRun:
    return aecli.load("first", runs_dir=place / "runs")


def test_the_promised_lines_run(place: Path, run: TrainedRun) -> None:
    assert aecli.load(run.id, runs_dir=str(place / "runs")).path == aecli.load(str(run.path)).path == run.path
    images, labels = run.data("test")
    z = run.encode(images)
    x, y = run.decode(z), run.reconstruct(images)
    assert (z.shape, x.shape, y.shape) == ((297, 3), images.shape, images.shape) and labels.shape == (297,)
    assert np.allclose(x, y, atol=1e-6), "to reconstruct is to encode and to decode"
    assert all(part.dtype == np.float32 and part.min() >= 0 and part.max() <= 1 for part in (x, y, run.sample(3)))
    assert run.config["train"]["steps"] == 30 and run.config["data"]["size"] is None
    assert run.classes == tuple(map(str, range(10))) and run.spec.shape == (8, 8, 1) and "encodes" in run.abilities
    assert run.state == "completed" and run.step == run.checkpoint_step == 30 and run.parameters > 0 and run.note is None
    assert repr(run) == f"<aecli run {run.id}: vae on digits, completed at step 30>"
    assert [row["step"] for row in run.metrics("train")] == [10, 20, 30]
    assert len(run.metrics()) == len(run.metrics("train")) + len(run.metrics("validation"))


def test_numbers_are_those_of_the_command_line(place: Path, run: TrainedRun) -> None:
    measured = run.evaluate(only="reconstruction,likelihood", samples=20)
    assert measured == run.numbers() and float(measured["mse"]) == measured["mse"].value
    done = called("eval", run.id, "--only", "reconstruction,likelihood", "--importance-samples", "20", "--json", cwd=place)
    assert {name: number._asdict() for name, number in measured.items()} == {
        name: {"note": None, "difference_errors": {}, **number} for name, number in json.loads(done.stdout).items()
    }
    images, _ = run.data()
    error = ((run.reconstruct(images) - images / np.float32(255)) ** 2).mean()
    assert error == pytest.approx(measured["mse"].value, rel=1e-5)
    nll = run.score(images, samples=20)
    assert np.array_equal(nll, np.load(run.path / "eval" / "test-values.npz")["likelihood/nll_nats"])
    assert not np.array_equal(nll, run.score(images, samples=20, seed=5)), "another seed, another estimate"
    assert run.numbers("validation") == {}


@pytest.mark.parametrize("binarize", ["dynamic", "fixed"])
def test_the_likelihood_of_drawn_images_is_that_of_the_evaluation(place: Path, binarize: str) -> None:
    config = {"data": {"name": "digits", "batch_size": 32, "binarize": binarize}, "train": {"steps": 5}}
    handle = aecli.train(config | {"model": {"variant": "vae", "hidden": [16], "latent": 3}}, runs_dir=place / "drawn")
    measured = handle.evaluate(only="likelihood,reconstruction", samples=10)
    images, _ = handle.data()
    assert (len(np.unique(images)) == 2) == (binarize == "fixed")
    nll = np.load(handle.path / "eval" / "test-values.npz")["likelihood/nll_nats"]
    assert np.array_equal(handle.score(images, samples=10), nll) and measured["nll_nats"].value == pytest.approx(nll.mean())
    assert np.array_equal(handle.score(images[:40], samples=10), nll[:40]), "of the first images alone, too"


def test_an_exact_likelihood_is_that_of_the_evaluator(tmp_path: Path) -> None:
    e = experiment("variant: autoregressive, net: made, levels: 2, hidden: [20], conditional: true", "steps: 3")
    made, _ = fit(tmp_path, e, DATA)
    trained = load(made, "last", print)
    found = likelihood.measure(subject(trained.model, trained.state, DATA)).values["nll_nats"]
    handle = aecli.load(made.path)
    assert np.array_equal(handle.score(DATA.test.images, DATA.test.labels), found)
    known = np.zeros((8, 8), bool)
    known[:4] = True
    completed = handle.complete(DATA.test.images[:3] > 100, known, labels=1)
    assert np.array_equal(completed[:, :4], (DATA.test.images[:3] > 100)[:, :4]) and set(np.unique(completed)) <= {0, 1}
    with pytest.raises(UsageError, match=r"conditional on the label, and 1,000 of 1,000 labels are missing"):
        handle.score(DATA.test.images)
    with pytest.raises(UsageError, match=r"conditional on the label, and 1 of 2 labels are missing"):
        handle.sample(2, label=[0, -1])
    drawn = handle.sample(20)
    assert np.array_equal(drawn, handle.sample(20, label=np.arange(20) % 3)) and not np.array_equal(drawn, handle.sample(20, 1))


def test_draws_are_those_of_the_verb_before_they_are_rounded(place: Path, run: TrainedRun) -> None:
    done = called("sample", run.id, "-n", "5", "--seed", "3", "--temperature", "0.7", cwd=place)
    arrays = np.load(place / done.stdout.split()[1])
    assert np.array_equal(np.rint(run.sample(5, seed=3, temperature=0.7) * 255).astype(np.uint8), arrays["image"])
    assert run.sample(np.int64(0)).shape == (0, 8, 8, 1)


def test_gray_images_have_no_likelihood_of_binary_pixels(tmp_path: Path) -> None:
    made, _ = fit(tmp_path, experiment(DRAWN, "steps: 2"), DATA)
    handle = aecli.load(made.path)
    with pytest.raises(UsageError, match="the images are gray"):
        handle.score(DATA.test.images)
    assert np.isfinite(handle.score(DATA.test.images[:3] > 100, samples=5)).all()


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((8, 8)), r"one image is images\[None\]"),
        (np.zeros((8, 8, 1)), r"one image is images\[None\]"),
        (np.zeros((2, 64)), r"images.reshape\(-1, 8, 8, 1\)"),
        (np.zeros((2, 1, 8, 8)), "puts the channels last"),
        (np.zeros((2, 9, 8)), "trained on 8x8 gray images"),
        (np.zeros((2, 8, 8, 3)), "trained on 8x8 gray images"),
        (np.zeros(()), r"images \[\] are not those of this run, \[n, 8, 8, 1\] or \[n, 8, 8\]"),
        (np.full((2, 8, 8), np.nan), r"images hold nan at \[image, row, column, channel\] \[0, 0, 0, 0\], 128 in all"),
        (np.full((2, 8, 8), np.inf), "images hold inf"),
        (np.full((2, 8, 8), 255.0), r"from 255 to 255, and floats are read as \[0, 1\]"),
        (np.linspace(0, 255, 64).reshape(1, 8, 8), "images / 255"),
        (np.linspace(-1, 1, 64).reshape(1, 8, 8), r"\(images \+ 1\) / 2"),
        (np.full((2, 8, 8), 7), "whole numbers are read as uint8 alone"),
        (np.full((2, 8, 8), 1, np.uint8), "255 is white"),
        (np.full((2, 8, 8), 1j), "complex128"),
        (np.full((2, 8, 8), None), "object"),
        (np.full((2, 8, 8), "x"), "no array of real numbers"),
        (np.ma.masked_array(np.zeros((1, 8, 8)), np.eye(8)[None]), "masked in places"),
        ([[1, 2], [3]], "cannot be read as an array"),
        (None, "object"),
    ],
    ids=str,
)
def test_images_that_cannot_be_meant_are_refused(run: TrainedRun, images: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        run.encode(images)
    assert caught.match(said) or re.search(said, caught.value.help or "")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 10], "labels hold 10, and the data of this run has 10 classes"),
        ([0, -2], "labels hold -2"),
        ([0.0, 1.0], "labels are float64"),
        ([True, False], "labels are bool"),
        ([0, 1, 2], r"labels \[3\] are not one for each of 2"),
        (["a", "b"], "no array of real numbers"),
    ],
    ids=str,
)
def test_labels_that_are_no_classes_are_refused(run: TrainedRun, labels: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run.encode(np.zeros((2, 8, 8)), labels)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda run: run.decode(np.zeros((2, 4))), r"codes \[2, 4\] are not those of this run, \[n, 3\]"),
        (lambda run: run.decode(np.zeros(3)), r"codes \[3\]"),
        (lambda run: run.decode(np.full((1, 3), np.nan)), "codes hold nan"),
        (lambda run: run.decode(np.full((1, 3), 1e300)), "beyond float32"),
        (lambda run: run.sample(-1), "n is -1: a whole number"),
        (lambda run: run.sample(2.0), r"n is 2\.0"),
        (lambda run: run.sample(10**12), "may be used"),
        (lambda run: run.sample(2, seed=-1), "seed is -1"),
        (lambda run: run.sample(2, temperature=0), "temperature is 0"),
        (lambda run: run.sample(2, label=1), "not conditional"),
        (lambda run: run.score(np.zeros((1, 8, 8)), samples=0), "samples is 0"),
        (lambda run: run.score(np.zeros((1, 8, 8)), samples=2.5), r"samples is 2\.5"),
        (lambda run: run.evaluate(samples=0), "--importance-samples 0"),
        (lambda run: run.evaluate(draws=True), "--draws True"),
        (lambda run: run.sample(2, temperature="x"), "temperature is 'x'"),
        (lambda run: run.complete(np.zeros((1, 8, 8)), np.ones((8, 8), bool)), "variant 'vae' cannot complete: it lacks"),
        (lambda run: run.metrics("test"), "no metrics of a split 'test'"),
        (lambda run: run.numbers("../run"), "no numbers of a split"),
        (lambda run: run.data("all"), "no split 'all'"),
        (lambda run: run.evaluate("train"), "--split train"),
        (lambda run: run.evaluate(only="sparsity"), "cannot be measured by 'sparsity'"),
        (lambda run: run.resume({"model.latent": 2}), "a resumed run keeps its settings"),
        (lambda run: aecli.load(run, checkpoint="first").sample(1), "there are best and last, and the number of a step"),
    ],
)
def test_what_cannot_be_asked_is_told_in_the_words_of_the_command_line(run: TrainedRun, ask: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ask(run)


def test_a_missing_ability_names_those_that_are_there(tmp_path: Path) -> None:
    made, _ = fit(tmp_path, experiment("variant: denoising, net: mlp, hidden: [12], latent: 9", "steps: 2"), DATA)
    handle = aecli.load(made.path)
    with pytest.raises(UsageError, match="cannot sample: it lacks the ability 'samples'") as caught:
        handle.sample(2)
    assert handle.abilities[0] in caught.value.help and "vae" in caught.value.help
    assert not [name for name in vars(handle) if name == "_restored" and vars(handle)[name]], "told before it is restored"
    assert handle.reconstruct(DATA.test.images[:3]).shape == (3, 8, 8, 1)


def test_a_step_can_be_asked_for_and_one_that_is_not_there_lists_those_that_are(place: Path, run: TrainedRun) -> None:
    known = steps_of.steps(run.path / "checkpoints")
    first = aecli.load(run, checkpoint=known[0])
    assert first.checkpoint_step == known[0] < run.checkpoint_step
    assert not np.array_equal(first.decode(np.zeros((1, 3))), run.decode(np.zeros((1, 3))))
    with pytest.raises(RunError, match="no checkpoint of step 7") as caught:
        aecli.load(run, checkpoint=7).encode(np.zeros((1, 8, 8)))
    assert all(str(step) in caught.value.help for step in known)
    done = called("sample", run.id, "--checkpoint", "7", cwd=place)
    assert done.returncode == 4 and ", ".join(map(str, known)) in done.stderr


def test_a_damaged_checkpoint_that_was_asked_for_is_not_replaced_by_another(tmp_path: Path) -> None:
    made, _ = fit(tmp_path, experiment(DRAWN, "steps: 4, checkpoint_every: 2"), DATA)
    for path in (made.checkpoints / "2").glob("**/*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"checkpoint 2 of run .* is damaged"):
        aecli.load(made.path, checkpoint=2).sample(1)


def test_runs_are_listed_newest_first_by_conditions(place: Path, run: TrainedRun) -> None:
    folder = place / "listed"
    config = {"data": {"name": "digits", "batch_size": np.int64(32)}, "train": {"steps": 2}}
    config["model"] = {"variant": "bottleneck", "net": "linear", "latent": 2}
    older, newer = (aecli.train(config, {"model.latent": k}, runs_dir=folder) for k in (2, 3))
    assert [each.id for each in aecli.list_runs(runs_dir=folder)] == [newer.id, older.id] and older.id.startswith("bottleneck")
    assert [each.id for each in aecli.list_runs({"model.latent": 2, "variant": "bottleneck"}, runs_dir=folder)] == [older.id]
    assert aecli.list_runs(["variant=vae"], runs_dir=folder) == []
    assert (older.path / "config.yaml").read_text().startswith('data: {"name": "digits", "batch_size": 32}\n')
    with mock.patch.dict("os.environ", {"AECLI_RUNS_DIR": str(folder)}):
        assert aecli.load().id == newer.id
    (newer.path / "run.json").write_text("{")
    states = {each.id: each.state for each in aecli.list_runs(runs_dir=folder)}
    assert states == {newer.id: "unreadable", older.id: "completed"}
    with pytest.raises(RunError, match=r"run\.json"):
        TrainedRun(newer.path).encode(np.zeros((1, 8, 8)))
    assert "unreadable" in repr(TrainedRun(newer.path))


def test_a_handle_stays_that_of_its_run_wherever_the_program_goes(
    place: Path, run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    handles = [aecli.load(run.id), *aecli.list_runs()]
    monkeypatch.chdir(tmp_path)
    assert all(each.parameters > 0 and each.path.is_absolute() for each in handles)


def test_a_handle_shows_no_escapes(run: TrainedRun, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(run.path, tmp_path / run.id))
    facts = json.loads((copied / "run.json").read_text())
    (copied / "run.json").write_text(json.dumps({**facts, "data": {**facts["data"], "name": "\x1b[31m\n"}}))
    assert "\\u001b[31m" in repr(TrainedRun(copied)) and repr(TrainedRun(copied)).isprintable()


def test_mistakes_are_told_with_their_places(place: Path) -> None:
    (place / "wrong.yaml").write_text(TINY.replace("hidden", "hiden"))
    with pytest.raises(ConfigError) as caught:
        aecli.train(place / "wrong.yaml", {"train.epoch": 2}, runs_dir=place / "none")
    said = called("train", "wrong.yaml", "--set", "train.epoch=2", cwd=place).stderr
    assert caught.value.render().replace(f"{place}/", "") == said.strip() and caught.value.render() in caught.value.__notes__
    for config, overrides, told in (
        ({"data": {"name": "digits"}, "model": {"variant": "vae", "latent": {1, 2}}}, {}, "model.latent is of type set"),
        ({"data": {"name": "digits"}, "model": {"variant": "vae"}}, {"train.steps": "many"}, "many"),
        ({"data": {"name": "digits"}, "model": {"variant": "vae"}, "train": {"steps": 1}}, {"train.steps": object()}, "object"),
        ({"data": {"name": "digts"}, "model": {"variant": "vae"}, "train": {"steps": 1}}, {}, "digts"),
        ({"a b": 1}, {}, "a b"),
    ):
        with pytest.raises(AecliError, match=told):
            aecli.train(config, overrides, runs_dir=place / "none")
    assert not (place / "none").exists()
    for name, kind in (("../x", RunError), ("no/such", RunError), ("a b", UsageError), ("nothing", RunError)):
        with pytest.raises(kind):
            aecli.load(name, runs_dir=place / "runs")


def test_vectors_are_taken_and_given_in_the_units_of_the_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", (rng.normal(size=(300, 5)) * [1, 10, 100, 1, 1] + 50).astype(np.float32))
    config = {"data": {"name": "vectors", "path": tmp_path / "x.npy", "batch_size": 32, "standardize": "zscore"}}
    config |= {"model": {"variant": "bottleneck", "net": "linear", "latent": 5}, "train": {"epochs": 40}}
    config["optimizer"] = {"learning_rate": 1e-2}
    handle = aecli.train(config, runs_dir=tmp_path / "runs")
    x, _ = handle.data("test")
    made = handle.reconstruct(x)
    assert x.shape == made.shape == (30, 5) and np.abs((made - x) / x.std(0)).mean() < 0.5
    with pytest.raises(UsageError, match=r"vectors \[30, 4\] are not those of this run, \[n, 5\]"):
        handle.encode(x[:, :4])
    with pytest.raises(UsageError, match="vectors hold nan"):
        handle.encode(np.where(x == x[3, 2], np.nan, x))
    assert handle.encode(x[:0]).shape == (0, 5) and handle.reconstruct(x[:0]).shape == (0, 5)


@pytest.mark.parametrize("x", [np.zeros((200, 32)), np.zeros(5000), np.zeros((200, 32)).tolist()])
def test_arrays_in_memory_are_refused_with_what_to_do(x: Any) -> None:
    with pytest.raises(UsageError, match=r"^data") as refused:
        aecli.train({"data": {"name": "vectors", "array": x}, "model": {"variant": "sparse"}, "train": {"steps": 1}})
    assert "numpy.save" in str(refused.value.help)


def test_a_dictionary_is_the_decoder_in_the_units_of_the_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", (rng.normal(size=(300, 6)) * [1, 10, 100, 1, 1, 1] + 50).astype(np.float32))
    config: dict[str, Any] = {"data": {"name": "vectors", "path": tmp_path / "x.npy", "batch_size": 32, "standardize": "zscore"}}
    config |= {"model": {"variant": "sparse", "units": 9, "k": 2}, "train": {"steps": 20}}
    handle = aecli.train(config, runs_dir=tmp_path / "runs")
    units, offset = handle.dictionary()
    assert units.shape == (9, 6) and offset.shape == (6,) and units.dtype == offset.dtype == np.float32
    codes = rng.normal(size=(7, 9)).astype(np.float32)
    np.testing.assert_allclose(codes @ units + offset, handle.decode(codes), rtol=1e-4, atol=1e-3)

    folder = handle.export("safetensors", tmp_path / "weights")
    with safe_open(folder / "weights.safetensors", "numpy") as file:
        w = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    mean, scale = w["scaling/mean"].reshape(-1), w["scaling/scale"].reshape(-1)
    np.testing.assert_allclose(w["learner/rows"] * scale, units, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(w["learner/rows"], axis=1), 1, rtol=1e-5)
    x = handle.data("test").images
    before = ((x - mean) / scale - w["learner/mean"]) @ w["learner/kernel"] + w["learner/bias"]
    code = np.where(before >= np.sort(before, axis=1)[:, -2:-1], before, 0)
    np.testing.assert_allclose(code, handle.encode(x), rtol=1e-4, atol=1e-4)
    card = (folder / "README.md").read_text()
    for name in w:
        row = next(line for line in card.splitlines() if line.startswith(f"| `{name}` | "))
        assert row.split("|")[3].strip(), "the card says what each array is"

    config["model"] |= {"net": "mlp", "hidden": [8]}
    with pytest.raises(UsageError, match="the decoder is no affine map") as refused:
        aecli.train(config, runs_dir=tmp_path / "runs").dictionary()
    assert "net: linear" in str(refused.value.help)


def test_a_run_goes_on_and_its_model_is_the_new_one(place: Path) -> None:
    config = TINY.replace("steps: 40", "steps: 10")
    (place / "short.yaml").write_text(config)
    handle = aecli.train(place / "short.yaml", runs_dir=place / "resumed")
    before = handle.sample(2)
    assert handle.resume({"train.steps": 20}) is handle and handle.step == handle.checkpoint_step == 20
    assert not np.array_equal(before, handle.sample(2))


def test_a_run_that_was_stopped_on_its_way_has_the_new_model_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "short.yaml").write_text(TINY.replace("steps: 40", "steps: 10"))
    handle = aecli.train(place / "short.yaml", runs_dir=place / "stopped")
    assert handle.checkpoint_step == 10
    resume = train.resume

    def stopped(*arguments: Any) -> None:
        resume(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "resume", stopped)
    with pytest.raises(KeyboardInterrupt):
        handle.resume({"train.steps": 20})
    assert handle.checkpoint_step == 20


def test_training_works_in_a_thread(place: Path) -> None:
    found: list[Any] = []
    work = threading.Thread(target=lambda: found.append(aecli.train(place / "short.yaml", runs_dir=place / "threads")))
    (place / "short.yaml").write_text(TINY.replace("steps: 40", "steps: 10"))
    work.start()
    work.join(120)
    assert found and found[0].state == "completed"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_is_raised_again(tmp_path: Path, signum: int) -> None:
    (tmp_path / "endless.yaml").write_text(ENDLESS)
    code = "import aecli\ntry: aecli.train('endless.yaml')\nexcept Exception as error: print('an error', error)\n"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: commits(tmp_path), process)
        process.send_signal(signum)
        out, err = process.communicate(timeout=60)
    assert process.returncode == -signum and out == "" and "which is saved" in err, "no error that a loop over runs passes over"
    (only,) = aecli.list_runs(runs_dir=tmp_path / "runs")
    assert only.state == "interrupted" and only.step > 0
    assert ("KeyboardInterrupt" in err) == (signum == signal.SIGINT)


def test_a_frame_has_a_row_a_run(place: Path, run: TrainedRun) -> None:
    """By a stand-in where pandas is not installed: what is given to it is the same."""
    stand_in = types.ModuleType("pandas")
    stand_in.DataFrame = list  # type: ignore[attr-defined]
    with mock.patch.dict(sys.modules, {"pandas": stand_in}):
        (row,) = aecli.frame(run)
        rows = aecli.frame([run.id, run.path], runs_dir=place / "runs")
    assert [each["id"] for each in rows] == [run.id] * 2
    assert row["id"] == run.id and row["state"] == "completed" and row["model.latent"] == 3 and row["seed"] == 0
    assert row["parameters"] == run.parameters
    assert {name: number.value for name, number in run.numbers().items()}.items() <= row.items()
    with mock.patch.dict(sys.modules, {"pandas": None}), pytest.raises(UsageError, match="pandas is not installed") as caught:
        aecli.frame(run)
    assert "aecli[frame]" in caught.value.help


def test_a_handle_and_a_list_need_no_jax(place: Path) -> None:
    code = (
        "import sys, aecli\n"
        "assert not {'jax', 'numpy', 'pydantic'} & set(sys.modules), 'import'\n"
        "run = aecli.load(sys.argv[1])\n"
        "run, run.state, run.config, run.metrics(), run.numbers(), run.classes, run.parameters\n"
        "aecli.list_runs({'variant': 'vae'})\n"
        "assert 'jax' not in sys.modules\n"
        "import aecli as a; assert set(a.__all__) <= set(dir(a))\n"
    )
    command = [sys.executable, "-c", code, "first"]
    done = subprocess.run(command, cwd=place, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_public_names_stay_what_they_are_when_all_modules_are_imported() -> None:
    """A submodule takes the place of an attribute of its package once it is imported."""
    for module in pkgutil.walk_packages(aecli.__path__, "aecli."):
        if not module.name.startswith(("aecli.__main__", "aecli.evaluation.judges.make_weights")):
            importlib.import_module(module.name)
    for name in aecli.__all__:
        assert callable(getattr(aecli, name)) or name == "__version__", name
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        aecli.trian  # noqa: B018
    assert (Path(aecli.__file__).parent / "py.typed").is_file()
