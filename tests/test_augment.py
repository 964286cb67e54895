"""Augmentations: what each makes of an image, how often, and that training batches alone see it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fit import blobs, dataset, experiment, fit, go_on
from numpy.typing import NDArray
from process import TINY, called

from aecli.core.keys import Stream, stream
from aecli.core.learner import Recipe
from aecli.core.model import Batch, Model, Spec, Values
from aecli.data.binarize import draw
from aecli.data.train_batches import open_feed, to_unit
from aecli.distributions.augmentations import Augmentation, Flip, Shift, augment
from aecli.runs import commits
from aecli.runs.directory import Run
from aecli.system.placement import placement
from aecli.training.call import advance

DATA = dataset()
BOTH = (Flip(name="flip"), Shift(name="shift", pixels=2))
AUGMENT = "augment: [{name: flip}, {name: shift, pixels: 2}]"


def shifted(image: NDArray[Any], down: int, right: int, fill: str) -> NDArray[Any]:
    """[H, W, C], pixel by pixel."""
    height, width, _ = image.shape
    made = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            at = y - down, x - right
            if fill == "edge":
                made[y, x] = image[min(max(at[0], 0), height - 1), min(max(at[1], 0), width - 1)]
            elif 0 <= at[0] < height and 0 <= at[1] < width:
                made[y, x] = image[at]
    return made


def shift(fill: Any) -> tuple[Augmentation, dict[Any, Any]]:
    moves = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return Shift(name="shift", pixels=1, fill=fill), {move: lambda x, m=move: shifted(x, *m, fill) for move in moves}


CASES: dict[str, tuple[Augmentation, dict[Any, Any], dict[Any, float]]] = {
    "flip": (Flip(name="flip", p=0.3), {False: lambda x: x, True: lambda x: x[:, ::-1]}, {False: 0.7, True: 0.3}),
    **{f"shift-{fill}": (*(pair := shift(fill)), dict.fromkeys(pair[1], 1 / 9)) for fill in ("edge", "zero")},
}


@pytest.mark.parametrize("case", CASES)
def test_each_image_becomes_one_of_the_images_that_it_may_as_often_as_it_should(case: str) -> None:
    """Among them itself. Images of unlike pixels tell which; frequencies of 4,500 are held to five standard deviations."""
    augmentation, made_by, chances = CASES[case]
    n, image = 4500, np.arange(1, 4 * 5 * 3 + 1, dtype=np.uint8).reshape(4, 5, 3)
    made = np.asarray(augmentation(jnp.broadcast_to(image, (n, *image.shape)), jax.random.key(1)))
    assert made.dtype == image.dtype
    expected = {make(image).tobytes(): which for which, make in made_by.items()}
    found = Counter(expected[each.tobytes()] for each in made)
    for which, chance in chances.items():
        assert abs(found[which] / n - chance) < 5 * (chance * (1 - chance) / n) ** 0.5, which


def test_several_are_applied_in_their_order_each_with_draws_of_its_own() -> None:
    image, key = jnp.asarray(blobs(6).images), jax.random.key(2)
    flip, move = BOTH
    first = flip(image, jax.random.fold_in(key, 0))
    assert jnp.array_equal(augment(BOTH, image, key), move(first, jax.random.fold_in(key, 1)))
    assert augment((), image, key) is image


class Spy(Model):
    """Keeps the last batch as its state."""

    def init(self, key: jax.Array, spec: Spec, recipe: Recipe) -> Batch:
        image = jnp.zeros((16, *spec.shape))
        return Batch(image, jnp.zeros(16, jnp.int32), jnp.ones(16, bool), image)

    def train_step(self, state: Batch, batch: Batch, key: jax.Array) -> tuple[Batch, Values]:
        kept = batch if batch.intensity is not None else batch._replace(intensity=batch.image)
        return kept, {"loss": batch.image.mean(axis=(1, 2, 3))}

    def evaluate(self, state: Batch, batch: Batch, key: jax.Array) -> Values:
        raise NotImplementedError


@pytest.mark.parametrize("binarize", ["none", "dynamic", "fixed"])
def test_a_batch_is_augmented_by_the_key_of_its_step_before_it_is_binarized(binarize: Any) -> None:
    place, root, step = placement(16), jax.random.key(0), 5
    feed = open_feed(DATA, 0, 16, place)
    given = Spy().init(root, DATA.spec, Recipe(experiment("variant: vae").optimizer, 1))
    span = np.int32(3), np.int32(step - 3 + 1)  # several steps in a call, of which the last is looked at
    seen, *_ = advance(Spy(), DATA.spec, binarize, BOTH, given, feed.chunk(3, 3), *span, root)
    image, label = feed.chunk(step, 1).batch(jnp.int32(0), DATA.spec)
    expected = to_unit(augment(BOTH, image, stream(root, Stream.AUGMENT, step)))
    assert not jnp.array_equal(expected, to_unit(image))
    assert jnp.array_equal(seen.intensity, expected) and jnp.array_equal(seen.label, label)
    drawn = expected if binarize == "none" else draw(expected, stream(root, Stream.BINARIZE, step))
    assert jnp.array_equal(seen.image, drawn)


def test_training_alone_sees_augmented_images(tmp_path: Path) -> None:
    """With weights that hardly move, what is measured of held-out images is the same."""
    still = "name: sgd, learning_rate: 1e-30, b1: 0"
    rows = []
    for name, more in (("plain", ""), ("augmented", f", {AUGMENT}")):
        e = experiment("variant: bottleneck, latent: 3, hidden: [8]", "steps: 3", f"batch_size: 16{more}", still)
        run, _ = fit(tmp_path / name, e, DATA)
        rows.append({row.split: row.values["loss"] for row in run.rows()})
    plain, augmented = rows
    assert plain["validation"] == augmented["validation"] and plain["train"] != augmented["train"]


def test_a_run_that_goes_on_sees_what_it_would_have_seen(tmp_path: Path) -> None:
    def of(steps: int) -> Any:
        return experiment(
            "variant: vae, hidden: [12], latent: 3", f"steps: {steps}", f"batch_size: 16, binarize: dynamic, {AUGMENT}"
        )

    whole, _ = fit(tmp_path / "whole", of(7), DATA)
    cut, _ = fit(tmp_path / "cut", of(4), DATA)
    go_on(cut, of(7), DATA)
    assert arrays(cut) == arrays(whole)


def arrays(run: Run) -> dict[str, str]:
    return {leaf.path: leaf.sha256 for leaf in commits.read(run.checkpoints, 7).leaves}


def test_check_refuses_what_moves_images_out_of_sight(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(TINY)
    assert called("check", "c.yaml", "--set", "data.augment={name: shift, pixels: 7}", cwd=tmp_path).returncode == 0
    far = called("check", "c.yaml", "--set", "data.augment={name: shift, pixels: 8}", cwd=tmp_path)
    assert far.returncode == 2 and "8 pixels move images of 8x8 out of sight" in far.stderr
