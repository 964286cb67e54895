"""Every way to show a model, for every variant that can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fit import dataset, experiment, fit, new_run
from PIL import Image

from aecli.config import variants
from aecli.core.abilities import Activates
from aecli.core.model import Spec
from aecli.errors import UsageError
from aecli.runs.trained import Trained, load
from aecli.sampling import limits
from aecli.sampling.beside import known_region
from aecli.sampling.given import Given
from aecli.sampling.maps import PROJECTIONS, _projected
from aecli.sampling.modes import MODES, check_mode, modes_of
from aecli.sampling.request import SampleRequest
from aecli.sampling.scatter import _colour, scatter
from aecli.sampling.walks import _spherical
from aecli.verbs.sample import sample

DATA = dataset(train=60, held_out=30)
MODELS = {
    "autoregressive": "levels: 4, width: 8, layers: 1, patch: 2, conditional: true",
    "bottleneck": "net: linear, latent: 3",
    "denoising": "net: mlp, hidden: [12], latent: 9",
    "gan": "hidden: [16], conditional: true",
    "hvae": "hidden: 12, latent: 3, conditional: true",
    "sparse": "units: 30, k: 4",
    "vae": "hidden: [12], latent: 3, conditional: true",
    "vq": "hidden: [4], codes: 8, dimension: 2, prior_width: 8, prior_layers: 1",
}


@pytest.fixture(scope="module", params=variants.variants())
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    text = f"variant: {request.param}, {MODELS.get(request.param, '')}".rstrip(", ")
    run, _ = fit(tmp_path_factory.mktemp("runs"), experiment(text, "steps: 30"), DATA)
    return load(run, "last", print)


def ask(trained: Trained, n: int, **more: Any) -> Given:
    return Given(trained, lambda: DATA, n, SampleRequest(**more))


def test_units_of_vectors_are_had_as_arrays() -> None:
    with pytest.raises(UsageError, match="cannot do --mode codes") as refused:
        check_mode(experiment("variant: sparse").model, "codes", "vector")
    assert "dictionary()" in str(refused.value.help) and "aecli encode" in str(refused.value.help)


def test_every_mode_has_a_variant() -> None:
    assert set(MODELS) <= set(variants.variants())
    texts = [
        *(f"variant: {name}, {more}" for name, more in MODELS.items()),
        "variant: vae, given: {name: outline, threshold: 0.2}",
    ]
    can = {mode for text in texts for mode in modes_of(experiment(text).model)}
    assert can == set(MODES)


def test_a_mode_shows_the_same_for_the_same_seed_and_keeps_its_arrays(trained: Trained) -> None:
    for name in modes_of(trained.model):
        first, again = (MODES[name].show(ask(trained, 3, seed=1)) for _ in range(2))
        assert first.picture.width > 100 and first.picture.tobytes() == again.picture.tobytes(), name
        assert first.arrays and all(np.array_equal(first.arrays[key], again.arrays[key]) for key in first.arrays), name
        other = MODES[name].show(ask(trained, 3, seed=2))
        if name != "codes":  # which shows the units that are most often active on all images
            assert any(not np.array_equal(first.arrays[key], other.arrays[key]) for key in first.arrays), name


def test_a_low_temperature_draws_less_varied_images(trained: Trained) -> None:
    if "prior" not in modes_of(trained.model):
        pytest.skip("does not sample")
    wild, calm = (MODES["prior"].show(ask(trained, 30, temperature=t)).arrays["image"].astype(float) for t in (1.0, 0.05))
    assert calm.std(0).mean() < wild.std(0).mean()


def test_a_walk_begins_and_ends_at_the_reconstructions(trained: Trained) -> None:
    if "interpolate" not in modes_of(trained.model):
        pytest.skip("does not encode and decode")
    for path in ("linear", "spherical"):
        shown = MODES["interpolate"].show(ask(trained, 2, path=path))
        made, code = shown.arrays["image"], shown.arrays["code"]
        assert made.shape[:2] == (2, 10) and np.isfinite(code).all()
        linear = MODES["interpolate"].show(ask(trained, 2)).arrays["image"]
        assert np.abs(made[:, [0, -1]].astype(int) - linear[:, [0, -1]]).max() <= 1


def test_a_great_circle_keeps_the_length_of_codes_of_one_length() -> None:
    rng = np.random.default_rng(0)
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in rng.standard_normal((2, 5, 4)))
    walk = _spherical(a, b, np.linspace(0, 1, 7)[:, None, None])
    assert np.allclose(np.linalg.norm(walk, axis=2), 1)
    assert np.allclose(walk[0], a) and np.allclose(walk[-1], b)
    assert np.allclose(_spherical(a, 2 * a, np.full((1, 1, 1), 0.5))[0], 1.5 * a)


def test_completion_keeps_what_is_given(trained: Trained, tmp_path: Path) -> None:
    if "complete" not in modes_of(trained.model):
        pytest.skip("does not complete")
    mask = np.zeros((8, 8), np.uint8)
    mask[:3] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for region in ("upper", "left", "block", str(tmp_path / "mask.png")):
        shown = MODES["complete"].show(ask(trained, 3, region=region))
        known = shown.arrays["known"]
        assert 0 < known.sum() < 64
        assert np.array_equal(shown.arrays["completion"][:, known], shown.arrays["image"][:, known]), region
    assert known_region(str(tmp_path / "mask.png"), 8, 8)[:3].all()


def test_a_region_that_is_none_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such region"):
        known_region("lower", 8, 8)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UsageError, match="no readable image"):
        known_region(str(tmp_path / "text.png"), 8, 8)
    Image.fromarray(np.full((4, 4), 0, np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(UsageError, match="4x4 pixels for images of 8x8"):
        known_region(str(tmp_path / "small.png"), 8, 8)
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "white.png")
    with pytest.raises(UsageError, match="none is left to draw"):
        known_region(str(tmp_path / "white.png"), 8, 8)


def test_neighbours_are_the_nearest_train_images(trained: Trained) -> None:
    if "neighbours" not in modes_of(trained.model):
        pytest.skip("does not sample")
    shown = MODES["neighbours"].show(ask(trained, 4))
    flat, train = (x.reshape(len(x), -1) / 255 for x in (shown.arrays["image"], DATA.train.images))
    distance = np.linalg.norm(flat[:, None] - train[None], axis=2)
    assert np.allclose(shown.arrays["distance"], np.sort(distance, axis=1)[:, :3], atol=1e-3)


def test_units_are_shown_by_how_often_they_are_active(trained: Trained) -> None:
    if "codes" not in modes_of(trained.model):
        pytest.skip("has no sparse units")
    shown = MODES["codes"].show(ask(trained, 5))
    assert (np.diff(shown.arrays["density"]) <= 0).all() and len(set(shown.arrays["unit"])) == 5
    assert (np.diff(np.abs(shown.arrays["activation"]), axis=1) <= 1e-6).all()


def test_codes_in_a_plane_are_those_of_the_images_and_keep_their_distances(trained: Trained) -> None:
    if "map" not in modes_of(trained.model):
        pytest.skip("has no code")
    shown = MODES["map"].show(ask(trained, 12)).arrays
    code, point = shown["code"].astype(np.float64), shown["point"]
    assert len(code) == 12 and len(set(shown["label"])) > 1
    assert ("active" in shown) == isinstance(trained.model, Activates)
    if code.shape[1] > 2:  # the plane of the two largest singular values
        kept = np.linalg.svd(code - code.mean(0), compute_uv=False)[:2]
        assert np.allclose(np.sort(np.linalg.norm(point - point.mean(0), axis=0)), np.sort(kept), rtol=1e-3, atol=1e-5)
    near = MODES["map"].show(ask(trained, 12, projection="tsne")).arrays
    assert np.array_equal(near["code"], shown["code"]) and near["point"].shape == (12, 2)
    with pytest.raises(UsageError, match="pca and tsne"):
        MODES["map"].show(ask(trained, 12, projection="umap"))


@pytest.mark.parametrize("latents", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_plane_shows_few_codes_and_few_latents_as_they_are(latents: int, n: int) -> None:
    code = np.random.default_rng(0).standard_normal((n, latents))
    for projection in PROJECTIONS:
        points, _ = _projected(code, projection, 0)
        assert np.array_equal(points[:, :latents], code) and points.shape == (n, 2)
        more = _projected(np.repeat(code, 3, 1), projection, 0)[0]
        assert more.shape == (n, 2) and np.isfinite(more).all()


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_codes_that_are_all_equal_lie_at_one_place(projection: str) -> None:
    points, _ = _projected(np.ones((8, 5)), projection, 0)
    assert not points.any() and points.shape == (8, 2)


def test_each_class_has_a_colour_of_its_own_in_a_plane() -> None:
    for classes in (1, 2, 10, 11, 40, 200):
        assert len({_colour(label, classes) for label in range(classes)}) == classes
    picture = scatter(np.zeros((3, 2)), np.array([0, 5, -1]), ["<b>"] * 6, ("x", "y"))  # all at one place
    assert picture.size[0] > picture.size[1]


def test_a_class_is_a_line_and_needs_a_conditional_model() -> None:
    with pytest.raises(UsageError, match="conditional: true"):
        check_mode(experiment("variant: vae").model, "class")
    with pytest.raises(UsageError, match="cannot do --mode codes"):
        check_mode(experiment("variant: vae").model, "codes")


@pytest.mark.parametrize("mode", MODES)
def test_what_does_not_fit_into_memory_is_refused_with_the_number_that_does(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, images = Spec(512, 512, 3, 5), MODES[mode].images(Spec(512, 512, 3, 5))
    monkeypatch.setattr(limits, "free_memory", lambda: 2 * 7 * images * spec.size * limits.VALUE_BYTES)
    limits.check_room(7, images, spec)
    with pytest.raises(UsageError, match="-n 8 is") as caught:
        limits.check_room(8, images, spec)
    assert caught.value.help == "-n 7 or fewer"


def test_a_number_that_does_not_fit_is_refused_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    e = experiment("variant: vae, hidden: [4], latent: 2")
    run = new_run(tmp_path, e, DATA)
    monkeypatch.setattr(limits, "free_memory", lambda: 1)
    with pytest.raises(UsageError, match="-n 64 is 64 images"):
        sample(run, SampleRequest())
