"""Who may import whom, and what is in the repository."""

from __future__ import annotations

import ast
import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

import aecli

ROOT = Path(__file__).parent.parent
FILES = sorted(
    [*(ROOT / "aecli").glob("*/**/*.py"), ROOT / "aecli" / "errors.py", ROOT / "aecli" / "api.py", ROOT / "aecli" / "handle.py"]
)
LAYERS = [
    "errors",
    "nets",
    "core",
    "measures",
    "system",
    "distributions",
    "models",
    "config",
    "data",
    "runs",
    "reports",
    "evaluation",
    "training",
    "sampling",
    "exports",
    "verbs",
    "sweeps",
    "handle",
    "api",
    "cli",
]
"""A room imports only rooms that stand before it; `errors`, `handle` and `api` are files."""
APART = {
    ("sampling", "training"),
    ("sampling", "evaluation"),
    ("evaluation", "runs"),
    ("exports", "evaluation"),
    ("exports", "training"),
    ("exports", "sampling"),
    ("models", "system"),
    ("models", "errors"),
    ("core", "nets"),
    ("core", "errors"),
    ("measures", "core"),
    ("measures", "nets"),
    ("measures", "errors"),
    ("distributions", "nets"),
    ("nets", "errors"),
    ("reports", "data"),
    ("reports", "models"),
    ("reports", "core"),
    ("reports", "nets"),
    ("reports", "distributions"),
}
"""(room, another before it that it does not import all the same)."""
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


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT / "aecli")))
def test_a_room_imports_only_rooms_below_it(path: Path) -> None:
    room = path.relative_to(ROOT / "aecli").parts[0].removesuffix(".py")
    used = {name.split(".")[1] for name in ours(path) if "." in name} & set(LAYERS) - {room}
    assert all(LAYERS.index(other) < LAYERS.index(room) and (room, other) not in APART for other in used), used


def test_every_room_has_its_place() -> None:
    rooms = {path.name for path in (ROOT / "aecli").iterdir() if (path / "__init__.py").is_file()}
    assert rooms == set(LAYERS) - {"errors", "handle", "api"}
    assert {path.name for path in (ROOT / "aecli").glob("*.py")} == {
        "__init__.py",
        "__main__.py",
        "api.py",
        "errors.py",
        "handle.py",
    }


@pytest.mark.parametrize("path", sorted((ROOT / "aecli" / "models").glob("*.py")), ids=lambda p: p.stem)
def test_a_model_knows_no_other_model(path: Path) -> None:
    assert not [name for name in ours(path) if name.startswith("aecli.models")]


def test_no_room_bears_a_public_name() -> None:
    """A submodule takes the place of an attribute of its package once it is imported."""
    taken = {path.stem for path in (ROOT / "aecli").iterdir()}
    assert not taken & {*aecli.__all__, "sweep"}


LIGHT = [
    *sorted(
        f"cli/{path.stem}"
        for path in (ROOT / "aecli" / "cli").glob("*.py")
        if path.stem != "console" and "tables" not in path.stem
    ),
    *("errors", "system/__init__", "system/signals", "__init__", "__main__"),
]


@pytest.mark.parametrize("name", LIGHT)
def test_the_command_starts_light(name: str) -> None:
    roots = {module.split(".")[0] for module in imports(ROOT / "aecli" / f"{name}.py", everywhere=False)}
    assert not roots & HEAVY


def test_only_placement_knows_shardings() -> None:
    users = {path.name for path in (ROOT / "aecli").rglob("*.py") if re.search(r"PartitionSpec|make_mesh", path.read_text())}
    assert users == {"placement.py"}


def test_what_scripts_import_is_there() -> None:
    """Scripts that stand in strings are told from the rest of a text by no tool."""
    for folder in ("benchmarks", "tests"):
        for path in sorted((ROOT / folder).glob("*.py")):
            for module, name in re.findall(r"from (aecli[\w.]*) import (\w+)", path.read_text()):
                if path.stem != "test_variants":  # which imports what is not there
                    assert hasattr(importlib.import_module(module), name) or importlib.util.find_spec(f"{module}.{name}"), path


def test_no_pickle_but_of_compiled_programs() -> None:
    """Those lie in the user's own cache, in a folder that nobody else can write to, and are code themselves."""
    for path in {*(ROOT / "aecli").rglob("*.py")} - {ROOT / "aecli" / "system" / "untraced.py"}:
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
