"""Programs that are read by what they are asked for: never another one, and never traced."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from process import TINY, environment

from aecli.core.model import Spec
from aecli.system import compile_cache, threads, untraced
from aecli.system.compile_cache import kept_programs
from aecli.system.untraced import compiled, computed

traced: list[str] = []


@partial(jax.jit, static_argnames=("by",), donate_argnames=("state",))
def scale(by: Any, state: dict[str, jax.Array], x: jax.Array) -> dict[str, jax.Array]:
    traced.append(repr(by))
    return {name: value * jnp.sum(x) * len(repr(by)) for name, value in state.items()}


@jax.jit
def asks_python(x: jax.Array) -> jax.Array:
    return jax.pure_callback(lambda x: np.asarray(x) + 1, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


SPEC = Spec(4, 4, 1, 10)


def state() -> dict[str, jax.Array]:
    return {"a": jnp.arange(3.0), "b": jnp.ones((2, 2))}


@pytest.fixture(autouse=True)
def _keeping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    traced.clear()
    monkeypatch.setattr(compile_cache, "LEAST_SECONDS", 0.0)
    with kept_programs(tmp_path):
        yield


def asked(by: Any = SPEC, arguments: tuple[Any, ...] | None = None) -> untraced.Program[int]:
    jax.clear_caches()  # so that what is traced is seen, and what is kept is read
    untraced._loaded.cache_clear()  # pyright: ignore[reportPrivateUsage]
    return compiled(scale, (by,), arguments or (state(), jnp.ones(5)), lambda jaxpr: len(jaxpr.eqns))


def test_a_program_is_read_without_being_traced_and_gives_the_same() -> None:
    first, second = asked(), asked()
    assert traced == [repr(SPEC)]
    assert first.told == second.told > 0
    x = jnp.linspace(0.1, 0.7, 5)
    for program in (first, second):
        given = state()
        found = program.call(given, x)
        assert given["a"].is_deleted(), "what is donated is"
        np.testing.assert_array_equal(found["a"], scale(SPEC, state(), x)["a"])


def test_a_process_loads_a_program_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of many seeds asks for it."""
    asked()
    asked()
    monkeypatch.setattr(untraced, "read_kept", lambda name: pytest.fail("it was read again"))
    again = compiled(scale, (SPEC,), (state(), jnp.ones(5)), lambda jaxpr: 0)
    assert again.told > 0 and traced == [repr(SPEC)]


@pytest.mark.parametrize(
    "other",
    [
        {"by": SPEC._replace(classes=11)},
        {"by": (4, 4, 1, 10)},
        {"arguments": (state(), jnp.ones(6))},
        {"arguments": (state(), jnp.ones(5, jnp.int32))},
        {"arguments": (state(), np.float64(1.0))},
        {"arguments": ({**state(), "c": jnp.ones(1)}, jnp.ones(5))},
    ],
)
def test_what_is_asked_differently_is_another_program(other: dict[str, Any]) -> None:
    asked()
    asked(**other)
    assert len(traced) == 2
    asked(**other)
    assert len(traced) == 2


