r"""Sparse autoencoder: reconstruct the image from a code, perhaps wider than it, of which few units are active.

Penalties: `l1`, Olshausen & Field 1996, "Emergence of simple-cell receptive field properties", equation 2; `kl`, Ng 2011,
"Sparse autoencoder" (lecture notes CS294A), section 3; `square`, the same target by its squared distance; `topk`, Gao et al.
2024, "Scaling and evaluating sparse autoencoders" (arXiv 2406.04093), equation 2, with tied initialisation and AuxK of their
appendix A; `batch_topk`, Bussmann et al. 2024, "BatchTopK sparse autoencoders" (arXiv 2412.06410), section 3.

Objective
---------
With activations $a = f_\phi(c(x))$, where $c$ is the `corruption`, by default none, a step minimizes the mean over its batch
of

$$\ell(x) = \tfrac12 \sum_{d=1}^{D} (x_d - \hat x_d)^2 + \lambda\, \Omega, \qquad \hat x = g_\theta(a),$$

summed over the $D$ values of an image, in nats but for the constant of a Gaussian of sigma 1; $\lambda$ is `weight`. With
$\bar a_j$ the mean activation of unit $j$, over the batch in training and as a running mean at evaluation,

| `penalty` | $a$ | $\Omega$ |
|---|---|---|
| `l1` | ReLU | $\sum_j \lvert a_j \rvert$ |
| `kl` | sigmoid | $\sum_j \rho \log\frac{\rho}{\bar a_j} + (1 - \rho) \log\frac{1 - \rho}{1 - \bar a_j}$ |
| `square` | sigmoid | $\sum_j (\bar a_j - \rho)^2$ |
| `topk` | the $k$ largest of an image, negative ones too | 0 |
| `batch_topk` | ReLU, the $k B$ largest of a batch of $B$; at evaluation those above a running threshold | 0 |

A linear net of `topk` or `batch_topk` also minimizes $\alpha\, \tfrac12 \lVert e - \hat e \rVert^2$, $\alpha$ being `auxk`,
where $e = x - \hat x$ is taken as it is and $\hat e$ is what the largest activations of dead units make of it. `loss` does
not hold this term.

What goes wrong
---------------
- **Dead units.** No image activates them: `dead_fraction` of `sparsity`, and `density_*` tells how rare the others are.
  `auxk` is there to revive them.
- **Units that are on too often.** The last bin, `density_0.1_1`, is the share of those that more than a tenth of the images
  activate.
- **Shrinkage.** `l1` pays for each activation, which are then too small: `explained_variance_lstsq` of `pursuit`, of the same
  units with their best coefficients, is above that of the `encoder` beside it.
- **An encoder that misses the best code.** `amortization_gap` is what orthogonal matching pursuit explains more with as many
  units; `refinements` narrow it.
- **Another sparsity than was asked for.** `l0` against `k` (of `batch_topk` the threshold of evaluation decides),
  `mean_activation` against its `target`. A sigmoid is never 0: of `kl` and `square` a unit counts as active above `rho`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from aecli.core.learner import Learner, Recipe
from aecli.core.model import Batch, Kind, Model, Objection, Spec, Values, of_pictures
from aecli.distributions.corruptions import Corruptions, corrupt_batch, corruption_objections
from aecli.distributions.observations import mse, squared_error
from aecli.nets.dictionary import Dictionary
from aecli.nets.pairs import PAIRS, Hidden, check_hidden, hidden_of_net

THRESHOLD_DECAY = 0.99
"""How much of the running threshold of batch_topk and of the running mean activations a step keeps."""


class EncoderDecoder(nnx.Module):
    """An mlp or conv net with the code between."""

    def __init__(self, model: Sparse, spec: Spec, *, rngs: nnx.Rngs) -> None:
        pair, hidden = PAIRS[model.net], model.hidden
        self.encoder = pair.encoder(spec.shape, hidden, model.units, rngs=rngs)
        self.decoder = pair.decoder(spec.shape, hidden, model.units, rngs=rngs)

    def encode(self, image: jax.Array) -> jax.Array:
        return self.encoder(image).astype(jnp.float32)

    def decode(self, code: jax.Array) -> jax.Array:
        return self.decoder(code)


class Seen(NamedTuple):
    """What training keeps beside the weights: `silent`, the steps since each unit was last active, [units] int32; `mean`, the
    running mean activation of each unit, [units]; `threshold`, the running least value that batch_topk kept."""

    silent: jax.Array
    mean: jax.Array
    threshold: jax.Array


SEEN = {
    "silent": "of training: the steps since each unit was last active, [units]",
    "mean": "of training: the running mean activation of each unit, [units]",
    "threshold": "of training: the running least activation that batch_topk keeps, and at evaluation that above which a unit is"
    " active",
}
"""What the arrays of `Seen` are."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SparseState:
    learner: Learner[Any]
    seen: Seen

    @property
    def net(self) -> Any:
        return self.learner.net


