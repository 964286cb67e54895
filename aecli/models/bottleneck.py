r"""Bottleneck autoencoder: reconstruct the image from a short code.

Hinton & Salakhutdinov 2006, "Reducing the dimensionality of data with neural networks". With `net: linear` and
`likelihood: mse` the optimum is PCA (Baldi & Hornik 1989, "Neural networks and principal component analysis").

Objective
---------
A step minimizes the mean over its batch, `loss` of `aecli eval` is the mean over the split, of

$$\ell(x) = \tfrac12 \sum_{d=1}^{D} (x_d - \hat x_d)^2, \qquad \hat x = g_\theta(f_\phi(c(x))),$$

summed over the $D$ values of an image: in nats, $-\log$ of a Gaussian of sigma 1 without its constant. $c$ is the
`corruption`, by default none, and the target is always the clean $x$. `output: sigmoid` puts
$\hat x = \sigma(4 (y - \tfrac12))$ in the place of the decoder's output $y$. With `likelihood: bernoulli` it is the
cross-entropy of the decoder's logits $y$,

$$\ell(x) = \sum_{d=1}^{D} \bigl[\log(1 + e^{y_d}) - x_d\, y_d\bigr], \qquad \hat x_d = \sigma(y_d).$$

What goes wrong
---------------
- **It falls short of PCA.** A linear net that is trained to its optimum makes what PCA makes of as many numbers: `pca_gap` is
  then 0 and `principal_angle_deg` small. Of any net `reconstruction` has the `mse` of `PCA` beside the model's: one that
  is above it is worth less than a linear map.
- **Blurred images.** The squared error is least at the mean of what an image may have been: `psnr_db` is high and `ssim` low.
- **A cross-entropy is no likelihood.** Of gray images its least value is the sum of the entropies $H(x_d)$, not 0, so that
  `loss` of `likelihood: bernoulli` cannot be held against that of `mse`; `mse` can, of both.
- **Codes have no distribution.** Nothing says where codes lie, so draws need one that is fitted to them:
  `aecli eval RUN --sampler gmm`, whose `generation` tells by `frechet_distance` and `recall` what that is worth.
- **Codes that say little of the classes.** `representation` holds `linear_probe_accuracy` of codes beside that of raw pixels
  and of PCA of the same size.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from pydantic import Field, PositiveInt, model_validator

from aecli.core.learner import Learner
from aecli.core.model import Batch, Kind, Objection, SingleLoss, Spec, Values, of_pictures
from aecli.distributions.corruptions import Corruptions, corrupt_batch, corruption_objections
from aecli.distributions.observations import Output, bernoulli_nll, image_of, mse, squared_error
from aecli.nets.pairs import FOR_VECTORS, PAIRS, Hidden, Net, check_hidden, hidden_of_net


class Autoencoder(nnx.Module):
    def __init__(self, spec: Spec, net: Net, hidden: tuple[int, ...], latent: int, *, rngs: nnx.Rngs) -> None:
        self.encoder = PAIRS[net].encoder(spec.shape, hidden, latent, rngs=rngs)
        self.decoder = PAIRS[net].decoder(spec.shape, hidden, latent, rngs=rngs)


class Bottleneck(SingleLoss):
    """`hidden`: layer widths of an mlp, channels of a conv net; the decoder mirrors the encoder.

    `likelihood: mse` minimizes half the summed squared error, `bernoulli` the binary cross-entropy, both in nats. The image is
    the decoder's output, or of `output: sigmoid` (and always of `bernoulli`) within (0, 1).
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("image", "vector")
    net: Net = Field(default="mlp", description="of the encoder, which the decoder mirrors")
    hidden: Hidden = Field(default_factory=hidden_of_net, description="by default those of the net")
    latent: PositiveInt = Field(default=16, description="numbers in a code")
    likelihood: Literal["mse", "bernoulli"] = Field(
        default="mse", description="half the summed squared error, or the binary cross-entropy, in nats"
    )
    output: Output = Field(default="linear", description="of likelihood: mse")
    corruption: Corruptions = Field(default=(), description="of what the encoder sees")

    @model_validator(mode="after")
    def _hidden_fits_net(self) -> Bottleneck:
        check_hidden(self.net, self.hidden)
        if self.likelihood != "mse" and self.changed("output"):
            raise ValueError("output is for likelihood: mse; that of bernoulli is a sigmoid")
        return self

    def objections(self, spec: Spec) -> Iterable[Objection]:
        if self.latent > spec.size:
            what = f"a code of {self.latent} is no bottleneck for {spec.kind}s of {spec.size} values"
            yield Objection("latent", what, f"at most {spec.size}")
        if PAIRS[self.net].of_pictures:
            yield from of_pictures(spec, "net", f"net: {self.net}", FOR_VECTORS)
        if self.likelihood == "bernoulli":
            yield from of_pictures(spec, "likelihood", "likelihood: bernoulli", "set likelihood: mse")
        if self.output == "sigmoid":
            yield from of_pictures(spec, "output", "output: sigmoid", "set output: linear")
        yield from corruption_objections(self.corruption, spec)

    def corrupt(self, batch: Batch, key: jax.Array) -> Batch:
        return corrupt_batch(self.corruption, batch, key)

    def build(self, spec: Spec, rngs: nnx.Rngs) -> Autoencoder:
        return Autoencoder(spec, self.net, self.hidden, self.latent, rngs=rngs)

    def loss(self, net: Autoencoder, batch: Batch, key: jax.Array, step: jax.Array | None) -> Values:
        output = net.decoder(net.encoder(self.corrupt(batch, key).image))
        image = self._image(output)
        loss = squared_error(image, batch.image) if self.likelihood == "mse" else bernoulli_nll(output, batch.image)
        return {"loss": loss, "mse": mse(image, batch.image)}

    def encode(self, state: Learner[Autoencoder], batch: Batch) -> jax.Array:
        return state.net.encoder(batch.image).astype(jnp.float32)

    def decode(self, state: Learner[Autoencoder], code: jax.Array, label: jax.Array) -> jax.Array:
        return self._image(state.net.decoder(code))

    def reconstruct(self, state: Learner[Autoencoder], batch: Batch) -> jax.Array:
        return self.decode(state, self.encode(state, batch), batch.label)

    def _image(self, output: jax.Array) -> jax.Array:
        return image_of(output, self.output) if self.likelihood == "mse" else nnx.sigmoid(output.astype(jnp.float32))
