r"""Autoregressive model: the exact likelihood of discretized images, one value at a time.

log p(x) = sum over d of log p(x_d | x_1 ... x_{d-1}) (van den Oord et al. 2016, "Pixel recurrent neural networks", equation 1),
in raster order, the channels of a pixel in theirs; with `patch` p the image is first cut into p x p squares, in raster order,
and the values of a square follow each other.

Objective
---------
A step minimizes the mean over its batch of the negative log-likelihood of the image in `levels` levels,

$$\ell(x) = -\log p_\theta(x) = -\sum_{d=1}^{D} \log p_\theta(x_d \mid x_1, \ldots, x_{d-1}),$$

in nats, summed over its $D$ values (van den Oord et al. 2016, equation 1). It is exact; `bits_per_dim` is
$\ell(x) / (D \log 2)$. A conditional distribution has one probability a level (`categorical`), or is a mixture of
`components` discretized logistics. Binary images that are drawn from intensities (`data.binarize`) are trained on by the
expectation over the draw of each pixel, unless something is `given`. In training `hybrid` $\lambda$ adds, with one other
label $y'$ that is drawn evenly,

$$-\lambda \log \frac{p_\theta(x \mid y)}{p_\theta(x \mid y) + p_\theta(x \mid y')}.$$

What goes wrong
---------------
- **It learns images by heart.** `loss` of held-out images rises while that of training falls; `dropout` and `train.patience`
  are against it. `copying` of `generation` says whether draws are train images.
- **Numbers of other levels.** A likelihood of 16 levels is of other images than one of 256, and that of gray images in two
  levels of thresholded ones. `levels` stands in the protocol, and `compare` refuses to mix them.
- **Likely images, poor draws.** What is drawn is the input of all that follows, and mistakes add up: `nll_nats` is good,
  `precision` and `frechet_distance` of `generation` are not.
- **The label is ignored.** `bayes_accuracy` of `classification` is that of the `commonest class`; `hybrid` is against it, at
  the price of a likelihood that is no longer the greatest (`nll_given_label_nats`).
- **What is given is ignored**, or allows one image alone: `given_mse` of `translation` far above `given_mse_floor`, or
  `diversity` near 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import log
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from aecli.core.learner import Learner
from aecli.core.model import Batch, Objection, SingleLoss, Spec, Temperature, Values, no_labels, not_tiled, one_hot
from aecli.distributions.corruptions import Corruptions, give_batch, given_objections
from aecli.distributions.discrete import Categorical, Discrete, LogisticMixture, dequantize, invert_cdf, quantize
from aecli.distributions.softplus import softplus
from aecli.nets.causal import Causal, Layout, ancestral
from aecli.nets.dropout import Dropout, in_training
from aecli.nets.given import GivenNet
from aecli.nets.gmlp import Gmlp
from aecli.nets.made import Made
from aecli.nets.patches import cut, join
from aecli.nets.pixelcnn import PixelCnn
from aecli.nets.regions import region_means
from aecli.nets.transformer import Transformer

MOST_SITES = 4096
"""The most sites of a net that relates every one to every other."""
AT_ONCE = 2**17
"""Numbers in a layer, of all sites of all images that a CPU trains on at once: with their neighbours they fit the caches."""


class Autoregressive(SingleLoss):
    """Values: `loss`, -log p(x) in nats, and `bits_per_dim`, the same in bits per channel of a pixel. With `hybrid` the loss of
    training also has that many times `confusion_nats`, -log of the label's probability beside another one. With `given` all of
    them are of p(x | c(x)): the image c(x) that is given is told to every site, and the chain over the values of x stays exact.

    `levels` divides 256: 2 for binary images, 256 for 8 bit. `hidden` are the layers of a made; `width`, `layers` and `patch`
    (sites of patch x patch pixels) shape the other nets, `heads` a gmlp (sums over earlier sites per layer) or a transformer.
    """

    net: Literal["made", "pixelcnn", "gmlp", "transformer"] = Field(default="pixelcnn", description="the causal network")
    levels: PositiveInt = Field(
        default=256, description="values of a channel, a divisor of 256: 2 for binary images, 256 for 8 bit"
    )
    likelihood: Literal["categorical", "discretized_logistic"] = Field(
        default="categorical", description="of a value: one probability per level, or a mixture of discretized logistics"
    )
    components: PositiveInt = Field(default=5, description="of a discretized_logistic mixture")
    hidden: tuple[PositiveInt, ...] = Field(default=(512, 512), description="layer widths of a made")
    width: PositiveInt = Field(default=32, description="features per site of the other nets")
    layers: PositiveInt = Field(default=4, description="of the other nets")
    heads: PositiveInt = Field(default=4, description="sums over earlier sites per layer, of a gmlp or a transformer")
    patch: PositiveInt = Field(default=1, description="pixels of a site's side")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share of each layer's output that a step of training drops")
    conditional: bool = Field(default=False, description="learn p(x | label)")
    hybrid: NonNegativeFloat = Field(
        default=0.0,
        description="weight of telling the label from another of all classes in training, which is no longer maximum likelihood",
    )
    given: Corruptions = Field(default=(), description="learn p(x | what these corruptions leave of x)")

    @model_validator(mode="after")
    def _settings_fit(self) -> Autoregressive:
        if self.levels < 2 or 256 % self.levels:
            raise ValueError(f"levels: {self.levels} does not divide 256: set 2, 4, 8, 16, 32, 64, 128 or 256")
        if self.net == "made" and self.changed("width", "layers", "heads"):
            raise ValueError("width, layers and heads are for net: pixelcnn, gmlp and transformer; made has hidden")
        if self.net == "pixelcnn" and self.changed("heads"):
            raise ValueError("heads is for net: gmlp and transformer")
        if self.net != "made" and self.changed("hidden"):
            raise ValueError(f"hidden is for net: made; {self.net} has width and layers")
        if self.likelihood == "categorical" and self.changed("components"):
            raise ValueError("components is for likelihood: discretized_logistic")
        if self.net == "made" and not self.hidden:
            raise ValueError("net: made needs at least one hidden layer, such as [512]")
        if self.net == "made" and self.patch != 1:
            raise ValueError("patch is for net: pixelcnn, gmlp and transformer")
        if self.net == "made" and self.given:
            raise ValueError("given is for net: pixelcnn, gmlp and transformer")
        if self.hybrid and not self.conditional:
            raise ValueError("hybrid tells labels apart by p(x | label): set conditional: true")
        if self.hybrid and self.given:
            raise ValueError("hybrid takes labels for equally likely, which a given image tells of: leave out hybrid or given")
        if self.net in ("gmlp", "transformer") and self.width % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide width: {self.width}")
        return self

    def objections(self, spec: Spec) -> Iterable[Objection]:
        untiled = list(not_tiled(self.patch, spec))
        yield from untiled
        if not untiled and self.net in ("gmlp", "transformer") and self._layout(spec).sites > MOST_SITES:
            message = f"{self._layout(spec).sites} sites are too many for net: {self.net}, which needs their square"
            yield Objection("patch", message, "set a larger patch, or net: pixelcnn")
        if self.conditional:
            yield from no_labels(spec)
        if self.hybrid and spec.classes == 1:
            yield Objection("hybrid", "the data has one class, and no other to tell it from", "leave hybrid out")
        yield from given_objections(self.given, spec)

    def give(self, batch: Batch, key: jax.Array) -> Batch:
        return give_batch(self.given, batch, key)

    def at_once(self, shape: tuple[int, int, int]) -> int | None:
        if self.net == "made":
            return None
        return max(1, AT_ONCE // (self._layout(Spec(*shape, classes=0)).sites * self.width))

    def build(self, spec: Spec, rngs: nnx.Rngs) -> Any:
        layout = self._layout(spec)
        if self.net == "made":
            return Made(layout, self.hidden, rngs=rngs)
        if self.net == "pixelcnn":
            net: Any = PixelCnn(layout, self.width, self.layers, rngs=rngs)
        else:
            sites = Gmlp if self.net == "gmlp" else Transformer
            net = sites(layout, self.width, self.layers, self.heads, rngs=rngs)
        if self.given:
            # Half as wide as the sites: convolutions cost many times what a layer of sums does.
            net.given = GivenNet(spec.shape, self.patch, max(1, self.width // 2), self.width, rngs=rngs)
        return net

    def loss(self, net: Causal, batch: Batch, key: jax.Array, step: jax.Array | None) -> Values:
        key, dropout = in_training(self.dropout, key, step)
        nll = self._nll(net, batch, dropout)
        bits = nll / (batch.image[0].size * log(2))
        if step is None or not self.hybrid:
            return {"loss": nll, "bits_per_dim": bits}
        confusion = self._confusion(net, batch, nll, key, dropout)
        return {"loss": nll + self.hybrid * confusion, "bits_per_dim": bits, "confusion_nats": confusion}

    def _confusion(self, net: Any, batch: Batch, nll: jax.Array, key: jax.Array, dropout: Dropout | None) -> jax.Array:
        """-log of p(x | y) / (p(x | y) + p(x | y')), the probability of the label beside one other that is drawn evenly. With all
        classes in the place of the other it is the term log p(y | x) of a hybrid of both kinds of training (McCallum et al. 2006,
        "Multi-conditional learning"), at a pass a class instead of one more. 0 of images without a label. `dropout` is that
        of `nll`: both are of one thinned network."""
        classes = net.layout.classes
        other = (batch.label + jax.random.randint(key, batch.label.shape, 1, classes)) % classes
        against = self._nll(net, batch._replace(label=other), dropout)
        return jnp.where(batch.label >= 0, softplus(nll - against), 0.0)

    def _nll(self, net: Causal, batch: Batch, dropout: Dropout | None = None) -> jax.Array:
        """-log p(x | label) in nats, [B]."""
        return self._each_nll(net, batch, dropout).sum(axis=(1, 2, 3))

    def _each_nll(self, net: Causal, batch: Batch, dropout: Dropout | None = None) -> jax.Array:
        """Of every value given those before it, [B, h, w, S]."""
        value = cut(quantize(batch.image, self.levels), self.patch)
        params = net(self._inputs(value), self._label(net, batch.label), *self._told(net, batch), dropout=dropout)
        target = value
        if self.levels == 2 and batch.intensity is not None and not self.given:
            # Given the image that it was drawn from, a pixel does not depend on those before it, so its own draw may be averaged
            # over: the same objective in expectation, without the noise of the draw in its gradient. What is made of the drawn
            # image and given tells of the draw.
            target = cut(batch.intensity, self.patch)
        return -self._family.log_prob(params, target)

    def log_prob(self, state: Learner[Any], batch: Batch) -> jax.Array:
        return -self._nll(state.net, batch)

    def rest_log_prob(self, state: Learner[Any], batch: Batch, known: jax.Array) -> jax.Array:
        return -jnp.where(cut(known, self.patch), 0.0, self._each_nll(state.net, batch)).sum(axis=(1, 2, 3))

    def rows_at_once(self) -> int:
        return self.patch

    def support(self) -> int | None:
        return self.levels

    def encode(self, state: Learner[Any], batch: Batch) -> jax.Array:
        """The last hidden layer, averaged over the sites."""
        return self._at_sites(state.net, batch).mean(axis=(1, 2)).astype(jnp.float32)

    def features(self, state: Learner[Any], batch: Batch) -> jax.Array:
        """The last hidden layer, averaged over regions."""
        return region_means(self._at_sites(state.net, batch))

    def sample(self, state: Learner[Any], key: jax.Array, label: jax.Array, temperature: Temperature = 1.0) -> jax.Array:
        """Ancestral sampling. A `temperature` below 1 sharpens each conditional distribution."""
        return self._ancestral(state, key, label, self._cached, temperature)

    def translate(self, state: Learner[Any], key: jax.Array, batch: Batch, temperature: Temperature = 1.0) -> jax.Array:
        """Ancestral sampling, all of the given image known from the first value on."""
        return self._ancestral(state, key, batch.label, self._cached, temperature, self._told(state.net, batch))

    def translate_naive(self, state: Learner[Any], key: jax.Array, batch: Batch, temperature: Temperature = 1.0) -> jax.Array:
        """The same images by a whole pass for every value."""
        return self._ancestral(state, key, batch.label, self._naive, temperature, self._told(state.net, batch))

    def sample_naive(self, state: Learner[Any], key: jax.Array, label: jax.Array, temperature: Temperature = 1.0) -> jax.Array:
        """The same images by a whole pass for every value: what `sample` is checked against and measured by."""
        return self._ancestral(state, key, label, self._naive, temperature)

    def complete(
        self, state: Learner[Any], key: jax.Array, batch: Batch, known: jax.Array, temperature: Temperature = 1.0
    ) -> jax.Array:
        """Samples the values where `known` [B, H, W, C] is False given those before them in the order; known values stay as
        they are. That is a draw from p(unknown | known) where no known value comes after an unknown one; later ones are kept
        and not conditioned on."""
        values = quantize(batch.image, self.levels)
        drawn = self._ancestral(state, key, batch.label, self._cached, temperature, (), values, known)
        return jnp.where(known, batch.image, drawn)

    def _at_sites(self, net: Any, batch: Batch) -> jax.Array:
        """The last hidden layer, [B, h, w, C]."""
        value = cut(quantize(batch.image, self.levels), self.patch)
        return net.features(self._inputs(value), self._label(net, batch.label), *self._told(net, batch))

    def _told(self, net: Any, batch: Batch) -> tuple[jax.Array, ...]:
        """What every site knows of the image that is given, [B, h, w, width], if the model is given one."""
        given = self.given_of(batch)
        return () if given is None else (net.given(given),)

    @property
    def _family(self) -> Discrete:
        if self.likelihood == "categorical":
            return Categorical(levels=self.levels)
        return LogisticMixture(levels=self.levels, components=self.components)

    def _layout(self, spec: Spec) -> Layout:
        values, p = spec.channels * self.patch**2, self.patch
        classes = spec.classes if self.conditional else 0
        return Layout(spec.height // p, spec.width // p, values, self._per_value, self._family.outputs, classes)

    @property
    def _per_value(self) -> int:
        return 1 if self.levels == 2 else 2

    def _label(self, net: Any, label: jax.Array) -> jax.Array:
        return one_hot(label, net.layout.classes)

    def _inputs(self, value: jax.Array) -> jax.Array:
        """[B, h, w, S] -> [B, h, w, S * inputs]: the value in [-1, 1] and, above binary, whether it is 0, the background of many
        an image, which no smooth function of the value tells."""
        x = 2.0 * dequantize(value, self.levels) - 1.0
        if self._per_value == 1:
            return x
        return jnp.stack([x, (value == 0).astype(x.dtype)], axis=-1).reshape(*value.shape[:-1], -1)

    def _ancestral(
        self,
        state: Learner[Any],
        key: jax.Array,
        label: jax.Array,
        start: Callable[..., tuple[Any, Any]],
        temperature: Temperature,
        told: tuple[jax.Array, ...] = (),
        values: jax.Array | None = None,
        known: jax.Array | None = None,
    ) -> jax.Array:
        """Draws the values one after another. One uniform number decides each, whatever computes its distribution."""
        net: Any = state.net
        layout: Layout = net.layout
        shape = (label.shape[0], layout.rows, layout.columns, layout.values)
        flat = (label.shape[0], layout.sites * layout.values)
        uniform = jax.random.uniform(key, flat)
        fixed = None
        if values is not None and known is not None:
            fixed = cut(values, self.patch).reshape(flat), cut(known, self.patch).reshape(flat)

        def choose(params: jax.Array, uniform: jax.Array) -> jax.Array:
            return invert_cdf(jax.nn.log_softmax(self._family.log_probs(params) / temperature, axis=-1), uniform)

        def describe(value: jax.Array) -> jax.Array:
            return self._inputs(value.reshape(shape))

        value = ancestral(start(net, self._label(net, label), *told), uniform, describe, choose, fixed)
        return join(dequantize(value, self.levels).reshape(shape), self.patch)

    def _cached(self, net: Causal, label: jax.Array, *told: jax.Array) -> tuple[Any, Any]:
        return net.begin(label), lambda cache, x, position: net.step(cache, x, label, position, *told)

    def _naive(self, net: Causal, label: jax.Array, *told: jax.Array) -> tuple[Any, Any]:
        def step(cache: tuple[()], x: jax.Array, position: jax.Array) -> tuple[jax.Array, tuple[()]]:
            params = net(x, label, *told)
            return params.reshape(params.shape[0], -1, params.shape[-1])[:, position], cache

        return (), step