class Sparse(Model):
    """Values: `loss` = half the summed squared error + the weighted penalty, `mse` per value of the image, `l0`, the number of
    active units. A unit is active where its activation is not 0, a sigmoid one (`kl`, `square`), which is never 0, where it is
    above `rho`.

    `weight`: of the penalty of l1, kl and square. `rho`: the mean activation that kl and square aim at, over a batch in
    training and as a running mean in evaluation. `k`: active units per image, of batch_topk on average. `auxk`: the weight of
    the error that the dead units alone, those silent for `dead_after` steps, make of what the others left. A linear net
    subtracts the decoder's bias, which starts as the mean of the first batch, before it encodes, its encoder starts as the
    transposed decoder, and where activations have no upper bound its decoder rows have norm 1, or a penalty could be escaped by
    scaling. `refinements`: so often the encoder sees what the code has left of the image, too, and the k largest units are
    chosen anew: iterative hard thresholding (Blumensath & Davies 2009, who choose by magnitude) whose matrix and whose step of
    each unit are learned (as of Gregor & LeCun 2010); each costs as much as the net.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("image", "vector")
    net: Literal["linear", "mlp", "conv"] = Field(default="linear", description="of the encoder and the decoder")
    hidden: Hidden = Field(default_factory=hidden_of_net, description="by default those of the net")
    units: PositiveInt = Field(default=256, description="numbers in a code")
    penalty: Literal["l1", "kl", "square", "topk", "batch_topk"] = Field(
        default="topk", description="what makes codes sparse: a term of the loss, or only the k largest units are kept"
    )
    weight: NonNegativeFloat = Field(default=0.1, description="of the penalty of l1, kl and square")
    rho: float = Field(default=0.05, gt=0, lt=1, description="mean activation that kl and square aim at")
    k: PositiveInt = Field(default=16, description="active units per image, of batch_topk on average")
    refinements: NonNegativeInt = Field(default=0, le=10, description="times that the k units are chosen anew")
    auxk: NonNegativeFloat = Field(
        default=1 / 32, description="weight of the error that the dead units make of what the others left"
    )
    dead_after: PositiveInt = Field(default=200, description="steps")
    corruption: Corruptions = Field(default=(), description="of what the encoder sees")

    @model_validator(mode="after")
    def _settings_fit(self) -> Sparse:
        check_hidden(self.net, self.hidden)
        if self._counts and self.k > self.units:
            raise ValueError(f"k: {self.k} active units of {self.units}: set units higher or k lower")
        if self.changed("rho") and self.penalty not in ("kl", "square"):
            raise ValueError("rho is for penalty: kl and penalty: square")
        if self.changed("weight") and self._counts:
            raise ValueError("weight is for penalty: l1, kl and square; topk and batch_topk have k")
        if self.changed("auxk", "dead_after") and not self._revives:
            raise ValueError("auxk and dead_after are for net: linear with penalty: topk or batch_topk")
        if self.refinements and not (self.net == "linear" and self.penalty == "topk"):
            raise ValueError("refinements are for net: linear with penalty: topk")
        if self.changed("k") and not self._counts:
            raise ValueError("k is for penalty: topk and penalty: batch_topk: leave k out, of the others weight decides")
        return self

    def objections(self, spec: Spec) -> Iterable[Objection]:
        if self._counts and self.k >= spec.size:
            example = "a vector" if spec.kind == "vector" else "an image"
            yield Objection("k", f"{self.k} active units are no fewer than the {spec.size} values of {example}", "a smaller k")
        if PAIRS[self.net].of_pictures:
            yield from of_pictures(spec, "net", f"net: {self.net}", "net: linear or net: mlp")
        yield from corruption_objections(self.corruption, spec)

    def corrupt(self, batch: Batch, key: jax.Array) -> Batch:
        return corrupt_batch(self.corruption, batch, key)

    def init(self, key: jax.Array, spec: Spec, recipe: Recipe) -> SparseState:
        rngs = nnx.Rngs(key)
        net = (
            Dictionary(spec.shape, self.units, self.refinements, rngs=rngs)
            if self.net == "linear"
            else EncoderDecoder(self, spec, rngs=rngs)
        )
        seen = Seen(jnp.zeros(self.units, jnp.int32), jnp.full(self.units, self.rho), jnp.zeros(()))
        return SparseState(Learner.create(net, recipe), seen)

    def train_step(self, state: SparseState, batch: Batch, key: jax.Array) -> tuple[SparseState, Values]:
        learner = state.learner
        if self.net == "linear":
            learner = learner.adjust(lambda net: net.centre(batch.image), learner.step == 0)
        shown = self.corrupt(batch, key).image
        dead = state.seen.silent >= self.dead_after

        def objective(net: Any) -> tuple[jax.Array, tuple[Values, jax.Array]]:
            before, code = self._chosen(net, None, shown)
            values = self._values(net, code, code.mean(axis=0), batch.image)
            loss = values["loss"].mean()
            if self._revives and self.auxk:
                loss += self.auxk * self._auxiliary(net, before, code, dead, batch.image)
            return loss, (values, code)

        learner, (values, code) = learner.descend(objective)
        if self._bounded_rows:
            learner = learner.adjust(lambda net: net.normalize())
        return SparseState(learner, self._look(state.seen, code)), values

    def evaluate(self, state: SparseState, batch: Batch, key: jax.Array) -> Values:
        code = self._encode(state, self.corrupt(batch, key).image)
        return self._values(state.net, code, state.seen.mean, batch.image)

    def encode(self, state: SparseState, batch: Batch) -> jax.Array:
        return self._encode(state, batch.image)

    def active(self, state: SparseState, batch: Batch) -> jax.Array:
        return self._active(self.encode(state, batch))

    def decode(self, state: SparseState, code: jax.Array, label: jax.Array) -> jax.Array:
        return state.net.decode(code).astype(jnp.float32)

    def reconstruct(self, state: SparseState, batch: Batch) -> jax.Array:
        return self.decode(state, self.encode(state, batch), batch.label)

    @property
    def target_activation(self) -> float | None:
        """The mean activation that the penalty aims at, where it does."""
        return self.rho if self.penalty in ("kl", "square") else None

    @property
    def arrays_told(self) -> Mapping[str, str]:
        told = {f"seen/{name}": text for name, text in SEEN.items()}
        if self.net != "linear":
            return told
        net = {name: text for name, text in Dictionary.ARRAYS.items() if name != "steps" or self.refinements}
        if self._bounded_rows:
            net["rows"] += "; each row has norm 1, or a little less where optimizer.ema averages them"
        net["kernel"] += f"; the code is {self._code_told}" + (", refined" if self.refinements else "")
        return told | {f"learner/{name}": text for name, text in net.items()}

    @property
    def _code_told(self) -> str:
        """What `_code` makes of activations at evaluation, in words."""
        told = {"l1": "their ReLU", "topk": f"the {self.k} largest of them", "batch_topk": "those above seen/threshold"}
        return told.get(self.penalty, "their sigmoid") + (", and 0 elsewhere" if self._counts else "")

    @property
    def _counts(self) -> bool:
        """Whether the number of active units is given, instead of a price."""
        return self.penalty in ("topk", "batch_topk")

    @property
    def _revives(self) -> bool:
        """Whether dead units may be taught what the others left: their rows need to add up to an image."""
        return self._counts and self.net == "linear"

    @property
    def _bounded_rows(self) -> bool:
        return self.net == "linear" and self.penalty in ("l1", "topk", "batch_topk")

    def _encode(self, state: SparseState, image: jax.Array) -> jax.Array:
        return self._chosen(state.net, state.seen.threshold, image)[1]

    def _chosen(self, net: Any, threshold: jax.Array | None, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What the units were last chosen by, and the code, [B, units] each."""
        before = net.encode(image)
        code = self._code(before, threshold)
        for turn in range(self.refinements):
            before = net.refine(code, image, turn)
            code = self._code(before, None)
        return before, code

    def _code(self, before: jax.Array, threshold: jax.Array | None) -> jax.Array:
        """Activations [B, units]; `threshold` takes the place of the batch in batch_topk."""
        if self.penalty == "l1":
            return nnx.relu(before)
        if self.penalty == "topk":
            return keep_largest(before, self.k)
        if self.penalty == "batch_topk":
            positive = nnx.relu(before)
            if threshold is None:
                return keep_largest(positive.reshape(1, -1), self.k * before.shape[0]).reshape(before.shape)
            return jnp.where(positive > threshold, positive, 0.0)
        return nnx.sigmoid(before)

    def _active(self, code: jax.Array) -> jax.Array:
        return code > self.rho if self.penalty in ("kl", "square") else code != 0

    def _values(self, net: Any, code: jax.Array, mean: jax.Array, image: jax.Array) -> Values:
        """`mean` [units]: the mean activations that kl and square are about."""
        output = net.decode(code)
        loss = squared_error(output, image)
        if self.penalty == "l1":
            loss += self.weight * jnp.abs(code).sum(axis=1)
        elif self.penalty == "kl":
            loss += self.weight * kl_to_target(self.rho, mean)
        elif self.penalty == "square":
            loss += self.weight * ((mean - self.rho) ** 2).sum()
        return {"loss": loss, "mse": mse(output, image), "l0": self._active(code).sum(axis=1).astype(jnp.float32)}

    def _auxiliary(self, net: Any, before: jax.Array, code: jax.Array, dead: jax.Array, image: jax.Array) -> jax.Array:
        """The mean over the batch of what the dead units leave of the error; 0 where none is dead. As many of them as half the
        values of an image may be active (Gao et al. 2024, appendix A.2), by what units were last chosen `before` the code: of a
        refined one that is what they make of the error, so that they learn to be chosen for it."""
        error = jax.lax.stop_gradient(image - net.decode(code))
        k = min(self.units, max(1, image[0].size // 2))
        alone = keep_largest(jnp.where(dead[None], nnx.relu(before), 0.0), k)
        left = squared_error(net.expand(alone), error).mean()
        return jnp.where(dead.any(), left, 0.0)

    def _look(self, seen: Seen, code: jax.Array) -> Seen:
        fired = self._active(code).any(axis=0)
        least = jnp.where(code > 0, code, jnp.inf).min()
        first = seen.threshold == 0
        threshold = jnp.where(first, least, _decayed(seen.threshold, least))
        threshold = jnp.where(jnp.isfinite(least), threshold, seen.threshold)
        return Seen(jnp.where(fired, 0, seen.silent + 1), _decayed(seen.mean, code.mean(axis=0)), threshold)


def _decayed(old: jax.Array, new: jax.Array) -> jax.Array:
    return THRESHOLD_DECAY * old + (1 - THRESHOLD_DECAY) * new


def keep_largest(x: jax.Array, k: int) -> jax.Array:
    """Exactly k entries of each row of [B, n] stay, the others are 0."""
    values, index = jax.lax.top_k(x, k)
    return jnp.zeros_like(x).at[jnp.arange(x.shape[0])[:, None], index].set(values)


def kl_to_target(rho: float, mean: jax.Array) -> jax.Array:
    """KL(Bernoulli(rho) || Bernoulli(mean)) summed over units, [units] -> scalar nats."""
    q = jnp.clip(mean, 1e-6, 1 - 1e-6)
    return (rho * jnp.log(rho / q) + (1 - rho) * jnp.log((1 - rho) / (1 - q))).sum()
