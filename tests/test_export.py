"""What is exported does what the run does, without aecli; what cannot be exported is told, and nothing is left of it.

In CI one case is exported in each format; AECLI_SOAK=1 exports every case of every variant in each."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from cases import CASES, named
from fit import dataset, experiment, new_run
from process import SOAK, TINY, called, environment
from safetensors import safe_open

import aecli
from aecli import models
from aecli.api import TrainedRun
from aecli.errors import AecliError, UsageError
from aecli.exports import noise, onnx, stablehlo, weights
from aecli.exports.card import escaped, fenced
from aecli.exports.formats import Unable
from aecli.exports.functions import Form, Function
from aecli.runs import checkpoint
from aecli.runs.directory import Run
from aecli.runs.state import init
from aecli.system.placement import placement
from aecli.verbs import apply
from aecli.verbs import export as verb

DATA = dataset()
needs_onnx = pytest.mark.skipif(
    find_spec("jax2onnx") is None or find_spec("onnxruntime") is None,
    reason="needs aecli[onnx], which holds back other packages: make onnx tests it in an environment of its own",
)
FORMATS = ["stablehlo", pytest.param("onnx", marks=[needs_onnx, pytest.mark.onnx])]
SAMPLE = "vae-gated-vamp"
"""Conditional, a prior that draws whole numbers and normal ones, and a score of importance samples."""


NO_ONNX = {"denoising": "onnxruntime cannot run it"}
"""Cases of which ONNX holds nothing, and why: in the U-Net jax2onnx writes a wrong shape beside a concatenation."""


def untrained(folder: Path, text: str, data: Any = DATA) -> Run:
    """A run whose model has its first weights: to train it would take most of the time, and changes nothing."""
    e = experiment(text, "steps: 3", "batch_size: 16", "learning_rate: 1e-3, ema: 0.9")
    run = new_run(folder, e, data)
    state = init(e, data.spec, len(data.train), placement(16))
    at = {"step": 1, "best_step": None, "best_value": None, "stale": 0, "evaluated": 0}
    checkpoint.save(run.checkpoints, 1, state, {"progressed": at, "metrics_offset": 0})
    return run


def used(folder: Path) -> str:
    """What `use.py` says, as a process that cannot import aecli."""
    script = "import sys, runpy; sys.modules['aecli'] = None; runpy.run_path('use.py', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment(), capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in CASES if SOAK or c.name == SAMPLE])
def test_every_variant_exports_what_it_is_able_to_do(case: Any, form: str, tmp_path: Path) -> None:
    run = untrained(tmp_path, case.text)
    loaded = aecli.load(run.path, checkpoint="last")
    try:
        folder = loaded.export(form, tmp_path / "out")
    except UsageError as error:  # of some networks jax2onnx makes nothing for any number of examples
        assert form == "onnx" and "--batch N" in error.message and not (tmp_path / "out").exists()
        if case.name in NO_ONNX:
            with pytest.raises(UsageError, match=NO_ONNX[case.name]):
                loaded.export(form, tmp_path / "out", batch=3)
            return
        folder = loaded.export(form, tmp_path / "out", batch=3)
    facts = json.loads((folder / "export.json").read_text())
    able = {name for name, needed in apply.NEEDED.items() if {*needed} & {*loaded.abilities}} - {"complete"}
    missing = {note.split()[0] for note in facts["notes"] if "is left out" in note}
    assert {*facts["functions"]} | missing == able and not {*facts["functions"]} & missing
    assert not missing or form == "onnx"
    lines = used(folder).splitlines()
    assert [line.split()[0] for line in lines] == list(facts["functions"])
    for line in lines:
        scale = 1000 if line.startswith("score") else 1  # nats of an image
        assert float(line.split(": ")[1].split()[0]) <= 1e-4 * scale, line


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs on digits: of a VAE with averaged weights, and of one of its kind that is conditional."""
    folder = tmp_path_factory.mktemp("place")
    config = TINY.replace("latent: 3", "latent: 3, likelihood: gaussian").replace("1e-3", "1e-3, ema: 0.9").replace("40", "10")
    (folder / "tiny.yaml").write_text(config)
    aecli.train(folder / "tiny.yaml", runs_dir=folder / "runs", name="plain").evaluate(only="objective")
    return folder


@pytest.fixture(scope="module")
def run(place: Path) -> TrainedRun:
    return aecli.load("plain", runs_dir=place / "runs")


