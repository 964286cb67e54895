r"""Hierarchical VAE: two stochastic layers, q(z2 | x) q(z1 | x, z2) against p(z2) p(z1 | z2) p(x | z1, z2).

Tomczak & Welling 2018, "VAE with a VampPrior", section 4; gated layers as in their experiments.
`samples` from Burda et al. 2016, "Importance weighted autoencoders", equation 8; `prior: flow` as of `vae`. `conditional` is
p(x | y, z1, z2) p(z1 | z2) p(z2), with codes that a priori know nothing of the label y, and q(z2 | x, y) q(z1 | x, y, z2); with
one layer of codes the model M2 of Kingma et al. 2014, "Semi-supervised learning with deep generative models", of known labels.

Objective
---------
A step minimizes the mean over its batch of the negative evidence lower bound, for one pair of codes of each image,
$z_2 \sim q(z_2 \mid x)$ and $z_1 \sim q(z_1 \mid x, z_2)$,

$$\ell(x) = -\log p(x \mid z_1, z_2) + \beta\, \Bigl[\mathrm{KL}\bigl(q(z_2 \mid x) \,\|\, p(z_2)\bigr) +
\mathrm{KL}\bigl(q(z_1 \mid x, z_2) \,\|\, p(z_1 \mid z_2)\bigr)\Bigr],$$

in nats, summed over the values of an image and of both codes (Tomczak & Welling 2018, section 4). The lower rate is exact
given $z_2$, the upper one for `prior: standard`; of another prior it is $\log q(z_2 \mid x) - \log p(z_2)$ at that $z_2$.
$\beta$ is 1, but rises from 0 over `kl_warmup` steps of training. With `samples` $K > 1$ it is
$-\log \frac1K \sum_k p(x, z_1^k, z_2^k) / q(z_1^k, z_2^k \mid x)$ (Burda et al. 2016, equation 8). `kl_warmup`,
`samples_from` and `dropout` act in training alone.

What goes wrong
---------------
- **The upper layer collapses.** $z_2$ tells nothing of the image: of the units of both layers, which `likelihood` counts
  together, half or more are inactive (`active_units`, `inactive_fraction`). A lower layer that follows $p(z_1 \mid z_2)$ is
  not seen by it, since the mean of $z_1$ moves with that of $z_2$; `rate_nats` is of both layers in one.
- **It learns images by heart.** `loss` of validations rises while that of training falls (`nll_nats` is of `aecli eval`
  alone); `dropout` and `train.patience` are against it.
- **A cross-entropy is no likelihood.** Gray images under `likelihood: bernoulli` have no `nll_nats`; of those that
  `data.binarize` draws `excess_nats` is what is left above `floor_nats`.
- **A loose estimate.** `effective_samples` near 1 says that `nll_nats` rests on single codes; more `--importance-samples`
  lower it.
- **Draws worse than reconstructions.** Codes of images do not fill the prior: `frechet_distance`, `precision` and `recall` of
  `generation`, beside as many train images. `prior: vamp`, `mog` and `flow` are against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from aecli.core.bounds import check_samples, staged
from aecli.core.gaussian import Gaussian
from aecli.core.learner import Learner
from aecli.core.model import (
    Batch,
    Objection,
    SingleLoss,
    Spec,
    Temperature,
    Values,
    latent_too_large,
    no_labels,
    not_tiled,
    one_hot,
)
from aecli.core.prior import EvenMixture, Flow, Prior, StandardNormal, check_prior
from aecli.distributions.discrete import LogisticMixture
from aecli.distributions.observations import Bernoulli, Discretized, Observation, gray_only
from aecli.nets.coupling import CouplingFlow
from aecli.nets.dropout import Dropout, drop, each, in_training
from aecli.nets.mixture import Mixture
from aecli.nets.mlp import Gate, GatedMlp
from aecli.nets.squares import Squares


class Merge(nnx.Module):
    """A gated layer for each of two inputs, one for both together, and an affine map: [B, a], [n B, b] -> [n B, out]. The first
    input is repeated n times, after the layer that sees it alone."""

    def __init__(self, a: int, b: int, hidden: int, out: int, *, rngs: nnx.Rngs) -> None:
        self.first, self.second = Gate(a, hidden, rngs=rngs), Gate(b, hidden, rngs=rngs)
        self.both = Gate(2 * hidden, hidden, rngs=rngs)
        self.last = nnx.Linear(hidden, out, kernel_init=nnx.initializers.glorot_uniform(), rngs=rngs)

    def __call__(self, a: jax.Array, b: jax.Array, dropout: Dropout | None = None) -> jax.Array:
        dtype = self.last.kernel[...].dtype
        of_first, of_second, of_both = each(dropout, 3)
        first = jnp.tile(drop(self.first(a.astype(dtype)), of_first), (b.shape[0] // a.shape[0], 1))
        second = drop(self.second(b.astype(dtype)), of_second)
        return self.last(drop(self.both(jnp.concatenate([first, second], axis=-1)), of_both))


class HvaeNet(nnx.Module):
    """A one-hot label stands beside the image that both posteriors see, and beside z1 where images are decoded."""

    def __init__(self, model: HVAE, spec: Spec, *, rngs: nnx.Rngs) -> None:
        self.spec, self.outputs, latent, hidden = spec, model.observation.outputs, model.latent, model.hidden
        self.classes = spec.classes if model.conditional else 0
        seen = spec.size + self.classes
        self.q_z2 = GatedMlp((seen, hidden, hidden, 2 * latent), rngs=rngs)
        self.q_z1 = Merge(seen, latent, hidden, 2 * latent, rngs=rngs)
        self.p_z1 = GatedMlp((latent, hidden, hidden, 2 * latent), rngs=rngs)
        self.squares = model.squares(spec, rngs) if model.decoder == "gmlp" else None
        made = spec.size * self.outputs if self.squares is None else self.squares.inputs
        self.p_x = Merge(latent + self.classes, latent, hidden, made, rngs=rngs)
        self.latent = latent
        start = nnx.initializers.normal(1.0)
        shape = (model.pseudo_inputs, *spec.shape)
        self.pseudo_inputs = nnx.Param(start(rngs.params(), shape) - 1.5) if model.prior == "vamp" else None
        self.mixture = Mixture(model.components, latent, rngs=rngs) if model.prior == "mog" else None
        self.flow = CouplingFlow(latent, model.couplings, rngs=rngs) if model.prior == "flow" else None

    def seen(self, image: jax.Array, label: jax.Array) -> jax.Array:
        """What the posteriors are given of an image, [B, values]."""
        return self._beside(image.reshape(image.shape[0], -1), label)

    def posterior_z2(self, seen: jax.Array, dropout: Dropout | None = None) -> Gaussian:
        return Gaussian.from_output(self.q_z2(seen, dropout)).bounded()

    def posterior_z1(self, seen: jax.Array, z2: jax.Array, dropout: Dropout | None = None) -> Gaussian:
        return Gaussian.from_output(self.q_z1(seen, z2, dropout)).bounded()

    def prior_z1(self, z2: jax.Array, dropout: Dropout | None = None) -> Gaussian:
        return Gaussian.from_output(self.p_z1(z2, dropout)).bounded()

    def decode(self, z2: jax.Array, z1: jax.Array, label: jax.Array, dropout: Dropout | None = None) -> jax.Array:
        """The parameters of p(x | z1, z2), [B, H, W, C, outputs]."""
        of_merge, of_squares = each(dropout, 2)
        made = self.p_x(self._beside(z1, label), z2, of_merge)
        if self.squares is not None:
            made = self.squares(made, of_squares)
        return made.reshape(z1.shape[0], *self.spec.shape, self.outputs)

    def prior_z2(self, dropout: Dropout | None = None) -> Prior:
        if self.flow is not None:
            return Flow(self.flow, self.latent)
        if self.mixture is not None:
            return EvenMixture(Gaussian(*self.mixture()).bounded())
        if self.pseudo_inputs is not None:
            raw = self.pseudo_inputs[...]
            return EvenMixture(self.posterior_z2(self.seen(nnx.sigmoid(raw), jnp.full((len(raw),), -1)), dropout))
        return StandardNormal(self.latent)

    def _beside(self, values: jax.Array, label: jax.Array) -> jax.Array:
        """[B, n] values, and the one-hot label of a conditional model, zeros of -1: no label."""
        return jnp.concatenate([values, one_hot(label, self.classes)], axis=-1) if self.classes else values


class HVAE(SingleLoss):
    """Values as of `vae`; `rate_nats` is that of both layers, and `latent` the size of each. A code is z2 and z1 in a row."""

    hidden: PositiveInt = Field(default=300, description="width of each layer")
    latent: PositiveInt = Field(default=40, description="numbers in z1, and as many in z2")
    decoder: Literal["gated", "gmlp"] = Field(default="gated", description="of p(x | z1, z2); gmlp mixes features of squares")
    patch: PositiveInt = Field(default=4, description="pixels of a square's side, of decoder: gmlp")
    width: PositiveInt = Field(default=32, description="features of a square, of decoder: gmlp")
    layers: PositiveInt = Field(default=3, description="of decoder: gmlp")
    heads: PositiveInt = Field(default=8, description="sums over squares per layer, of decoder: gmlp")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of each gated layer that a step of training drops")
    likelihood: Literal["bernoulli", "discretized_logistic"] = Field(default="bernoulli", description="of a value of the image")
    samples: PositiveInt = Field(default=1, description="codes per image in the bound; above 1, IWAE")
    samples_from: NonNegativeInt = Field(default=0, description="the step from which on there are more samples than one")
    kl_warmup: NonNegativeInt = Field(default=0, description="steps")
    prior: Literal["standard", "vamp", "mog", "flow"] = Field(default="standard", description="of z2")
    pseudo_inputs: PositiveInt = Field(default=500, description="of prior: vamp")
    components: PositiveInt = Field(default=500, description="of prior: mog")
    couplings: PositiveInt = Field(default=4, description="of prior: flow")
    conditional: bool = Field(default=False, description="learn p(x | label)")

    @model_validator(mode="after")
    def _settings_fit(self) -> HVAE:
        check_samples(self.samples, self.samples_from, self.kl_warmup)
        check_prior(self.prior, self.latent, self.changed)
        if self.decoder != "gmlp" and self.changed("patch", "width", "layers", "heads"):
            raise ValueError("patch, width, layers and heads are for decoder: gmlp")
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide width: {self.width}")
        return self

    @property
    def schedules(self) -> Sequence[str]:
        return [name for name in ("kl_warmup", "samples_from") if getattr(self, name)]

    def objections(self, spec: Spec) -> Iterable[Objection]:
        yield from latent_too_large(self.latent, spec)
        if self.likelihood == "bernoulli":
            yield from gray_only(spec)
        if self.decoder == "gmlp":
            yield from not_tiled(self.patch, spec)
        if self.conditional:
            yield from no_labels(spec)

    def squares(self, spec: Spec, rngs: nnx.Rngs) -> Squares:
        """What makes pixels of the features of squares, where the decoder is of them."""
        return Squares(spec.shape, self.observation.outputs, self.patch, self.width, self.layers, self.heads, rngs=rngs)

    @property
    def observation(self) -> Observation:
        """p(x | z1, z2)."""
        return Bernoulli() if self.likelihood == "bernoulli" else Discretized(LogisticMixture(levels=256, components=1))

    def build(self, spec: Spec, rngs: nnx.Rngs) -> HvaeNet:
        return HvaeNet(self, spec, rngs=rngs)

    def loss(self, net: HvaeNet, batch: Batch, key: jax.Array, step: jax.Array | None) -> Values:
        key, dropout = in_training(self.dropout, key, step)
        return staged(
            self.samples,
            self.samples_from,
            step,
            lambda: self._bound_of_one(net, batch, key, step, dropout),
            lambda: self._weigh(net, batch, key, self.samples, dropout),
        )

    def _bound_of_one(
        self, net: HvaeNet, batch: Batch, key: jax.Array, step: jax.Array | None, dropout: Dropout | None
    ) -> Values:
        first, second = jax.random.split(key)
        of_q2, of_q1, of_p2, of_p1, of_p = each(dropout, 5)
        seen = net.seen(batch.image, batch.label)
        q2 = net.posterior_z2(seen, of_q2)
        z2 = q2.sample(first)
        q1 = net.posterior_z1(seen, z2, of_q1)
        z1 = q1.sample(second)
        distortion = self.observation.nll(net.decode(z2, z1, batch.label, of_p), batch.image)
        rate2 = q2.kl_to_standard_normal().sum(1)
        if self.prior != "standard":
            rate2 = q2.log_prob(z2) - net.prior_z2(of_p2).log_prob(z2)
        rate, beta = rate2 + q1.kl_to(net.prior_z1(z2, of_p1)).sum(1), jnp.float32(1)
        if step is not None and self.kl_warmup:
            beta = jnp.minimum(1.0, step / self.kl_warmup)
        return {"loss": distortion + beta * rate, "distortion_nats": distortion, "rate_nats": rate}

    def log_weights(self, state: Learner[HvaeNet], batch: Batch, key: jax.Array, n: int) -> jax.Array:
        """log p(x, z1, z2) - log q(z1, z2 | x) for n codes of each image, [n, B] nats."""
        return self._weigh(state.net, batch, key, n)[0]

    def log_weights_of_top(self, state: Learner[HvaeNet], batch: Batch, key: jax.Array, n: int) -> jax.Array:
        """log p(x | z1, z2) p(z2) / q(z2 | x) for n codes of each image, z2 from q(z2 | x) and z1 from p(z1 | z2), [n, B] nats
        (Havtorn et al. 2021, "Hierarchical VAEs know what they don't know", the bound L^>k for k = 1).

        Their inference is bottom-up, q(z1 | x) q(z2 | z1), or runs both ways: their z2 is reached through z1. Here it is
        top-down, q(z2 | x) q(z1 | x, z2), so that z2 is inferred from the image alone, and what the ratio weighs is q(z1 | x, z2)
        against p(z1 | z2). Their program takes the mode of the skipped layers, where z1 is drawn here, as the bound has it."""
        net = state.net
        first, second = jax.random.split(key)
        q2 = net.posterior_z2(net.seen(batch.image, batch.label)).repeat(n)
        z2 = q2.sample(first)
        z1 = net.prior_z1(z2).sample(second)
        rate = q2.log_prob(z2) - net.prior_z2().log_prob(z2)
        return -self._distortion(net, z2, z1, batch, n) - rate.reshape(n, -1)

    def support(self) -> int | None:
        return self.observation.support

    def encode(self, state: Learner[HvaeNet], batch: Batch) -> jax.Array:
        """The mean of q(z2 | x), then that of q(z1 | x, z2) there."""
        net = state.net
        seen = net.seen(batch.image, batch.label)
        z2 = net.posterior_z2(seen).mean
        return jnp.concatenate([z2, net.posterior_z1(seen, z2).mean], axis=-1)

    def decode(self, state: Learner[HvaeNet], code: jax.Array, label: jax.Array) -> jax.Array:
        z2, z1 = jnp.split(code, 2, axis=-1)
        return self.observation.mean(state.net.decode(z2, z1, label))

    def reconstruct(self, state: Learner[HvaeNet], batch: Batch) -> jax.Array:
        """The mean of p(x | z1, z2) at the means of the posteriors."""
        return self.decode(state, self.encode(state, batch), batch.label)

    def sample(self, state: Learner[HvaeNet], key: jax.Array, label: jax.Array, temperature: Temperature = 1.0) -> jax.Array:
        """The mean of p(x | z1, z2) at codes from the prior."""
        net = state.net
        first, second = jax.random.split(key)
        z2 = net.prior_z2().sample(first, label.shape[0], temperature)
        return self.observation.mean(net.decode(z2, net.prior_z1(z2).sample(second, temperature), label))

    def _weigh(
        self, net: HvaeNet, batch: Batch, key: jax.Array, n: int, dropout: Dropout | None = None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """log weights, distortions and rates of n codes of each image, [n, B] each."""
        first, second = jax.random.split(key)
        of_q2, of_q1, of_p2, of_p1, of_p = each(dropout, 5)
        seen = net.seen(batch.image, batch.label)
        q2 = net.posterior_z2(seen, of_q2).repeat(n)
        z2 = q2.sample(first)
        q1 = net.posterior_z1(seen, z2, of_q1)
        z1 = q1.sample(second)
        rate = q2.log_prob(z2) + q1.log_prob(z1) - net.prior_z2(of_p2).log_prob(z2) - net.prior_z1(z2, of_p1).log_prob(z1)
        distortion = self._distortion(net, z2, z1, batch, n, of_p)
        rate = rate.reshape(n, -1)
        return -distortion - rate, distortion, rate

    def _distortion(
        self, net: HvaeNet, z2: jax.Array, z1: jax.Array, batch: Batch, n: int, dropout: Dropout | None = None
    ) -> jax.Array:
        """-log p(x | z1, z2) of n codes of each image, [n, B] nats."""
        params = net.decode(z2, z1, jnp.tile(batch.label, n), dropout)
        return jax.vmap(self.observation.nll, (0, None))(params.reshape(n, -1, *params.shape[1:]), batch.image)
