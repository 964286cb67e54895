r"""Variational autoencoder with a Gaussian posterior: the ELBO, or the tighter bound of several samples.

Kingma & Welling 2014, "Auto-encoding variational Bayes", equation 10; `samples` from Burda et al. 2016, "Importance weighted
autoencoders", equation 8; `prior: vamp` from Tomczak & Welling 2018, "VAE with a VampPrior", equation 9; `prior: flow` from
Huang et al. 2017, "Learnable explicit density for continuous latent space and variational inference" (arXiv 1710.02248);
`conditional` from Sohn et al. 2015, "Learning structured output representation", equation 4; `beta` from Higgins et al. 2017,
"beta-VAE", equation 4; `capacity_nats` from Burgess et al. 2018, "Understanding disentangling in beta-VAE", equation 8;
`free_bits` from Kingma et al. 2016, "Improved variational inference with inverse autoregressive flow", equation 15; a shared
learned sigma from Rybkin et al. 2021, "Simple and effective VAE training with calibrated decoders", section 3.1.

Objective
---------
A step minimizes the mean over its batch of the negative evidence lower bound, for one code of each image,

$$\ell(x) = \underbrace{-\log p_\theta(x \mid z)}_{\text{distortion}} + \beta\, \underbrace{\mathrm{KL}\bigl(q_\phi(z \mid x)
\,\|\, p(z)\bigr)}_{\text{rate}}, \qquad z = \mu_\phi(x) + \sigma_\phi(x)\, \epsilon, \quad \epsilon \sim \mathcal{N}(0, I),$$

in nats, summed over the values of an image and of a code (Kingma & Welling 2014, equation 10; `beta`: Higgins et al. 2017,
equation 4). The rate is exact for `prior: standard`, $\tfrac12 \sum_j (\mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2)$; of
another prior it is $\log q_\phi(z \mid x) - \log p(z)$ at that $z$. What else it may be:

- `samples` $K > 1$: $-\log \frac1K \sum_{k} p_\theta(x, z_k) / q_\phi(z_k \mid x)$ (Burda et al. 2016, equation 8);
- `capacity_nats` $C$: distortion $+\ \beta\, \lvert \text{rate} - C \rvert$ of each image (Burgess et al. 2018, equation 8);
- `free_bits` $\lambda$: in training a dimension of a code costs $\max(\lambda, \mathrm{KL}_j)$, $\mathrm{KL}_j$ being the
  mean over the batch (Kingma et al. 2016, equation 15).

`kl_warmup`, `free_bits`, `capacity_warmup` and `samples_from` act in training alone: `loss` of `aecli eval` is without them.
With `corruption` the code is that of a corrupted image, $q_\phi(z \mid c(x))$ in place of $q_\phi(z \mid x)$, in training and
in `loss`, and $x$ stays the clean one; `nll_nats` is of clean images, by codes of clean images.

What goes wrong
---------------
- **Posterior collapse.** The code tells nothing of the image: `active_units` of `likelihood` is 0, `inactive_fraction` 1,
  `rate_nats` near 0, and `mse` that of the `mean image`. Some inactive units are common; `free_bits`, `kl_warmup` and
  `capacity_nats` are against more.
- **A cross-entropy is no likelihood.** With `likelihood: bernoulli` gray images have no `nll_nats`, and the distortion cannot
  fall below the sum of the pixels' entropies. `data.binarize` makes it one; `floor_nats` is then that sum, and `excess_nats`
  what is left above it.
- **A density below 0 nats.** `likelihood: gaussian` is a density over the reals, of intensities from 0 to 1, by which the unit
  of `nll_nats` calls it: the less images vary, the smaller the sigma (a predicted one is 1/255 or more) and the lower the
  number. It is not to be held against a likelihood of 256 levels (`bits_per_dim`).
- **Blurred images.** Pictures are means of $p(x \mid z)$: `ssim` of `reconstruction`, `precision` of `generation`.
- **Holes in the prior.** Codes of images do not fill $p(z)$: `frechet_distance` of the model's draws is above that of draws
  through a distribution fitted to the codes (`aecli eval RUN --sampler gmm`).
- **A loose estimate.** `effective_samples` near 1 says that `nll_nats` rests on single codes; more `--importance-samples`
  lower it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from aecli.core.bounds import check_samples, staged
from aecli.core.gaussian import Gaussian
from aecli.core.learner import Learner
from aecli.core.model import (
    Batch,
    Kind,
    Objection,
    SingleLoss,
    Spec,
    Temperature,
    Values,
    latent_too_large,
    no_labels,
    of_pictures,
    one_hot,
)
from aecli.core.prior import EvenMixture, Flow, Prior, StandardNormal, check_prior
from aecli.distributions.corruptions import (
    Corruptions,
    corrupt_batch,
    corruption_objections,
    give_batch,
    given_objections,
)
from aecli.distributions.discrete import Categorical, LogisticMixture
from aecli.distributions.observations import Bernoulli, Discretized, GaussianPixels, Observation, gray_only
from aecli.nets.coupling import CouplingFlow
from aecli.nets.given import GivenNet, Refinement
from aecli.nets.mixture import Mixture
from aecli.nets.pairs import FOR_VECTORS, PAIRS, Hidden, Net, check_hidden, hidden_of_net
from aecli.nets.regions import region_means, regions

SIGMA_AT_START = 0.25
"""A learned sigma starts near the spread of pixels in [0, 1]. From 1 the errors would weigh so little at first that the
posterior collapses onto the prior, in some runs for good."""

FEATURES = 16
"""Of an image that is given, at each pixel."""


class VaeNet(nnx.Module):
    """`log_sigma` is the scale of a Gaussian likelihood, where it is shared and learned; `pseudo_inputs` are the logits of the
    images whose posteriors make up a VampPrior. A label reaches the encoder as one more channel, the decoder beside the
    code. So does an image that is given, the decoder as means of its features over regions; what is decoded is then corrected
    by these features where they are."""

    def __init__(self, model: VAE, spec: Spec, *, rngs: nnx.Rngs) -> None:
        self.spec, self.classes, self.outputs = spec, spec.classes if model.conditional else 0, model.outputs
        pair, hidden = PAIRS[model.net], model.hidden
        channels = spec.channels * (2 if model.given else 1) + (1 if self.classes else 0)
        seen = (spec.height, spec.width, channels)
        self.encoder = pair.encoder(seen, hidden, 2 * model.latent, rngs=rngs)
        made = (spec.height, spec.width, spec.channels * self.outputs)
        beside = self.classes + (regions(spec.height, spec.width) * FEATURES if model.given else 0)
        self.decoder = pair.decoder(made, hidden, model.latent + beside, rngs=rngs)
        if self.classes:
            self.label_channel = nnx.Linear(self.classes, spec.height * spec.width, use_bias=False, rngs=rngs)
        if model.likelihood == "gaussian" and model.sigma == "learned":
            self.log_sigma = nnx.Param(jnp.full((), log(SIGMA_AT_START)))
        self.latent = model.latent
        start = nnx.initializers.normal(1.0)
        shape = (model.pseudo_inputs, *spec.shape)
        self.pseudo_inputs = nnx.Param(start(rngs.params(), shape) - 1.5) if model.prior == "vamp" else None
        self.mixture = Mixture(model.components, model.latent, rngs=rngs) if model.prior == "mog" else None
        self.flow = CouplingFlow(model.latent, model.couplings, rngs=rngs) if model.prior == "flow" else None
        if model.given:
            self.given = GivenNet(spec.shape, 1, FEATURES, FEATURES, rngs=rngs)
            self.refinement = Refinement(made[2], FEATURES, FEATURES, rngs=rngs)

    def posterior(self, image: jax.Array, label: jax.Array, given: jax.Array | None = None) -> Gaussian:
        """`label` [B] int32, `given` an image like the other."""
        if given is not None:
            image = jnp.concatenate([image, given], axis=-1)
        if self.classes:
            channel = self.label_channel(one_hot(label, self.classes)).reshape(image.shape[0], *self.spec[:2], 1)
            image = jnp.concatenate([image.astype(channel.dtype), channel], axis=-1)
        return Gaussian.from_output(self.encoder(image))

    def decode(self, code: jax.Array, label: jax.Array, told: jax.Array | None = None) -> jax.Array:
        """The parameters of p(x | z), [B, H, W, C, outputs]; `told` are the features [m, H, W, F] of what is given, m of which B
        is a multiple: codes come in turns through the images."""
        if self.classes:
            code = jnp.concatenate([code, one_hot(label, self.classes)], axis=-1)
        if told is not None:
            told = jnp.tile(told, (code.shape[0] // told.shape[0], 1, 1, 1))
            code = jnp.concatenate([code, region_means(nnx.gelu(told))], axis=-1)
        made = self.decoder(code)
        made = made if told is None else self.refinement(made, told)
        return made.reshape(code.shape[0], *self.spec.shape, self.outputs)

    def prior(self) -> Prior:
        if self.flow is not None:
            return Flow(self.flow, self.latent)
        if self.mixture is not None:
            return EvenMixture(Gaussian(*self.mixture()).bounded())
        if self.pseudo_inputs is not None:
            raw = self.pseudo_inputs[...]
            return EvenMixture(self.posterior(nnx.sigmoid(raw), jnp.full((len(raw),), -1)))
        return StandardNormal(self.latent)


class VAE(SingleLoss):
    """Values: `distortion_nats` = -log p(x | z) for one z ~ q(z | x), `rate_nats` = KL(q(z | x) || p(z)) (of another prior than
    `standard` by that z), and `loss` = distortion + beta rate, with beta 1 the negative ELBO; with `samples` above 1 it is the
    importance-weighted bound -log mean p(x, z) / q(z | x), in training from step `samples_from` on, and the others are means over
    the samples. With `capacity_nats`, `loss` = distortion + beta |rate - capacity| of each image, and in training the capacity
    rises from 0 over `capacity_warmup` steps. With `corruption` q is of the corrupted image.

    `kl_warmup`: steps over which the weight of the rate rises from 0 to beta. `free_bits`: nats per latent dimension below
    which, on average over a batch, its rate costs nothing. Both act in training only. `sigma`: of `likelihood: gaussian`. With
    `given` all distributions but the prior are given what these corruptions leave of x; p(z) is not.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("image", "vector")
    net: Net = Field(default="mlp", description="of the encoder, which the decoder mirrors")
    hidden: Hidden = Field(default_factory=hidden_of_net, description="by default those of the net")
    latent: PositiveInt = Field(default=20, description="numbers in a code")
    likelihood: Literal["bernoulli", "gaussian", "discretized_logistic", "categorical"] = Field(
        default="bernoulli", description="of a value of the image"
    )
    sigma: PositiveFloat | Literal["learned", "predicted"] = Field(
        default="learned", description="of likelihood: gaussian; a number, learned for all values, or predicted for each"
    )
    beta: NonNegativeFloat = Field(default=1.0, description="weight of the rate")
    samples: PositiveInt = Field(default=1, description="codes per image in the bound; above 1, IWAE")
    samples_from: NonNegativeInt = Field(default=0, description="the step from which on there are more samples than one")
    kl_warmup: NonNegativeInt = Field(default=0, description="steps")
    free_bits: NonNegativeFloat = Field(default=0.0, description="nats per latent dimension")
    capacity_nats: PositiveFloat | None = Field(default=None, description="the rate that each image is held to")
    capacity_warmup: NonNegativeInt = Field(default=0, description="steps, of capacity_nats")
    prior: Literal["standard", "vamp", "mog", "flow"] = Field(default="standard", description="of the code")
    pseudo_inputs: PositiveInt = Field(default=500, description="of prior: vamp")
    components: PositiveInt = Field(default=500, description="of prior: mog")
    couplings: PositiveInt = Field(default=4, description="of prior: flow")
    conditional: bool = Field(default=False, description="learn p(x | label)")
    corruption: Corruptions = Field(default=(), description="of what the encoder sees")
    given: Corruptions = Field(default=(), description="learn p(x | what these corruptions leave of x)")

    @model_validator(mode="after")
    def _settings_fit(self) -> VAE:
        check_hidden(self.net, self.hidden)
        if self.likelihood != "gaussian" and self.changed("sigma"):
            raise ValueError("sigma is for likelihood: gaussian")
        check_samples(self.samples, self.samples_from, self.kl_warmup)
        if self.samples > 1 and self.changed("beta", "free_bits", "capacity_nats"):
            raise ValueError(
                "samples above 1 makes one bound of rate and distortion: leave out beta, free_bits and capacity_nats"
            )
        if self.free_bits and self.prior != "standard":
            raise ValueError(f"free_bits needs a rate per latent dimension, which prior: {self.prior} has not")
        if self.given and self.prior == "vamp":
            raise ValueError("given needs a prior that no image makes up: set another prior")
        check_prior(self.prior, self.latent, self.changed)
        self._capacity_fits()
        return self

    def _capacity_fits(self) -> None:
        if self.capacity_nats is None:
            if self.capacity_warmup:
                raise ValueError("capacity_warmup needs a capacity_nats to rise to")
            return
        if self.free_bits or self.kl_warmup:
            raise ValueError("capacity_nats says at each step how large the rate is to be: leave out free_bits and kl_warmup")
        if self.prior != "standard":  # the distance of an estimate is no estimate of the distance
            raise ValueError(
                f"capacity_nats needs the exact rate of an image, and of prior: {self.prior} it is estimated by one code"
            )
        if self.beta == 0:
            raise ValueError("capacity_nats needs a beta above 0, the weight of the distance to it")

    @property
    def schedules(self) -> Sequence[str]:
        return [name for name in ("kl_warmup", "capacity_warmup", "samples_from") if getattr(self, name)]

    def objections(self, spec: Spec) -> Iterable[Objection]:
        yield from latent_too_large(self.latent, spec)
        if PAIRS[self.net].of_pictures:
            yield from of_pictures(spec, "net", f"net: {self.net}", FOR_VECTORS)
        if self.likelihood != "gaussian":
            yield from of_pictures(spec, "likelihood", f"likelihood: {self.likelihood}", "set likelihood: gaussian")
        if self.prior == "vamp":  # its pseudo-inputs are images
            yield from of_pictures(spec, "prior", "prior: vamp", "set prior: standard")
        if self.likelihood == "bernoulli":
            yield from gray_only(spec)
        if self.conditional:
            yield from no_labels(spec)
        yield from corruption_objections(self.corruption, spec)
        yield from given_objections(self.given, spec)

    @property
    def outputs(self) -> int:
        """Numbers of the decoder per dimension of the image."""
        return self._observation(None).outputs

    def corrupt(self, batch: Batch, key: jax.Array) -> Batch:
        return corrupt_batch(self.corruption, batch, key)

    def give(self, batch: Batch, key: jax.Array) -> Batch:
        return give_batch(self.given, batch, key)

    def build(self, spec: Spec, rngs: nnx.Rngs) -> VaeNet:
        return VaeNet(self, spec, rngs=rngs)

    def loss(self, net: VaeNet, batch: Batch, key: jax.Array, step: jax.Array | None) -> Values:
        key, corrupting = jax.random.split(key)
        posterior = net.posterior(self.corrupt(batch, corrupting).image, batch.label, self.given_of(batch))
        return staged(
            self.samples,
            self.samples_from,
            step,
            lambda: self._bound_of_one(net, posterior, batch, key, step),
            lambda: self._weigh(net, posterior, batch, key, self.samples),
        )

    def _bound_of_one(self, net: VaeNet, posterior: Gaussian, batch: Batch, key: jax.Array, step: jax.Array | None) -> Values:
        code = posterior.sample(key)
        distortion = self._observation(net).nll(net.decode(code, batch.label, self._told(net, batch)), batch.image)
        beta = jnp.float32(self.beta)
        if self.prior != "standard":
            rate = posterior.log_prob(code) - net.prior().log_prob(code)
            charged = rate
        else:
            kl = posterior.kl_to_standard_normal()
            rate = charged = kl.sum(axis=1)
            if step is not None and self.free_bits:
                free = kl.mean(axis=0, keepdims=True) < self.free_bits
                charged = jnp.where(free, self.free_bits, kl).sum(axis=1)
        if step is not None and self.kl_warmup:
            beta *= jnp.minimum(1.0, step / self.kl_warmup)
        if self.capacity_nats is not None:
            capacity = jnp.float32(self.capacity_nats)
            if step is not None and self.capacity_warmup:
                capacity *= jnp.minimum(1.0, step / self.capacity_warmup)
            charged = jnp.abs(rate - capacity)
        return {"loss": distortion + beta * charged, "distortion_nats": distortion, "rate_nats": rate}

    def log_weights(self, state: Learner[VaeNet], batch: Batch, key: jax.Array, n: int) -> jax.Array:
        """log p(x, z) - log q(z | x) for n codes of each image, [n, B] nats."""
        net = state.net
        return self._weigh(net, net.posterior(batch.image, batch.label, self.given_of(batch)), batch, key, n)[0]

    def support(self) -> int | None:
        return self._observation(None).support

    def posterior(self, state: Learner[VaeNet], batch: Batch) -> Gaussian:
        return state.net.posterior(batch.image, batch.label, self.given_of(batch))

    def encode(self, state: Learner[VaeNet], batch: Batch) -> jax.Array:
        return self.posterior(state, batch).mean

    def decode(self, state: Learner[VaeNet], code: jax.Array, label: jax.Array) -> jax.Array:
        """The mean of p(x | z)."""
        net = state.net
        return self._observation(net).mean(net.decode(code, label))

    def reconstruct(self, state: Learner[VaeNet], batch: Batch) -> jax.Array:
        """The mean of p(x | z) at the mean of q(z | x)."""
        return self.decode(state, self.encode(state, batch), batch.label)

    def sample(self, state: Learner[VaeNet], key: jax.Array, label: jax.Array, temperature: Temperature = 1.0) -> jax.Array:
        """The mean of p(x | z) at codes from the prior."""
        return self.decode(state, state.net.prior().sample(key, label.shape[0], temperature), label)

    def translate(self, state: Learner[VaeNet], key: jax.Array, batch: Batch, temperature: Temperature = 1.0) -> jax.Array:
        """The mean of p(x | z, given) at codes from the prior."""
        net = state.net
        code = net.prior().sample(key, batch.label.shape[0], temperature)
        return self._observation(net).mean(net.decode(code, batch.label, self._told(net, batch)))

    def _told(self, net: VaeNet, batch: Batch) -> jax.Array | None:
        """The features of the image that is given, where one is."""
        given = self.given_of(batch)
        return None if given is None else net.given(given)

    def _weigh(
        self, net: VaeNet, posterior: Gaussian, batch: Batch, key: jax.Array, n: int
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """log weights, distortions and rates of n codes of each image, [n, B] each."""
        many = posterior.repeat(n)
        code = many.sample(key)
        params = net.decode(code, jnp.tile(batch.label, n), self._told(net, batch))
        # An image is compared to all its codes in place: repeated images would take more time to copy than to compare.
        distortion = jax.vmap(self._observation(net).nll, (0, None))(params.reshape(n, -1, *params.shape[1:]), batch.image)
        rate = (many.log_prob(code) - net.prior().log_prob(code)).reshape(n, -1)
        return -distortion - rate, distortion, rate

    def _observation(self, net: VaeNet | None) -> Observation:
        """p(x | z); `net` holds the shared sigma, where it is learned."""
        if self.likelihood == "bernoulli":
            return Bernoulli()
        if self.likelihood == "categorical":
            return Discretized(Categorical(levels=256))
        if self.likelihood == "discretized_logistic":
            return Discretized(LogisticMixture(levels=256, components=1))
        bounded = net is None or net.spec.kind == "image"
        if self.sigma == "predicted":
            return GaussianPixels(None, bounded)
        if self.sigma == "learned":
            return GaussianPixels(jnp.float32(0) if net is None else net.log_sigma[...].astype(jnp.float32), bounded)
        return GaussianPixels(jnp.float32(log(self.sigma)), bounded)
