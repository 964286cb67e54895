"""Examples on which an export is compared with its run: what they are, and what the run makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from aecli.core import jitted
from aecli.core.abilities import abilities
from aecli.core.model import Batch
from aecli.data.eval_batches import batches
from aecli.distributions.corruptions import as_shown
from aecli.errors import DataError
from aecli.evaluation.importance import importance_sampled
from aecli.exports.functions import KEY
from aecli.runs.data import open_run_data
from aecli.runs.directory import Run
from aecli.runs.trained import Trained
from aecli.system.progress import say
from aecli.verbs import apply


class Example(NamedTuple):
    """Arrays by the names of what functions take, and the batch that the model is shown for them."""

    arrays: Mapping[str, NDArray[Any]]
    batch: Batch


def test_example(run: Run, trained: Trained, n: int, told: str | None, note: Callable[[str], None]) -> Example | None:
    """The first n rows of the test split, the last one again where there are fewer; None, which is noted, if the data is not
    here. Raises DataError if it is not where it is `told` to be."""
    try:
        rows = open_run_data(run, trained.experiment.data, say, told).split("test")
    except DataError as error:
        if told is not None:
            raise
        note(f"compared on made-up rows alone, since the run's data is not here: {error.message}")
        return None
    root = jax.random.key(trained.experiment.seed)
    how = "none" if trained.experiment.data.binarize == "none" else "dynamic"
    batch, key, _ = next(batches(rows.part(0, min(n, len(rows))), how, root, trained.place, size=n))
    return _example(trained, batch, key, 0)


def made_up(trained: Trained, n: int, seed: int) -> Example:
    """n rows that nobody drew: even noise for images, a standard normal for vectors, at the scale of the model."""
    spec, model, rng = trained.spec, trained.model, np.random.default_rng(seed)
    shape = (n, *spec.shape)
    image = rng.random(shape, np.float32) if spec.kind == "image" else rng.standard_normal(shape, np.float32)
    if trained.experiment.data.binarize != "none" or getattr(model, "support", lambda: None)() == 2:
        image = np.rint(image)
    classes = trained.classes or (0,)
    label = rng.choice(np.array(classes), n).astype(np.int32)
    batch = Batch(jnp.asarray(image), jnp.asarray(label), jnp.ones(n, bool), pair=jnp.asarray(image) if spec.paired else None)
    return _example(trained, batch, jax.random.key(seed), seed)


def _example(trained: Trained, batch: Batch, key: jax.Array, seed: int) -> Example:
    model: Any = trained.model
    given = jax.device_get(as_shown(model.corruptions, jitted.give(model, batch, key)))
    if not model.is_conditional:
        given = given._replace(label=np.full_like(given.label, -1))
    given = given._replace(mask=np.ones_like(given.mask))
    image = given.image if trained.scaling is None else trained.scaling.undo(given.image)
    arrays: dict[str, Any] = {
        "image": image,
        "vector": image.reshape(len(image), -1),
        "label": given.label,
        "given": given.given,
        KEY: np.array([seed, 7], np.uint32),
    }
    if "encodes" in abilities(model):
        arrays["code"] = np.asarray(jitted.encode(model, trained.state, given), np.float32)
    return Example(arrays, given)


def of_run(trained: Trained, name: str, example: Example, samples: int) -> NDArray[np.float32]:
    """What the run itself makes of an example, by the programs of evaluations and draws."""
    model: Any = trained.model
    state, batch, arrays = trained.state, example.batch, example.arrays
    key = jax.random.wrap_key_data(jnp.asarray(arrays[KEY]))
    made: Any
    if name == "encode":
        made = jitted.encode(model, state, batch)
    elif name == "decode":
        made = apply.shown(trained, jitted.decode(model, state, arrays["code"], batch.label))
    elif name == "reconstruct":
        made = apply.shown(trained, jitted.reconstruct(model, state, batch))
    elif name == "sample":
        made = apply.shown(trained, jitted.sample(model, state, key, batch.label, jnp.float32(1.0)))
    elif "scores" in abilities(model):
        made = -jitted.log_prob(model, state, batch)
    else:
        made = importance_sampled(model, state, batch, key, jnp.int32(samples))["nll_nats"]
    return np.asarray(made, np.float32)
