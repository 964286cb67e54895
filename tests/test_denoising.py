"""What a denoising autoencoder knows of an image: the hidden layer in its middle."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit import dataset, started
from flax import nnx

from aecli.core import jitted
from aecli.core.model import Batch
from aecli.nets.patches import join

NETS = {
    "unet": ("hidden: [4, 6]", 2 * 2 * 6),  # of 8x8 pixels
    "mlp": ("net: mlp, hidden: [12], latent: 9", 9),
    "conv": ("net: conv, hidden: [4, 6], latent: 5", 5),
}


@pytest.mark.parametrize("net", NETS)
def test_the_code_is_of_the_image_as_it_is_and_of_the_size_of_the_middle(net: str) -> None:
    text, size = NETS[net]
    data = dataset(held_out=16)
    e, state = started(f"variant: denoising, {text}", data)
    batch = Batch(data.test.images / np.float32(255), data.test.labels, np.ones(16, bool))
    code = jitted.encode(e.model, state, batch)
    assert code.shape == (16, size) and code.dtype == jnp.float32
    expected = state.net.innermost(jnp.asarray(batch.image)).reshape(16, -1)
    assert np.allclose(code, expected, atol=1e-6), "nothing is drawn: it is not corrupted"


def test_what_a_unet_makes_follows_from_its_innermost_layer() -> None:
    data = dataset(held_out=8)
    _, state = started("variant: denoising, hidden: [4]", data)
    net, image = state.net, jnp.asarray(data.test.images / np.float32(255))
    net.last.kernel = nnx.Param(0.1 * jax.random.normal(jax.random.key(0), net.last.kernel[...].shape))
    assert np.allclose(net(image), image + join(net.last(nnx.gelu(net.innermost(image))), 2), atol=1e-5)
