"""How far apart two groups are: intervals that cover, alarms that are rare, corrections against their definition.

AECLI_SOAK=1 takes the thousand trials that a share is promised of; otherwise a seeded sample, with the tolerance of its size."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measured import measured
from process import SOAK
from scipy import stats

from aecli.measures.metric import standard_error
from aecli.reports.groups import spread
from aecli.reports.paired import (
    DIFFER,
    FIRST,
    NO_SPREAD,
    NOT_SHOWN,
    ONE_SEED,
    SECOND,
    Difference,
    Sample,
    difference,
    holm,
    verdict,
)
from aecli.verbs.compare import compare

TRIALS = 1000 if SOAK else 300
IMAGES = 200
OF_SEEDS, OF_IMAGES, OF_BOTH = 0.3, 2.0, 0.7
"""Standard deviations: of a seed's mean, of an image whichever the model, of an image under one model."""


def slack(share: float) -> float:
    """What a sample of fewer trials may miss a share by: three of its standard errors; nothing with all of them."""
    return 0.0 if SOAK else 3 * sqrt(share * (1 - share) / TRIALS)


def trial(rng: np.random.Generator, seeds: int, shift: float, spread_of_seeds: float = OF_SEEDS) -> tuple[Any, Any, Any, float]:
    """The values of each image [seeds, n] of two groups that are `shift` apart, the second's the larger, and how far the models
    that were trained are: images are a sample, an image is hard or easy for both, and each model has its own luck."""
    hard = rng.normal(0, OF_IMAGES, IMAGES)
    luck = rng.normal(0, spread_of_seeds, (2, seeds, 1))
    values = luck + hard + rng.normal(0, OF_BOTH, (2, seeds, IMAGES))
    values[1] += shift
    return values[0], values[1], hard, float(shift + luck[1].mean() - luck[0].mean())


def found_between(first: Any, second: Any) -> Difference:
    return difference(*(Sample([float(m) for m in side.mean(1)], side.mean(0)) for side in (first, second)))


def share(of: Callable[[np.random.Generator], bool]) -> float:
    """In how many of the trials it is so."""
    return float(np.mean([of(rng) for rng in np.random.default_rng(0).spawn(TRIALS)]))


def test_five_seeds_a_side_cover_a_known_shift() -> None:
    def covers(rng: np.random.Generator) -> bool:
        first, second, _, _ = trial(rng, 5, 0.4)
        found = found_between(first, second)
        assert found.over == "seeds" and found.low is not None and found.high is not None
        return found.low <= 0.4 <= found.high

    covered = share(covers)
    assert 0.93 - slack(0.95) <= covered <= 0.97 + slack(0.95), covered


def test_one_seed_a_side_covers_how_far_the_two_models_are_apart_on_all_images() -> None:
    """Not the shift of the configs: what other seeds would give, one seed does not tell."""

    def covers(rng: np.random.Generator) -> tuple[bool, bool]:
        first, second, _, apart = trial(rng, 1, 0.4)
        found = found_between(first, second)
        assert found.over == "images" and found.low is not None and found.high is not None and found.p is None
        return found.low <= apart <= found.high, found.low <= 0.4 <= found.high

    both = np.array([covers(rng) for rng in np.random.default_rng(1).spawn(TRIALS)])
    of_models, of_configs = both.mean(0)
    assert 0.93 - slack(0.95) <= of_models <= 0.97 + slack(0.95), of_models
    assert of_configs < 0.5, "or the verdict need not be: undecided"


def test_one_config_twice_is_rarely_told_apart_and_three_deviations_nearly_always() -> None:
    def told(shift: float) -> Callable[[np.random.Generator], bool]:
        def of(rng: np.random.Generator) -> bool:
            first, second, _, _ = trial(rng, 5, shift)
            found = found_between(first, second)
            assert found.p is not None
            return verdict(found, 5, holm([found.p])[0], "lower") != NOT_SHOWN

        return of

    false_alarms = share(told(0.0))
    assert false_alarms <= 0.07 + slack(0.07), false_alarms
    of_a_seed = sqrt(OF_SEEDS**2 + OF_BOTH**2 / IMAGES)  # of a seed's mean over these images
    power = share(told(3 * of_a_seed))
    assert power >= 0.9 - slack(0.9), power


