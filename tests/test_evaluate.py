"""Numbers: every example once, each with the same weight."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest
from compiled import call
from fit import dataset, experiment, subject

from aecli.core.model import Batch
from aecli.data.eval_batches import EVAL_BATCH, EVAL_VALUES, batches, collect, eval_batch
from aecli.data.rows import ArrayRows
from aecli.evaluation.registry import quick
from aecli.measures.metric import (
    EXACT_MSE,
    Better,
    Metric,
    Recorded,
    average,
    average_of_parts,
    pooled_psnr_db,
    psnr_db,
    standard_error,
    verdict,
)
from aecli.runs.state import init
from aecli.system.placement import placement


def test_an_average_weighs_every_example_alike_and_knows_its_error() -> None:
    metric = average("rate_nats", np.array([1.0, 2.0, 3.0, 6.0], np.float32))
    assert metric == Metric(3.0, pytest.approx(np.std([1, 2, 3, 6], ddof=1) / 2), 4, "nats")
    assert average("loss", np.array([2.0])).standard_error is None


def test_psnr_is_pooled() -> None:
    metric = psnr_db(Metric(0.01, 0.001, 100, ""))
    assert metric.value == pytest.approx(20.0) and metric.unit == "dB"
    assert metric.standard_error == pytest.approx(10 * np.log10(0.0105 / 0.0095), rel=0.02)


def test_a_plain_method_is_held_against_a_model_image_by_image() -> None:
    """On images of very different difficulty, on which the model is always a little better."""
    rng = np.random.default_rng(0)
    theirs = rng.gamma(1.0, size=200)
    mine, blocks = theirs - 0.1 + rng.normal(0, 0.05, 200), np.arange(200) // 4
    found = average("mse", mine, "lower", beside={"plain": theirs}, baselines={"other": 9.0})
    assert found.baselines == {"plain": pytest.approx(theirs.mean()), "other": 9.0}
    assert found.difference_errors == {"plain": pytest.approx(np.std(mine - theirs, ddof=1) / np.sqrt(200))}
    assert found.standard_error is not None and found.standard_error > 10 * found.difference_errors["plain"]
    assert verdict(found) == "better" and verdict(found._replace(difference_errors={})) == "alike"
    by_blocks = average("mse", mine, "lower", blocks=blocks, beside={"plain": theirs})
    assert by_blocks.difference_errors == {"plain": pytest.approx(standard_error(mine - theirs, blocks))}


def test_the_ratio_of_two_pooled_errors_varies_as_it_does_over_images() -> None:
    rng = np.random.default_rng(0)
    theirs = 0.02 * rng.gamma(2.0, size=400)
    mine = theirs * rng.uniform(0.5, 1.0, 400)
    found = pooled_psnr_db(average("mse", mine, "lower", beside={"plain": theirs}), mine, {"plain": theirs})
    again = (rng.integers(0, 400, 400) for _ in range(2000))
    drawn = [10 * np.log10(theirs[rows].mean() / mine[rows].mean()) for rows in again]
    assert found.value is not None
    assert found.value - found.baselines["plain"] == pytest.approx(10 * np.log10(theirs.mean() / mine.mean()))
    assert found.difference_errors["plain"] == pytest.approx(np.std(drawn), rel=0.05)


def test_the_mean_over_the_values_of_all_images_varies_as_it_does_over_images() -> None:
    """An image with many values weighs more, and how many it has is as random as their sum."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 40, 400)
    sums = counts * rng.gamma(2.0, 0.01 + 0.001 * counts)
    found = average_of_parts(sums, counts, "lower", beside={"plain": 2 * sums})
    again = (rng.integers(0, 400, 400) for _ in range(2000))
    drawn = [sums[rows].sum() / counts[rows].sum() for rows in again]
    assert found.value is not None and found.value == pytest.approx(sums.sum() / counts.sum())
    assert found.baselines == {"plain": pytest.approx(2 * found.value)}
    assert found.standard_error == pytest.approx(np.std(drawn), rel=0.05)
    assert found.difference_errors == {"plain": pytest.approx(found.standard_error)}, "of twice as much, image by image"
    alike, blocks = np.full(400, 7), np.arange(400) // 4
    assert average_of_parts(sums, alike).standard_error == pytest.approx(standard_error(sums / 7))
    blocked = average_of_parts(sums, alike, blocks=blocks)
    assert blocked.standard_error == pytest.approx(standard_error(sums / 7, blocks))
    assert blocked.protocol == average("mse", sums / 7, blocks=blocks).protocol == {"error_over_blocks": 100}
    assert average_of_parts(np.zeros(3), np.zeros(3), "lower", beside={"plain": np.zeros(3)})[:2] == (None, None)