@pytest.mark.parametrize("text", named([case for case in CASES if case.name.startswith("sparse")]))
def test_a_card_tells_of_no_array_that_there_is_not(text: str, tmp_path: Path) -> None:
    trained = aecli.load(untrained(tmp_path, text).path)._trained
    told = trained.model.arrays_told
    assert told and told.keys() <= weights.arrays(trained).keys()


def test_safetensors_holds_the_weights_that_an_evaluation_uses(place: Path, run: TrainedRun) -> None:
    done = called("export", "plain", "--format", "safetensors", "-o", "weights", cwd=place)
    assert done.returncode == 0 and done.stdout.strip() == str(place / "weights"), done.stderr
    with safe_open(place / "weights" / "weights.safetensors", "numpy") as file:
        facts, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    state = run._trained.state
    kept = {name.removesuffix("/value"): np.asarray(leaf) for name, leaf in checkpoint.leaves(state.ema).items()}
    assert kept.keys() == arrays.keys()
    assert [name for name in kept if not np.array_equal(kept[name], arrays[name])] == []
    last = checkpoint.leaves(state.params)["encoder/mlp/layers/0/kernel/value"]
    assert not np.array_equal(arrays["encoder/mlp/layers/0/kernel"], last), "averaged, not the last"
    commit = json.loads((run.path / "checkpoints" / f"{run.checkpoint_step}.commit.json").read_text())
    assert facts["checkpoint_sha256"] == commit["seal"] and facts["run"] == run.id and facts["step"] == "10"
    assert yaml.safe_load(facts["config"]) == yaml.safe_load((run.path / "config.resolved.yaml").read_text())
    assert facts["aecli"] == aecli.__version__ and facts["metrics_version"] == "5"
    said = used(place / "weights")
    assert said.startswith(f"run {run.id}, step 10\n") and "encoder/mlp/layers/0/kernel float32 [64, 16]" in said


def test_stablehlo_gives_what_the_run_gives_for_any_number(place: Path, run: TrainedRun) -> None:
    done = called("export", "plain", "--format", "stablehlo", "--what", "encode,reconstruct", "-o", "any", cwd=place)
    assert done.returncode == 0 and "8 rows of the test split and 3 made-up ones" in done.stderr, done.stderr
    folder = place / "any"
    assert {path.name for path in folder.iterdir()} == {
        *("README.md", "use.py", "export.json", "example.npz", "encode.stablehlo", "reconstruct.stablehlo")
    }
    images = (run.data().images[:5] / np.float32(255)).astype(np.float32)
    for name in ("encode", "reconstruct"):
        function = jax.export.deserialize(bytearray((folder / f"{name}.stablehlo").read_bytes()))
        assert function.platforms == ("cpu", "cuda", "tpu")
        for n in (1, 5):
            assert np.allclose(function.call(images[:n]), getattr(run, name)(images[:n]), atol=1e-6)
    card = (folder / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "unknown" and front["datasets"] == ["digits"] and "vae" in front["tags"]
    number = run.numbers()["loss"]
    assert f"| loss | {number.value:.5g} |" in card and f"{number.standard_error:.2g}" in card and "version 5" in card
    assert run.config["data"] == yaml.safe_load(card.split("```yaml\n")[1].split("\n```")[0])["data"]


def test_a_fixed_number_takes_no_other(place: Path, run: TrainedRun) -> None:
    folder = run.export("stablehlo", place / "fixed", "encode", batch=2)
    function = jax.export.deserialize(bytearray((folder / "encode.stablehlo").read_bytes()))
    assert function.call(np.zeros((2, 8, 8, 1), np.float32)).shape == (2, 3)
    with pytest.raises(ValueError, match="shape"):
        function.call(np.zeros((3, 8, 8, 1), np.float32))


def test_vectors_are_exported_in_the_units_of_the_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "rows.npz", x_train=rng.normal(50, 9, (64, 6)), x_test=rng.normal(50, 9, (16, 6)))
    config: Any = {
        "data": {"name": "vectors", "path": str(tmp_path / "rows.npz"), "standardize": "zscore", "batch_size": 16},
        "model": {"variant": "bottleneck", "net": "linear", "latent": 2},
        "train": {"steps": 3},
    }
    run = aecli.train(config, runs_dir=tmp_path / "runs")
    folder = run.export("stablehlo", tmp_path / "out", "reconstruct")
    function = jax.export.deserialize(bytearray((folder / "reconstruct.stablehlo").read_bytes()))
    rows = run.data().images[:5]
    assert rows.mean() > 40 and np.allclose(function.call(rows), run.reconstruct(rows), atol=1e-3)
    with safe_open(run.export("safetensors", tmp_path / "weights") / "weights.safetensors", "numpy") as file:
        assert np.allclose(file.get_tensor("scaling/mean").ravel(), 50, atol=5)


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        (["--format", "onxx"], 2, "did you mean 'onnx'?"),
        (["--format", "stablehlo", "--what", "encod"], 2, "did you mean 'encode'?"),
        (["--format", "safetensors", "--what", "encode"], 2, "safetensors holds the weights"),
        (["--format", "safetensors", "--batch", "2"], 2, "--batch is for functions"),
        (["--format", "stablehlo", "--batch", "0"], 2, "--batch 0: from 1"),
        (["--format", "safetensors", "-o", "nowhere/out"], 7, "make it first"),
        (["--format", "safetensors", "-o", "tiny.yaml"], 7, "is no folder"),
        (["--format", "safetensors", "-o", "runs", "--force"], 2, "is no export of aecli"),
        (["--format", "stablehlo", "--data-path", "x"], 2, "leave it out"),
        (["--format", "safetensors", "--checkpoint", "3"], 4, "no checkpoint of step 3"),
    ],
)
def test_what_cannot_be_is_refused_with_the_fix(place: Path, run: TrainedRun, flags: list[str], code: int, told: str) -> None:
    before = sorted(place.iterdir())
    done = called("export", "plain", *flags, cwd=place)
    assert done.returncode == code and told in done.stderr, done.stderr
    assert sorted(place.iterdir()) == before


