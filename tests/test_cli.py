"""The verbs: what they print where, what they leave, and how they end. Through real processes where a process is what it is
about; `test_compile_cache.py` runs every verb that compiles in one."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from process import ENDLESS, TINY, aecli, called, commits, environment, started, wait_for

from aecli.cli import app as command
from aecli.cli.app import app
from aecli.evaluation.registry import EVALUATORS, SCORES
from aecli.sampling.modes import MODES
from aecli.sampling.samplers import SAMPLERS

pytestmark = pytest.mark.portable

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config and one trained run."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "tiny.yaml").write_text(TINY)
    done = aecli("train", "tiny.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "id").write_text(done.stdout)
    return folder


def the_id(place: Path) -> str:
    return (place / "id").read_text().strip()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, runpy; sys.argv = ['aecli', '--help']\n"
        "try: runpy.run_module('aecli', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'jax', 'flax', 'orbax', 'tensorflow_datasets', 'optax', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    for verb in ("train", "sample", "eval", "runs", "show", "check", "variants", "data"):
        assert verb in done.stdout


def test_help_names_every_mode_sampler_and_evaluator() -> None:
    """The command starts without jax, so its help cannot read the registries: this test does."""
    helps = {verb: typer.main.get_command(app).commands[verb] for verb in ("sample", "eval")}  # type: ignore[attr-defined]
    option = {parameter.name: parameter.help for parameter in helps["sample"].params if hasattr(parameter, "help")}
    assert option["mode"] == ", ".join(MODES) + "."
    assert option["sampler"].endswith(": " + ", ".join(SAMPLERS) + ".")
    assert all(
        f"{sampler.components} for {name}" in option["components"] for name, sampler in SAMPLERS.items() if sampler.components
    )
    assert ", ".join(EVALUATORS) in " ".join(helps["eval"].help.split())
    assert ", ".join(SCORES) in " ".join(helps["eval"].help.split())


def test_runs_and_show_do_not_import_jax(place: Path) -> None:
    for arguments in (["runs"], ["show", "last"]):
        code = (
            f"import sys; sys.argv = ['aecli', *{arguments}]\nfrom aecli.cli.app import main\n"
            "try: main()\nexcept SystemExit as end: assert not end.code\n"
            "sys.exit('jax' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=place, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_train_prints_the_id_alone_and_leaves_a_whole_run(place: Path) -> None:
    run = place / "runs" / the_id(place)
    assert (place / "id").read_text() == run.name + "\n"
    assert (run / "config.yaml").read_text() == TINY
    info = json.loads((run / "run.json").read_text())
    assert info["data"]["sizes"] == {"train": 1350, "validation": 150, "test": 297}
    assert info["versions"]["jax"] and info["devices"] and info["command"][-2:] == ["train", "tiny.yaml"]
    assert json.loads((run / "state.json").read_text())["state"] == "completed"
    leaves = json.loads((run / "checkpoints" / "40.commit.json").read_text())["leaves"]
    assert sum(int(np.prod(leaf["shape"])) for leaf in leaves if leaf["path"].startswith("params/")) == info["parameters"]


def test_codes_can_be_drawn_from_a_fitted_distribution(place: Path) -> None:
    first = called("sample", "last", "--sampler", "gmm", "--components", "2", "-n", "6", cwd=place)
    assert first.returncode == 0, first.stderr
    picture, arrays = (Path(line) for line in first.stdout.split())
    assert picture.name == "prior-gmm2-step40-seed0-n6.png" and "fitting gmm with 2 components" in first.stderr
    assert np.load(place / arrays)["image"].shape == (6, 8, 8, 1)
    second = called("sample", "last", "--sampler", "gnm", cwd=place)
    assert second.returncode == 2 and "did you mean 'gmm'" in second.stderr


def test_eval_prints_what_it_writes_and_twice_the_same(place: Path) -> None:
    first, second = called("eval", "last", "--json", cwd=place), called("eval", the_id(place)[:8], "--json", cwd=place)
    assert first.returncode == second.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    result = json.loads(first.stdout)
    assert result == json.loads((place / "runs" / the_id(place) / "eval" / "test.json").read_text())
    assert {"loss", "distortion_nats", "rate_nats", "mse", "ssim", "linear_probe_accuracy", "frechet_distance"} <= set(result)
    assert result["mse"]["evaluator"] == "reconstruction" and "PCA 3" in result["mse"]["baselines"]
    assert "nll_nats" not in result and "BCE" in first.stderr, "digits are gray"
    assert result["loss"]["n"] == 297 and result["loss"]["unit"] == "nats" and result["loss"]["standard_error"] > 0
    assert result["loss"]["value"] == pytest.approx(result["distortion_nats"]["value"] + result["rate_nats"]["value"], rel=1e-5)
    assert result["loss"]["protocol"]["split"] == "test"
    table = called("eval", "last", "--split", "validation", cwd=place)
    assert "rate_nats" in table.stdout and "150 validation examples" in table.stdout


def test_sample_writes_pictures_and_arrays_that_follow_the_seed(place: Path) -> None:
    paths = {}
    for name, arguments in {"a": ["--seed", 1], "b": ["--seed", 2]}.items():
        done = called("sample", "last", "-n", 9, *arguments, cwd=place)
        assert done.returncode == 0, done.stderr
        paths[name] = [place / line for line in done.stdout.split()]
    first, second = (np.load(paths[name][1])["image"] for name in "ab")
    assert first.shape == (9, 8, 8, 1) and first.dtype == np.uint8 and not np.array_equal(first, second)
    before = paths["a"][0].read_bytes()
    called("sample", "last", "-n", 9, "--seed", 1, cwd=place)
    assert paths["a"][0].read_bytes() == before
    done = called("sample", "last", "--mode", "reconstruct", "-n", 5, cwd=place)
    picture, arrays = (place / line for line in done.stdout.split())
    with Image.open(picture) as opened:
        assert opened.width > 5 * 56
    loaded = np.load(arrays)
    assert loaded["image"].shape == loaded["reconstruction"].shape == (5, 8, 8, 1)


def test_a_mode_that_the_variant_has_not_names_what_would_work(place: Path) -> None:
    (place / "plain.yaml").write_text(TINY.replace("variant: vae", "variant: bottleneck").replace("steps: 40", "steps: 2"))
    run = called("train", "plain.yaml", "--runs-dir", "other", cwd=place).stdout.strip()
    done = called("sample", run, "--runs-dir", "other", cwd=place)
    assert done.returncode == 2
    assert "cannot do --mode prior" in done.stderr and "--mode reconstruct" in done.stderr and "vae" in done.stderr
    done = called("sample", run, "--mode", "dream", "--runs-dir", "other", cwd=place)
    assert done.returncode == 2 and "no mode 'dream'" in done.stderr


def test_runs_lists_and_filters_and_show_tells(place: Path) -> None:
    table = called("runs", cwd=place).stdout
    assert the_id(place) in table and "completed" in table and "vae" in table
    facts = json.loads(called("runs", "--state", "completed", "--variant", "vae", "--json", cwd=place).stdout)
    assert [f["id"] for f in facts] == [the_id(place)] and facts[0]["step"] == 40
    assert "no such runs" in called("runs", "--variant", "gan", cwd=place).stderr
    assert called("runs", "--state", "complete", cwd=place).returncode == 2
    shown = called("show", "last", cwd=place).stdout
    for word in ("completed", "1,350 train", "validation", "variant: vae", "jax "):
        assert word in shown
    assert json.loads(called("show", "last", "--json", cwd=place).stdout)["state"] == "completed"


def test_each_mistake_is_a_message_with_its_place_and_exit_2(place: Path) -> None:
    bad = TINY.replace("seed: 0", "seed: -1").replace("batch_size", "batchsize").replace("latent: 3", "latent: x")
    bad = bad.replace("1e-3", "0").replace("steps", "stepps").replace("digits", "fashion_mnst")
    (place / "bad.yaml").write_text(bad)
    before = sorted((place / "runs").iterdir())
    for verb, run in (("train", aecli), ("check", called)):
        done = run(verb, "bad.yaml", cwd=place)
        assert done.returncode == 2 and done.stdout == ""
        lines = [line for line in done.stderr.splitlines() if line.startswith("bad.yaml:")]
        assert [int(line.split(":")[1]) for line in lines] == [1, 2, 2, 3, 4, 5]
        assert "Traceback" not in done.stderr and "did you mean 'batch_size'?" in done.stderr
        assert "did you mean 'fashion_mnist'?" in done.stderr
    assert sorted((place / "runs").iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["train"], 2, "CONFIG"),
        (["train", "nowhere.yaml"], 2, "no such file"),
        (["train", "."], 2, "this is a folder"),
        (["train", "tiny.yaml", "--set", "data.name=digts"], 2, "did you mean 'digits'?"),
        (["train", "tiny.yaml", "--set", "model.latent=100"], 2, "--set model.latent=100"),
        (["train", "tiny.yaml", "--set", "data.batch_size=5000"], 2, "larger than"),
        (["train", "tiny.yaml", "--set", "train.monitor=los"], 2, "did you mean 'loss'?"),
        (["train", "tiny.yaml", "--set", "data.name=cifar10"], 3, "no network"),
        (["train", "tiny.yaml", "--runs-dir", "tiny.yaml"], 7, "not a folder"),
        (["train", "--resume", "nothing"], 4, "no run 'nothing'"),
        (["train", "--resume", "last", "--set", "model.latent=2"], 2, "only train.steps"),
        (["eval", "nothing"], 4, "no run 'nothing'"),
        (["eval", "../../etc"], 2, "no run id"),
        (["eval", "last", "--split", "train"], 2, "test and validation"),
        (["sample", "last", "--checkpoint", "first"], 2, "best and last"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_mistakes_end_with_their_code_and_say_what_to_do(place: Path, arguments: list[str], code: int, text: str) -> None:
    done = called(*arguments, cwd=place)
    assert done.returncode == code, done.stderr
    assert text in done.stderr and "Traceback" not in done.stderr and done.stdout == ""


def test_a_device_that_is_not_there_is_exit_8(place: Path) -> None:
    done = aecli("train", "tiny.yaml", cwd=place, JAX_PLATFORMS="cuda")
    assert done.returncode == 8 and "JAX_PLATFORMS" in done.stderr and "Traceback" not in done.stderr


def test_debug_shows_the_traceback(place: Path) -> None:
    done = aecli("eval", "nothing", "--debug", cwd=place)
    assert "Traceback" in done.stderr and "RunError" in done.stderr


def test_a_limit_on_the_size_of_files_is_exit_7_and_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY.replace("hidden: [16]", "hidden: [300]"))
    command = f"ulimit -f 64; exec {sys.executable} -m aecli train tiny.yaml"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 7 and "file too large" in done.stderr and "Traceback" not in done.stderr
    assert json.loads(called("runs", "--json", cwd=tmp_path).stdout)[0]["state"] == "failed"
    done = called("train", "--resume", "last", cwd=tmp_path)
    assert done.returncode == 0 and "no checkpoint yet: starting at step 0" in done.stderr


def test_divergence_is_exit_6_and_says_the_step(place: Path) -> None:
    flags = ["--set", "optimizer.name=sgd", "--set", "optimizer.learning_rate=1e6", "--runs-dir", "other"]
    done = called("train", "tiny.yaml", *flags, cwd=place)
    assert done.returncode == 6 and "not finite at step" in done.stderr and "Traceback" not in done.stderr
    assert json.loads(called("runs", "--state", "diverged", "--json", "--runs-dir", "other", cwd=place).stdout)
    done = called("train", "--resume", "last", "--runs-dir", "other", cwd=place)
    assert done.returncode == 4 and "would do so again" in done.stderr


def test_check_and_its_smoke_test_leave_nothing(place: Path) -> None:
    before = sorted((place / "runs").iterdir())
    done = called("check", "tiny.yaml", cwd=place)
    assert done.returncode == 0 and done.stdout.startswith("tiny.yaml: ok (vae, digits,")
    done = called("check", "--smoke", "tiny.yaml", "nowhere.yaml", cwd=place)
    assert done.returncode == 2 and "no such file" in done.stderr
    assert "tiny.yaml: ok (vae, digits, 2 steps, eval, prior, reconstruct" in done.stdout
    assert sorted((place / "runs").iterdir()) == before


def test_variants_and_data_list(place: Path) -> None:
    facts = json.loads(called("variants", "--json", cwd=place).stdout)
    by_name = {fact["variant"]: fact for fact in facts}
    assert by_name["vae"]["abilities"] == ["samples", "translates", "reconstructs", "encodes", "infers", "decodes", "weighs"]
    assert by_name["bottleneck"]["abilities"] == ["reconstructs", "encodes", "decodes"]
    assert by_name["vae"]["settings"]["latent"] == 20
    assert "class" in by_name["vae"]["modes"] and "codebook" in by_name["vq"]["evaluators"] and by_name["gan"]["samplers"] == []
    told = called("variants", "sparse", cwd=place).stdout
    assert "of what the encoder sees" in told and MODES["codes"].help in told and EVALUATORS["sparsity"].help in told
    assert "(l1 | kl | square | topk | batch_topk)" in told and "arXiv 2406.04093" in told and "sparse_digits" in told
    assert "vae" not in told and "Objective" not in told and "$" not in told, "formulas are for the documentation"
    assert by_name["sparse"]["about"] in " ".join(told.split()) and "latent" not in called("variants", cwd=place).stdout
    assert "did you mean 'sparse'" in called("variants", "sparce", cwd=place).stderr
    listed = called("data", "list", cwd=place).stdout
    assert "digits" in listed and "prepared" in listed and os.environ["AECLI_DATA_DIR"] in listed
    as_json = json.loads(called("data", "list", "--json", cwd=place).stdout)
    assert as_json["root"] == os.environ["AECLI_DATA_DIR"]
    assert {"name": "digits", "state": "prepared"}.items() <= next(
        each for each in as_json["sets"] if each["name"] == "digits"
    ).items()
    done = called("data", "prepare", "digits", cwd=place)
    assert done.returncode == 0 and done.stdout.strip() == os.environ["AECLI_DATA_DIR"]
    assert called("data", "prepare", "digts", cwd=place).returncode == 2


def test_a_moved_run_is_a_run(place: Path) -> None:
    shutil.copytree(place / "runs" / the_id(place), place / "moved" / the_id(place))
    done = called("eval", "last", "--only", "objective", "--json", "--runs-dir", "moved", cwd=place)
    assert done.returncode == 0 and "loss" in json.loads(done.stdout)


def test_a_damaged_checkpoint_is_exit_5(place: Path) -> None:
    copy = place / "damaged" / the_id(place)
    shutil.copytree(place / "runs" / the_id(place), copy)
    for path in copy.glob("checkpoints/*/manifest.ocdbt"):
        path.write_bytes(b"x")
    done = called("eval", "last", "--runs-dir", "damaged", cwd=place)
    assert done.returncode == 5 and "damaged" in done.stderr and "Traceback" not in done.stderr


def test_other_data_than_the_run_was_trained_on_is_refused(place: Path) -> None:
    copy = place / "relabelled" / the_id(place)
    shutil.copytree(place / "runs" / the_id(place), copy)
    info = json.loads((copy / "run.json").read_text())
    info["data"]["fingerprint"] = "0" * 64
    (copy / "run.json").write_text(json.dumps(info))
    done = called("eval", "last", "--runs-dir", "relabelled", cwd=place)
    assert done.returncode == 4 and "run.json of run" in done.stderr and "has been changed since checkpoint" in done.stderr


def test_a_run_goes_on_in_the_tier_that_it_began_in(place: Path) -> None:
    """Whatever tier `auto` would choose today."""
    (place / "stream.yaml").write_text(
        TINY.replace("name: digits", "name: digits, tier: stream").replace("steps: 40", "steps: 4")
    )
    run = called("train", "stream.yaml", "--runs-dir", "streamed", cwd=place).stdout.strip()
    resolved = place / "streamed" / run / "config.resolved.yaml"
    resolved.write_text(resolved.read_text().replace("tier: stream", "tier: auto"))
    done = called("train", "--resume", run, "--set", "train.steps=6", "--runs-dir", "streamed", cwd=place)
    assert done.returncode == 0, done.stderr
    assert called("eval", run, "--only", "objective", "--runs-dir", "streamed", cwd=place).returncode == 0


def test_a_complete_run_can_be_made_longer_and_nothing_else(place: Path) -> None:
    copy = place / "longer" / the_id(place)
    shutil.copytree(place / "runs" / the_id(place), copy)
    done = called("train", "--resume", "last", "--runs-dir", "longer", cwd=place)
    assert done.returncode == 0 and done.stdout.strip() == the_id(place) and "complete at step 40" in done.stderr
    done = called("train", "--resume", "last", "--set", "train.steps=55", "--runs-dir", "longer", cwd=place)
    assert done.returncode == 0 and "resuming at step 40" in done.stderr
    assert json.loads((copy / "state.json").read_text())["step"] == 55
    assert "steps: 55" in (copy / "config.resolved.yaml").read_text()


def test_a_run_that_was_interrupted_is_not_ended_by_a_length_that_it_has_passed(place: Path) -> None:
    copy = place / "shorter" / the_id(place)
    shutil.copytree(place / "runs" / the_id(place), copy)
    state = json.loads((copy / "state.json").read_text()) | {"state": "interrupted"}
    (copy / "state.json").write_text(json.dumps(state))
    done = called("train", "--resume", "last", "--set", "train.steps=30", "--runs-dir", "shorter", cwd=place)
    assert done.returncode == 4 and "has done 40 steps, and would have 30" in done.stderr
    assert json.loads((copy / "state.json").read_text()) == state and "steps: 40" in (copy / "config.resolved.yaml").read_text()


def test_markup_in_names_is_text(tmp_path: Path) -> None:
    (tmp_path / "[red]x[bold].yaml").write_text(TINY.replace("steps: 40", "steps: 2"))
    done = called("train", "[red]x[bold].yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert called("runs", cwd=tmp_path).stdout.count(done.stdout.strip()) == 1
    (tmp_path / "bad.yaml").write_text(TINY.replace("hidden", "'[/bold]'"))
    assert "'[/bold]' is not a setting" in called("check", "bad.yaml", cwd=tmp_path).stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_closed_pipe_is_quiet_and_a_full_one_is_told(place: Path) -> None:
    command = [sys.executable, "-m", "aecli", "runs"]
    read, write = os.pipe()
    os.close(read)
    closed = subprocess.run(command, cwd=place, env=environment(), stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert closed.returncode == 0 and closed.stderr == ""
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=place, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 7 and "no space" in done.stderr


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_ends_and_the_run_goes_on(tmp_path: Path, signum: int, code: int) -> None:
    (tmp_path / "endless.yaml").write_text(ENDLESS)
    with started("train", "endless.yaml", cwd=tmp_path) as process:
        wait_for(lambda: len(commits(tmp_path)) >= 2, process)
        refused = called("train", "--resume", "last", cwd=tmp_path)
        assert refused.returncode == 4 and f"process {process.pid}" in refused.stderr, "the run is held"
        assert json.loads(called("runs", "--json", cwd=tmp_path).stdout)[0]["state"] == "running"
        looked = called("eval", "last", "--only", "objective", cwd=tmp_path)
        assert looked.returncode == 0, looked.stderr
        process.send_signal(signum)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert out == "" and "which is saved" in err and "Traceback" not in err
    [fact] = json.loads(called("runs", "--json", cwd=tmp_path).stdout)
    assert fact["state"] == "interrupted"
    done = called("train", "--resume", "last", "--set", f"train.steps={fact['step'] + 5}", cwd=tmp_path)
    assert done.returncode == 0 and f"resuming at step {fact['step']}" in done.stderr


@pytest.mark.parametrize("delay", [0.3, 0.8, 1.5, 2.5])
def test_a_signal_while_starting_leaves_no_broken_run(tmp_path: Path, delay: float) -> None:
    (tmp_path / "endless.yaml").write_text(ENDLESS)
    with started("train", "endless.yaml", cwd=tmp_path) as process:
        time.sleep(delay)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode in (143, -signal.SIGTERM), err  # before the program has begun it is the system that ends it
    assert "Traceback" not in err
    for fact in json.loads(called("runs", "--json", cwd=tmp_path).stdout):
        assert fact["state"] in ("interrupted", "crashed", "created")
        done = called("train", "--resume", fact["id"], "--set", f"train.steps={(fact['step'] or 0) + 2}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_two_signals_at_once_save_as_one_does(tmp_path: Path) -> None:
    (tmp_path / "endless.yaml").write_text(ENDLESS)
    with started("train", "endless.yaml", cwd=tmp_path) as process:
        wait_for(lambda: commits(tmp_path), process)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    [fact] = json.loads(called("runs", "--json", cwd=tmp_path).stdout)
    assert fact["state"] == "interrupted" and fact["step"] > 0
    done = called("train", "--resume", "last", "--set", f"train.steps={fact['step'] + 60}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_two_runs_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    fresh = str(tmp_path / "fresh")
    with (
        started("train", "tiny.yaml", cwd=tmp_path, AECLI_DATA_DIR=fresh) as one,
        started("train", "tiny.yaml", cwd=tmp_path, AECLI_DATA_DIR=fresh) as two,
    ):
        ids = [process.communicate(timeout=120)[0].strip() for process in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0) and len(set(ids)) == 2
    first, second = (
        [leaf["sha256"] for leaf in json.loads((tmp_path / "runs" / i / "checkpoints" / "40.commit.json").read_text())["leaves"]]
        for i in ids
    )
    assert first == second, "one config, one seed, one result"


def test_letters_that_the_output_cannot_hold_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(command, "app", lambda *_, **__: print("Käse 猫"))
    command.main()
    out.flush()
    assert raw.getvalue() == b"K\\xe4se \\u732b\n"
