"""What a run says about the code that it was trained with, and what is said once that code is another."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fit import dataset, experiment, fit

from aecli.cli.tables import show_run
from aecli.evaluation.request import EvalRequest
from aecli.runs import code_hash, provenance
from aecli.runs.directory import Run
from aecli.runs.trained import load
from aecli.system.files import write_json
from aecli.verbs import train
from aecli.verbs.evaluate import evaluate_run

GOLDEN = '''\
"""Docstring."""
from __future__ import annotations
import jax.numpy as jnp
from ..nets import conv, mlp as net  # unused ones do not count
LIMIT = 1.5e-3
"""What it limits."""

class Net(conv.Conv, width=3):
    size: int | None = None

    async def run(self, /, a, *rest: int, b=(1, -2), c: str = "é\\u0378", **more) -> str:
        """Docstring."""
        try:
            x = [*(jnp.tanh(i) for i in rest if i and not a), *{**more, "k": ...}]
        except* ValueError as error:
            raise error from None
        match x:
            case [1, *_] | {"a": 2, **others}:
                return f"{a!r:>{b}.3f} of" " a" f" {LIMIT=}" "!"
        return await self.run(x[1:, ::2], b=lambda: (yield))
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package's sources, in a folder of its own."""
    skipped = shutil.ignore_patterns("__pycache__", "embedded", "weights")
    shutil.copytree(provenance.PACKAGE, tmp_path / "project" / "aecli", ignore=skipped)
    return tmp_path / "project" / "aecli"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", folder, *identity, *arguments], capture_output=True, text=True, check=True).stdout


def commit(folder: Path) -> str:
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "All")
    return git(folder, "rev-parse", "HEAD").strip()


def change(package: Path, file: str, old: str, new: str) -> None:
    path = package / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_file_that_git_does_not_know_makes_the_checkout_dirty(package: Path) -> None:
    project = package.parent
    (project / ".gitignore").write_text("runs/\n")
    head = commit(project)
    assert provenance.git(package) == {"commit": head, "dirty": False}
    (project / "runs").mkdir()
    (project / "runs" / "run.json").write_text("{}")
    assert provenance.git(package) == {"commit": head, "dirty": False}, "what is ignored does not count"
    git(project, "config", "status.showUntrackedFiles", "no")
    (package / "models" / "mine.py").write_text("")
    assert provenance.git(package) == {"commit": head, "dirty": True}
    (package / "models" / "mine.py").unlink()
    change(package, "nets/conv.py", "import", "import ")
    assert provenance.git(package) == {"commit": head, "dirty": True}


def test_the_commit_is_that_of_the_package_wherever_the_command_runs(package: Path, tmp_path: Path) -> None:
    head = commit(package.parent)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "notes").write_text("somebody's own repository")
    assert commit(elsewhere) != head
    code = "import json; from aecli.runs import provenance as p; print(json.dumps(p.git(p.PACKAGE)))"
    env = {**os.environ, "PYTHONPATH": str(package.parent), "GIT_DIR": str(elsewhere / ".git"), "PYTHONDONTWRITEBYTECODE": "1"}
    told = subprocess.run([sys.executable, "-c", code], cwd=elsewhere, env=env, capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == {"commit": head, "dirty": False}


def test_a_package_that_is_installed_below_somebodys_repository_has_no_commit(package: Path) -> None:
    project = package.parent
    assert provenance.git(package) is None, "no repository at all"
    (project / ".gitignore").write_text("site-packages/\n")
    (project / "site-packages").mkdir()
    installed = Path(shutil.move(package, project / "site-packages" / "aecli"))
    commit(project)
    assert provenance.git(installed) is None


def test_the_hash_covers_what_a_variant_uses_and_nothing_else() -> None:
    files = code_hash.hash_files(provenance.PACKAGE, "gan")
    assert {"aecli/models/gan.py", "aecli/nets/spectral.py", "aecli/nets/conv.py", "aecli/core/optimizer.py"} <= set(files)
    assert "aecli/nets/windows.py" in files, "used by a net, not by the variant itself"
    assert {file for file in files if file.startswith("aecli/models/")} == {"aecli/models/gan.py", "aecli/models/__init__.py"}
    assert "aecli/nets/transformer.py" not in files and "aecli/errors.py" not in files
    assert code_hash.hash_files(provenance.PACKAGE, "no_such") == {}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("models/vae.py", "import jax\n", "import jax  # a comment\n"),
        ("models/vae.py", "import jax\nimport jax.numpy as jnp\n", "import jax.numpy as jnp\nimport jax\n"),
        ("models/vae.py", 'VAE(SingleLoss):\n    """', 'VAE(SingleLoss):\n    """More. '),
        ("models/vae.py", "class VAE", "\n\n\nclass VAE"),
        ("models/vae.py", "jnp", "numbers"),
        ("core/gaussian.py", "import jax\n", "import jax\nimport unused\n"),
        ("models/gan.py", "1 - on_real", "2 - on_real"),
        ("nets/transformer.py", "return", "1 / 0; return"),
    ],
)
def test_what_changes_no_number_changes_no_hash(package: Path, file: str, old: str, new: str) -> None:
    before = code_hash.hash_files(package, "vae")
    assert before == code_hash.hash_files(provenance.PACKAGE, "vae")
    change(package, file, old, new)
    assert code_hash.hash_files(package, "vae") == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("models/vae.py", "rate", "rates"),
        ("nets/windows.py", " - ", " + "),
        ("core/optimizer.py", "1e-3", "2e-3"),
        ("distributions/observations.py", "import log, pi", "import log, tau as pi"),
        ("core/gaussian.py", "import jax\n", "import jax\n)"),
    ],
)
def test_what_may_change_a_number_changes_the_hash_of_its_file(package: Path, file: str, old: str, new: str) -> None:
    before = code_hash.hash_files(package, "vae")
    change(package, file, old, new)
    after = code_hash.hash_files(package, "vae")
    assert code_hash.differing(before, after) == (f"aecli/{file}",)
    assert code_hash.hash_all(before) != code_hash.hash_all(after)


