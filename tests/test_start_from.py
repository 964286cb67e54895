"""Runs that start from another run's weights, and parts of networks that are frozen."""

from __future__ import annotations

import gc
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from process import called

import aecli
from aecli.config.load import Config, parse
from aecli.errors import ConfigError, RunError
from aecli.runs import checkpoint, commits
from aecli.runs.directory import Run, every
from aecli.runs.inherited import Inherited
from aecli.runs.trained import load
from aecli.verbs import train

DATA = "data: {name: digits, batch_size: 32}\n"
VAE = "model: {variant: vae, hidden: [12], latent: 3}\n"
VQ = "model: {variant: vq, hidden: [4, 6], codes: 8, dimension: 2, prior_width: 8, prior_layers: 1}\n"
TWO_STEPS = "train: {steps: 2, checkpoint_every: 1, keep: 9}\n"


def config(model: str, more: str = "") -> Config:
    return parse(DATA + model + TWO_STEPS + more, "fine.yaml")


def nothing(_: str) -> None:
    return None


def arrays(run: Run, step: int | None = None) -> dict[str, Any]:
    """The arrays of a checkpoint by path, by default of the newest."""
    trained = load(run, "last", nothing)
    if step is not None:
        restored = checkpoint.restore(run.checkpoints, trained.state, nothing, step)
        assert restored is not None and restored.step == step
        return checkpoint.leaves(restored.state)
    return checkpoint.leaves(trained.state)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def vae(root: Path) -> Run:
    return train.start(config(VAE, "optimizer: {ema: 0.5}"), [], "source", root)


def test_it_starts_from_the_weights_that_the_source_is_evaluated_with(vae: Run, root: Path) -> None:
    run = train.start(config(VAE, "optimizer: {ema: 0.5}"), [], "tuned", root, vae)
    source, first, last = arrays(vae), arrays(run, 0), arrays(run)
    weights = [path for path in first if path.startswith("params/")]
    assert weights
    for path in weights:
        averaged = source[path.replace("params/", "ema/")]
        np.testing.assert_array_equal(first[path], averaged)
        np.testing.assert_array_equal(first[path.replace("params/", "ema/")], averaged)
        assert not np.array_equal(averaged, source[path])
        assert not np.array_equal(last[path], first[path])
    assert all(not np.asarray(leaf).any() for path, leaf in first.items() if path.startswith("opt_state/"))
    origin = run.info().from_run
    assert origin is not None and (origin.run, origin.left) == (vae.id, []) and origin.fitted == run.info().parameters


def test_what_else_a_model_makes_of_the_same_weights_is_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    linear = "model: {variant: bottleneck, net: mlp, hidden: [12], latent: 3, output: linear}\n"
    source = train.start(config(linear), [], "linear", root)
    capsys.readouterr()
    train.start(config(linear.replace("output: linear", "output: sigmoid")), [], "bounded", root, source)
    said = " ".join(capsys.readouterr().err.split())
    assert f"the model differs from that of {source.id}: output sigmoid (there linear)" in said and ": all " in said
    train.start(config(linear), [], "alike", root, source)
    assert "the model differs" not in capsys.readouterr().err


