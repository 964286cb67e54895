"""What people bring along from other programs, and what their shell asks: mistakes are told in one style with their fix."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from process import called, environment

from aecli.cli.app import app
from aecli.evaluation.registry import EVALUATORS
from aecli.evaluation.request import EVALUATOR_NAMES
from aecli.sampling.modes import MODES
from aecli.sampling.request import MODE_NAMES

STYLE = re.compile(r"error: [^A-Z\n][^\n]*[^.\n]\n  help: [^\n]+\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with one run of a moment, its numbers, and a config."""
    folder = tmp_path_factory.mktemp("habits")
    (folder / "mine.yaml").write_text("data: {name: digits}\nmodel: {variant: vae, latent: 2, hidden: [8]}\ntrain: {steps: 2}\n")
    assert called("train", "mine.yaml", cwd=folder).returncode == 0
    assert called("eval", "last", "--only", "reconstruction", cwd=folder).returncode == 0
    return folder


@pytest.mark.parametrize(
    "command, told, fix",
    [
        ("train quickstart train.steps=5", "train.steps=5", "aecli train CONFIG --set train.steps=5"),
        ("train quickstart +model.latent=3", "+model.latent=3", "aecli train CONFIG --set model.latent=3"),
        ("train quickstart ++model.hidden=[3,4]", "hidden", "aecli train CONFIG --set model.hidden=[3,4]"),
        ("train quickstart --train.steps 5", "--train.steps", "aecli train CONFIG --set train.steps=5"),
        ("train quickstart --optimizer.learning_rate=1e-3", "rate", "aecli train CONFIG --set optimizer.learning_rate=1e-3"),
        ("sweep quickstart model.beta=1,2", "model.beta=1,2", "aecli sweep CONFIG --set model.beta=1,2"),
        ("train --seed 3 quickstart", "--seed", "aecli train CONFIG --set seed=3"),
        ("train --config mine.yaml", "--config", "aecli train mine.yaml"),
        ("check --config=mine.yaml", "--config", "aecli check mine.yaml"),
        ("check -q mine.yaml", "-q", "before the verb"),
        ("trian mine.yaml", "trian", "aecli --help"),
        ("sample", "RUN", "aecli sample --help"),
        ("eval last --draws many", "--draws", "aecli eval --help"),
        ("eval last --nix", "--nix", "aecli eval --help"),
        ("help nix", "nix", "aecli --help"),
        ("data prepare", "NAME", "aecli data prepare --help"),
        ("runs --where seed=3 --nix", "--nix", "aecli runs --help"),
        ("sweep quickstart --grid model.beta=1,2 --sedes 3", "Possible options: --seeds", "aecli sweep --help"),
        ("check --data --nix quickstart", "--nix", "aecli check --help"),
        ("sample last --seed 3 --nix", "--nix", "aecli sample --help"),
        ("train quickstart --set seed=3 --nix", "--nix", "aecli train --help"),
        ("runs --variant vea", "vea", "did you mean 'vae'?"),
        ("sample last --mode priro", "priro", "did you mean 'prior'?"),
        ("export last --format onyx -o x", "onyx", "onnx"),
    ],
)
def test_a_mistake_in_a_command_has_one_style_and_its_fix(command: str, told: str, fix: str, place: Path) -> None:
    done = called(*command.split(), cwd=place)
    assert done.returncode == 2 and done.stdout == ""
    assert STYLE.fullmatch(done.stderr), done.stderr
    error, _, help = done.stderr.partition("\n  help: ")
    assert told in error and fix in help


def test_a_setting_in_place_of_the_config_is_told_so(tmp_path: Path) -> None:
    done = called("train", "train.steps=5", cwd=tmp_path)
    assert done.returncode == 2 and "--set train.steps=5" in done.stderr


def test_where_there_are_no_runs_every_verb_says_so_alike(tmp_path: Path) -> None:
    for command in ("show last", "sample last", "eval last", "compare last last", "report last", "rm last", "watch last"):
        done = called(*command.split(), cwd=tmp_path)
        assert done.returncode == 4 and "there are no runs in runs yet\n  help: train one: aecli train quickstart" in done.stderr
    done = called("runs", cwd=tmp_path)
    assert done.returncode == 0 and "there are no runs in runs yet\n  help: train one: aecli train quickstart" in done.stderr
    assert json.loads(called("runs", "--json", cwd=tmp_path).stdout) == []


VERBS = sorted(str(command.name or getattr(command.callback, "__name__", "")) for command in app.registered_commands)


@pytest.mark.parametrize("verb", VERBS)
def test_help_stands_before_or_behind_the_verb(verb: str, tmp_path: Path) -> None:
    before, behind = called("--debug", "help", verb, "--quiet", cwd=tmp_path), called(verb, "--help", cwd=tmp_path)
    assert before.returncode == 0 and before.stdout == behind.stdout and before.stdout.startswith(f"Usage: aecli {verb}")


def test_help_names_every_mode_and_evaluator(tmp_path: Path) -> None:
    assert tuple(MODES) == MODE_NAMES and tuple(EVALUATORS) == EVALUATOR_NAMES
    told = " ".join(called("help", "eval", cwd=tmp_path).stdout.split())
    listed = told.partition("Evaluators: ")[2].partition(".")[0].split(", ")
    assert listed == list(EVALUATOR_NAMES)
    assert ", ".join(MODE_NAMES) in " ".join(called("help", "sample", cwd=tmp_path).stdout.split())
    assert called("-V", cwd=tmp_path).stdout == called("--version", cwd=tmp_path).stdout


