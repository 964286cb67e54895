"""Compiled functions that are found by what they are asked for, without being traced.

JAX finds a program that it has kept by the program's text, for which the function is traced and lowered first: half of what a
second start takes. Here the name is a hash of all that the text follows from: the static arguments, the form of the others, every
file of aecli, the versions of what it stands on, the settings of JAX and the number of threads. Kept are the program and what was
told of its trace, among the programs of JAX (`compile_cache.py`) and as private as they are, since to read either is to run it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import sys
from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import aecli
from aecli.system import threads
from aecli.system.compile_cache import entries_of, is_keeping, keep, read_kept

T = TypeVar("T")
_FLAGS = ("XLA_", "LIBTPU_", "TF_", "NVIDIA_TF32_OVERRIDE")
"""Variables that decide what a compiler makes of a text begin so."""
_ADDRESS = " at 0x"
"""In the text of an object that nothing else tells from another."""


class Program(NamedTuple, Generic[T]):
    """`call` takes the arguments that are not static."""

    call: Callable[..., Any]
    told: T


def _nothing(jaxpr: Any) -> Any:
    return None


def compiled(
    function: Any,
    static: Sequence[Any],
    arguments: Sequence[Any],
    tell: Callable[[Any], T] = _nothing,
    made_of: Sequence[Any] = (),
) -> Program[T]:
    """A jitted function whose first arguments are `static`, compiled for others of the form of `arguments`, or read; with what
    `tell(jaxpr)` said when it was traced. `made_of`: what else there is in the arguments' form than names, shapes and types,
    such as the rule of an optimizer. Programs of several devices are compiled each time, with what JAX keeps; those of several
    processes when they are called."""
    import jax
    from jax.experimental import serialize_executable

    if jax.process_count() > 1:  # they compile at the same time, each when all have called it
        return Program(partial(function, *static), tell(function.trace(*static, *arguments).jaxpr))
    leaves = jax.tree.leaves(arguments)
    devices = {device for leaf in leaves if (sharding := getattr(leaf, "sharding", None)) for device in sharding.device_set}
    name = None
    if is_keeping() and len(devices) <= 1:
        asked = _modules([*static, *made_of])
        name = _name(function.__name__, asked, _forms(arguments), _settings(), _machine())
    if name is not None:
        with contextlib.suppress(Exception):  # a program that cannot be loaded here is compiled as if it had not been kept
            return _loaded(name)
    traced = function.trace(*static, *arguments)
    before = entries_of(function.__name__)
    program, told = traced.lower().compile(), tell(traced.jaxpr)
    # Of a program that JAX has read, XLA on CPUs writes a part: one that loads, and fails when it is called. JAX has kept what
    # was compiled just now, and that alone; ours takes its place.
    if name is not None and (written := entries_of(function.__name__) - before):
        with contextlib.suppress(Exception):  # those that hold constants, or call Python, cannot be written
            keep(name, pickle.dumps((*serialize_executable.serialize(program), told)))
            for entry in written:
                entry.unlink()
    return Program(program, told)


@lru_cache(maxsize=16)
def _loaded(name: str) -> Program[Any]:
    """What is kept under a name. A process that trains many seeds of a config loads it once. Raises KeyError if there is none,
    and what JAX raises of one that is no program here."""
    import jax
    from jax.experimental import serialize_executable

    if (kept := read_kept(name)) is None:
        raise KeyError(name)
    *program, told = pickle.loads(kept)
    return Program(serialize_executable.deserialize_and_load(*program, execution_devices=jax.local_devices()[:1]), told)


def computed(what: str, asked: Sequence[Any], compute: Callable[[], T]) -> T:
    """A value that follows from the code and `asked` alone, such as the form of a state, computed or read. Devices are not
    started for it."""
    name = _name(what, _modules(asked), _settings()) if is_keeping() else None
    if name is not None and (kept := read_kept(name)) is not None:
        with contextlib.suppress(Exception):
            return pickle.loads(kept)
    value = compute()
    if name is not None:
        keep(name, pickle.dumps(value))
    return value


def _name(what: str, *asked: Any) -> str | None:
    """None where what is asked for has no text of its own."""
    text = repr((what, code(), asked))
    return None if _ADDRESS in text else f"aecli-{what.strip('_').replace(' ', '_')}-{hashlib.sha256(text.encode()).hexdigest()}"


def _modules(values: Sequence[Any]) -> list[tuple[str, Any]]:
    """Two classes may have one name."""
    return [(type(value).__module__, value) for value in values]


def _forms(arguments: Any) -> list[tuple[Any, ...]]:
    import jax

    leaves, _ = jax.tree_util.tree_flatten_with_path(arguments)
    return [(jax.tree_util.keystr(path), jax.typeof(leaf), getattr(leaf, "weak_type", False)) for path, leaf in leaves]


def _machine() -> tuple[object, ...]:
    """What a program depends on that a trace does not."""
    import jax

    device = jax.local_devices()[0]
    flags = {name: value for name, value in os.environ.items() if name.startswith(_FLAGS)}
    return device.platform, device.device_kind, device.client.platform_version, threads.running(), flags


def _settings() -> dict[str, Any]:
    import jax

    return {name: value for name, value in jax.config.values.items() if "cache" not in name}


@cache
def code() -> str:
    """Of all of aecli's files, and of the versions of what they import."""
    import flax
    import jax
    import jaxlib
    import numpy
    import optax

    versions = [sys.version, *(f"{module.__name__} {module.__version__}" for module in (flax, jax, jaxlib, numpy, optax))]
    digest = hashlib.sha256("\n".join(versions).encode())
    package = Path(aecli.__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(f"\0{path.relative_to(package)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