def test_errors_that_are_not_finite_have_no_spread_and_are_no_warning() -> None:
    huge, some = np.array([np.inf, 1.0]), np.array([1.0, 2.0])
    for mine, theirs in ((huge, some), (some, huge), (huge, huge)):
        error = average("mse", mine, "lower", beside={"plain": theirs})
        for found in (error, pooled_psnr_db(error, mine, {"plain": theirs})):
            assert not found.finite().difference_errors
    assert average_of_parts(huge, np.array([0, 2])).finite().standard_error is None


def test_there_is_no_ratio_to_what_is_met_exactly() -> None:
    some, none = np.array([0.1, 0.2]), np.zeros(2)
    for mine, theirs in ((some, none), (none, some), (none, none)):
        found = pooled_psnr_db(average("mse", mine, "lower", beside={"plain": theirs}), mine, {"plain": theirs})
        assert not found.difference_errors and found.baselines.keys() == {"plain"}
        assert (found.value is None) == (mine.mean() <= EXACT_MSE)


@pytest.mark.parametrize(("value", "error", "apart", "better", "said"), [
    (0.5, 0.1, {}, "lower", "better"), (1.5, 0.1, {}, "lower", "worse"), (0.9, 0.1, {}, "lower", "alike"),
    (0.5, 0.1, {}, "higher", "worse"), (1.5, 0.1, {}, "higher", "better"), (1.5, 0.1, {}, None, None),
    (0.9, 0.1, {"plain": 0.01}, "lower", "better"), (0.9, None, {"plain": 0.01}, "lower", "better"),
    (0.5, 0.1, {"plain": 1.0}, "lower", "alike"), (0.9, 0.1, {"another": 0.01}, "lower", "alike"),
    (0.5, None, {}, "lower", None), (None, None, {}, "lower", None),
])  # fmt: skip
def test_what_a_number_is_beside_the_best_of_the_plain_methods(
    value: float | None, error: float | None, apart: dict[str, float], better: Better | None, said: str | None
) -> None:
    worse = {"far": {"lower": 2.0, "higher": 0.0}.get(better or "", 0.0)}
    found = Metric(value, error, 4, "1", better, {"plain": 1.0, **worse}, difference_errors=apart)
    assert verdict(found) == said and verdict(found._replace(baselines={})) is None


def test_a_number_is_read_as_it_was_written() -> None:
    for optional in ({}, {"note": "why"}, {"difference_errors": {"plain": 0.1}}):
        kept = Recorded(Metric(1.0, 0.2, 4, "1", "lower", {"plain": 2.0}, {"of": 1}, **optional), "some")
        written = kept.as_json()
        assert Recorded.from_json(written) == kept and optional.keys() == {"note", "difference_errors"} & written.keys()
    infinite = Metric(1.0, 0.2, 4, "1", "lower", {"plain": np.inf}, difference_errors={"plain": np.nan}).finite()
    assert infinite.baselines == infinite.difference_errors == {}


@pytest.mark.parametrize(("values", "batch"), [(1, 256), (784, 256), (2**14, 256), (2**14 + 1, 128), (786_432, 4), (2**40, 1)])
def test_a_batch_of_large_images_is_smaller(values: int, batch: int) -> None:
    assert eval_batch(values) == batch and (batch == 1 or batch * values <= EVAL_VALUES)


def test_large_images_come_in_smaller_batches() -> None:
    rows = ArrayRows(np.zeros((5, 1024, 1024, 3), np.uint8), np.arange(5, dtype=np.int32))
    sizes = [(len(batch.image), real) for batch, _, real in batches(rows, "none", jax.random.key(0), placement(1))]
    assert sizes == [(1, 1)] * 5


@pytest.mark.parametrize("n", [1, EVAL_BATCH - 1, EVAL_BATCH, EVAL_BATCH + 1, 2 * EVAL_BATCH + 7])
def test_every_row_comes_once_and_padding_is_masked(n: int) -> None:
    rng = np.random.default_rng(0)
    rows = ArrayRows(rng.integers(0, 256, (n, 2, 2, 1), np.uint8), np.arange(n, dtype=np.int32))
    parts = []
    for batch, _, real in batches(rows, "none", jax.random.key(0), placement(EVAL_BATCH)):
        assert batch.image.shape == (EVAL_BATCH, 2, 2, 1) and int(batch.mask.sum()) == real
        parts.append(({"label": batch.label, "loss": batch.image.sum((1, 2, 3))}, real))
    collected = collect(parts)
    assert collected["label"].tolist() == list(range(n))
    assert np.allclose(collected["loss"], rows.images.sum((1, 2, 3)) / 255, rtol=1e-5)
    assert next(iter(collected)) == "loss"