def test_a_model_is_not_asked_for_what_it_cannot_do(tmp_path: Path) -> None:
    run = aecli.load(untrained(tmp_path, "variant: gan, hidden: [4]").path, checkpoint="last")
    with pytest.raises(UsageError, match="'gan' cannot encode") as error:
        run.export("stablehlo", tmp_path / "out", ["sample", "encode"])
    assert "it has: samples" in str(error.value.help) and not (tmp_path / "out").exists()


def test_an_export_is_replaced_only_by_force(place: Path, run: TrainedRun) -> None:
    folder = run.export("safetensors", place / "twice")
    (folder / "mine").touch()
    with pytest.raises(UsageError, match="is there already") as error:
        run.export("safetensors", folder)
    assert "--force" in str(error.value.help) and (folder / "mine").exists()
    run.export("safetensors", folder, force=True)
    assert not (folder / "mine").exists() and (folder / "weights.safetensors").exists()
    assert [path.name for path in place.iterdir() if path.name.startswith(".twice")] == []


def test_what_differs_from_the_run_is_not_left_there(place: Path, run: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(*arguments: Any) -> Any:
        return of_run(*arguments) + np.float32(1e-2)

    of_run = verb.of_run
    monkeypatch.setattr(verb, "of_run", other)
    before = sorted(place.iterdir())
    with pytest.raises(AecliError, match=r"encode.stablehlo differs from the run by up to 0\.01") as error:
        run.export("stablehlo", place / "wrong", "encode")
    assert error.value.code == 1 and "report it" in str(error.value.help)
    assert sorted(place.iterdir()) == before


def test_what_a_format_cannot_hold_is_left_out_or_told(place: Path, run: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(file: Path, arrays: Any) -> Any:
        if file.stem == "decode":
            raise Unable("it cannot be run", "another format")
        return kept(file, arrays)

    kept = stablehlo._read
    monkeypatch.setattr(stablehlo, "_read", read)
    with pytest.raises(UsageError, match="decode cannot be exported as stablehlo: it cannot be run") as error:
        run.export("stablehlo", place / "part", "decode")
    assert error.value.help == "another format" and not (place / "part").exists()
    monkeypatch.setattr(verb, "chosen", lambda model, what: ["encode", "decode"])
    folder = run.export("stablehlo", place / "part")
    assert (folder / "encode.stablehlo").exists() and not (folder / "decode.stablehlo").exists()
    assert "decode is left out\\: it cannot be run (another format)" in (folder / "README.md").read_text()


def test_a_damaged_file_of_weights_is_not_left_there(place: Path, run: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aecli.exports.weights.load_file", lambda path: {})
    with pytest.raises(AecliError, match="does not hold the weights"):
        run.export("safetensors", place / "damaged")
    assert not list(place.glob("*damaged*"))


def test_without_the_extra_it_says_what_to_install(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    done = called("export", "plain", "--format", "onnx", "-o", "none", cwd=place)
    assert done.returncode == 2 and "pip install 'aecli[onnx]'" in done.stderr and not (place / "none").exists()


def test_a_variant_that_is_dropped_in_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parent.parent / "docs" / "add-a-variant.md").read_text()
    block = text.split("```python\n")[1].split("```")[0]
    (tmp_path / "dropped.py").write_text("\n".join(line.removeprefix("   ") for line in block.splitlines()))
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    run = aecli.load(untrained(tmp_path, "variant: dropped, latent: 3").path, checkpoint="last")
    folder = run.export("stablehlo", tmp_path / "out")
    assert list(json.loads((folder / "export.json").read_text())["functions"]) == ["encode", "decode", "reconstruct", "sample"]
    assert "made\\-up" not in (card := (folder / "README.md").read_text()) and "data is not here" in card
    sys.modules.pop("aecli.models.dropped", None)


def function(call: Any, *shape: int) -> Function:
    return Function("twice", (Form("image", shape, "float32", ""),), Form("made", shape, "float32", ""), call)


def test_a_function_of_one_number_of_rows_is_told_with_the_flag(tmp_path: Path) -> None:
    def of_length(x: jax.Array) -> jax.Array:
        return x * jnp.float32(len(x))

    with pytest.raises(Unable, match="any number of examples") as error:
        stablehlo.write(tmp_path, function(of_length, 2), None)
    assert "--batch N" in str(error.value.help)
    written = stablehlo.write(tmp_path, function(of_length, 2), 3)
    assert np.array_equal(written.read([np.ones((3, 2), np.float32)]), np.full((3, 2), 3, np.float32))


def test_noise_that_is_given_is_what_the_key_would_have_drawn() -> None:
    def call(key: jax.Array, label: jax.Array) -> jax.Array:
        first, second = jax.random.split(jax.random.wrap_key_data(key))
        n = label.shape[0]
        chosen = jax.random.randint(first, (n,), 2, 9)[:, None]
        return jax.random.normal(second, (n, 3)) + jax.random.uniform(first, (n, 3), minval=2.0, maxval=5.0) + chosen

    arguments = [np.array([3, 4], np.uint32), np.zeros(5, np.int32)]
    kinds = [draw.kind for draw in noise.draws(call, arguments)]
    assert kinds == [noise.WHOLE, noise.NORMAL, noise.UNIFORM]
    given = noise.drawn(call, arguments)
    assert given[0].dtype == np.int32 and float(given[2].min()) >= 0 and float(given[2].max()) < 1
    source = iter(given)
    again = noise.run(call, arguments, lambda *_: next(source))
    assert np.allclose(again, call(*map(jnp.asarray, arguments)), atol=1e-6)
    assert np.allclose(noise.run(call, arguments, lambda draw, _: jnp.zeros(draw.shape)), 2.0), "nothing else is drawn"


def test_what_is_drawn_in_a_loop_is_no_input() -> None:
    def call(key: jax.Array) -> jax.Array:
        key = jax.random.wrap_key_data(key)
        return jax.lax.fori_loop(0, 3, lambda i, x: x + jax.random.normal(jax.random.fold_in(key, i), x.shape), jnp.zeros(4))

    with pytest.raises(Unable, match="draws inside of"):
        noise.draws(call, [np.zeros(2, np.uint32)])
    with pytest.raises(Unable, match="no row for each"):
        noise.Draw(noise.NORMAL, (3, 5)).form(0, 5)


def test_text_of_users_stays_text() -> None:
    assert escaped("<b>a|b</b> *c* `d` [e](f)\n# g") == r"\<b\>a\|b\</b\> \*c\* \`d\` \[e\](f)\u000a\# g".replace("\\u", "\\\\u")
    assert escaped("https://a.b www.c.d x@y") == r"https\://a.b www\.c.d x\@y"
    text = "a: '```'\n````\n"
    block = fenced(text, "yaml")
    assert block.startswith("`````yaml\n") and block.endswith("\n`````")


def test_quiet_gives_the_log_back() -> None:
    import logging

    with onnx._quiet():
        assert logging.root.manager.disable == logging.CRITICAL
    assert logging.root.manager.disable == logging.NOTSET