def edited(monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(untraced.aecli.__file__).parent
    read = Path.read_bytes
    changed = package / "nets" / "mlp.py"
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + (b"# edited" if path == changed else b""))
    untraced.code.cache_clear()


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setattr(jax, "__version__", "0.99"),
        lambda patch: patch.setattr(np, "__version__", "0.99"),
        lambda patch: patch.setattr(sys, "version", "3.99"),
        lambda patch: patch.setattr(threads, "_running", 17),
        lambda patch: patch.setenv("XLA_FLAGS", f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_enable_fast_math=false"),
        edited,
    ],
)
def test_in_another_world_it_is_another_program(
    change: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(untraced.code.cache_clear)  # undone before this is called: fixtures end in the order of their making
    asked()
    untraced.code.cache_clear()
    with monkeypatch.context() as patch:
        change(patch)
        asked()
        assert len(traced) == 2
    untraced.code.cache_clear()
    asked()
    assert len(traced) == 2


def test_with_another_setting_of_jax_it_is_another_program() -> None:
    asked()
    before = jax.config.values["jax_default_matmul_precision"]
    jax.config.update("jax_default_matmul_precision", "highest" if before != "highest" else "high")
    try:
        asked()
    finally:
        jax.config.update("jax_default_matmul_precision", before)
    assert len(traced) == 2


def test_what_has_no_text_of_its_own_is_compiled_each_time() -> None:
    class Nameless:
        pass

    by = Nameless()
    asked(by)
    asked(by)
    assert len(traced) == 2


def kept(tmp_path: Path) -> set[str]:
    return {path.name.split("-")[0] for path in tmp_path.glob("programs/*/process-*/*scale*")}


def test_a_program_is_kept_once_by_us_and_not_by_jax(tmp_path: Path) -> None:
    asked()
    assert kept(tmp_path) == {"aecli"}


def test_a_program_that_jax_has_read_is_not_kept_since_a_part_of_it_would_be_missing(tmp_path: Path) -> None:
    x = jnp.linspace(0.1, 0.7, 5)
    jax.clear_caches()
    expected = scale(SPEC, state(), x)["a"]
    for _ in range(3):  # compiled by another, read by JAX, and as this process has it
        np.testing.assert_array_equal(asked().call(state(), x)["a"], expected)
        compiled(scale, (SPEC,), (state(), jnp.ones(5)))
    assert kept(tmp_path) == {"jit_scale"}


def test_a_program_that_calls_python_is_compiled_each_time(tmp_path: Path) -> None:
    for _ in range(2):
        assert compiled(asks_python, (), (jnp.ones(3),)).call(jnp.ones(3)).tolist() == [2, 2, 2]
    assert not list(tmp_path.glob("programs/*/process-*/aecli-*"))


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps(3), pickle.dumps((b"", None, None, 1))])
def test_one_that_cannot_be_loaded_is_compiled(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untraced, "read_kept", lambda name: content)
    x = jnp.ones(5)
    np.testing.assert_array_equal(asked().call(state(), x)["a"], scale(SPEC, state(), x)["a"])


def test_a_value_is_computed_once() -> None:
    times: list[int] = []

    def compute() -> tuple[str, ...]:
        times.append(1)
        return ("loss", "mse")

    assert [computed("names", (SPEC,), compute) for _ in range(3)] == [("loss", "mse")] * 3
    computed("names", (SPEC._replace(height=5),), compute)
    computed("other names", (SPEC,), compute)
    assert len(times) == 3


LISTEN = """
import json, sys
import jax
from aecli.cli.app import main

traced = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **facts: traced.append(str(facts.get("fun_name"))) if "trace" in event else None
)
sys.argv = ["aecli", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    print(json.dumps(traced), file=sys.stderr)
    sys.exit(end.code)
"""


def test_a_second_training_traces_neither_its_first_state_nor_its_steps(tmp_path: Path) -> None:
    """And gives the same numbers; one with another setting is traced again."""
    tiny = tmp_path / "tiny.yaml"
    tiny.write_text(TINY)
    rows: list[list[dict[str, Any]]] = []
    for turn, more in enumerate([[], [], ["--set", "model.beta=2.0"]]):
        runs = tmp_path / f"runs{turn}"
        env = environment(AECLI_RUNS_DIR=str(runs), AECLI_DATA_DIR=str(tmp_path / "data"))
        done = subprocess.run(
            [sys.executable, "-c", LISTEN, "train", str(tiny), *more], env=env, capture_output=True, text=True, check=True
        )
        names = json.loads(done.stderr.splitlines()[-1])
        for program in ("advance", "_first_state"):
            assert any(program in name for name in names) == (turn != 1), (turn, names)
        lines = next(runs.glob("*/metrics.jsonl")).read_text().splitlines()
        rows.append([{k: v for k, v in json.loads(line).items() if k not in ("images_per_s", "seconds")} for line in lines])
    assert rows[0] == rows[1] != rows[2]
