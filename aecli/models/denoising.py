r"""Denoising autoencoder: restore the clean image from a corrupted one.

Vincent et al. 2008, "Extracting and composing robust features with denoising autoencoders", section 2.3. Which corruption
decides the task: noise is denoising, a block inpainting, downsampling super-resolution, grayscale colourization, an outline the
filling in of a line drawing.

Objective
---------
A step minimizes the mean over its batch of half the squared error against the clean image, for one draw of the corruption
$c$,

$$\ell(x) = \tfrac12 \sum_{d=1}^{D} \bigl(x_d - \hat x_d\bigr)^2, \qquad \hat x = f_\theta(c(x)),$$

summed over the $D$ values of an image: in nats, $-\log$ of a Gaussian of sigma 1 without its constant. Its optimum is the
mean of the images that may have been corrupted so, $\hat x = \mathbb{E}[x \mid c(x)]$. `output: sigmoid` puts
$\sigma(4 (y - \tfrac12))$ in the place of the net's output $y$.

What goes wrong
---------------
- **Blurred means.** Where much is taken away, the mean of what may have been there is no image: `psnr_db (...)` of
  `denoising` is high and `ssim (...)` low. A model with `given` draws in place of it (`translation`).
- **Copying.** The net gives back what it is shown: `psnr_db (...)` is that of `corrupted, clipped` beside it.
- **No more than a filter.** `denoising` has beside the model the best affine restorer, of Gaussian noise the Wiener filter,
  and the filter that a corruption which stands alone is usually met with.
- **Holes that are left open.** `psnr_db (...)` counts what was never taken away: `hidden_psnr_db (...)` is of hidden pixels
  alone, beside `mean fill` where hiding is the only corruption.
- **A net for one corruption.** It is measured on that of its config; another strength is another task, and no number tells of
  it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from pydantic import Field, PositiveInt, model_validator

from aecli.core.learner import Learner
from aecli.core.model import Batch, Kind, Objection, SingleLoss, Spec, Values, latent_too_large, of_pictures
from aecli.distributions.corruptions import Corruptions, GaussianNoise, as_shown, corrupt_batch, corruption_objections
from aecli.distributions.observations import Output, image_of, mse, squared_error
from aecli.nets.pairs import PAIRS, Hidden, check_hidden, hidden_of_net
from aecli.nets.regions import region_means
from aecli.nets.unet import UNet

ACROSS = 5
"""Regions across a U-Net's lowest resolution. Of `denoising_fashion.yaml`, one seed, a linear probe of 20,000 labels reads
89.96 % of 5,000 validation images from five by five, 88.74 % from three by three."""


class Through(nnx.Module):
    """An encoder and a decoder in a row. `bounded`: whether what they make is an image, and clipped to [0, 1]."""

    def __init__(self, encoder: Any, decoder: Any, bounded: bool) -> None:
        self.encoder, self.decoder, self.bounded = encoder, decoder, bounded

    def __call__(self, image: jax.Array) -> jax.Array:
        return self.decoder(self.encoder(image))

    def innermost(self, image: jax.Array) -> jax.Array:
        """The code, [B, latent]."""
        return self.encoder(image)


class Denoising(SingleLoss):
    """Values: `loss`, half the summed squared error against the clean image, and `mse` per value of it.

    `net`: unet (`hidden`: channels at each resolution), or an mlp or conv net through a code of `latent` numbers. The
    corruption is drawn anew in every training step; in evaluation it is a function of the seed and the image's place.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("image", "vector")
    net: Literal["mlp", "conv", "unet"] = Field(default="unet", description="a unet, or an mlp or conv net through a code")
    hidden: Hidden = Field(default_factory=hidden_of_net, description="by default those of the net")
    latent: PositiveInt | None = Field(default=None, description="the code of an mlp or conv net; 64 if left out")
    output: Output = Field(default="linear", description="sigmoid: within (0, 1)")
    corruption: Corruptions = Field(
        default=(GaussianNoise(name="gaussian", sigma=0.25),), description="of what the network sees; one or a list"
    )

    @model_validator(mode="after")
    def _settings_fit(self) -> Denoising:
        if self.net != "unet":
            check_hidden(self.net, self.hidden)
        elif not self.hidden:
            raise ValueError("net: unet needs at least one resolution, such as [32, 64]")
        if self.net == "unet" and self.latent is not None:
            raise ValueError("net: unet has no code whose size can be set: leave latent out, or set net: mlp or net: conv")
        if not self.corruption:
            raise ValueError("needs a corruption, such as {name: gaussian, sigma: 0.25}")
        return self

    def objections(self, spec: Spec) -> Iterable[Objection]:
        if self.net != "mlp":
            yield from of_pictures(spec, "net", f"net: {self.net}", "set net: mlp")
        if self.latent is not None:
            yield from latent_too_large(self.latent, spec)
        if self.output == "sigmoid":
            yield from of_pictures(spec, "output", "output: sigmoid", "set output: linear")
        yield from corruption_objections(self.corruption, spec, pairs=True)

    def corrupt(self, batch: Batch, key: jax.Array) -> Batch:
        return corrupt_batch(self.corruption, batch, key)

    def build(self, spec: Spec, rngs: nnx.Rngs) -> Any:
        if self.net == "unet":
            return UNet(spec.channels, self.hidden, rngs=rngs)
        hidden, latent = self.hidden, self.latent or min(64, spec.size)
        pair = PAIRS[self.net]
        encoder = pair.encoder(spec.shape, hidden, latent, rngs=rngs)
        return Through(encoder, pair.decoder(spec.shape, hidden, latent, rngs=rngs), spec.kind == "image")

    def loss(self, net: Any, batch: Batch, key: jax.Array, step: jax.Array | None) -> Values:
        restored = image_of(net(self.corrupt(batch, key).image), self.output)
        return {"loss": squared_error(restored, batch.image), "mse": mse(restored, batch.image)}

    def encode(self, state: Learner[Any], batch: Batch) -> jax.Array:
        """The hidden layer in the middle, of the image as it is, or of its pair where the net is shown that: of an mlp or conv
        net its code, of a unet the lowest resolution in a row."""
        return self._innermost(state, batch).reshape(batch.image.shape[0], -1).astype(jnp.float32)

    def features(self, state: Learner[Any], batch: Batch) -> jax.Array:
        """The same, of a unet averaged over regions."""
        return region_means(self._innermost(state, batch), ACROSS) if self.net == "unet" else self.encode(state, batch)

    def reconstruct(self, state: Learner[Any], batch: Batch) -> jax.Array:
        """`batch` is the corrupted one."""
        restored = image_of(state.net(batch.image), self.output)
        return jnp.clip(restored, 0.0, 1.0) if self.net == "unet" or state.net.bounded else restored

    def _innermost(self, state: Learner[Any], batch: Batch) -> jax.Array:
        return state.net.innermost(as_shown(self.corruption, batch).image)
