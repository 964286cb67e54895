"""Plain methods against what is known of them, and against the figures computed once on the original Fashion-MNIST files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import needs_fashion

from aecli.config.schema import Data
from aecli.data.dataset import open_dataset
from aecli.measures.baselines import filters, linear, pixels
from aecli.measures.ssim import ssim


def test_pca_is_that_of_scikit_learn_and_its_error_the_variance_left_out() -> None:
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 12)) * np.arange(1, 13)
    ours, theirs = linear.pca(linear.moments([x[:200], x[200:]])), PCA(4).fit(x)
    assert np.allclose(np.abs(ours.components[:4]), np.abs(theirs.components_), atol=1e-8)
    assert np.allclose(ours.reconstruct(x, 4), theirs.inverse_transform(theirs.transform(x)))


def test_the_wiener_filter_is_the_affine_map_of_least_error() -> None:
    rng = np.random.default_rng(0)
    clean = rng.standard_normal((200_000, 3)) @ np.array([[1.0, 0.5, 0], [0, 1, 0.2], [0, 0, 0.3]]) + [1, 2, 3]
    noisy = clean + 0.7 * rng.standard_normal(clean.shape)
    wiener = linear.wiener(linear.moments([clean]), 0.7)
    fitted = linear.restorer(linear.seen([(clean[:7], noisy[:7]), (clean[7:], noisy[7:])]), ridge=0)
    assert np.allclose(wiener(noisy[:5]), fitted(noisy[:5]), atol=0.02)


def test_binarized_images_cost_at_least_their_entropy() -> None:
    assert pixels.bernoulli_entropy(np.full((2, 3), 0.5)) == pytest.approx([3 * np.log(2)] * 2)
    assert pixels.bernoulli_entropy(np.array([[0.0, 1.0]])) == pytest.approx([0.0])
    rng = np.random.default_rng(0)
    p = rng.uniform(0, 1, (1, 6)).repeat(40_000, 0)
    bits = (rng.uniform(size=p.shape) < p).astype(np.float64)
    assert pixels.independent_bernoulli([bits], [bits]).mean() == pytest.approx(pixels.bernoulli_entropy(p[:1])[0], abs=0.02)


def test_histograms_of_uniform_levels_cost_their_logarithm() -> None:
    x = np.random.default_rng(0).integers(0, 4, (20_000, 5))
    assert pixels.independent_levels([x], [x], 4).mean() == pytest.approx(5 * np.log(4), abs=0.01)
    assert pixels.to_bits_per_dim(np.array([5 * np.log(4)]), 5) == pytest.approx([2.0])


def test_a_median_removes_salt_and_a_fill_puts_in_the_mean_and_bicubic_keeps_a_plane() -> None:
    flat = np.full((1, 8, 8, 1), 0.5, np.float32)
    salted = flat.copy()
    salted[0, 3, 3] = 1
    assert np.array_equal(filters.median(filters.Corrupted(salted, None, flat[0])), flat)
    hole = np.zeros((1, 8, 8, 1), bool)
    hole[0, 2:4] = True
    filled = filters.mean_fill(filters.Corrupted(np.where(hole, 0, flat), hole, 0.25 * np.ones_like(flat[0])))
    assert (filled[hole] == 0.25).all() and (filled[~hole] == 0.5).all()
    plane = np.linspace(0, 1, 16, dtype=np.float32)[None, :, None, None] * np.ones((1, 16, 16, 1), np.float32)
    small = plane.reshape(1, 8, 2, 8, 2, 1).mean((2, 4)).repeat(2, 1).repeat(2, 2)
    made = filters.bicubic(filters.Corrupted(small, None, plane[0]), factor=2)
    assert np.allclose(made[0, 4:12], plane[0, 4:12], atol=1e-3)


def test_ssim_is_1_of_equals_and_what_the_formula_says_of_constants() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(3, 16, 16, 1)).astype(np.float32)
    assert np.allclose(ssim(x, x), 1, atol=1e-5)
    a, b = 0.2, 0.6
    expected = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    assert np.allclose(ssim(np.full_like(x, a), np.full_like(x, b)), expected, atol=1e-4)
    assert (np.asarray(ssim(x, 1 - x)) < 0.1).all()
    assert ssim(x[:, :5, :7], x[:, :5, :7]).shape == (3,), "images smaller than the window have one too"


@needs_fashion
def test_the_figures_of_fashion_mnist(data_dir: Path) -> None:
    data = open_dataset(Data(name="fashion_mnist", validation=0, binarize="fixed"))
    train = data.train.take(np.arange(60_000))[0].reshape(60_000, -1)
    test = data.intensity("test").take(np.arange(10_000))[0].reshape(10_000, -1)
    x = test / 255.0
    moments = linear.moments(train[i : i + 5000] / 255.0 for i in range(0, 60_000, 5000))
    pca = linear.pca(moments)
    for k, expected in ((1, 0.06138), (16, 0.02045), (40, 0.01351), (128, 0.00631), (256, 0.00299)):
        assert ((pca.reconstruct(x, k) - x) ** 2).mean() == pytest.approx(expected, abs=5.1e-6)
    noise = np.random.default_rng(0).standard_normal(x.shape)
    for sigma, expected in ((0.1, 24.24), (0.25, 19.90), (0.5, 17.44), (1.0, 15.41)):
        restored = np.clip(linear.wiener(moments, sigma)(x + sigma * noise), 0, 1)
        assert -10 * np.log10(((restored - x) ** 2).mean()) == pytest.approx(expected, abs=0.02)
    assert pixels.bernoulli_entropy(x).mean() == pytest.approx(189.858, abs=5e-4)
    binary = (train[i : i + 5000] / 255.0 for i in range(0, 60_000, 5000))
    drawn = data.test.take(np.arange(10_000))[0].reshape(10_000, -1) / 255.0
    assert pixels.independent_bernoulli(binary, [drawn]).mean() == pytest.approx(385.0, abs=0.1)
    chunks = (train[i : i + 5000].astype(np.int64) for i in range(0, 60_000, 5000))
    nats = pixels.independent_levels(chunks, [test.astype(np.int64)], 256)
    assert pixels.to_bits_per_dim(nats, 784).mean() == pytest.approx(4.588, abs=6e-4)