def test_quiet_leaves_results_warnings_and_errors(place: Path) -> None:
    loud = called("train", "mine.yaml", cwd=place)
    quiet = called("train", "mine.yaml", "--quiet", cwd=place)
    assert loud.stderr and quiet.returncode == 0 and quiet.stderr == "" and quiet.stdout.startswith("mine-")
    assert called("-q", "check", "mine.yaml", cwd=place).stdout == called("check", "mine.yaml", cwd=place).stdout
    done = called("-q", "train", "mine.yaml", "--set", "train.steps=0", cwd=place)
    assert done.returncode == 2 and "error[bad-value]" in done.stderr
    run = Path(place / "runs" / quiet.stdout.strip())
    (run / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes() + b"{ no row\n")
    assert "1 line cannot be read" in called("-q", "show", run.name, cwd=place).stderr
    failing = (
        "sweep",
        "mine.yaml",
        "--grid",
        "optimizer.learning_rate=1e30",
        "--set",
        "optimizer.name=sgd",
        "--set",
        "train.steps=40",
    )
    done = called(*failing, "--quiet", cwd=place)
    assert done.returncode == 6 and "diverged" in done.stderr and "help:" in done.stderr and "begins" not in done.stderr
    assert called("train", "mine.yaml", cwd=place).stderr, "a process that called before does not quieten the next"


def test_env_tells_the_program_and_the_machine_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AECLI_ODD", "told")
    monkeypatch.setenv("AECLI_API_KEY", "hush")
    told = json.loads(called("env", "--json", cwd=tmp_path).stdout)
    assert told["runs"] == str(tmp_path / "runs") and told["AECLI_ODD"] == "told" and "cpu" in told["devices"]
    assert {each.split(" ")[0] for each in told["extras"].split(", ")} >= {"report", "onnx", "slurm", "frame"}
    lines = called("env", cwd=tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in lines][:2] == ["python", "aecli"] and "hush" not in str(lines)
    assert ["jax", told["jax"]] in [line.split() for line in lines]


@pytest.mark.parametrize(
    "line, offered",
    [
        ("aecli tr", {"train"}),
        ("aecli re", {"reconstruct", "report"}),
        ("aecli train --res", {"--resume"}),
        ("aecli train mi", {"mine.yaml"}),
        ("aecli check quick", {"quickstart"}),
        ("aecli init vae_f", {"vae_fashion"}),
        ("aecli runs --variant v", {"vae", "vq"}),
        ("aecli variants gan", {"gan"}),
        ("aecli sample last --mode tr", {"translate", "traverse"}),
        ("aecli eval last --only c", {"completion", "codebook", "clustering", "classification"}),
        ("aecli eval last --only sparsity,ob", {"sparsity,objective"}),
        ("aecli eval la", {"last"}),
        ("aecli compare last --metric mse,ps", {"mse,psnr_db", "mse,psnr_per_image_db"}),
    ],
)
def test_the_shell_is_offered_what_there_is(line: str, offered: set[str], place: Path) -> None:
    assert set(_completed(line, place)) == offered


def test_a_folder_is_offered_with_what_is_in_it(tmp_path: Path) -> None:
    for path in ("mine/a.yaml", "mine/deep/b.yaml", "mine/c.txt", "bare/c.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "mine/deep/here").symlink_to(".")
    assert _completed("aecli train mi", tmp_path) == ["mine/a.yaml", "mine/deep/"]
    assert _completed("aecli train mine/d", tmp_path) == ["mine/deep/b.yaml", "mine/deep/here/"]
    assert _completed("aecli train bar", tmp_path) == ["bare/"]


def test_runs_are_offered_the_newest_first_and_wherever_they_are(place: Path, tmp_path: Path) -> None:
    ids = {path.name for path in (place / "runs").iterdir() if (path / "run.json").exists()}
    newest = sorted(ids, key=lambda name: -(place / "runs" / name).stat().st_mtime)
    assert _completed("aecli show ", place) == ["last", *newest] == _completed("aecli rm ", place)
    assert _completed(f"aecli show --runs-dir {place / 'runs'} min", tmp_path) == newest
    assert _completed("aecli show ", tmp_path) == ["last"]


def _completed(line: str, cwd: Path) -> list[str]:
    """What bash is offered at the end of a line, as its script asks a process."""
    words = line.split(" ")
    asked = {"_AECLI_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", "from aecli.cli.app import main; main()"],
        cwd=cwd,
        env=environment(**asked),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_completing_imports_no_jax_and_reads_what_is_damaged_as_nothing(tmp_path: Path) -> None:
    code = "import sys, aecli.cli.app; assert not {'jax', 'flax', 'pydantic', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment(), timeout=120)
    (tmp_path / "runs" / "a" / "eval").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "run.json").write_text("{}")
    for name, text in (
        ("test.json", "{"),
        ("more.json", "3"),
        ("list.json", '[1, "a"]'),
        ("deep.json", "[" * 100_000),
        ("good.json", '{"mse": {}}'),
    ):
        (tmp_path / "runs" / "a" / "eval" / name).write_text(text)
    os.symlink("nowhere", tmp_path / "runs" / "b")
    assert _completed("aecli compare last --metric ", tmp_path) == ["mse"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_printed(shell: str, tmp_path: Path) -> None:
    done = called("--show-completion", shell, cwd=tmp_path)
    assert done.returncode == 0 and "_AECLI_COMPLETE" in done.stdout
