"""The form of a run's state, and the state before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

import jax

from aecli.config.schema import Experiment
from aecli.config.variants import load_all
from aecli.core.keys import Stream, stream
from aecli.core.learner import Recipe, is_part
from aecli.core.model import Model, Spec
from aecli.core.optimizer import Optimizer, is_matrix
from aecli.errors import SettingError, did_you_mean
from aecli.system.compiler_options import cpu_options
from aecli.system.placement import Placement, put
from aecli.system.untraced import compiled, computed


def state_template(experiment: Experiment, spec: Spec, train_size: int, place: Placement) -> Any:
    """The form of the state, its arrays as `jax.ShapeDtypeStruct`s placed on every device: what a checkpoint is restored
    into, without computing anything. Raises SettingError if the model cannot serve the data."""
    check_model(experiment, spec)
    asked = (experiment.model, spec, experiment.recipe(train_size))
    shapes = computed("form of the state", asked, lambda: _form(*asked))
    _check_frozen(weights(shapes), experiment.optimizer.freeze)
    _check_matrices(weights(shapes), experiment.optimizer)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place.replicated), shapes)


def init(experiment: Experiment, spec: Spec, train_size: int, place: Placement) -> Any:
    """The state before the first step, on every device."""
    root = jax.random.key(experiment.seed)
    start = _start_in_haste() if jax.default_backend() == "cpu" else _start
    program = compiled(start, (experiment.model, spec, experiment.recipe(train_size)), (root,))
    return put(program.call(root), place.replicated)


def _form(model: Model, spec: Spec, recipe: Recipe) -> Any:
    """Without a placement: what is kept of it is read by others."""
    return jax.eval_shape(partial(_first_state, model=model, spec=spec, recipe=recipe), root=jax.random.key(0))


def _first_state(model: Model, spec: Spec, recipe: Recipe, root: jax.Array) -> Any:
    """A model's first state with the types of every later one: a scalar that came of a Python number counts as another type, and
    the steps would be compiled again after the first call, and again after the second."""
    return jax.tree.map(
        lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), model.init(stream(root, Stream.INIT), spec, recipe)
    )


_STATIC = ("model", "spec", "recipe")
_start = jax.jit(_first_state, static_argnames=_STATIC)


@cache
def _start_in_haste() -> Any:
    """For a CPU: the program runs once, and XLA would optimize it for three times as long as it otherwise takes to compile it.
    Its older way of writing loops, which newer releases do not have, takes half of that."""
    options = cpu_options(xla_cpu_use_fusion_emitters=False)
    return jax.jit(_first_state, static_argnames=_STATIC, compiler_options={"xla_backend_optimization_level": 0, **options})


def weights(shapes: Any) -> dict[str, int]:
    """The paths of a state's parameters within their network, and how many axes each has."""
    flat, _ = jax.tree_util.tree_flatten_with_path(shapes)
    paths = [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf.ndim) for path, leaf in flat]
    return {
        path.split("/params/", 1)[-1].removeprefix("params/"): axes for path, axes in paths if "params" in path.split("/")[:-1]
    }


def _check_frozen(weights: Mapping[str, int], names: Sequence[str]) -> None:
    """Raises SettingError if a frozen part is none of the model's networks, or nothing is left to train."""
    parts = sorted({path.split("/")[0] for path in weights})
    for name in names:
        if not any(is_part(path, [name]) for path in weights):
            message = f"'{name}' is no part of the model"
            raise SettingError(
                ("optimizer", "freeze"), "unknown-part", message, did_you_mean(name, parts), f"parts: {', '.join(parts)}"
            )
    if names and all(is_part(path, names) for path in weights):
        raise SettingError(("optimizer", "freeze"), "unsuitable", "every weight is frozen: there is nothing to train")


def _check_matrices(weights: Mapping[str, int], optimizer: Optimizer) -> None:
    """Raises SettingError if an optimizer of matrices is to move a model that trains none."""
    if optimizer.name == "muon" and not any(
        is_matrix(path, axes) and not is_part(path, optimizer.freeze) for path, axes in weights.items()
    ):
        message = "muon moves the matrices of layers, and no parameter that is trained here is one"
        raise SettingError(("optimizer", "name"), "unsuitable", message, help="set optimizer.name: adam")


def check_model(experiment: Experiment, spec: Spec) -> None:
    """Raises SettingError if the model cannot serve the data."""
    model = experiment.model
    if spec.kind not in model.kinds:
        message = (
            f"variant '{model.variant}' serves {' and '.join(f'{kind}s' for kind in model.kinds)}, and the data is {spec.kind}s"
        )
        able = (name for name, cls in load_all().sound.items() if spec.kind in cls.kinds)
        raise SettingError(("model", "variant"), "unsuitable", message, help=f"variants that serve them: {', '.join(able)}")
    for augmentation in experiment.data.augment:
        for message in augmentation.objections(spec):
            told = f"{augmentation.name}: {message}"
            raise SettingError(("data", "augment"), "unsuitable", told, help="leave it out, or move them less")
    for objection in model.objections(spec):  # the first is enough: the others may follow from it
        raise SettingError(("model", objection.key), "unsuitable", objection.message, help=objection.help)
