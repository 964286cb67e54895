"""A function that draws by a key, as one that is given what it draws: for formats that know no keys.

The function is traced once. Where its program draws from a standard normal, or evenly from an interval, that array becomes an
input of the new function; what only makes keys is left out. What is drawn in a loop, or in another way, has no such form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import dtypes
from jax.extend.core import ClosedJaxpr, Literal

from aecli.exports.formats import Unable
from aecli.exports.functions import Form

NORMAL, UNIFORM, WHOLE = "_normal", "_uniform", "_randint"
"""What jax calls the programs of `jax.random.normal`, `uniform` and `randint`."""


class Draw(NamedTuple):
    """`low` and `high` are the bounds of whole numbers, the upper one not among them."""

    kind: str
    shape: tuple[Any, ...]
    low: int = 0
    high: int = 0

    def form(self, number: int, batch: int) -> Form:
        """The form of the input; `batch` is how many examples the function was traced for. Raises Unable if the number of draws
        is not one row for each of them."""
        if not self.shape or self.shape[0] != batch:
            raise Unable(f"it draws an array of {list(self.shape)} for {batch} examples, which is no row for each")
        about = {
            NORMAL: "drawn from a standard normal",
            UNIFORM: "drawn evenly from [0, 1)",
            WHOLE: f"drawn evenly from the whole numbers {self.low} to {self.high - 1}",
        }
        return Form(f"noise_{number}", tuple(self.shape[1:]), self.dtype, about[self.kind])

    @property
    def dtype(self) -> str:
        return "int32" if self.kind == WHOLE else "float32"


Source = Callable[[Draw, Callable[[], jax.Array]], jax.Array]
"""Gives what is drawn; the second argument draws it as the program does."""


def draws(call: Callable[..., jax.Array], arguments: Sequence[Any]) -> list[Draw]:
    """What a function draws for arguments of these forms, in order. Raises Unable if that cannot be an input."""
    found: list[Draw] = []

    def source(draw: Draw, _: Callable[[], jax.Array]) -> jax.Array:
        found.append(draw)
        return jnp.zeros(draw.shape, jnp.dtype(draw.dtype))

    jax.eval_shape(lambda *given: run(call, given, source), *arguments)
    return found


def drawn(call: Callable[..., jax.Array], arguments: Sequence[Any]) -> list[jax.Array]:
    """What a function draws by its key: what it would have to be given to return the same."""

    def record(*given: Any) -> list[jax.Array]:
        found: list[jax.Array] = []

        def source(draw: Draw, made: Callable[[], jax.Array]) -> jax.Array:
            found.append(made())
            return found[-1]

        run(call, given, source, keys=True)
        return found

    return jax.jit(record)(*arguments)


def run(call: Callable[..., jax.Array], arguments: Sequence[Any], source: Source, keys: bool = False) -> jax.Array:
    """What a function returns if what it draws is what `source` gives. Keys are followed only if `keys` says so."""
    program = jax.make_jaxpr(call)(*arguments)
    return _evaluate(program, list(arguments), source, keys)[0]


class _Key:
    """Stands in place of a key that nobody needs."""


_KEY = _Key()


def _evaluate(program: ClosedJaxpr, arguments: Sequence[Any], source: Source, keys: bool) -> list[Any]:
    values: dict[Any, Any] = {}

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    jaxpr = program.jaxpr
    values.update(zip(jaxpr.constvars, program.consts, strict=True))
    values.update(zip(jaxpr.invars, arguments, strict=True))
    for equation in jaxpr.eqns:
        given = [read(atom) for atom in equation.invars]
        made = _step(equation, given, source, keys)
        values.update(zip(equation.outvars, made, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _step(equation: Any, given: list[Any], source: Source, keys: bool) -> Sequence[Any]:
    outputs = [var.aval for var in equation.outvars]

    def bound() -> Any:
        parameters: Any = equation.primitive.get_bind_params(equation.params)
        # Releases of jax give functions apart from the parameters, or among them.
        functions, parameters = parameters if isinstance(parameters, tuple) else ((), parameters)
        made = equation.primitive.bind(*functions, *given, **parameters)
        return made if equation.primitive.multiple_results else [made]

    of_keys = [_is_key(atom.aval) for atom in equation.invars]
    if not any(of_keys):
        if all(map(_is_key, outputs)) and outputs and not keys:
            return [_KEY] * len(outputs)  # wrap_key_data
        return bound()
    if all(map(_is_key, outputs)):
        return bound() if keys else [_KEY] * len(outputs)
    inner, name = equation.params.get("jaxpr"), equation.params.get("name")
    if equation.primitive.name not in ("jit", "pjit") or inner is None:
        raise Unable(f"it draws inside of '{equation.primitive.name}', one after another, and ONNX has no keys")
    if name == NORMAL:
        return [source(Draw(NORMAL, outputs[0].shape), lambda: bound()[0])]
    if name == UNIFORM:
        low, high = (jnp.asarray(bound_) for bound_ in given[1:3])
        even = source(Draw(UNIFORM, outputs[0].shape), lambda: (bound()[0] - low) / (high - low))
        return [even * (high - low) + low]
    if name == WHOLE:
        low, high = (_known(bound_) for bound_ in given[1:3])
        return [source(Draw(WHOLE, outputs[0].shape, low, high), lambda: bound()[0])]
    return _evaluate(inner, given, source, keys)


def _known(bound: Any) -> int:
    """Raises Unable if the bound of whole numbers is computed."""
    try:
        return int(bound)
    except jax.errors.ConcretizationTypeError:
        raise Unable("it draws whole numbers up to one that it computes") from None


def _is_key(form: Any) -> bool:
    return jnp.issubdtype(form.dtype, dtypes.prng_key)
