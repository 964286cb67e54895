"""Networks: both forms of a convolution are one function, and shapes follow the data."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from aecli.nets.conv import convolve, convolve_transposed
from aecli.nets.pairs import PAIRS, Net, check_hidden, hidden_of_net
from aecli.nets.rows import multiply_rows
from aecli.nets.windows import convolve_windows

CASES = [(7, 3, 2, 1, 3, 5), (8, 4, 2, 1, 2, 4), (6, 3, 1, 1, 2, 3), (5, 5, 3, 2, 2, 3), (4, 2, 2, 0, 1, 2), (2, 4, 2, 1, 3, 2)]


@pytest.mark.parametrize(("height", "size", "stride", "padding", "channels", "out"), CASES)
@pytest.mark.parametrize("function", [convolve, convolve_transposed])
def test_the_matmul_form_equals_xlas_in_value_and_gradient(
    function, height: int, size: int, stride: int, padding: int, channels: int, out: int
) -> None:
    key = jax.random.key(0)
    x = jax.random.normal(key, (2, height, height + 3, channels))
    kernel = jax.random.normal(jax.random.fold_in(key, 1), (size, size, channels, out))

    @partial(jax.jit, static_argnums=0)
    def run(as_matmul: bool, x, kernel):
        def scalar(x, kernel):
            y = function(x, kernel, stride, padding, as_matmul=as_matmul)
            return jnp.sum(jnp.sin(y)), y

        (_, y), gradients = jax.value_and_grad(scalar, (0, 1), has_aux=True)(x, kernel)
        return y, *gradients

    for ours, xlas in zip(run(True, x, kernel), run(False, x, kernel), strict=True):
        assert ours.shape == xlas.shape
        assert np.allclose(ours, xlas, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("as_matmul", [True, False])
def test_the_transposed_convolution_is_the_adjoint(as_matmul: bool) -> None:
    key = jax.random.key(0)
    x = jax.random.normal(key, (2, 8, 8, 3))
    kernel = jax.random.normal(key, (4, 4, 3, 5))
    y = jax.random.normal(key, (2, 4, 4, 5))

    @jax.jit
    def products(x, kernel, y):
        forward = jnp.vdot(convolve(x, kernel, 2, 1, as_matmul=as_matmul), y)
        return forward, jnp.vdot(x, convolve_transposed(y, kernel.swapaxes(2, 3), 2, 1, as_matmul=as_matmul))

    forward, back = products(x, kernel, y)
    assert np.allclose(forward, back, rtol=1e-4)


@pytest.mark.parametrize("net", PAIRS)
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (9, 17, 3), (1, 1, 1)])
def test_any_image_goes_in_and_one_of_its_shape_comes_out(net: Net, shape: tuple[int, int, int]) -> None:
    hidden = () if net == "linear" else (4, 5)

    def there_and_back(image):
        code = PAIRS[net].encoder(shape, hidden, 3, rngs=nnx.Rngs(0))(image)
        return code, PAIRS[net].decoder(shape, hidden, 3, rngs=nnx.Rngs(1))(code)

    code, image = jax.eval_shape(there_and_back, jax.ShapeDtypeStruct((2, *shape), jnp.float32))
    assert code.shape == (2, 3) and image.shape == (2, *shape)


@pytest.mark.parametrize("net", PAIRS)
def test_a_network_computes_in_the_type_of_its_parameters(net: Net) -> None:
    shape = (8, 8, 1)
    hidden = () if net == "linear" else (4, 5)
    for part, form in ((PAIRS[net].encoder, (2, *shape)), (PAIRS[net].decoder, (2, 3))):

        def in_half(x, part=part):
            graphdef, params = nnx.split(part(shape, hidden, 3, rngs=nnx.Rngs(0)))
            return nnx.merge(graphdef, jax.tree.map(lambda p: p.astype(jnp.bfloat16), params))(x)

        assert jax.eval_shape(in_half, jax.ShapeDtypeStruct(form, jnp.float32)).dtype == jnp.bfloat16


def test_the_default_conv_net_has_the_published_size() -> None:
    """The weights of the PyTorch peer: 1-32-64-128-128, latent 16, 128-128-64-32-1."""

    def weights(part: str):
        return nnx.split(getattr(PAIRS["conv"], part)((28, 28, 1), (32, 64, 128, 128), 16, rngs=nnx.Rngs(0)))[1]

    shapes = [jax.eval_shape(partial(weights, part)) for part in ("encoder", "decoder")]
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    convs = [(9 * i + 1) * o for i, o in ((1, 32), (32, 64), (64, 128), (128, 128))]
    ups = [16 * i * o + o for i, o in ((128, 128), (128, 64), (64, 32), (32, 1))]
    assert count == sum(convs) + sum(ups) + (512 + 1) * 16 + (16 + 1) * 512 == 683_889


def test_hidden_must_fit_the_net() -> None:
    assert hidden_of_net({"net": "conv"}) == PAIRS["conv"].hidden
    with pytest.raises(ValueError, match="no hidden layers"):
        check_hidden("linear", (3,))
    with pytest.raises(ValueError, match="at least one hidden layer"):
        check_hidden("mlp", ())


@pytest.mark.parametrize(("height", "width", "stride", "padding"), [(1, 3, 2, 1), (2, 2, 2, 1), (5, 4, 2, 0), (3, 6, 3, 2)])
def test_windows_equal_the_convolution_of_xla_and_their_gradient_can_be_derived(
    height: int, width: int, stride: int, padding: int
) -> None:
    """At every border: one input alone, two, and cuts of every depth."""
    key = jax.random.key(0)
    x = jax.random.normal(key, (2, height, width, 3))
    kernel = jax.random.normal(jax.random.fold_in(key, 1), (2 * stride, 2 * stride, 3, 4))

    def values(function):
        def scalar(x, kernel):
            return jnp.sum(jnp.sin(function(x, kernel)))

        def slope(x, kernel):
            return sum(jnp.sum(jnp.sin(g)) for g in jax.grad(scalar, (0, 1))(x, kernel))

        return function(x, kernel), *jax.grad(scalar, (0, 1))(x, kernel), *jax.grad(slope, (0, 1))(x, kernel)

    ours = jax.jit(lambda: values(lambda x, kernel: convolve_windows(x, kernel, stride, padding)))()
    xlas = jax.jit(lambda: values(lambda x, kernel: convolve_transposed(x, kernel, stride, padding, as_matmul=False)))()
    for ours_, xlas_ in zip(ours, xlas, strict=True):
        assert ours_.shape == xlas_.shape
        assert jnp.allclose(ours_, xlas_, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("channels", "out"), [(6, 2), (2, 6), (4, 4)])
def test_products_of_rows_have_the_gradients_of_a_product_and_theirs(channels: int, out: int) -> None:
    key = jax.random.split(jax.random.key(0), 3)
    x, kernel, weight = (jax.random.normal(k, s) for k, s in zip(key, [(9, channels), (channels, out), (9, out)], strict=True))

    def slopes(multiply: Callable[[jax.Array, jax.Array], jax.Array]) -> tuple[jax.Array, ...]:
        first = jax.grad(lambda x, kernel: (jnp.tanh(multiply(x, kernel)) * weight).sum(), (0, 1))
        return *first(x, kernel), *jax.grad(lambda x, kernel: sum((g**2).sum() for g in first(x, kernel)), (0, 1))(x, kernel)

    for ours, plain in zip(slopes(multiply_rows), slopes(jnp.matmul), strict=True):
        assert jnp.allclose(ours, plain, rtol=1e-5, atol=1e-6)
