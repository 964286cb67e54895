r"""Vector-quantized autoencoder: a grid of codes from a finite set, and an autoregressive prior over them.

van den Oord et al. 2017, "Neural discrete representation learning" (VQ-VAE), equations 2 and 3, with the running averages of
its appendix A.1 for the codebook; `quantizer: fsq` is Mentzer et al. 2024, "Finite scalar quantization". The prior, a gated
PixelCNN, is trained at the same time on codes that it cannot change.

Objective
---------
With the encoder's output $h_s$ at each site $s$ and its code $k_s$, that of the nearest entry $e_{k_s}$ (van den Oord et al.
2017, equation 2), a step minimizes the mean over its batch of

$$\ell(x) = \tfrac12 \sum_{d=1}^{D} (x_d - \hat x_d)^2 + c\, \tfrac12 \sum_s \lVert h_s - \mathrm{sg}(e_{k_s}) \rVert^2 -
\sum_s \log p_\psi(k_s \mid k_{<s}),$$

of which the first two are the first and the last term of its equation 3, squares halved so that they are in nats but for the
constant of a Gaussian of sigma 1, and the last is the prior's rate, `rate_nats`. $\mathrm{sg}$ stops gradients, $c$ is
`commitment`. The decoder is given $e_{k_s}$, whose gradient goes to $h_s$ as it is; entries follow the running means of their
$h_s$ (appendix A.1) in the place of the second term. The rate teaches the prior alone, which does not change codes.
`quantizer: fsq` rounds $h_s$ and has no commitment.

What goes wrong
---------------
- **Codebook collapse.** Few codes are in use: `code_usage` and `code_perplexity` of `codebook`, over the whole split. Codes
  that were not used for `restart_after` steps begin anew at an output of the encoder.
- **The encoder runs away from its entries.** Commitment is what `loss` holds beside the squared error and `rate_nats`; where
  it grows, raise `commitment`.
- **A prior that lags behind.** Reconstructions are good and draws are not: `mse` of `reconstruction` is low,
  `frechet_distance` of `generation` far above that of `train images`.
- **`loss` of two quantizers.** A codebook of more entries has a greater rate and a smaller error: neither number alone ranks
  them.
- **Blurred images.** The squared error is least at a mean: `psnr_db` is high and `ssim` low.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from math import prod
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from aecli.core.learner import Learner, Recipe
from aecli.core.model import Batch, Model, Objection, Spec, Temperature, Values, no_labels, one_hot
from aecli.distributions.discrete import invert_cdf
from aecli.distributions.observations import mse, squared_error
from aecli.nets.causal import Layout, ancestral
from aecli.nets.conv import bottom
from aecli.nets.grid import GridDecoder, GridEncoder
from aecli.nets.pixelcnn import PixelCnn
from aecli.nets.quantizers import Codebook, Scalars

LARGEST_CODEBOOK = 2**16


class VqNet(nnx.Module):
    def __init__(self, model: VQ, spec: Spec, *, rngs: nnx.Rngs) -> None:
        size, classes = model.size, spec.classes if model.conditional else 0
        layout = Layout(*bottom(spec.shape, len(model.hidden)), 1, size, model.code_count(), classes)
        self.layout = layout
        self.encoder = GridEncoder(spec.channels, model.hidden, size, rngs=rngs)
        self.decoder = GridDecoder(spec.shape, model.hidden, size, rngs=rngs)
        self.prior = PixelCnn(layout, model.prior_width, model.prior_layers, rngs=rngs)


class Quantized(NamedTuple):
    """`code` [B, h, w] int32; `vector` [B, h, w, D] with the encoder's gradient; `commitment` [B], half the summed squared
    distance of the encoder's output from it."""

    code: jax.Array
    vector: jax.Array
    commitment: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class VqState:
    """`codebook` is None for fsq."""

    learner: Learner[VqNet]
    codebook: Codebook | None