def test_what_is_counted_in_steps_goes_on_and_is_warned_of(vae: Run, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = f"kl_warmup: steps are counted on from the 2 of {vae.id}"
    for model, warned in ((VAE, False), (VAE.replace("latent: 3", "latent: 3, kl_warmup: 5"), True)):
        train.start(config(model, "optimizer: {ema: 0.5}"), [], "counted", root, vae)
        assert (said in capsys.readouterr().err) == warned


def test_a_warmup_that_outlasts_the_run_is_warned_of(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for steps, warned in ((1, False), (2, True)):
        train.start(config(VAE, f"optimizer: {{warmup: {steps}}}"), [], "short", root)
        assert ("optimizer.warmup takes 2 steps and the run has 2" in capsys.readouterr().err) == warned


def test_the_new_run_may_be_on_other_devices(vae: Run, root: Path) -> None:
    other = parse(DATA.replace("32", "30") + VAE + TWO_STEPS, "fine.yaml")  # of four devices 30 rows are split over three
    run = train.start(other, [], "devices", root, vae)
    assert run.state() == "completed"
    first, source = arrays(run, 0), arrays(vae)
    for path in (path for path in first if path.startswith("params/")):
        np.testing.assert_array_equal(first[path], source[path.replace("params/", "ema/")])


def test_the_weights_of_the_source_take_no_room_while_a_run_trains(vae: Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, held = train.train, list[Any]()

    def looked(*arguments: Any) -> Any:
        held.extend(each for each in gc.get_objects() if isinstance(each, Inherited))
        return loop(*arguments)

    monkeypatch.setattr(train, "train", looked)
    assert train.start(config(VAE), [], "alone", root, vae).state() == "completed" and held == []


def test_a_checkpoint_that_goes_while_it_is_read_is_told(vae: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(vae.path, tmp_path / vae.id)
    source, load = Run(tmp_path / vae.id), train.load

    def removed_then(*arguments: Any, **more: Any) -> Any:
        found = load(*arguments, **more)
        commits.path_of(source.checkpoints, found.step).unlink()
        return found

    monkeypatch.setattr(train, "load", removed_then)
    with pytest.raises(RunError, match="has gone while it was read"):
        train.start(config(VAE), [], "late", tmp_path / "new", source)
    assert not (tmp_path / "new").exists()


def test_what_does_not_fit_starts_anew_and_is_told(vae: Run, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wider = config(VAE.replace("latent: 3", "latent: 4"))
    run, fresh = train.start(wider, [], "wider", root, vae), train.start(wider, [], "fresh", root)
    told = capsys.readouterr().err
    first, source, own = arrays(run, 0), arrays(vae), arrays(fresh)
    origin = run.info().from_run
    assert origin is not None
    named = {line.split(" ")[0] for line in origin.left}
    weights = {path for path in first if path.startswith("params/")}
    assert named < weights and all(name in told for name in named)
    for path in weights - named:
        np.testing.assert_array_equal(first[path], source[path.replace("params/", "ema/")])
    assert {first[path].shape for path in named} == {own[path].shape for path in named}
    assert origin.fitted == sum(first[path].size for path in weights - named)
    assert first["step"] == 0


def test_weights_that_are_frozen_at_random_are_warned_of(vae: Run, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part, warned in (("encoder", True), ("decoder", True), ("encoder/mlp/layers/0", False)):
        text = VAE.replace("latent: 3", "latent: 4")
        run = train.start(config(text, f"optimizer: {{freeze: [{part}]}}"), [], "frozen", root, vae)
        origin = run.info().from_run
        assert origin is not None
        told = [line for line in capsys.readouterr().err.splitlines() if "at random: " in line]
        named = [line for line in origin.left if line.startswith(f"params/{part}/")]
        assert bool(named) == warned and len(told) == warned and all(line in told[0] for line in named)


def test_nothing_is_made_where_nothing_fits(vae: Run, root: Path) -> None:
    before = {run.id for run in every(root)}
    with pytest.raises(RunError, match=r"no weight of run source-.* fits this config: params/"):
        train.start(config("model: {variant: bottleneck, net: conv, hidden: [4], latent: 2}\n"), [], "other", root, vae)
    assert {run.id for run in every(root)} == before


def test_a_run_needs_its_source_no_more_and_resumes_to_the_same_bits(vae: Run, tmp_path: Path) -> None:
    source = Run(Path(shutil.copytree(vae.path, tmp_path / vae.id)))
    whole = train.start(config(VAE), [], "whole", tmp_path, source)
    cut = train.start(config(VAE), [], "cut", tmp_path, source)
    shutil.rmtree(source.path)
    for path in cut.checkpoints.iterdir():
        if path.name.split(".")[0] in ("1", "2"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    cut.set_state("interrupted", step=0, best_step=None, best_value=None)
    train.resume(cut, [])
    there, here = arrays(whole), arrays(cut)
    assert all(np.array_equal(there[path], here[path]) for path in there)


def test_a_run_that_lost_its_start_is_not_begun_at_random(vae: Run, tmp_path: Path) -> None:
    run = train.start(config(VAE), [], "lost", tmp_path, vae)
    shutil.rmtree(run.checkpoints)
    run.checkpoints.mkdir()
    run.set_state("running", step=0, best_step=None, best_value=None)
    with pytest.raises(RunError, match=f"before the weights of {vae.id}"):
        train.resume(run, [])


@pytest.mark.parametrize("prior_width", [8, 12])
def test_a_codebook_comes_along_and_is_not_given_its_first_vectors_again(prior_width: int, root: Path) -> None:
    source = train.start(config(VQ), [], "codes", root)
    run = train.start(config(VQ.replace("prior_width: 8", f"prior_width: {prior_width}")), [], "codes", root, source)
    first, there, last = arrays(run, 0), arrays(source), arrays(run)
    learned = [path for path in first if path.startswith("codebook/")]
    assert learned and all(np.array_equal(first[path], there[path]) for path in learned)
    assert not np.array_equal(last["codebook/total"], first["codebook/total"])
    np.testing.assert_allclose(last["codebook/total"], first["codebook/total"], rtol=0.5, atol=0.5)
    assert (first["learner/step"] == there["learner/step"]) == (prior_width == 8)


@pytest.mark.parametrize(
    "optimizer",
    [
        "name: adamw, weight_decay: 0.1",
        "name: sgd, weight_decay: 0.1, clip_norm: 0.1",
        "name: lion, ema: 0.9",
        "name: muon, weight_decay: 0.1",
    ],
)
def test_frozen_parts_stay_to_the_bit(optimizer: str, tmp_path: Path) -> None:
    text = DATA + VAE + "train: {steps: 3, checkpoint_every: 1, keep: 9}\noptimizer: {freeze: [encoder], " + optimizer + "}"
    run = train.start(parse(text, "fine.yaml"), [], "frozen", tmp_path)
    first, last = arrays(run, 1), arrays(run)
    for path in first:
        if path.startswith("params/"):
            assert np.array_equal(first[path], last[path]) == path.startswith("params/encoder/"), path


def test_what_a_step_sets_without_a_gradient_is_frozen_too(tmp_path: Path) -> None:
    """The dictionary of a sparse autoencoder is brought to unit norm after every step, and its mean set at the first."""
    model = "model: {variant: sparse, penalty: topk, units: 20, k: 3}\n"
    text = DATA + model + "train: {steps: 3, checkpoint_every: 1, keep: 9}\noptimizer: {freeze: [mean, rows]}"
    run = train.start(parse(text, "fine.yaml"), [], "frozen", tmp_path)
    first, last = arrays(run, 1), arrays(run)
    moved = {path.split("/")[2]: not np.array_equal(first[path], last[path]) for path in first if "/params/" in path}
    assert moved == {"bias": True, "kernel": True, "mean": False, "rows": False}
    assert not np.asarray(first["learner/params/mean/value"]).any()


def test_a_part_that_is_none_is_told_where_it_stands() -> None:
    with pytest.raises(ConfigError) as told:
        train.start(config(VAE, "optimizer: {freeze: [encodr]}"), [], "none", Path("nowhere"))
    assert "fine.yaml:4" in told.value.render() and "did you mean 'encoder'?" in told.value.render()
    with pytest.raises(ConfigError, match="nothing to train"):
        train.start(config(VAE, "optimizer: {freeze: [encoder, decoder]}"), [], "none", Path("nowhere"))


def test_muon_has_no_use_where_no_matrix_is_trained() -> None:
    with pytest.raises(ConfigError, match="matrices of layers") as told:
        train.start(
            config(
                "model: {variant: sparse, penalty: topk, units: 20, k: 3}\n", "optimizer: {name: muon, freeze: [kernel, rows]}"
            ),
            [],
            "none",
            Path("nowhere"),
        )
    assert "set optimizer.name: adam" in told.value.render()


def test_the_flags(vae: Run, root: Path, tmp_path: Path) -> None:
    path = tmp_path / "fine.yaml"
    path.write_text(DATA + VAE + TWO_STEPS)
    done = called("train", path, "--from", vae.id, "--freeze", "encoder", "--runs-dir", root, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"from {vae.id}, step \d: all [\d,]+ weights\n", done.stderr)
    run = Run(root / done.stdout.strip())
    assert "optimizer.freeze=[encoder]" in run.info().overrides
    shown = called("show", run.id, "--runs-dir", root, cwd=tmp_path).stdout
    assert re.search(rf"^from +{vae.id}, step \d$", shown, re.MULTILINE)
    for wrong in (["--resume", run.id, "--from", vae.id], ["--resume", run.id, "--freeze", "encoder"]):
        assert called("train", *wrong, "--runs-dir", root, cwd=tmp_path).returncode == 2
    missing = called("train", path, "--from", "nobody", "--runs-dir", root, cwd=tmp_path)
    assert missing.returncode == 4 and "no run 'nobody'" in missing.stderr


def test_from_python(vae: Run, root: Path) -> None:
    blocks = {"data": {"name": "digits", "batch_size": 32}, "model": {"variant": "vae", "hidden": [12], "latent": 3}}
    run = aecli.train({**blocks, "train": {"steps": 1}}, start_from=vae.id, freeze=["decoder"], runs_dir=root)
    assert run.config["optimizer"]["freeze"] == ["decoder"]
    origin = Run(run.path).info().from_run
    assert origin is not None and origin.run == vae.id
