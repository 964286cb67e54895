"""What a new run takes over from a trained one whose weights it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from aecli.errors import RunError
from aecli.runs import checkpoint
from aecli.runs.trained import Trained

SHOWN = 6
"""Arrays that did not fit, in a message."""
_AVERAGED, _WEIGHTS, _OPTIMIZER = "ema", "params", "opt_state"


class Inherited(NamedTuple):
    """`arrays` by their paths in the new state; `fitted` of the `weights` of the new model come from the trained one; `left` says
    of each array that did not fit why."""

    arrays: Mapping[str, Any]
    fitted: int
    weights: int
    left: tuple[str, ...]

    def told(self, run_id: str, step: int) -> str:
        """`from vae-..., step 4690: all 652,824 weights`, or what did not fit."""
        share = "all" if self.fitted == self.weights else f"{self.fitted:,} of"
        more = f"; not {', '.join(self.left[:SHOWN])}" if self.left else ""
        more += f" and {len(self.left) - SHOWN} more" if len(self.left) > SHOWN else ""
        return f"from {run_id}, step {step:,}: {share} {self.weights:,} weights{more}"


def inherit(template: Any, source: Trained, run_id: str) -> Inherited:
    """What fits a new state of the form of `template`, by path and shape: the weights that the trained model is evaluated with,
    and whatever else it learned (a codebook, averages). Its optimizer's state is left behind. A counter comes along where all
    that stands beside and below it does: what is done only at the beginning of a training, as giving codes their first vectors,
    has been done to those. Raises RunError if no weight fits."""
    trained, new = checkpoint.leaves(source.state), checkpoint.leaves(template)
    arrays: dict[str, Any] = {}
    left: list[str] = []
    fitted = weights = 0
    for path, leaf in new.items():
        parts = path.split("/")
        if _OPTIMIZER in parts:
            continue
        found = trained.get(_replaced(path, _WEIGHTS, _AVERAGED), trained.get(_replaced(path, _AVERAGED, _WEIGHTS)))
        found = trained.get(path) if found is None else found
        is_weight = _WEIGHTS in parts
        weights += prod(leaf.shape) if is_weight else 0
        if found is not None and found.shape == leaf.shape and found.dtype == leaf.dtype:
            arrays[path] = found
            fitted += prod(leaf.shape) if is_weight else 0
        elif _AVERAGED not in parts:
            left.append(f"{path} {list(leaf.shape)}" + ("" if found is None else f" (there {list(found.shape)})"))
    if not fitted:
        raise RunError(f"no weight of run {run_id} fits this config: {', '.join(left[:SHOWN])}", "`aecli show` tells its config")
    counters = [path for path, array in arrays.items() if not jnp.issubdtype(array.dtype, jnp.floating)]
    for counter in counters:
        beside = "".join(counter.rpartition("/")[:2])
        if any(path.startswith(beside) and path not in arrays for path in new if _OPTIMIZER not in path.split("/")):
            del arrays[counter]
    return Inherited(arrays, fitted, weights, tuple(left))


def _replaced(path: str, part: str, by: str) -> str:
    return "/".join(by if each == part else each for each in path.split("/"))


def started_from(state: Any, inherited: Inherited) -> Any:
    """A first state with what it takes over in place of what it would begin with."""
    given = inherited.arrays

    def taken(path: str, leaf: Any) -> Any:
        # Copies: averaged and latest weights start as the same array, and a step takes each for its own. On the devices of the
        # new state: another batch may be split over others than those that the trained one is on.
        return jax.device_put(given[path], leaf.sharding, may_alias=False) if path in given else leaf

    leaves = [taken(path, leaf) for path, leaf in checkpoint.leaves(state).items()]
    return jax.tree.unflatten(jax.tree.structure(state), leaves)