def test_over_many_metrics_a_false_alarm_is_as_rare() -> None:
    """Ten metrics of one config: without a correction two of five comparisons would tell something."""

    def told(corrects: bool) -> Callable[[np.random.Generator], bool]:
        def of(rng: np.random.Generator) -> bool:
            seeds = rng.normal(size=(10, 2, 5))
            p = [each.p for first, second in seeds if (each := difference(Sample(list(first)), Sample(list(second)))).p]
            return min(holm(p) if corrects else p) < 0.05

        return of

    assert share(told(True)) <= 0.07 + slack(0.07)
    assert share(told(False)) > 0.25


def test_a_welch_interval_is_that_of_its_formula() -> None:
    """Welch 1947; Satterthwaite's degrees of freedom."""
    first, second = [1.0, 1.2, 0.9], [2.0, 2.6, 1.1, 3.0]
    a, b = np.var(first, ddof=1) / 3, np.var(second, ddof=1) / 4
    freedom = (a + b) ** 2 / (a**2 / 2 + b**2 / 3)
    apart = np.mean(second) - np.mean(first)
    found = difference(Sample(first), Sample(second))
    half = stats.t.ppf(0.975, freedom) * sqrt(a + b)
    assert found.value == pytest.approx(apart)
    assert (found.low, found.high) == (pytest.approx(apart - half), pytest.approx(apart + half))
    assert found.p == pytest.approx(2 * stats.t.sf(apart / sqrt(a + b), freedom)) and found.over == "seeds"
    turned = difference(Sample(second), Sample(first))
    assert turned.value == -found.value and turned.p == pytest.approx(found.p)
    assert (turned.low, turned.high) == (pytest.approx(-(apart + half)), pytest.approx(-(apart - half)))


def test_pairing_takes_out_what_an_image_is_for_both() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 10, 100)
    first, second = hard + rng.normal(0, 0.1, 100), hard + 0.5 + rng.normal(0, 0.1, 100)
    found = difference(Sample([first.mean()], first), Sample([second.mean()], second))
    assert found.low is not None and found.high is not None and found.high - found.low < 0.1 < stats.sem(first)
    half = stats.t.ppf(0.975, 99) * stats.sem(second - first)
    assert found.low == pytest.approx(found.value - half) and found.high == pytest.approx(found.value + half)


def test_several_seeds_against_one_are_paired_by_their_mean() -> None:
    rng = np.random.default_rng(0)
    many, one = rng.normal(size=(4, 60)), rng.normal(size=60)
    found = difference(Sample(list(many.mean(1)), many.mean(0)), Sample([one.mean()], one))
    assert found.value == pytest.approx((one - many.mean(0)).mean()) and found.over == "images" and found.p is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Sample([1.0]), Sample([2.0])),
        (Sample([1.0], np.ones(5)), Sample([2.0])),
        (Sample([1.0], np.ones(5)), Sample([2.0], np.ones(6))),
        (Sample([1.0], np.ones(1)), Sample([2.0], np.ones(1))),
        (Sample([1.0, 1.0]), Sample([2.0, 2.0])),
        (Sample([1e308, -1e308]), Sample([1e308, 1e307])),
    ],
    ids=["no images", "one has images", "other images", "one image", "no spread", "beyond floats"],
)
def test_where_there_is_no_interval_there_is_none(first: Sample, second: Sample) -> None:
    found = difference(first, second)
    assert found.low is found.high is found.p is found.over is None


def test_verdicts() -> None:
    apart, equal = Difference(1.0, 0.5, 1.5, 0.01, "seeds"), Difference(0.0)
    assert verdict(apart, 1, None, "lower") == ONE_SEED == verdict(apart, 1, 0.0001, "lower")
    assert verdict(apart, 2, 0.0499, "lower") == FIRST and verdict(apart, 2, 0.0499, "higher") == SECOND
    assert verdict(apart._replace(value=-1.0), 2, 0.0499, "lower") == SECOND
    assert verdict(apart, 2, 0.0499, None) == DIFFER and verdict(apart, 2, 0.05, "lower") == NOT_SHOWN
    assert verdict(Difference(1.0), 2, None, "lower") == NO_SPREAD and verdict(equal, 2, None, "lower") == NOT_SHOWN


def closed(p: list[float], at: int) -> float:
    """Holm's correction as the closed test of Bonferroni: the largest over all sets of hypotheses that hold this one."""
    sets = [[i for i in range(len(p)) if mask >> i & 1] for mask in range(1, 2 ** len(p)) if mask >> at & 1]
    return max(min(1.0, len(some) * min(p[i] for i in some)) for some in sets)


