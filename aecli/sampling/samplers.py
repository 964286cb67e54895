"""Distributions over codes, fitted after training, so that any model that encodes and decodes can draw images.

Ghosh et al. 2020, "From variational to deterministic autoencoders", section 4 (`gaussian`, `gmm`); Tomczak & Welling 2018, "VAE
with a VampPrior", equation 8, at images of the train split (`vamp`: the aggregated posterior); Lipman et al. 2023, "Flow matching
for generative modeling" (`flow`). A fit is kept with the run, under `samplers/`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aecli.config.variants import variants_that
from aecli.core import jitted
from aecli.core.abilities import lacking, told_lacking
from aecli.core.gaussian import Gaussian
from aecli.core.model import Batch, Model
from aecli.data.eval_batches import batches, per_image
from aecli.data.rows import Rows, choose
from aecli.errors import UsageError, did_you_mean
from aecli.runs.directory import Run
from aecli.runs.trained import Trained
from aecli.system.arrays import keep, kept
from aecli.system.files import make_folder

MOST_FITTED = 20_000
"""Codes that a fit is made from at most, so that its time does not grow with the data."""
LARGEST_COVARIANCE = 512
"""Covariances are square in it."""

Arrays = dict[str, Any]


def _none(_: Arrays) -> tuple[int, ...]:
    return ()


class Sampler(NamedTuple):
    """`fit(trained, rows, components, seed)` makes arrays, `draw(arrays, key, label, temperature)` codes [n, latent] of them, one
    for each class of `label` [n], which only a sampler that is `by_class` heeds: `classes(arrays)` are the numbers of those that
    it knows. `components` are so many by default, None where there are none to choose. What is kept of another `version` is not
    used."""

    abilities: tuple[str, ...]
    components: int | None
    fit: Callable[[Trained, Rows, int, int], Arrays]
    draw: Callable[[Arrays, jax.Array, jax.Array, float], jax.Array]
    by_class: bool = False
    classes: Callable[[Arrays], tuple[int, ...]] = _none
    version: int = 1


class Fitted(NamedTuple):
    """A sampler of this name, fitted; `called` says with how many components, too."""

    name: str
    called: str
    arrays: Arrays

    @property
    def classes(self) -> tuple[int, ...]:
        """The numbers of the classes that codes were told apart by; none if by none."""
        return SAMPLERS[self.name].classes(self.arrays)

    @property
    def version(self) -> int:
        return SAMPLERS[self.name].version

    def draw(self, key: jax.Array, label: jax.Array, temperature: float) -> jax.Array:
        """Codes [n, latent], one for each class of `label` [n] where there are `classes`. The temperature scales the spread of
        each component, or of the noise."""
        return SAMPLERS[self.name].draw(self.arrays, key, label, temperature)


def fit_gaussian(trained: Trained, rows: Rows, components: int, seed: int) -> Arrays:
    """One Gaussian with full covariance."""
    codes, _ = _codes(trained, rows, seed)
    covariance = np.atleast_2d(np.cov(codes, rowvar=False)) + 1e-6 * np.eye(codes.shape[1])
    return _mixture(np.ones(1), codes.mean(0)[None], covariance[None])


def fit_gmm(trained: Trained, rows: Rows, components: int, seed: int) -> Arrays:
    """Gaussians with full covariances, by expectation maximization."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    codes, _ = _codes(trained, rows, seed)
    if components > len(codes):
        raise UsageError(f"{components} components for {len(codes)} codes", f"--components {len(codes)} or fewer")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the likelihood still rises a little; the fit is good
        fitted = GaussianMixture(components, covariance_type="full", random_state=seed, reg_covar=1e-5).fit(codes)
    return _mixture(fitted.weights_, fitted.means_, fitted.covariances_)


def _mixture(weights: Any, means: Any, covariances: Any) -> Arrays:
    scale = np.linalg.cholesky(np.asarray(covariances, np.float64))
    return {"weights": weights.astype(np.float32), "means": means.astype(np.float32), "scale": scale.astype(np.float32)}


def draw_mixture(arrays: Arrays, key: jax.Array, label: jax.Array, temperature: float) -> jax.Array:
    n = len(label)
    choosing, drawing = jax.random.split(key)
    chosen = jax.random.choice(choosing, len(arrays["weights"]), (n,), p=jnp.asarray(arrays["weights"]))
    noise = jax.random.normal(drawing, (n, arrays["means"].shape[1]))
    return jnp.asarray(arrays["means"])[chosen] + temperature * jnp.einsum(
        "nij,nj->ni", jnp.asarray(arrays["scale"])[chosen], noise
    )


def fit_vamp(trained: Trained, rows: Rows, components: int, seed: int) -> Arrays:
    """The average of the posteriors of some train images."""
    few = choose(rows, components, seed)
    some = batches(few, trained.experiment.data.binarize, jax.random.key(seed), trained.place)
    mean, log_sigma = per_image(some, lambda batch, _: tuple(jitted.posterior(trained.model, trained.state, batch)))
    return {"mean": mean, "log_sigma": log_sigma}