def test_an_evaluation_equals_a_plain_computation() -> None:
    e = experiment("variant: bottleneck, hidden: [12], latent: 3")
    data = dataset(held_out=300)
    state = init(e, data.spec, 48, placement(16))
    metrics = quick(subject(e.model, state, data))
    image = data.test.images / np.float32(255)
    made = np.asarray(call(e.model, "reconstruct", state, Batch(image, data.test.labels, np.ones(300, bool))))
    assert (made < 0).any() or (made > 1).any(), "or there would be nothing to clip"
    unclipped = ((made - image) ** 2).reshape(300, -1).mean(1)
    error = ((made.clip(0, 1) - image) ** 2).reshape(300, -1).mean(1)
    assert metrics["mse"].value == pytest.approx(error.mean(), rel=1e-5)
    assert metrics["mse"].standard_error == pytest.approx(error.std(ddof=1) / np.sqrt(300), rel=1e-4)
    assert metrics["loss"].value == pytest.approx(unclipped.mean() * 64 / 2, rel=1e-5)
    assert metrics["psnr_db"].value == pytest.approx(-10 * np.log10(error.mean()), rel=1e-5)
    assert metrics["loss"].n == 300


def test_a_model_of_corrupted_images_is_held_to_the_clean_ones() -> None:
    e = experiment("variant: denoising, net: mlp, hidden: [12], corruption: {name: gaussian, sigma: 0.25}")
    data = dataset(held_out=300)
    state = init(e, data.spec, 48, placement(16))
    metrics = quick(subject(e.model, state, data))
    assert metrics["corrupted_psnr_db"].value == pytest.approx(-20 * np.log10(0.25), abs=0.1)
    assert metrics["clipped_psnr_db"].value > metrics["corrupted_psnr_db"].value + 0.5
    assert metrics["clipped_psnr_db"].better is None is metrics["corrupted_psnr_db"].better, "they are not of the model"
    assert metrics["mse"].value == pytest.approx(10 ** (-metrics["psnr_db"].value / 10), rel=1e-5)
    again = quick(subject(e.model, state, data))
    assert again == metrics, "the corruption of an evaluation is fixed"


def test_two_evaluations_are_equal_and_a_fresh_draw_is_fresh() -> None:
    e = experiment("variant: vae, hidden: [12], latent: 3")
    data = dataset(held_out=40)
    state = init(e, data.spec, 48, placement(16))
    results = [quick(subject(e.model, state, data, binarize=b, seed=s))["loss"].value for b, s in
               (("none", 0), ("none", 0), ("dynamic", 0), ("dynamic", 0), ("dynamic", 1))]  # fmt: skip
    assert results[0] == results[1] and results[2] == results[3]
    assert len(set(results)) == 3


def test_a_poll_may_stop_an_evaluation() -> None:
    e = experiment("variant: vae, hidden: [12], latent: 3")
    data = dataset(held_out=600)
    state = init(e, data.spec, 48, placement(16))
    seen: list[int] = []

    def poll() -> None:
        seen.append(0)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick(subject(e.model, state, data, poll=poll))
    assert len(seen) == 2


def test_every_batch_has_random_numbers_of_its_own() -> None:
    """Of one gray, so that equal numbers would make equal draws."""
    n = 2 * EVAL_BATCH + 7
    rows = ArrayRows(np.full((n, 4, 4, 1), 128, np.uint8), np.zeros(n, np.int32))
    made = [
        (np.asarray(batch.image)[:7], np.asarray(jax.random.key_data(key)))
        for batch, key, _ in batches(rows, "dynamic", jax.random.key(0), placement(EVAL_BATCH))
    ]
    for (image, key), (other_image, other_key) in itertools.combinations(made, 2):
        assert not np.array_equal(image, other_image) and not np.array_equal(key, other_key)


def test_only_what_is_measured_is_drawn_by_the_runs_seed() -> None:
    """What is fitted to train images is kept and shared by runs: it must not depend on which run asks for it first."""
    e = experiment("variant: vae, hidden: [12], latent: 3")
    ours = [subject(e.model, None, dataset(), binarize="dynamic", seed=seed) for seed in (0, 1)]
    train, test = ([np.concatenate(list(one.images(split))) for one in ours] for split in ("train", "test"))
    assert np.array_equal(*train) and not np.array_equal(*test)
    frozen = np.concatenate(list(subject(e.model, None, dataset(), binarize="fixed", seed=1).images("train")))
    assert np.array_equal(frozen, train[0]) and set(np.unique(frozen)) == {0.0, 1.0}