def test_holm_is_the_closed_test_of_bonferroni_in_any_order() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        p = [float(x) for x in rng.uniform(0, 0.3, 5)]
        p[1] = p[0]  # a tie
        assert holm(p) == pytest.approx([closed(p, at) for at in range(5)])
    for order in permutations([0.01, 0.02, 0.5]):
        assert dict(zip(order, holm(list(order)), strict=True)) == pytest.approx({0.01: 0.03, 0.02: 0.04, 0.5: 0.5})
    assert holm([]) == []


def test_a_spread_is_of_seeds_and_one_seed_has_none() -> None:
    values = [1.0, 2.0, 4.0]
    assert spread(values, 0.1) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)), 3, 0.1)
    assert spread([3.0]) == (3.0, None, 1, None)


def test_the_whole_verb_tells_the_same_of_folders(tmp_path: Path) -> None:
    """From files: values, their means in float32 as they are kept, groups, pairs, verdicts."""
    rng = np.random.default_rng(0)
    first, second, _, _ = trial(rng, 3, 5 * OF_SEEDS)
    sides = [
        [
            measured(tmp_path, {"reconstruction/mse": row.astype(np.float32)}, seed=seed, beta=beta)
            for seed, row in enumerate(side)
        ]
        for beta, side in ((1.0, first), (4.0, second))
    ]
    found = compare([*sides[0], *sides[1]])
    (metric,) = found.metrics
    judged = metric.found[0]
    direct = found_between(first, second)
    assert judged is not None and judged.difference[:3] == pytest.approx(direct[:3], rel=1e-4)
    assert judged.corrected == judged.difference.p == pytest.approx(direct.p, rel=1e-3) and judged.difference.over == "seeds"
    assert judged.verdict == FIRST and judged.better == "model.beta 1"
    for cell, side in zip(metric.cells, (first, second), strict=True):
        assert cell.spread == pytest.approx(
            (side.mean(), side.mean(1).std(ddof=1), 3, side.mean(0).std(ddof=1) / sqrt(IMAGES)), rel=1e-4
        )
    one = compare([sides[0][0], sides[1][0]]).metrics[0].found[0]
    assert one is not None and one.verdict == ONE_SEED and one.difference.over == "images"
    assert one.difference[:3] == pytest.approx(found_between(first[:1], second[:1])[:3], rel=1e-4)


def test_an_error_by_blocks_of_one_image_is_the_usual_one() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert standard_error(values, np.random.default_rng(1).permutation(50)) == pytest.approx(stats.sem(values), rel=1e-12)
    assert standard_error(values) == pytest.approx(stats.sem(values), rel=1e-12)
    assert standard_error(values, np.zeros(50)) is standard_error(values[:1]) is None


def test_an_error_by_blocks_is_that_of_the_images_that_are_not_repeated() -> None:
    """As if each had been seen once; one that takes repetitions for new images is too small by the root of their number."""
    values, other = np.random.default_rng(0).normal(size=(2, 40))
    repeated, blocks = np.tile(values, 5), np.tile(np.arange(40), 5)
    assert standard_error(repeated, blocks) == pytest.approx(stats.sem(values), rel=1e-12)
    assert standard_error(repeated) == pytest.approx(stats.sem(values) / sqrt(5), rel=0.02)
    once = difference(Sample([values.mean()], values), Sample([other.mean()], other))
    many = difference(Sample([values.mean()], repeated), Sample([other.mean()], np.tile(other, 5)), blocks)
    assert (many.low, many.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert difference(Sample([0.0], values), Sample([1.0], other), np.zeros(40)).over is None, "one block says nothing of another"


def test_an_error_by_blocks_covers_where_images_of_a_block_resemble_each_other() -> None:
    """Of blocks of unequal size, as often as it promises; that over images far less often."""
    blocks = np.repeat(np.arange(30), np.arange(30) % 4 + 2)

    def covers(of: Any) -> float:
        found = 0
        for seed in range(300):
            rng = np.random.default_rng(seed)
            values = rng.normal(size=30)[blocks] + 0.3 * rng.normal(size=len(blocks))
            error = standard_error(values, of)
            assert error is not None
            found += bool(abs(values.mean()) < stats.t.ppf(0.975, 29) * error)
        return found / 300

    assert covers(blocks) > 0.9 > 0.8 > covers(None)
