"""What is measured of scores and of the complexity of images, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from aecli.measures.complexity import png_nats
from aecli.measures.detection import Auroc, auroc, average_precision


@pytest.mark.parametrize("levels", [2, 5, 40, 10**6], ids=lambda levels: f"{levels} values")
def test_areas_and_precisions_are_those_of_scikit_learn_with_ties_too(levels: int) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(levels)
    for n, m in ((1, 1), (1, 7), (7, 1), (30, 50)):
        normal, anomalous = rng.integers(0, levels, n) / 7, rng.integers(levels // 4, levels, m) / 7
        truth, scores = np.repeat([0, 1], [n, m]), np.concatenate([normal, anomalous])
        assert auroc(normal, anomalous).value == pytest.approx(roc_auc_score(truth, scores))
        assert average_precision(normal, anomalous) == pytest.approx(average_precision_score(truth, scores))


def test_scores_that_say_nothing_and_all() -> None:
    alike = np.zeros(30), np.zeros(10)
    assert auroc(*alike).value == 0.5 and average_precision(*alike) == 0.25
    apart = np.arange(30), np.arange(30, 40)
    assert auroc(*apart).value == 1.0 and auroc(*apart).standard_error() == 0.0 and average_precision(*apart) == 1.0
    assert auroc(apart[1], apart[0]).value == 0.0
    infinite = np.array([0.0, np.inf]), np.array([np.inf, np.inf])
    assert auroc(*infinite).value == 0.75, "of an image that the model takes for impossible the likelihood is infinite"


def test_the_standard_error_is_how_far_the_area_varies() -> None:
    rng = np.random.default_rng(0)
    found = [auroc(rng.normal(size=40), rng.normal(1.0, 2.0, size=25)) for _ in range(2000)]
    spread = np.std([each.value for each in found])
    assert np.mean([each.standard_error() for each in found]) == pytest.approx(spread, rel=0.05)
    assert auroc(np.zeros(1), np.ones(5)).standard_error() is None


def test_the_error_of_a_difference_of_areas_is_how_far_it_varies() -> None:
    """Of two scores of the same images that have much in common, and of images that come in equal pairs."""
    rng = np.random.default_rng(0)

    def two() -> Auroc:
        shared = rng.normal(size=40), rng.normal(1.0, 1.0, size=25)
        return auroc(*shared).less(auroc(*(each + rng.normal(size=len(each)) / 2 for each in shared)))

    found = [two() for _ in range(2000)]
    spread = np.std([each.value for each in found])
    assert np.mean([each.standard_error() for each in found]) == pytest.approx(spread, rel=0.05)
    alone = two()
    twice = Auroc(alone.value, np.repeat(alone.of_normal, 2), np.repeat(alone.of_anomalous, 2))
    blocks = np.repeat(np.arange(40), 2), np.repeat(np.arange(25), 2)
    assert twice.standard_error(blocks) == pytest.approx(alone.standard_error())


def test_a_complex_image_is_long_and_a_bit_is_less_than_a_byte() -> None:
    noise = np.random.default_rng(0).integers(0, 2, (3, 16, 16, 1))
    bits, bytes_ = png_nats(noise, 2), png_nats(255 * noise, 256)
    assert bits.shape == (3,) and (bits < bytes_).all() and (png_nats(0 * noise, 2) < bits).all()
    assert (bits > 256 * np.log(2)).all(), "256 fair coins have 256 bits"
    colour = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3))
    assert (png_nats(colour, 256) > 3 * 256 * np.log(256)).all()
    assert png_nats(colour[..., :2], 256) == pytest.approx(png_nats(np.concatenate([colour[..., :1], colour[..., 1:2]], 2), 256))
