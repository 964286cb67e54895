"""Features of models whose code has a place: means over three by three regions, by a direct loop over what they are means of."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from fit import dataset, started, subject

from aecli.core import jitted
from aecli.core.model import Batch
from aecli.evaluation import codes
from aecli.models import denoising
from aecli.nets.regions import bounds, region_means


def directly(x: Any, most: int) -> Any:
    """[B, h, w, C] -> [B, most^2 C]."""
    return np.stack(
        [
            np.concatenate([image[a:b, c:d].reshape(-1, image.shape[-1]).mean(0) for a, b in rows for c, d in columns])
            for image in np.asarray(x, np.float64)
            for rows, columns in [(ends(x.shape[1], most), ends(x.shape[2], most))]
        ]
    )


def ends(sites: int, most: int) -> list[tuple[int, int]]:
    n = min(most, sites)
    return [(int(np.floor(i * sites / n)), int(np.ceil((i + 1) * sites / n))) for i in range(n)]


@pytest.mark.parametrize(
    ("sites", "most", "expected"),
    [
        (7, 3, [(0, 3), (2, 5), (4, 7)]),
        (9, 3, [(0, 3), (3, 6), (6, 9)]),
        (2, 3, [(0, 1), (1, 2)]),
        (7, 5, [(0, 2), (1, 3), (2, 5), (4, 6), (5, 7)]),
    ],
)
def test_regions_are_those_of_adaptive_pooling(sites: int, most: int, expected: list[tuple[int, int]]) -> None:
    assert bounds(sites, most) == expected == ends(sites, most)


@pytest.mark.parametrize(("height", "width"), [(7, 7), (3, 8), (1, 1), (2, 5)])
def test_features_are_the_means_of_the_regions(height: int, width: int) -> None:
    x = np.random.default_rng(0).normal(size=(4, height, width, 3)).astype(np.float32)
    found = region_means(jnp.asarray(x, jnp.bfloat16 if width == 8 else jnp.float32))
    assert found.dtype == jnp.float32 and found.shape == (4, min(3, height) * min(3, width) * 3)
    assert np.allclose(found, directly(x, 3), atol=0.02 if width == 8 else 1e-5)


@pytest.mark.parametrize(
    ("text", "grid", "channels", "across"),
    [
        ("autoregressive, net: gmlp, levels: 2, width: 6, layers: 1, heads: 2, patch: 2", (4, 4), 6, 3),
        ("denoising, hidden: [6]", (4, 4), 6, 4),
    ],
)
def test_of_a_code_with_sites_probes_are_given_its_regions(
    text: str, grid: tuple[int, int], channels: int, across: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denoising, "ACROSS", 4)
    data = dataset(held_out=8)
    e, state = started(f"variant: {text}", data)
    batch = Batch(data.test.images / np.float32(255), np.full(8, -1, np.int32), np.ones(8, bool))
    model: Any = e.model
    ours = subject(model, state, data)
    features, code = codes.features_without_labels(ours), np.asarray(jitted.encode(model, state, batch))
    assert features.shape == (8, across**2 * channels) and ours.feature_count == features.shape[1]
    assert codes.protocol_of(ours)["feature_count"] == features.shape[1]
    if model.variant == "autoregressive":  # whose code is the mean over all sites
        sites = np.asarray(model._at_sites(state.net, batch))
        assert np.allclose(code, sites.mean((1, 2)), atol=1e-5)
    else:  # whose code holds each of them
        sites = code.reshape(8, *grid, channels)
    assert np.allclose(features, directly(sites, across), atol=1e-5)


def test_features_of_more_numbers_than_probes_are_given_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset()
    e, state = started("variant: autoregressive, net: gmlp, levels: 2, width: 6, layers: 1, heads: 2, patch: 2", data)
    ours = subject(e.model, state, data)
    monkeypatch.setattr(codes, "LARGEST_PROBED", 54)
    assert codes.cannot(ours) is None and ours.code_length == 6, "it is the features that are read, and not the code"
    monkeypatch.setattr(codes, "LARGEST_PROBED", 53)
    assert codes.cannot(ours) == "54 numbers of an image are too many"
