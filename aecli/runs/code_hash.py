"""Tells whether the code of a variant is still what a run was trained with: a hash of what its files say, not of how.

Texts count, since nothing tells a message from a name that is looked up: a reworded one in core marks every run.

Only the standard library is used and nothing is imported to be looked at, so that a verb that needs no jax can ask.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

ROOMS = ("models", "nets", "distributions", "core")
"""Where the code that decides a model's numbers lies."""


def hash_files(package: Path, variant: str) -> dict[str, str]:
    """The SHA-256 of each file that a variant uses, itself among them, by its path from the package, such as
    `aecli/nets/conv.py`: all that it imports within ROOMS, and what that imports. Empty if the variant has no source file."""
    if _source(package, ("models", variant)) is None:
        return {}
    found: dict[str, str] = {}
    waiting = [f"{package.name}.models.{variant}"]
    seen: set[tuple[str, ...]] = set()
    while waiting:
        parts = tuple(waiting.pop().split("."))
        # `from aecli.nets import conv` names a module, `from aecli.nets.conv import Conv` something in one; to import either
        # runs the files of the packages around it.
        for module in (parts[:length] for length in range(2, len(parts) + 1)):
            if module[0] != package.name or module[1] not in ROOMS or module in seen:
                continue
            seen.add(module)
            path = _source(package, module[1:])
            if path is None:
                continue
            sha256, imported = _hash(path.read_bytes(), module if path.name == "__init__.py" else module[:-1])
            found[path.relative_to(package.parent).as_posix()] = sha256
            waiting += imported
    return dict(sorted(found.items()))


def hash_all(files: Mapping[str, str]) -> str:
    """One SHA-256 of all of them."""
    return hashlib.sha256("".join(f"{path}\0{files[path]}\n" for path in sorted(files)).encode()).hexdigest()


def differing(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """The files that are not the same in both, or that only one has."""
    return tuple(sorted(path for path in {*before, *now} if before.get(path) != now.get(path)))


def _source(package: Path, module: tuple[str, ...]) -> Path | None:
    path = package.joinpath(*module)
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@lru_cache(maxsize=1024)  # of what was read, not of the file, which may change: most of the time goes into the syntax tree
def _hash(content: bytes, package: tuple[str, ...]) -> tuple[str, frozenset[str]]:
    """The SHA-256 of what a file of `package` says, and what it imports."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):  # nothing has imported it as it is: any change of it counts
        return hashlib.sha256(content).hexdigest(), frozenset()
    origins = _origins(tree, package)
    text = "".join(_tell(tree, origins))
    return hashlib.sha256(text.encode()).hexdigest(), frozenset(name for names in origins.values() for name in names)


def _origins(tree: ast.Module, package: tuple[str, ...]) -> dict[str, set[str]]:
    """What each imported name of a file in `package` stands for, such as `jnp` -> {`jax.numpy`}."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname is None:  # `import a.b` binds a, and a.b is written out wherever it is used
                    found.setdefault(alias.name.partition(".")[0], set()).add(alias.name.partition(".")[0])
                    found.setdefault(alias.name, set()).add(alias.name)
                else:
                    found.setdefault(alias.asname, set()).add(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            base += [node.module] if node.module else []
            for alias in node.names:
                found.setdefault(alias.asname or alias.name, set()).add(".".join([*base, alias.name]))
    return found


def _tell(node: ast.AST, origins: Mapping[str, set[str]]) -> Iterator[str]:
    """A syntax tree as a text that is the same on every Python: the kinds of its nodes and those of their fields that hold
    anything, by name. `ast.dump` writes fields that came later, and what is empty, on some versions and not on others.

    Left out is what does nothing: positions, comments, texts that stand alone (docstrings), and the import statements, in
    whose place each imported name is written as what it stands for."""
    if isinstance(node, ast.Constant):
        # ascii, since which characters repr shows follows the Unicode tables of the version.
        yield f"{type(node.value).__name__} {node.value!a}"
        return
    if isinstance(node, ast.Name) and node.id in origins:
        yield f"Name {' '.join(sorted(origins[node.id]))}"
        return
    yield f"{type(node).__name__}("
    for field, value in sorted(ast.iter_fields(node)):
        items = _without_idle(value) if isinstance(value, list) else [] if value is None else [value]
        if isinstance(node, ast.JoinedStr):
            items = _whole_texts(items)
        if not items:
            continue
        yield f"{field}="
        for item in items:
            if isinstance(item, ast.AST):
                yield from _tell(item, origins)
            else:
                yield ascii(item)
            yield ","
    yield ")"


def _without_idle(items: list[object]) -> list[object]:
    return [item for item in items if not _is_idle(item)]


def _is_idle(item: object) -> bool:
    if isinstance(item, (ast.Import, ast.ImportFrom)):
        return True
    return isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant) and isinstance(item.value.value, str)


def _whole_texts(items: list[object]) -> list[object]:
    """The parts of an f-string, texts beside each other joined: where they are split differs between versions."""
    found: list[object] = []
    for item in items:
        last = found[-1] if found else None
        if isinstance(item, ast.Constant) and isinstance(last, ast.Constant):
            found[-1] = ast.Constant(str(last.value) + str(item.value))
        elif not (isinstance(item, ast.Constant) and item.value == ""):
            found.append(item)
    return found
