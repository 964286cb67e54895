"""Many steps in one call: the same bits however they are cut, the same batches from every tier, nothing compiled twice."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, named
from compiled import SIZE, compiled
from fit import dataset, experiment
from PIL import Image
from process import OLDER_LOOPS

from aecli.config.schema import Data
from aecli.core.model import Batch, Spec
from aecli.data.dataset import Dataset, open_dataset
from aecli.data.train_batches import HostFeed, ResidentFeed, open_feed
from aecli.runs.state import _start, init
from aecli.system.placement import placement
from aecli.training.call import Call, advance, all_finite
from aecli.training.loop import Interval

E = experiment("variant: vae, hidden: [16], latent: 3", "steps: 40", "batch_size: 16")
DATA = dataset()


def start(batch: int = 16, devices: int | None = None):
    place = placement(batch)
    assert devices is None or place.devices == devices
    return place, init(E, DATA.spec, len(DATA.train), place)


def run(cuts: list[int], place, state, feed, binarize="none"):
    step, interval = 0, Interval()
    for count in cuts:
        chunk = feed.chunk(step, count)
        state, *told = advance(E.model, DATA.spec, binarize, (), state, chunk, np.int32(step), np.int32(count), jax.random.key(0))
        interval.add(Call(step, count, *told).done())
        step += count
    return state, interval


def equal(a, b) -> bool:
    return all(bool(jnp.array_equal(x, y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_calls_of_any_length_give_the_same_bits_and_compile_once() -> None:
    place, state = start()
    feed = ResidentFeed(DATA.train, 0, 16, place)
    whole, interval = run([12], place, state, feed)
    compiled = advance._cache_size()
    for cuts in ([1] * 12, [5, 7], [11, 1]):
        _, state = start()
        parts, cut_interval = run(cuts, place, state, feed)
        assert equal(whole, parts)
        assert cut_interval.averages(16) == interval.averages(16) and cut_interval.steps == 12
    assert advance._cache_size() == compiled


def test_calls_of_any_length_draw_the_same_binary_images() -> None:
    results = []
    for cuts in ([3], [1, 2]):
        place, state = start()
        results.append(run(cuts, place, state, ResidentFeed(DATA.train, 0, 16, place), "dynamic")[0])
    assert equal(*results)


@pytest.mark.parametrize("case", named(CASES))
def test_the_first_state_has_the_types_of_every_later_one(case: str) -> None:
    """Or the steps would be compiled again after the first call."""
    e, key = compiled(case).experiment, jax.random.key(0)
    first = jax.eval_shape(lambda key: _start(e.model, DATA.spec, e.recipe(48), key), key)
    later, _ = jax.eval_shape(jax.jit(e.model.train_step), first, Batch.abstract(SIZE, DATA.spec), key)
    paths = jax.tree_util.tree_leaves_with_path(first)
    for (path, a), b in zip(paths, jax.tree.leaves(later), strict=True):
        assert (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type), jax.tree_util.keystr(path)


def test_every_tier_feeds_the_same_batches_and_trains_to_the_same_bits() -> None:
    place = placement(16)
    resident, host = ResidentFeed(DATA.train, 3, 16, place), HostFeed(DATA.train, 3, 16, DATA.spec, place)
    for step, count in ((0, 1), (2, 7), (100, 3)):
        a, b = resident.chunk(step, count), host.chunk(step, count)
        for i in range(count):
            first, second = a.batch(jnp.int32(i), DATA.spec), b.batch(jnp.int32(i), DATA.spec)
            assert jnp.array_equal(first[0], second[0]) and jnp.array_equal(first[1], second[1])
    # By the loops that XLA writes for a user: those of the tests (`process.QUICK`) may sum in another order where images are
    # gathered in the loop.
    ends = []
    for feed in (resident, host):
        _, state = start()
        chunk, count, root = feed.chunk(0, 6), np.int32(6), jax.random.key(0)
        lowered = advance.lower(E.model, DATA.spec, "none", (), state, chunk, np.int32(0), count, root)
        steps = lowered.compile(compiler_options={"xla_cpu_use_fusion_emitters": True} if OLDER_LOOPS else None)
        ends.append(steps(state, chunk, np.int32(0), count, root)[0])
    assert equal(*ends)


def test_the_order_of_the_train_images_follows_the_seed() -> None:
    place = placement(16)
    one, other = (np.asarray(ResidentFeed(DATA.train, seed, 16, place).chunk(0, 3).index)[:3] for seed in (0, 1))
    assert (one == other).mean() < 0.2
    one, other = (np.asarray(HostFeed(DATA.train, seed, 16, DATA.spec, place).chunk(0, 3).images)[:3] for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_the_tiers_of_a_real_data_set_are_equal(data_dir: Path) -> None:
    feeds = []
    for tier in ("device", "memmap", "stream"):
        opened = open_dataset(Data(name="digits", batch_size=32, tier=tier))
        assert opened.tier == tier
        feeds.append((opened, open_feed(opened, 5, 32, placement(32))))
    chunks = [feed.chunk(40, 4) for _, feed in feeds]
    for i in range(4):
        batches = [chunk.batch(jnp.int32(i), feeds[0][0].spec) for chunk in chunks]
        for image, label in batches[1:]:
            assert jnp.array_equal(image, batches[0][0]) and jnp.array_equal(label, batches[0][1])


def test_a_batch_crosses_the_end_of_a_pass_and_none_is_dropped() -> None:
    place = placement(20)
    feed = ResidentFeed(DATA.train, 0, 20, place)  # 48 images
    seen = np.asarray(feed.chunk(0, 12).index)[:12].ravel()
    for epoch in range(5):
        assert sorted(seen[48 * epoch : 48 * (epoch + 1)]) == list(range(48))


def test_one_device_and_four_agree() -> None:
    """Bits may differ, since sums are taken in another order."""
    results = []
    for batch_place in (placement(16), placement(1)):
        state = init(E, DATA.spec, len(DATA.train), batch_place)
        results.append(run([10], batch_place, state, ResidentFeed(DATA.train, 0, 16, batch_place))[0])
    assert placement(16).devices == 4 and placement(1).devices == 1
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        assert jnp.allclose(np.asarray(a), np.asarray(b), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("batch", "devices"), [(16, 4), (6, 3), (5, 1), (10, 2)])
def test_as_many_devices_as_divide_the_batch(batch: int, devices: int) -> None:
    assert placement(batch).devices == devices


def test_dynamic_binarization_is_binary_fresh_each_step_and_follows_the_key() -> None:
    from aecli.data.binarize import draw

    image = jnp.full((2000, 1, 1, 1), 0.3)
    first, second = draw(image, jax.random.key(0)), draw(image, jax.random.key(1))
    assert set(np.unique(first)) == {0.0, 1.0}
    assert abs(float(first.mean()) - 0.3) < 0.03
    assert not jnp.array_equal(first, second) and jnp.array_equal(first, draw(image, jax.random.key(0)))
    assert float(draw(jnp.zeros((9, 1, 1, 1)), jax.random.key(0)).sum()) == 0
    assert float(draw(jnp.ones((9, 1, 1, 1)), jax.random.key(0)).sum()) == 9


def values_of(state, feed) -> Call:
    first, count = np.int32(7), np.int32(3)
    _, *told = advance(E.model, DATA.spec, "none", (), state, feed.chunk(7, 3), first, count, jax.random.key(0))
    return Call(7, 3, *told).done()


def test_the_first_step_that_is_not_finite_is_named() -> None:
    place, state = start()
    feed = ResidentFeed(DATA.train, 0, 16, place)
    assert all_finite(state)
    assert values_of(state, feed).bad() is None
    broken = dataclasses.replace(start()[1], params=jax.tree.map(lambda p: p * jnp.nan, start()[1].params))
    assert not all_finite(broken)
    assert values_of(broken, feed).bad() == 7
    fine = np.float32([1, 2, 3])
    assert Call(4, 3, {"loss": fine, "rate": np.float32([1, 2, np.inf])}).bad() == 6
    assert Call(4, 3, {"loss": np.float32([1, np.nan, 3]), "rate": fine}).bad() == 5


def test_bfloat16_trains_like_float32_and_keeps_float32_weights() -> None:
    half = experiment("variant: vae, hidden: [16], latent: 3", "steps: 40, precision: bfloat16", "batch_size: 16")
    place = placement(16)
    losses = []
    for e in (E, half):
        state = init(e, DATA.spec, len(DATA.train), place)
        feed = ResidentFeed(DATA.train, 0, 16, place)
        state, values, _ = advance(
            e.model, DATA.spec, "none", (), state, feed.chunk(0, 40), np.int32(0), np.int32(40), jax.random.key(0)
        )
        assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in jax.tree.leaves(state))
        losses.append(float(values["loss"].sum()))
    assert losses[1] == pytest.approx(losses[0], rel=0.03) and losses[1] != losses[0]


def test_averaged_weights_follow_the_weights() -> None:
    e = experiment("variant: vae, hidden: [16], latent: 3", "steps: 40", "batch_size: 16", "learning_rate: 1e-2, ema: 0.5")
    place = placement(16)
    state = init(e, DATA.spec, len(DATA.train), place)
    batch_state = state
    feed = ResidentFeed(DATA.train, 0, 16, place)
    expected = jax.tree.map(np.asarray, state.params)
    for step in range(5):
        batch_state, *_ = advance(
            e.model, DATA.spec, "none", (), batch_state, feed.chunk(step, 1), np.int32(step), np.int32(1), jax.random.key(0)
        )
        decay = min(0.5, (1 + step) / (10 + step))
        expected = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * np.asarray(p), expected, batch_state.params)
    for a, b in zip(jax.tree.leaves(batch_state.ema), jax.tree.leaves(expected), strict=True):
        assert jnp.allclose(a, b, atol=1e-6)
    used = jax.tree.leaves(batch_state.net.encoder.mlp.layers[0].kernel)[0]
    assert jnp.array_equal(used, jax.tree.leaves(batch_state.ema["encoder"]["mlp"]["layers"][0]["kernel"])[0])


def test_a_stream_of_files_feeds_batches(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(30):
        (tmp_path / "images").mkdir(exist_ok=True)
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8)).save(buffer, "PNG")
        (tmp_path / "images" / f"{i}.png").write_bytes(buffer.getvalue())
    opened: Dataset = open_dataset(Data(name="folder", path=str(tmp_path / "images"), batch_size=4, tier="stream", validation=2))
    assert opened.spec == Spec(6, 5, 3, 0) and opened.tier == "stream"
    image, label = open_feed(opened, 0, 4, placement(4)).chunk(3, 2).batch(jnp.int32(1), opened.spec)
    assert image.shape == (4, 6, 5, 3) and (np.asarray(label) == -1).all()
