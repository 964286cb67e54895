"""Features by k-means on patches: against sums that are written out, and as a bar for the features of a model."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from fit import dataset, started, subject

from aecli.evaluation.evaluators import representation
from aecli.measures.baselines import patches
from aecli.measures.baselines.patches import Dictionary

SHAPE = (13, 12, 2)


def some_images(n: int = 40) -> np.ndarray:
    return np.random.default_rng(0).random((n, *SHAPE)).astype(np.float32)


def of_one(dictionary: Dictionary, image: np.ndarray) -> np.ndarray:
    """The features of an image, patch by patch."""
    down, across = SHAPE[0] - patches.SIDE + 1, SHAPE[1] - patches.SIDE + 1
    total = np.zeros((3, 3, len(dictionary.centroids)))
    for i in range(down):
        for j in range(across):
            patch = image[i : i + patches.SIDE, j : j + patches.SIDE].astype(np.float64).ravel()
            patch = (patch - patch.mean()) / np.sqrt(patch.var() + patches.CONTRAST)
            white = (patch - dictionary.mean) @ dictionary.whitening
            distance = np.sqrt(((white - dictionary.centroids) ** 2).sum(axis=1))
            near = np.maximum(0, distance.mean() - distance)
            for a in range(3):
                for b in range(3):
                    inside_a = a * down // 3 <= i < -(-(a + 1) * down // 3)
                    inside_b = b * across // 3 <= j < -(-(b + 1) * across // 3)
                    total[a, b] += near * (inside_a and inside_b)
    return total.ravel()


def test_features_are_how_much_nearer_than_on_average_each_region_is_to_each_centroid() -> None:
    images = some_images()
    dictionary = patches.fit(images)
    made = patches.features(dictionary, images[:3])
    assert made.shape == (3, 9 * patches.CENTROIDS) and made.dtype == np.float32
    for image, features in zip(images[:3], made, strict=True):
        assert np.allclose(features, of_one(dictionary, image), atol=2e-3)
    # More than a block of images are told apart as few are.
    many = np.concatenate([images] * 7)
    assert np.allclose(patches.features(dictionary, many)[-3:], patches.features(dictionary, images)[-3:], atol=1e-5)


def test_the_dictionary_is_a_function_of_the_images_and_whitens_their_patches() -> None:
    images = some_images(300)
    one, other = patches.fit(images), patches.fit(images)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert one.centroids.shape == (patches.CENTROIDS, 6 * 6 * 2)
    raw = np.stack([image[i : i + 6, j : j + 6].ravel() for image in images for i in range(8) for j in range(7)])
    normal = np.asarray(patches._normalized(jnp.asarray(raw)))
    variances = np.linalg.eigvalsh(np.cov(((normal - one.mean) @ one.whitening).T))
    # Noise varies in every direction alike, but for that of the mean, which is taken away.
    assert variances[0] < 1e-3 and variances[1] > 0.7 and variances[-1] < 1.1


def test_flat_images_give_no_nan() -> None:
    flat = np.zeros((10, *SHAPE), np.float32)
    made = patches.features(patches.fit(flat), flat)
    assert np.isfinite(made).all() and np.isfinite(patches.standardized(made, made)[1]).all()


def test_it_stands_beside_the_probe_of_images_that_are_neither_too_small_nor_too_large() -> None:
    for size, there in (((12, 14, 1), True), ((11, 14, 1), False), ((64, 65, 1), False)):
        data = dataset(train=80, held_out=40, size=size)
        e, state = started("variant: bottleneck, hidden: [12], latent: 3", data)
        found = representation.measure(subject(e.model, state, data)).metrics
        assert ("patch k-means" in found["linear_probe_accuracy"].baselines) == there
        assert "patch k-means" not in found["knn_accuracy"].baselines


def test_what_differs_in_small_patterns_is_read_by_it() -> None:
    """Stripes and checks of equal mean at random places: nothing that a map of pixels could tell."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:16, :16]
    label = np.arange(400) % 2
    pattern = [((x + rng.integers(2)) % 2 if one else (x + y + rng.integers(2)) % 2) for one in label]
    images = np.stack(pattern)[..., None].astype(np.float32)
    train, held_out = patches.standardized(
        *(patches.features(patches.fit(images[:300]), part) for part in (images[:300], images[300:]))
    )
    weights = np.linalg.lstsq(np.c_[train, np.ones(300)], 2.0 * label[:300] - 1, rcond=None)[0]
    assert ((np.c_[held_out, np.ones(100)] @ weights > 0) == label[300:]).mean() > 0.95