def test_the_hash_is_the_same_on_every_python(tmp_path: Path) -> None:
    """And from one version of aecli to the next: another would mark the numbers of all runs that there are."""
    (tmp_path / "aecli" / "models").mkdir(parents=True)
    (tmp_path / "aecli" / "models" / "golden.py").write_text(GOLDEN)
    files = code_hash.hash_files(tmp_path / "aecli", "golden")
    assert files == {"aecli/models/golden.py": "af3bb0e37778cbc66d74d4d0f4166da02e13d5dd453ac1ebc52af74bf0f06ff3"}
    expected = [
        files,
        code_hash.hash_files(provenance.PACKAGE, "vae"),
        code_hash.hash_files(provenance.PACKAGE, "autoregressive"),
    ]
    code = (
        f"import sys, json; sys.path.insert(0, {str(Path(code_hash.__file__).parent)!r})\n"
        "from pathlib import Path; from code_hash import hash_files as h\n"
        f"print(json.dumps([h(Path({str(tmp_path / 'aecli')!r}), 'golden'), "
        f"*(h(Path({str(provenance.PACKAGE)!r}), v) for v in ('vae', 'autoregressive'))]))"
    )
    for python in others():
        told = subprocess.run([python, "-B", "-c", code], capture_output=True, text=True, check=True)
        assert json.loads(told.stdout) == expected, python


def others() -> list[str]:
    """Interpreters of other supported versions, where there are any."""
    found: dict[str, str] = {}
    for minor in ("3.11", "3.12", "3.13"):
        home = sorted(Path.home().glob(f".pyenv/versions/{minor}.*/bin/python"))
        for candidate in (shutil.which(f"python{minor}"), *map(str, home)):
            works = candidate and subprocess.run([candidate, "-c", "import ast"], capture_output=True).returncode == 0
            if works and f"{sys.version_info.major}.{sys.version_info.minor}" != minor:
                found[minor] = str(candidate)
    return list(found.values())


@pytest.fixture
def run(tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A trained run, its code in a place where a test may change it."""
    monkeypatch.setattr(provenance, "PACKAGE", package)
    trained, _ = fit(tmp_path, experiment("variant: bottleneck, hidden: [12], latent: 3"), dataset(train=120, held_out=30))
    write_json(trained.path / "run.json", {**trained.info().as_json(), **provenance.collect("bottleneck")})
    return trained


def test_numbers_of_other_code_are_marked_and_those_before_stay(run: Run, package: Path, capsys: Any) -> None:
    data, said = dataset(train=120, held_out=30), []

    def measure(*only: str) -> dict[str, Any]:
        return evaluate_run(run, load(run, "last", said.append), data, EvalRequest(only=only)).metrics

    first = measure("objective", "reconstruction")
    assert said == [] and not [metric for metric in first.values() if "code" in metric.protocol]
    show_run(run)
    assert f"{json.loads((run.path / 'run.json').read_text())['code']['hash'][:12]}, unchanged" in capsys.readouterr().out
    change(package, "nets/windows.py", " - ", " + ")
    change(package, "models/bottleneck.py", '"mse"', '"mse "')
    second = measure("reconstruction")
    changed = "aecli/models/bottleneck.py, aecli/nets/windows.py"
    assert said == [f"the code of variant 'bottleneck' has changed since this run was trained: {changed}"]
    assert second.keys() == first.keys()
    for name, metric in second.items():
        if metric.evaluator == "objective":
            assert metric == first[name]
        else:
            now = code_hash.hash_all(code_hash.hash_files(package, "bottleneck"))[:12]
            marked = {**first[name].protocol, "code": f"changed since training, now {now}"}
            assert metric == first[name]._replace(metric=first[name].metric._replace(protocol=marked))
    show_run(run)
    assert f"changed since: {changed}" in capsys.readouterr().out


def test_work_that_other_code_left_unfinished_is_not_gone_on_with(
    run: Run, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, stamps = dataset(train=120, held_out=30), []
    monkeypatch.setattr("aecli.verbs.evaluate.Journal", lambda folder, stamp: stamps.append(stamp) or 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            evaluate_run(run, load(run, "last", print), data, EvalRequest())
        change(package, "core/optimizer.py", "1e-3", "2e-3") if len(stamps) == 1 else None
    assert stamps[0] != stamps[1] and {**stamps[0], "code": ""} == {**stamps[1], "code": ""}


def test_a_resume_says_that_the_code_is_another(run: Run, package: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    change(package, "core/optimizer.py", "1e-3", "2e-3")
    monkeypatch.setattr(train, "open_run_data", lambda run, data, say, told: dataset(train=120, held_out=30))
    train.resume(run, ["train.steps=7"])
    lines = [line for line in capsys.readouterr().err.splitlines() if "code" in line]
    assert lines == ["warning: the code of variant 'bottleneck' has changed since this run was trained: aecli/core/optimizer.py"]


def test_a_run_that_kept_no_hash_is_read_without_complaint(run: Run, package: Path, capsys: Any) -> None:
    write_json(run.path / "run.json", {key: value for key, value in run.info().as_json().items() if key != "code"})
    change(package, "core/optimizer.py", "1e-3", "2e-3")
    said: list[str] = []
    load(run, "last", said.append)
    assert said == [] and provenance.code_now(run.info()).changed == ()
    show_run(run)
    assert "no hash was kept" in capsys.readouterr().out
