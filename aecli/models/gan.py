r"""Generative adversarial network: a generator against a discriminator.

Goodfellow et al. 2014, "Generative adversarial nets" (`non_saturating`, section 3); Miyato et al. 2018, "Spectral
normalization" (`hinge`, equations 16 and 17); Gulrajani et al. 2017, "Improved training of Wasserstein GANs" (`wgan_gp`,
equation 3); `r1` is Mescheder et al. 2018, "Which training methods for GANs do actually converge?", equation 9.

Objective
---------
Generator $G$ and discriminator $D$ have an objective each, a mean over the batch of values of single images; $g = G(z, y)$
with $z \sim \mathcal{N}(0, I)$, drawn anew for each. After `discriminator_steps` steps of $D$ there is one of $G$:

| `objective` | minimized by $D$ (`loss`) | minimized by $G$ (`generator_loss`) |
|---|---|---|
| `non_saturating` | $-\log \sigma(D(x)) - \log(1 - \sigma(D(g)))$ | $-\log \sigma(D(g))$ |
| `hinge` | $\max(0, 1 - D(x)) + \max(0, 1 + D(g))$ | $-D(g)$ |
| `wgan_gp` | $D(g) - D(x) + \lambda\, (\lVert \nabla D(\tilde x) \rVert - 1)^2$ | $-D(g)$ |

`non_saturating` (Goodfellow et al. 2014, section 3) is in nats, the others are without a unit: `hinge` is Miyato et al. 2018,
equations 16 and 17, `wgan_gp` Gulrajani et al. 2017, equation 3, with $\lambda$ the `gradient_penalty` and
$\tilde x = u x + (1 - u) g$ for one even $u$ of each image. `r1` $\gamma$ adds
$\tfrac{\gamma}{2} \lVert \nabla D(x) \rVert^2$ (Mescheder et al. 2018, equation 9).

None of these says how good the images are. `loss` of `aecli eval`, and of validations, is the energy score of Gneiting &
Raftery 2007 (equation 22), $\mathbb{E} \lVert x - g \rVert - \tfrac12 \mathbb{E} \lVert g - g' \rVert$ with Euclidean norms
over pixels, in intensities.

What goes wrong
---------------
- **Mode collapse.** Draws are good and few: `recall` and `coverage` of `generation` are low while `precision` is high.
  `aecli sample RUN` shows one image many times.
- **The discriminator wins.** Its `loss` falls towards 0, that of `wgan_gp` far below 0, while `generator_loss` rises: rows of
  training, not of `aecli eval`.
  Spectral normalization, `r1` and a lower `discriminator_rate` are against it.
- **Copying.** `copying` of `generation` near 1: draws are nearer to train images than new images are; `--mode neighbours`
  shows them.
- **The label is ignored.** `draws_accuracy` of `augmentation` is that of guessing.
- **No likelihood.** There is no `nll_nats`, and the energy score, of pixels, is coarse: `frechet_distance` and `kid` are what
  tells two generators apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from aecli.core.learner import Learner, Recipe
from aecli.core.model import Batch, Model, Objection, Spec, Temperature, Values, latent_too_large, no_labels, one_hot
from aecli.nets import spectral
from aecli.nets.conv import ConvDecoder
from aecli.nets.critic import Critic


class Generator(nnx.Module):
    """[B, latent] and one-hot labels -> [B, H, W, C] in [0, 1]."""

    def __init__(self, spec: Spec, latent: int, hidden: tuple[int, ...], classes: int, *, rngs: nnx.Rngs) -> None:
        self.latent, self.classes = latent, classes
        self.decoder = ConvDecoder(spec.shape, hidden, latent + classes, rngs=rngs)

    def __call__(self, code: jax.Array, label: jax.Array) -> jax.Array:
        return nnx.sigmoid(self.decoder(jnp.concatenate([code, label], axis=-1)).astype(jnp.float32))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GanState:
    """`vectors`: the singular vectors in progress of a spectrally normalized discriminator, empty without."""

    generator: Learner[Generator]
    discriminator: Learner[Critic]
    vectors: spectral.Vectors


class GAN(Model):
    """Values in training: `loss` is the discriminator's, `generator_loss` the generator's. Neither says how good the images are,
    so in evaluation `loss` is the energy score of the generator's images at each held-out one, E|x - g| - E|g - g'| / 2 with
    Euclidean norms over pixels, least on average for the true distribution (Gneiting & Raftery 2007, equation 22).

    `hidden`: channels of the discriminator's convolutions, each halving the image, and of the generator in reverse.
    `discriminator_steps`: its steps for one of the generator; `discriminator_rate`: its learning rate over the generator's.
    """

    loss_unit: ClassVar[str] = "intensity"
    latent: PositiveInt = Field(default=64, description="numbers that an image is made of")
    hidden: tuple[PositiveInt, ...] = Field(
        default=(64, 128),
        description="channels of the discriminator's convolutions, each halving the image; of the generator in reverse",
    )
    objective: Literal["non_saturating", "hinge", "wgan_gp"] = Field(
        default="hinge", description="of generator and discriminator"
    )
    spectral_norm: bool = Field(
        default=True, description="whether the discriminator's weights are divided by their largest singular value"
    )
    r1: NonNegativeFloat = Field(default=0.0, description="weight of the squared gradient at real images")
    gradient_penalty: PositiveFloat = Field(default=10.0, description="of wgan_gp")
    discriminator_steps: PositiveInt = Field(default=1, description="steps of the discriminator for one of the generator")
    discriminator_rate: PositiveFloat = Field(default=1.0, description="learning rate of the discriminator over the generator's")
    conditional: bool = Field(default=False, description="learn p(x | label)")

    @model_validator(mode="after")
    def _settings_fit(self) -> GAN:
        if not self.hidden:
            raise ValueError("hidden needs at least one convolution, such as [64, 128]")
        if self.objective != "wgan_gp" and self.changed("gradient_penalty"):
            raise ValueError("gradient_penalty is for objective: wgan_gp; the others have r1")
        return self

    def objections(self, spec: Spec) -> Iterable[Objection]:
        yield from latent_too_large(self.latent, spec)
        if min(spec.height, spec.width) >> len(self.hidden) < 1:
            message = f"{len(self.hidden)} halvings leave nothing of {spec.height}x{spec.width} pixels"
            yield Objection("hidden", message, "fewer convolutions")
        if self.conditional:
            yield from no_labels(spec)

    def init(self, key: jax.Array, spec: Spec, recipe: Recipe) -> GanState:
        classes = spec.classes if self.conditional else 0
        first, second, third = jax.random.split(key, 3)
        generator = Generator(spec, self.latent, self.hidden, classes, rngs=nnx.Rngs(first))
        critic = Critic(spec.shape, self.hidden, classes, rngs=nnx.Rngs(second))
        # Only the generator is evaluated and sampled from, so only its weights are averaged.
        rate = recipe.optimizer.learning_rate * self.discriminator_rate
        optimizer = recipe.optimizer.model_copy(update={"learning_rate": rate, "ema": None})
        vectors = spectral.start(critic, third) if self.spectral_norm else {}
        return GanState(
            Learner.create(generator, self._generator_recipe(recipe)),
            Learner.create(critic, recipe._replace(optimizer=optimizer)),
            vectors,
        )

    def _generator_recipe(self, recipe: Recipe) -> Recipe:
        """The schedule in updates of the generator, of which there are fewer than steps: its warmup and its fall end with the
        discriminator's."""
        every = self.discriminator_steps
        warmup = -(-recipe.optimizer.warmup // every)
        optimizer = recipe.optimizer.model_copy(update={"warmup": warmup})
        return recipe._replace(optimizer=optimizer, steps=max(1, recipe.steps // every))

    def train_step(self, state: GanState, batch: Batch, key: jax.Array) -> tuple[GanState, Values]:
        first, second, third = jax.random.split(key, 3)
        label = one_hot(batch.label, state.generator.current.classes)
        made = self._make(state.generator.current, first, label)

        def of_discriminator(net: Critic) -> tuple[jax.Array, Values]:
            spectral.divide(net, state.vectors) if self.spectral_norm else None
            loss = self._discriminator_loss(net, batch.image, made, label, third)
            return loss.mean(), {"loss": loss}

        discriminator, values = state.discriminator.descend(of_discriminator)
        vectors = spectral.iterate(discriminator.current, state.vectors) if self.spectral_norm else state.vectors

        def of_generator(net: Generator) -> tuple[jax.Array, Values]:
            judge = self._judge(discriminator, vectors)
            logit = judge(self._make(net, second, label), label)
            loss = jax.nn.softplus(-logit) if self.objective == "non_saturating" else -logit
            return loss.mean(), {"generator_loss": loss}

        generator, more = jax.lax.cond(
            (discriminator.step % self.discriminator_steps) == 0,
            lambda: state.generator.descend(of_generator),
            lambda: (state.generator, of_generator(state.generator.current)[1]),
        )
        return GanState(generator, discriminator, vectors), {**values, **more}

    def evaluate(self, state: GanState, batch: Batch, key: jax.Array) -> Values:
        net = state.generator.net
        n = batch.image.shape[0]
        # Classes in turn, not those of the batch: the score is that of the whole distribution.
        label = one_hot(jnp.arange(n) % max(1, net.classes), net.classes)
        made = self._make(net, key, label).reshape(n, -1)
        near = _distances(batch.image.reshape(n, -1), made).mean(axis=1)
        spread = _distances(made, made).sum() / (n * max(1, n - 1))
        return {"loss": near - 0.5 * spread}

    def sample(self, state: GanState, key: jax.Array, label: jax.Array, temperature: Temperature = 1.0) -> jax.Array:
        net = state.generator.net
        return self._make(net, key, one_hot(label, net.classes), temperature)

    def _make(self, net: Generator, key: jax.Array, label: jax.Array, temperature: Temperature = 1.0) -> jax.Array:
        return net(temperature * jax.random.normal(key, (label.shape[0], self.latent)), label)

    def _judge(self, learner: Learner[Critic], vectors: spectral.Vectors) -> Critic:
        net = learner.current
        if self.spectral_norm:
            spectral.divide(net, vectors)
        return net

    def _discriminator_loss(self, net: Critic, real: jax.Array, made: jax.Array, label: jax.Array, key: jax.Array) -> jax.Array:
        """[B]."""
        on_real, on_made = net(real, label), net(made, label)
        if self.objective == "non_saturating":
            loss = jax.nn.softplus(-on_real) + jax.nn.softplus(on_made)
        elif self.objective == "hinge":
            loss = nnx.relu(1 - on_real) + nnx.relu(1 + on_made)
        else:
            share = jax.random.uniform(key, (real.shape[0], 1, 1, 1))
            slope = jnp.sqrt(_square_slope(net, share * real + (1 - share) * made, label) + 1e-12)
            loss = on_made - on_real + self.gradient_penalty * (slope - 1) ** 2
        if self.r1:
            loss += 0.5 * self.r1 * _square_slope(net, real, label)
        return loss


def _square_slope(net: Critic, image: jax.Array, label: jax.Array) -> jax.Array:
    """|d logit / d image|^2 of each image, [B]."""
    return (jax.grad(lambda x: net(x, label).sum())(image) ** 2).sum(axis=(1, 2, 3))


def _distances(a: jax.Array, b: jax.Array) -> jax.Array:
    """Euclidean distances of all pairs of rows, [n, D] and [m, D] -> [n, m]."""
    square = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return jnp.sqrt(jnp.maximum(square, 0.0))
