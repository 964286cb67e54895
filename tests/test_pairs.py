"""Pairs of images, of which a model is given one and makes the other."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import call
from fit import blobs, experiment, fit, go_on, new_run, subject
from own_files import gray, labels_by_name, opened, rows_of, save
from process import called

import aecli
from aecli.config.schema import Data
from aecli.core.contract import ContractError
from aecli.core.keys import Stream, stream
from aecli.core.learner import Recipe
from aecli.core.model import Batch, Model, Spec, Values
from aecli.data.dataset import Dataset
from aecli.data.eval_batches import batches
from aecli.data.rows import ArrayRows, PairedRows, as_kept, choose
from aecli.data.train_batches import open_feed, to_unit
from aecli.distributions.augmentations import Flip, Shift, augment
from aecli.distributions.corruptions import GaussianNoise, Paired, corrupt_batch, give_batch
from aecli.errors import DataError, SettingError
from aecli.evaluation import registry
from aecli.runs.state import check_model
from aecli.runs.trained import load
from aecli.sampling.given import Given
from aecli.sampling.modes import MODES
from aecli.sampling.pictures import to_uint8
from aecli.sampling.request import SampleRequest
from aecli.system.placement import placement
from aecli.training.call import advance

SPEC = Spec(8, 8, 1, 3, paired=True)
GIVEN = "given: {name: paired}"


def write_pairs(root: Path, names: Any, where: str = "{side}/{name}.png", shape: tuple[int, ...] = (6, 5)) -> Path:
    """Images at random, each beside its negative."""
    for name in names:
        image = gray(sum(map(ord, name)), shape)
        save(root / where.format(side="image", name=name), image)
        save(root / where.format(side="given", name=name), 255 - image)
    return root


def negatives(train: int = 96, held_out: int = 32, tier: str = "device", paired: bool = True) -> Dataset:
    """Images, each paired with its negative; or the same images alone."""
    splits: list[Any] = []
    for seed, n in enumerate((train, held_out, held_out)):
        rows = blobs(n, SPEC.shape, seed)
        both = ArrayRows(np.concatenate([rows.images, 255 - rows.images], axis=-1), rows.labels)
        splits.append(PairedRows(both) if paired else rows)
    return Dataset(SPEC._replace(paired=paired), *splits, tier, f"negatives {train} {held_out} {paired}")


LAYOUTS = {
    "at the top": "{side}/{name}.png",
    "below splits": "{split}/{side}/{name}.png",
    "above splits": "{side}/{split}/{name}.png",
    "with labels": "{split}/{side}/{label}/{name}.png",
    "below labels": "{label}/{side}/{name}.png",
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tier", ["auto", "stream"])
def test_an_image_stands_before_what_is_given_under_its_name(fresh: Path, tmp_path: Path, layout: str, tier: str) -> None:
    for i in range(12):
        parts = {"side": "{side}", "split": "test" if i > 8 else "train", "label": "ab"[i % 2], "name": f"{i}"}
        write_pairs(tmp_path / "own", [f"{i}"], LAYOUTS[layout].format_map(parts))
    for path in sorted((tmp_path / "own").rglob("given/**/*.png"))[::3]:
        path.rename(path.with_suffix(".bmp"))  # what a file is called does not matter: it is read as what it is
    dataset, told = opened("pairs", tmp_path / "own", tier=tier)
    labels = "of 2 classes (a, b)" if "label" in layout else "without labels"
    assert f"12 images {labels}, 6x5 gray" in told and "each is given the one of its name in 'given'" in told
    assert dataset.spec == Spec(6, 5, 1, 2 if "label" in layout else 0, paired=True)
    assert [len(dataset.train), len(dataset.test)] == ([9, 3] if "split" in LAYOUTS[layout] else [11, 1])
    if "label" in layout:
        assert labels_by_name(dataset) == {"a": 6, "b": 6}
    for split in ("train", "test"):
        rows, (images, _) = dataset.split(split), rows_of(dataset, split)
        both = as_kept(rows).all()[0]
        assert images.shape == (len(rows), 6, 5, 1) and both.shape == (len(rows), 6, 5, 2)
        assert np.array_equal(both[..., :1], images) and np.array_equal(both[..., 1:], 255 - images)
        assert np.array_equal(rows.all()[0], images) and np.array_equal(rows.part(1, len(rows)).all()[0], images[1:])


def test_the_images_are_those_of_a_folder_of_them_alone_in_its_order(fresh: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path / "own", [f"{i}" for i in range(20)], shape=(6, 5, 3))
    pairs, alone = opened("pairs", tmp_path / "own")[0], opened("folder", tmp_path / "own" / "image")[0]
    assert pairs.spec._replace(paired=False) == alone.spec and alone.spec.channels == 3
    for split in ("train", "test"):
        assert np.array_equal(rows_of(pairs, split)[0], rows_of(alone, split)[0])


def test_equal_pairs_have_equal_fingerprints_and_no_others(fresh: Path, tmp_path: Path) -> None:
    names = [f"{i}" for i in range(8)]
    own = write_pairs(tmp_path / "own", names)
    first = opened("pairs", own)[0].fingerprint
    assert opened("pairs", own, tier="stream")[0].fingerprint == first
    assert opened("pairs", shutil.copytree(own, tmp_path / "copy"))[0].fingerprint == first
    assert opened("folder", own / "image")[0].fingerprint != first
    other = shutil.copytree(own, tmp_path / "other")
    save(other / "given" / "3.png", gray(99))
    swapped = tmp_path / "swapped"
    for side, from_ in (("image", "given"), ("given", "image")):
        shutil.copytree(own / from_, swapped / side)
    assert len({first, *(opened("pairs", path)[0].fingerprint for path in (other, swapped))}) == 3


def without(name: str) -> Callable[[Path], object]:
    def change(own: Path) -> None:
        path = own / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def emptied(own: Path) -> None:
    for path in (own / "given").iterdir():
        path.rename(path.with_suffix(".txt"))


def colour(own: Path, *names: str) -> None:
    for name in names:
        save(own / f"{name}.png", gray(1, (6, 5, 3)))


WRONG: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no folder": (without(""), "does not exist", "data.path"),
    "no given": (without("given"), "holds no folder 'given', only image", "into a folder 'image'"),
    "other names": (
        lambda own: ((own / "image").rename(own / "photos"), (own / "given").rename(own / "edges")),
        "holds no folders 'image' and 'given', only edges, photos",
        "into a folder 'image'",
    ),
    "empty": (emptied, "given holds no images (left out: 6 .txt)", "put images there"),
    "empty split": (
        lambda own: [
            write_pairs(own / "train", "ab"),
            (own / "test").mkdir(),
            [without(side)(own) for side in ("image", "given")],
        ],
        "{own}/test holds no folder 'image'",
        "into a folder 'image'",
    ),
    "one alone": (without("given/3.png"), "1 of 6 in {own}/image are not in 'given' (3)", "one name"),
    "both alone": (
        lambda own: [(own / "given" / f"{i}.png").rename(own / "given" / f"{i}_edges.png") for i in range(6)],
        "6 of 6 in {own}/image are not in 'given' (0, 1, 2 and 3 more); 6 of 6 in {own}/given are not in 'image' (0_edges, ",
        "one name",
    ),
    "one name twice": (lambda own: save(own / "image" / "3.bmp", gray()), "3.png have one name in 'image'", "remove one"),
    "beside": (lambda own: save(own / "x.png", gray()), "holds images beside the folders image, given: x.png", "move them away"),
    "another folder": (lambda own: save(own / "mask/x.png", gray()), "beside the folders image, given: mask", "move them away"),
    "sizes apart": (
        lambda own: [save(own / "given" / f"{i}.png", gray(i, (4, 4))) for i in range(6)],
        ".png is 6x5 gray, and {own}/given/",
        "set data.size: [height, width] to resize both",
    ),
    "colour apart": (
        lambda own: colour(own / "given", *map(str, range(6))),
        "what is given, 6x5 colour",
        "set data.channels: 3 for colour or 1 for gray of both",
    ),
    "sizes among": (lambda own: save(own / "given" / "0.png", gray(0, (9, 9))), "9x9 gray", "data.size"),
    "unreadable": (lambda own: (own / "given" / "2.png").write_bytes(b"\x89PNG"), "given/2.png: no readable image", "replace"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_are_no_pairs_is_refused_with_the_place_and_the_fix(fresh: Path, tmp_path: Path, case: str) -> None:
    change, message, fix = WRONG[case]
    own = write_pairs(tmp_path / "own", [f"{i}" for i in range(6)])
    change(own)
    with pytest.raises(DataError) as caught:
        opened("pairs", own)
    assert message.format(own=own) in caught.value.message and fix in (caught.value.help or "")


def test_pairs_are_brought_to_one_form_and_chosen_by_their_class(fresh: Path, tmp_path: Path) -> None:
    own = write_pairs(tmp_path / "own", [f"{i}" for i in range(6)])
    colour(own / "given", *map(str, range(6)))
    assert opened("pairs", own, channels=3)[0].spec.shape == (6, 5, 3)
    assert opened("pairs", own, channels=1, size=(4, 4))[0].spec.shape == (4, 4, 1)
    labelled = write_pairs(tmp_path / "labelled", [f"{label}/{i}" for label in "ab" for i in range(6)])
    data, _ = opened("pairs", labelled, classes=("b",), test=0.4)
    assert len(data.train) + len(data.test) == 6 and set(data.train.labels) == {1}
    assert np.array_equal(*(as_kept(data.train).all()[0][..., i] ^ (255 * i) for i in (0, 1))), "both images of a pair stay one"
    with pytest.raises(ValueError, match="binarize is for images alone, and these are pairs"):
        Data(name="pairs", path="x", binarize="dynamic")


# What a model sees


class Spy(Model):
    """Keeps the last batch as its state."""

    def init(self, key: jax.Array, spec: Spec, recipe: Recipe) -> Batch:
        return Batch(jnp.zeros((8, *spec.shape)), jnp.zeros(8, jnp.int32), jnp.ones(8, bool), pair=jnp.zeros((8, *spec.shape)))

    def train_step(self, state: Batch, batch: Batch, key: jax.Array) -> tuple[Batch, Values]:
        return batch, {"loss": batch.image.mean(axis=(1, 2, 3))}

    def evaluate(self, state: Batch, batch: Batch, key: jax.Array) -> Values:
        raise NotImplementedError


@pytest.mark.parametrize("tier", ["device", "memmap"])
def test_augmentations_move_both_images_of_a_pair_alike(tier: str) -> None:
    data, place, root, both = (
        negatives(tier=tier),
        placement(8),
        jax.random.key(0),
        (Flip(name="flip"), Shift(name="shift", pixels=2)),
    )
    feed = open_feed(data, 0, 8, place)
    before = Spy().init(root, data.spec, Recipe(experiment("variant: vae").optimizer, 1))
    seen, *_ = advance(Spy(), data.spec, "none", both, before, feed.chunk(3, 1), np.int32(3), np.int32(1), root)
    plain, _ = feed.chunk(3, 1).batch(jnp.int32(0), data.spec)
    assert not jnp.array_equal(seen.image, to_unit(plain[..., :1]))
    assert seen.pair is not None and jnp.allclose(seen.pair, 1 - seen.image, atol=1e-6)
    assert jnp.array_equal(seen.image, to_unit(augment(both, plain, stream(root, Stream.AUGMENT, 3)))[..., :1])


def test_every_pair_comes_once_and_stays_one(fresh: Path) -> None:
    data = negatives(held_out=20)
    for rows in (data.test, choose(data.test, 7, 0)):
        found = [(batch, real) for batch, _, real in batches(rows, "none", jax.random.key(0), placement(8), size=8)]
        assert sum(real for _, real in found) == len(rows)
        for batch, _ in found:
            assert batch.image.shape == (8, 8, 8, 1) and jnp.allclose(batch.pair, 1 - batch.image, atol=1e-6)


def test_a_model_that_is_shown_no_pairs_trains_as_on_the_images_alone(tmp_path: Path) -> None:
    e = experiment("variant: vae, hidden: [12], latent: 3", "steps: 6", "batch_size: 16, augment: {name: flip}")
    found = [fit(tmp_path / str(paired), e, negatives(paired=paired)) for paired in (True, False)]
    for a, b in zip(*(jax.tree.leaves(training.state) for _, training in found), strict=True):
        assert np.array_equal(a, b)
    first, other = (
        [(row.split, {name: value for name, value in row.values.items() if "second" not in name}) for row in run.rows()]
        for run, _ in found
    )
    assert [row for row in first if row[0] == "validation"] == [row for row in other if row[0] == "validation"] != []


def test_what_is_shown_of_a_pair_is_the_other_image_and_what_else_is_done_is_done_to_it() -> None:
    image, pair = jax.random.uniform(jax.random.key(0), (2, 4, 8, 8, 1))
    batch, key = Batch(image, jnp.zeros(4, jnp.int32), jnp.ones(4, bool), pair=pair), jax.random.key(1)
    alone, noisy = (Paired(name="paired"),), (Paired(name="paired"), GaussianNoise(name="gaussian", sigma=0.1))
    shown = corrupt_batch(alone, batch, key)
    assert jnp.array_equal(shown.image, pair) and shown.hidden is None
    assert 0 < jnp.abs(corrupt_batch(noisy, batch, key).image - pair).mean() < 0.2
    given = give_batch(alone, batch, key)
    assert jnp.array_equal(given.image, image) and given.given is not None and jnp.array_equal(given.given, pair)
    outline: Any = experiment("variant: vae, given: {name: outline, threshold: 0.25}").model
    assert jnp.array_equal(outline.give(batch, key).given, outline.give(batch._replace(pair=None), key).given)
    with pytest.raises(ContractError, match="holds no pairs"):
        corrupt_batch(alone, batch._replace(pair=None), key)


@pytest.mark.parametrize("setting", ["vae, given", "autoregressive, given", "denoising, corruption"])
def test_models_of_pairs_are_refused_where_there_are_none(setting: str) -> None:
    one, two = (
        experiment(f"variant: {setting}: {corruption}")
        for corruption in ("{name: paired}", "[{name: gaussian, sigma: 0.1}, {name: paired}]")
    )
    check_model(one, SPEC)
    with pytest.raises(SettingError, match="paired: the data has no pairs") as caught:
        check_model(one, SPEC._replace(paired=False))
    assert caught.value.path == ("model", setting.split()[-1]) and caught.value.help == "set data.name: pairs"
    with pytest.raises(SettingError, match="undoes what is before it"):
        check_model(two, SPEC)


@pytest.mark.parametrize("variant", ["bottleneck", "sparse", "vae"])
def test_a_model_whose_codes_are_of_images_is_not_shown_others(variant: str) -> None:
    with pytest.raises(SettingError, match="of the images that it makes, which it is not shown"):
        check_model(experiment(f"variant: {variant}, corruption: {{name: paired}}"), SPEC)


# What becomes of it


def test_a_restorer_learns_to_make_images_of_their_negatives(tmp_path: Path) -> None:
    text = "variant: denoising, net: unet, hidden: [16], corruption: {name: paired}"
    optimizer = "learning_rate: 1e-2, schedule: cosine, clip_norm: 1.0"
    e = experiment(text, "steps: 400, eval_every: 100", "batch_size: 32", optimizer)
    data = negatives(320)
    _, training = fit(tmp_path, e, data)
    found = registry.evaluate(subject(e.model, training.state, data), ["denoising", "reconstruction"])
    restored = found["denoising"].metrics["psnr_db (paired)"]
    assert restored.value is not None and restored.value > 25
    assert restored.baselines["corrupted"] < 10 and restored.baselines["affine, clipped"] > 50
    assert found["reconstruction"].metrics["corrupted_psnr_db"].value == pytest.approx(restored.baselines["corrupted"], rel=1e-4)
    batch = subject(e.model, training.state, data).few(8)[0]
    assert batch.pair is not None
    codes = [call(e.model, "encode", training.state, one) for one in (batch, batch._replace(image=batch.pair, pair=None))]
    assert jnp.array_equal(*codes), "the net is shown the given images, so codes are of these"


MODELS = {
    "autoregressive": f"variant: autoregressive, net: gmlp, levels: 4, width: 16, layers: 1, patch: 2, {GIVEN}",
    "vae": f"variant: vae, hidden: [32], latent: 3, likelihood: gaussian, {GIVEN}",
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_given_the_other_image_draws_what_it_may_be_of(name: str, tmp_path: Path) -> None:
    data = negatives(320)
    run, training = fit(tmp_path, experiment(MODELS[name], "steps: 300, eval_every: 100", "batch_size: 32"), data)
    trained = load(run, "last", print)
    found = registry.evaluate(subject(trained.model, training.state, data), ["translation"])["translation"].metrics
    assert "given_mse" not in found, "what is given is not made of a draw"
    drawn = found["draw_psnr_db"]
    assert drawn.value is not None and drawn.value > 12 and drawn.baselines["affine, clipped"] > 50
    shown = MODES["translate"].show(Given(trained, lambda: data, 3, SampleRequest())).arrays
    assert np.array_equal(shown["given"], 255 - shown["image"]) and str(shown["corruption"]) == "paired"
    near, far = (np.abs(shown["draws"].astype(int) - shown["image"][np.roll(np.arange(3), by), None]).mean() for by in (0, 1))
    assert near < far


@pytest.mark.parametrize("model", ["variant: denoising, hidden: [8], corruption: {name: paired}", MODELS["autoregressive"]])
def test_a_run_on_pairs_goes_on_with_equal_bits(model: str, tmp_path: Path) -> None:
    data = negatives()

    def of(steps: int) -> Any:
        return experiment(model, f"steps: {steps}, checkpoint_every: 3", "batch_size: 16, augment: {name: flip}")

    _, straight = fit(tmp_path / "one", of(6), data)
    run = new_run(tmp_path / "two", of(6), data)
    go_on(run, of(3), data)
    resumed = go_on(run, of(6), data)
    for a, b in zip(jax.tree.leaves(straight.state), jax.tree.leaves(resumed.state), strict=True):
        assert np.array_equal(a, b)


CONFIG = """\
data: {name: pairs, path: own, batch_size: 8, validation: 4}
model: {variant: denoising, hidden: [4], corruption: {name: paired}}
train: {steps: 4}
"""
GIVEN_CONFIG = CONFIG.replace("denoising, hidden: [4], corruption", "vae, hidden: [4], latent: 2, given")


def test_a_restorer_of_pairs_from_the_config_to_files_that_it_is_given(fresh: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path / "own", [f"{i}" for i in range(40)])
    (tmp_path / "c.yaml").write_text(CONFIG)
    checked = called("check", "c.yaml", cwd=tmp_path)
    assert checked.returncode == 0 and "40 images without labels, 6x5 gray" in checked.stderr
    assert "warning" not in checked.stderr
    trained = called("train", "c.yaml", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert called("train", "--resume", "last", "--set", "train.steps=6", cwd=tmp_path).returncode == 0
    measured = called("eval", "last", cwd=tmp_path)
    assert measured.returncode == 0 and "psnr_db (paired)" in measured.stdout, measured.stderr
    assert called("sample", "last", "--mode", "denoise", "-n", 3, cwd=tmp_path).returncode == 0
    applied = called("reconstruct", "last", "own/given", "-o", "made.npz", cwd=tmp_path)
    assert applied.returncode == 0, applied.stderr
    with np.load(tmp_path / "made.npz") as made:
        assert made["image"].shape == (40, 6, 5, 1) and made["name"][0] == "0.png"
    both = called("reconstruct", "last", "own", "-o", "both.npz", cwd=tmp_path)
    assert both.returncode == 3 and "own holds pairs" in both.stderr and "own/given" in both.stderr
    assert called("reconstruct", "last", "--split", "test", "-o", "split.npz", cwd=tmp_path).returncode == 0
    run = aecli.load(tmp_path / "runs" / trained.stdout.strip())
    split = run.data()
    assert split.images.shape == (4, 6, 5, 1), "the images, and not what is given"
    with np.load(tmp_path / "split.npz") as made:
        np.testing.assert_array_equal(made["image"], to_uint8(run.reconstruct(run.data(given=True).images)))
        assert not np.array_equal(made["image"], to_uint8(run.reconstruct(split.images)))
    for config, message in (
        ("data: {name: folder, path: own/image}", "the model is shown the image that its data pairs with each"),
        ("data: {name: pairs, path: own}", "the run's own data"),
    ):
        (tmp_path / "other.yaml").write_text(config)
        other = called("eval", "last", "--data", "other.yaml", "--only", "denoising", cwd=tmp_path)
        assert other.returncode == (0 if "own data" in message else 3) and message in other.stderr


def test_a_model_given_one_of_a_pair_takes_no_images_alone(fresh: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path / "own", [f"{i}" for i in range(40)])
    (tmp_path / "c.yaml").write_text(GIVEN_CONFIG)
    trained = called("train", "c.yaml", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert called("sample", "last", "--mode", "translate", "-n", 3, cwd=tmp_path).returncode == 0
    assert called("encode", "last", "--split", "test", "-o", "own.npz", cwd=tmp_path).returncode == 0
    refused = called("encode", "last", "own/image", "-o", "alone.npz", cwd=tmp_path)
    assert refused.returncode == 3 and "these images have none" in refused.stderr, refused.stderr
    run = aecli.load(tmp_path / "runs" / trained.stdout.strip())
    with pytest.raises(DataError, match="these images have none"):
        run.score(np.zeros((2, 6, 5, 1), np.uint8))


def test_check_tells_what_is_wrong_and_what_is_unused(fresh: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path / "own", [f"{i}" for i in range(40)])
    (tmp_path / "c.yaml").write_text(CONFIG)
    unpaired = called("check", "c.yaml", "--set", "data={name: digits, batch_size: 8}", cwd=tmp_path)
    assert unpaired.returncode == 2 and "paired: the data has no pairs" in unpaired.stderr, unpaired.stderr
    unused = called("check", "c.yaml", "--set", "model={variant: vae, hidden: [4], latent: 2}", cwd=tmp_path)
    assert unused.returncode == 0 and "the model is shown the images alone" in unused.stderr
    (tmp_path / "own" / "given" / "7.png").unlink()
    alone = called("check", "c.yaml", cwd=tmp_path)
    assert alone.returncode == 3 and "1 of 40 in" in alone.stderr and "(7)" in alone.stderr