class VQ(Model):
    """Values: `loss` = half the summed squared error + commitment + `rate_nats`, the prior's -log p(codes); `mse` per value of
    the image. The rate's gradient reaches the prior alone.

    `hidden`: channels of convolutions that halve the image, so that a code stands for a square of 2^n pixels. `codes` and
    `dimension` are of `quantizer: vq`, whose codes are restarted after `restart_after` unused steps; `levels` are of fsq.
    """

    hidden: tuple[PositiveInt, ...] = Field(default=(32, 64), description="channels of convolutions, each halving the image")
    quantizer: Literal["vq", "fsq"] = Field(
        default="vq", description="a learned codebook (vq), or rounding to fixed levels (fsq)"
    )
    codes: int = Field(default=256, ge=2, le=LARGEST_CODEBOOK, description="entries of the codebook, of quantizer: vq")
    dimension: PositiveInt = Field(default=16, description="numbers in an entry, of quantizer: vq")
    levels: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        default=(8, 6, 5), description="of each number of a code, of quantizer: fsq"
    )
    commitment: NonNegativeFloat = Field(
        default=0.25, description="weight of the distance of the encoder's output from its entry"
    )
    decay: float = Field(default=0.99, ge=0, lt=1, description="of the codebook's running averages")
    restart_after: PositiveInt = Field(default=100, description="steps")
    prior_width: PositiveInt = Field(default=64, description="features per site of the prior over codes")
    prior_layers: NonNegativeInt = Field(default=4, description="of the prior over codes")
    conditional: bool = Field(default=False, description="a prior given the label")

    @model_validator(mode="after")
    def _settings_fit(self) -> VQ:
        if not self.hidden:
            raise ValueError("hidden needs at least one convolution, such as [32, 64]")
        if self.quantizer == "fsq" and not 2 <= prod(self.levels) <= LARGEST_CODEBOOK:
            raise ValueError(f"levels: their product is {prod(self.levels)} codes; 2 to {LARGEST_CODEBOOK} can be predicted")
        if self.quantizer == "vq" and self.changed("levels"):
            raise ValueError("levels is for quantizer: fsq; vq has codes and dimension")
        if self.quantizer == "fsq" and self.changed("codes", "dimension"):
            raise ValueError("codes and dimension are for quantizer: vq; fsq has levels")
        if self.quantizer == "fsq" and self.changed("commitment", "decay", "restart_after"):
            raise ValueError("commitment, decay and restart_after are for quantizer: vq; fsq has no codebook")
        return self

    def objections(self, spec: Spec) -> Iterable[Objection]:
        height, width = bottom(spec.shape, len(self.hidden))
        if height * width < 2:
            message = f"{len(self.hidden)} halvings leave one code of {spec.height}x{spec.width} pixels"
            yield Objection("hidden", message, "fewer convolutions")
        if self.conditional:
            yield from no_labels(spec)

    @property
    def size(self) -> int:
        """Numbers in a code's vector."""
        return self.dimension if self.quantizer == "vq" else len(self.levels)

    def code_count(self) -> int:
        return self.codes if self.quantizer == "vq" else prod(self.levels)

    def init(self, key: jax.Array, spec: Spec, recipe: Recipe) -> VqState:
        first, second = jax.random.split(key)
        learner = Learner.create(VqNet(self, spec, rngs=nnx.Rngs(first)), recipe)
        if self.quantizer == "fsq":
            return VqState(learner, None)
        # All codes count as dead, so that the first batch gives them their vectors.
        return VqState(learner, Codebook.start(second, self.codes, self.dimension, self.restart_after))

    def train_step(self, state: VqState, batch: Batch, key: jax.Array) -> tuple[VqState, Values]:
        old = state.codebook

        def objective(net: VqNet) -> tuple[jax.Array, tuple[Values, Codebook | None]]:
            output = net.encoder(batch.image).astype(jnp.float32)
            fixed = jax.lax.stop_gradient(output).reshape(-1, output.shape[-1])
            book = None if old is None else old.restart(fixed, key, self.restart_after)
            quantized = self._quantize(output, book)
            if book is not None:
                book = book.follow(fixed, quantized.code.reshape(-1), self.decay)
            values = self._values(net, quantized, batch)
            return values["loss"].mean(), (values, book)

        learner, (values, codebook) = state.learner.descend(objective)
        return VqState(learner, codebook), values

    def evaluate(self, state: VqState, batch: Batch, key: jax.Array) -> Values:
        net = state.learner.net
        return self._values(net, self._quantize(net.encoder(batch.image), state.codebook), batch)

    def codes_of(self, state: VqState, batch: Batch) -> jax.Array:
        code = self._quantize(state.learner.net.encoder(batch.image), state.codebook).code
        return code.reshape(code.shape[0], -1)

    def encode(self, state: VqState, batch: Batch) -> jax.Array:
        """The quantized vectors of the grid in a row."""
        vector = self._quantize(state.learner.net.encoder(batch.image), state.codebook).vector
        return vector.reshape(vector.shape[0], -1)

    def decode(self, state: VqState, code: jax.Array, label: jax.Array) -> jax.Array:
        net = state.learner.net
        grid = code.reshape(code.shape[0], net.layout.rows, net.layout.columns, -1)
        dtype = net.decoder.input.kernel[...].dtype
        return jnp.clip(net.decoder(grid.astype(dtype)).astype(jnp.float32), 0.0, 1.0)

    def reconstruct(self, state: VqState, batch: Batch) -> jax.Array:
        return self.decode(state, self.encode(state, batch), batch.label)

    def sample(self, state: VqState, key: jax.Array, label: jax.Array, temperature: Temperature = 1.0) -> jax.Array:
        """Codes from the prior, decoded."""
        net = state.learner.net
        layout, given = net.layout, one_hot(label, net.layout.classes)
        uniform = jax.random.uniform(key, (label.shape[0], layout.sites))

        def describe(value: jax.Array) -> jax.Array:
            return self._vectors(value, state.codebook).reshape(label.shape[0], layout.rows, layout.columns, -1)

        def step(cache: Any, x: jax.Array, position: jax.Array) -> tuple[jax.Array, Any]:
            return net.prior.step(cache, x, given, position)

        def choose(params: jax.Array, uniform: jax.Array) -> jax.Array:
            return invert_cdf(jax.nn.log_softmax(params.astype(jnp.float32) / temperature), uniform)

        index = ancestral((net.prior.begin(given), step), uniform, describe, choose)
        return self.decode(state, self._vectors(index, state.codebook).reshape(label.shape[0], -1), label)

    def _quantize(self, output: jax.Array, codebook: Codebook | None) -> Quantized:
        output = output.astype(jnp.float32)
        if codebook is None:
            scalars = Scalars(self.levels)
            return Quantized(scalars.number(output), scalars.round(output), jnp.zeros(output.shape[0]))
        index = codebook.nearest(output)
        chosen = codebook.vectors[index]
        commitment = squared_error(output, jax.lax.stop_gradient(chosen))
        return Quantized(index, output + jax.lax.stop_gradient(chosen - output), commitment)

    def _vectors(self, index: jax.Array, codebook: Codebook | None) -> jax.Array:
        """int32 [...] -> [..., D]."""
        return Scalars(self.levels).vector(index) if codebook is None else codebook.vectors[index]

    def _values(self, net: VqNet, quantized: Quantized, batch: Batch) -> Values:
        dtype = net.decoder.input.kernel[...].dtype
        output = net.decoder(quantized.vector.astype(dtype))
        label = one_hot(batch.label, net.layout.classes)
        logits = net.prior(jax.lax.stop_gradient(quantized.vector), label)[:, :, :, 0].astype(jnp.float32)
        rate = -jnp.where(
            jax.nn.one_hot(quantized.code, logits.shape[-1], dtype=bool), jax.nn.log_softmax(logits, axis=-1), 0.0
        ).sum(axis=(1, 2, 3))
        loss = squared_error(output, batch.image) + self.commitment * quantized.commitment + rate
        return {"loss": loss, "mse": mse(output, batch.image), "rate_nats": rate}