def draw_vamp(arrays: Arrays, key: jax.Array, label: jax.Array, temperature: float) -> jax.Array:
    posteriors = Gaussian(jnp.asarray(arrays["mean"]), jnp.asarray(arrays["log_sigma"]))
    return posteriors.sample_mixture(key, len(label), temperature)


def fit_flow(trained: Trained, rows: Rows, components: int, seed: int) -> Arrays:
    """A velocity field from noise to codes, for each class that any of the images is of."""
    from aecli.sampling import flow_matching  # only who draws by it waits for its import

    codes, label = _codes(trained, rows, seed)
    seen = np.unique(label[label >= 0])
    fitted = flow_matching.fit(codes, label, trained.spec.classes if len(seen) else 0, seed, flow_matching.RECIPE)
    return {**fitted, "seen": seen.astype(np.int32)}


def draw_flow(arrays: Arrays, key: jax.Array, label: jax.Array, temperature: float) -> jax.Array:
    from aecli.sampling import flow_matching

    return flow_matching.draw({name: array for name, array in arrays.items() if name != "seen"}, key, label, temperature)


def _classes_of_flow(arrays: Arrays) -> tuple[int, ...]:
    return tuple(int(number) for number in arrays["seen"])


SAMPLERS: Mapping[str, Sampler] = {
    "gaussian": Sampler(("encodes", "decodes"), None, fit_gaussian, draw_mixture),
    "gmm": Sampler(("encodes", "decodes"), 10, fit_gmm, draw_mixture),
    "vamp": Sampler(("infers", "decodes"), 500, fit_vamp, draw_vamp),
    "flow": Sampler(("encodes", "decodes"), None, fit_flow, draw_flow, True, _classes_of_flow),
}


def check(model: Model, name: str) -> Sampler:
    """Raises UsageError if the sampler is unknown or the model lacks its abilities."""
    if name not in SAMPLERS:
        raise UsageError(f"there is no sampler '{name}'", did_you_mean(name, SAMPLERS) or "samplers: " + ", ".join(SAMPLERS))
    sampler = SAMPLERS[name]
    for ability in lacking(model, sampler.abilities):
        raise UsageError(
            f"variant '{model.variant}' cannot use --sampler {name}: {told_lacking(model, [ability])}",
            f"variants that can: {', '.join(variants_that(sampler.abilities))}",
        )
    return sampler


def fits(model: Model | type[Model]) -> tuple[str, ...]:
    """The samplers that a model, or every model of a class, can use."""
    return tuple(name for name, sampler in SAMPLERS.items() if not lacking(model, sampler.abilities))


def check_components(name: str | None, components: int | None) -> None:
    """Raises UsageError if a number of components is given to a sampler that has none, or to none."""
    counted = [other for other, sampler in SAMPLERS.items() if sampler.components is not None]
    if components is not None and name not in counted:
        raise UsageError(f"--components is for --sampler {', '.join(counted)}")


def fitted_of(
    run: Run, trained: Trained, name: str, components: int | None, train: Callable[[], Rows], say: Callable[[str], None]
) -> Fitted:
    """That of a run, kept in its folder; see `fitted`."""
    check(trained.model, name)
    check_components(name, components)
    info = run.info()
    return fitted(run.path / "samplers", trained, info.identity or info.data.fingerprint, name, components, train, say)


def fitted(
    folder: Path,
    trained: Trained,
    of: str,
    name: str,
    components: int | None,
    train: Callable[[], Rows],
    say: Callable[[str], None],
) -> Fitted:
    """A sampler, from `folder` where it was fitted before to codes of this checkpoint, and fitted and kept there
    otherwise. `of` names the experiment and its data."""
    sampler = check(trained.model, name)
    k = components or sampler.components or 1
    called = name if sampler.components is None else f"{name}{k}"
    path = folder / f"{called}-step{trained.step}.npz"
    key = f"{called} version {sampler.version} step {trained.step} of {of}"
    arrays = kept(path, key)
    if arrays is None:
        with_components = "" if sampler.components is None else f" with {k} component{'s' if k > 1 else ''}"
        say(f"fitting {name}{with_components} to codes of the train split (once)")
        arrays = sampler.fit(trained, train(), k, trained.experiment.seed)
        make_folder(folder)
        keep(path, key, arrays)
    return Fitted(name, called, arrays)


def _codes(trained: Trained, rows: Rows, seed: int) -> tuple[Any, Any]:
    """Codes of some train images, [n, latent] float64, and their labels [n]. Raises UsageError for codes too long for a
    covariance, and for a single one, which has none."""
    few = choose(rows, MOST_FITTED, seed)
    if len(few) < 2:
        raise UsageError(f"a distribution cannot be fitted to the code of one train {trained.spec.kind}", "train on more")
    size = jax.eval_shape(trained.model.encode, trained.state, Batch.abstract(1, trained.spec)).shape[1]  # pyright: ignore[reportAttributeAccessIssue]
    if size > LARGEST_COVARIANCE:
        message = f"codes of {size} numbers are too long for a covariance"
        raise UsageError(message, f"a model with {LARGEST_COVARIANCE} or fewer")
    some = batches(few, trained.experiment.data.binarize, jax.random.key(seed), trained.place)
    codes = per_image(some, lambda batch, _: jitted.encode(trained.model, trained.state, batch))
    return codes.astype(np.float64), few.labels
