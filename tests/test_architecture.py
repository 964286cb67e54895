"""Who may import whom, and what is in the repository."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"jax", "flax", "optax", "orbax", "tensorflow_datasets", "numpy", "PIL", "pydantic", "rich", "sklearn"}


def imports(path: Path, everywhere: bool = True) -> set[str]:
    """The modules that a file imports: anywhere, or only when it is imported itself."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if everywhere else iter(tree.body)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name.startswith("aecli")}


@pytest.mark.parametrize("path", sorted((ROOT / "aecli" / "models").glob("*.py")), ids=lambda p: p.stem)
def test_a_model_knows_no_other_model_and_nothing_of_the_runner(path: Path) -> None:
    allowed = (
        "aecli.core",
        "aecli.corruptions",
        "aecli.discrete",
        "aecli.quantizers",
        "aecli.learner",
        "aecli.nets",
        "aecli.likelihoods",
        "aecli.posteriors",
        "aecli.frozen",
        "aecli.optimizers",
    )
    assert all(name.startswith(allowed) for name in ours(path)), ours(path)


@pytest.mark.parametrize("path", sorted((ROOT / "aecli" / "nets").glob("*.py")), ids=lambda p: p.stem)
def test_a_net_knows_only_nets(path: Path) -> None:
    assert all(name.startswith("aecli.nets") for name in ours(path))


@pytest.mark.parametrize(
    "name",
    [
        "core",
        "corruptions",
        "discrete",
        "errors",
        "files",
        "frozen",
        "learner",
        "likelihoods",
        "optimizers",
        "posteriors",
        "quantizers",
        "yamlfile",
    ],
)
def test_the_foundation_knows_nothing_above_it(name: str) -> None:
    above = (
        "aecli.cli",
        "aecli.train",
        "aecli.data",
        "aecli.models",
        "aecli.runs",
        "aecli.config",
        "aecli.evaluate",
        "aecli.sample",
    )
    assert not [m for m in ours(ROOT / "aecli" / f"{name}.py") if m.startswith(above)]


@pytest.mark.parametrize("name", ["cli", "errors", "signals", "__init__", "__main__"])
def test_the_command_starts_light(name: str) -> None:
    roots = {module.split(".")[0] for module in imports(ROOT / "aecli" / f"{name}.py", everywhere=False)}
    assert not roots & HEAVY


def test_only_mesh_knows_shardings() -> None:
    users = {path.name for path in (ROOT / "aecli").rglob("*.py") if re.search(r"PartitionSpec|make_mesh", path.read_text())}
    assert users == {"mesh.py"}


def test_no_pickle_and_no_eval_anywhere() -> None:
    for path in (ROOT / "aecli").rglob("*.py"):
        assert not {name.split(".")[0] for name in imports(path)} & {"pickle", "dill", "cloudpickle", "marshal", "shelve"}, path


def test_no_file_is_long() -> None:
    for path in (ROOT / "aecli").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 520, path


def test_the_lock_file_holds_hashes_and_no_address_and_every_dependency() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "http" not in lock and "--index" not in lock and "file:" not in lock
    locked = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=\S)", lock.strip()))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {re.match(r"[a-z0-9-]+", line)[0] for line in wanted}
    assert names <= locked, names - locked


def test_the_version_is_told_once() -> None:
    from aecli import __version__

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__ and __version__ in (ROOT / "CHANGELOG.md").read_text()
