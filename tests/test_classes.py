"""Some classes of a data set alone: the same rows from every source and in every tier, labels as among all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_files import labels_by_name, opened, rows_of, write_images
from process import TINY, called

import aecli
from aecli.config.schema import Data
from aecli.data.dataset import Dataset, open_dataset
from aecli.data.train_batches import open_feed
from aecli.errors import SettingError
from aecli.system.placement import placement

SPLITS = ("train", "validation", "test")


def digits(**settings: Any) -> Dataset:
    return open_dataset(Data(name="digits", batch_size=16, **settings))


def made(kind: str, folder: Path) -> Path:
    """Sixty examples of the classes 3, 6 and 9, or cat, cow and dog."""
    rng = np.random.default_rng(0)
    labels = np.repeat([3, 6, 9], 20)
    if kind == "folder":
        write_images(folder / "made", {"cat": 20, "cow": 20, "dog": 20})
        return folder / "made"
    if kind == "vectors":
        np.savez(folder / "made.npz", x=rng.normal(size=(60, 4)).astype(np.float32), label=labels)
    else:
        np.savez(folder / "made.npz", image=rng.integers(0, 256, (60, 6, 5), np.uint8), label=labels)
    return folder / "made.npz"


def test_the_images_of_some_classes_are_left_in_their_order_as_they_were() -> None:
    every, some = digits(), digits(classes=(7, 0))
    assert some.class_names == every.class_names and some.spec == every.spec and some.kept == (0, 7)
    images, labels = (np.concatenate(each) for each in zip(rows_of(every, "train"), rows_of(every, "validation"), strict=True))
    chosen = np.isin(labels, (0, 7))
    ours = [np.concatenate(each) for each in zip(rows_of(some, "train"), rows_of(some, "validation"), strict=True)]
    np.testing.assert_array_equal(ours[0], images[chosen])
    np.testing.assert_array_equal(ours[1], labels[chosen])
    assert len(some.validation) == round(0.1 * chosen.sum()), "the last part of what is left"
    held_out = rows_of(every, "test")
    np.testing.assert_array_equal(rows_of(some, "test")[0], held_out[0][np.isin(held_out[1], (0, 7))])
    np.testing.assert_array_equal(some.train.labels, rows_of(some, "train")[1])
    for rows, same in (
        (some.train.all(), rows_of(some, "train")),
        (some.train.part(3, 9).all(), some.train.take(np.arange(3, 9))),
    ):
        assert all(map(np.array_equal, rows, same))


def test_the_fingerprint_tells_which_images_are_left() -> None:
    names = [digits(classes=classes).fingerprint for classes in (None, (0, 1), (1, 0), ("0", 1), (0, 2), tuple(range(10)))]
    assert names[1] == names[2] == names[3] and len({names[0], names[1], names[4]}) == 3
    assert names[5] == names[0], "nothing is left out"


@pytest.mark.parametrize("kind", ["npz", "folder", "vectors"])
def test_every_source_and_tier_leaves_the_same(kind: str, fresh: Path, tmp_path: Path) -> None:
    path = made(kind, tmp_path)
    wanted = ("dog", "cat") if kind == "folder" else (9, 3)
    tiers = {tier: opened(kind, path, classes=wanted, tier=tier, validation=2) for tier in ("device", "memmap", "stream")}
    names = ("cat", "cow", "dog") if kind == "folder" else ("3", "6", "9")
    for dataset, told in tiers.values():
        assert dataset.class_names == names and dataset.kept == (0, 2)
        assert labels_by_name(dataset) == {names[0]: 20, names[1]: 0, names[2]: 20}
        assert f"data.classes keeps 40 of 60, of {names[0]}, {names[2]}" in told
        assert dataset.fingerprint == tiers["device"][0].fingerprint != opened(kind, path)[0].fingerprint
        for split in SPLITS:
            assert all(map(np.array_equal, rows_of(dataset, split), rows_of(tiers["device"][0], split)))
            np.testing.assert_array_equal(dataset.split(split).labels, rows_of(dataset, split)[1])


def test_classes_are_decoded_once_for_all_choices_of_them(fresh: Path, tmp_path: Path) -> None:
    path = made("folder", tmp_path)
    told = [opened("folder", path, classes=classes)[1] for classes in (("cat",), ("cat", "cow"), (0, 2), None)]
    assert ["decoding" in each for each in told] == [True, False, False, False]
    assert opened("folder", path, classes=(0, 2))[0].fingerprint == opened("folder", path, classes=("dog", "cat"))[0].fingerprint


def test_the_labels_of_a_stream_are_read_once(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made("npz", tmp_path)
    opened("npz", path, classes=(3,), tier="stream")
    monkeypatch.setattr("aecli.data.rows.StreamRows.labels", property(lambda _: pytest.fail("all images are read again")))
    assert labels_by_name(opened("npz", path, classes=(6,), tier="stream")[0])["6"] == 20


@pytest.mark.parametrize("tier", ["device", "memmap"])
def test_batches_are_of_the_classes_alone(tier: Any) -> None:
    data = digits(classes=(1, 5), tier=tier)
    chunk = open_feed(data, 0, 16, placement(16)).chunk(0, 8)
    batches = [chunk.batch(i, data.spec) for i in range(8)]
    assert {int(label) for _, labels in batches for label in labels} == {1, 5}


@pytest.mark.parametrize("binarize", ["dynamic", "fixed"])
def test_binary_images_are_of_the_classes_too(binarize: Any) -> None:
    some = digits(classes=(1, 5), binarize=binarize)
    assert set(rows_of(some, "test")[1].tolist()) == {1, 5} and len(some.intensity("test")) == len(some.test)


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("folder", {"classes": ("dgo",)}, "there is no class 'dgo'"),
        ("folder", {"classes": (3,)}, "there is no class 3"),
        ("folder", {"classes": ("dog", 2)}, "'dog' and 2 are one class"),
        ("folder", {"classes": ("cat",), "labels": "folders"}, None),
        ("npz", {"classes": (0,)}, "there is no class 0"),
        ("npz", {"classes": ("3", 3)}, "'3' and 3 are one class"),
        ("vectors", {"classes": ("a",)}, "there is no class 'a'"),
    ],
)
def test_other_classes_are_refused(kind: str, settings: dict[str, Any], said: str | None, fresh: Path, tmp_path: Path) -> None:
    path = made(kind, tmp_path)
    if said is None:
        assert opened(kind, path, **settings)[0].kept == (0,)
        return
    for tier in ("auto", "stream"):
        with pytest.raises(SettingError, match=said):
            opened(kind, path, tier=tier, **settings)


def test_check_knows_the_classes_of_a_data_set_that_is_not_prepared(fresh: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(TINY.replace("batch_size: 32", "batch_size: 32, classes: [3, 10]"))
    done = called("check", "c.yaml", cwd=tmp_path)
    assert done.returncode == 2 and "there is no class 10" in done.stderr, done.stderr


def test_what_has_no_labels_or_no_image_of_a_class_is_refused(fresh: Path, tmp_path: Path) -> None:
    images = np.zeros((9, 6, 5), np.uint8)
    np.savez(tmp_path / "bare.npz", image=images)
    with pytest.raises(SettingError, match=r"data\.classes: the data has no labels"):
        opened("npz", tmp_path / "bare.npz", classes=(0,))
    np.savez(tmp_path / "apart.npz", image=images, label=np.arange(9) % 3, test_image=images, test_label=np.arange(9) % 2)
    with pytest.raises(SettingError, match="no image of these classes in the test split"):
        opened("npz", tmp_path / "apart.npz", classes=(2,))


@pytest.mark.parametrize("decoded", [False, True], ids=["not decoded", "decoded"])
def test_check_counts_the_images_of_the_classes(decoded: bool, fresh: Path, tmp_path: Path) -> None:
    path = made("folder", tmp_path)
    if decoded:
        opened("folder", path)
    data, model = f"{{name: folder, path: {path}, batch_size: 25}}", "{variant: bottleneck, latent: 2}"
    (tmp_path / "c.yaml").write_text(f"data: {data}\nmodel: {model}\ntrain: {{steps: 1}}\n")
    assert called("check", "c.yaml", cwd=tmp_path).returncode == 0
    done = called("check", "c.yaml", "--set", "data.classes=[cat]", cwd=tmp_path)
    assert done.returncode == 2 and "a batch of 25 is larger than the" in done.stderr, done.stderr
    wrong = called("check", "c.yaml", "--set", "data.classes=[cat, bird]", cwd=tmp_path)
    assert wrong.returncode == 2 and "there is no class 'bird'" in wrong.stderr and "cat, cow, dog" in wrong.stderr


def test_a_run_on_some_classes_tells_the_others_apart(tmp_path: Path) -> None:
    text = TINY.replace("batch_size: 32", "batch_size: 32, classes: [0, 1]").replace(
        "latent: 3", "latent: 3, likelihood: gaussian"
    )
    (tmp_path / "some.yaml").write_text(text)
    (tmp_path / "other.yaml").write_text("data: {name: digits, classes: [8, 7]}\n")
    run = aecli.train(tmp_path / "some.yaml", runs_dir=tmp_path / "runs")
    facts = json.loads((run.path / "run.json").read_text())["data"]
    assert facts["sizes"] == {split: len(digits(classes=(0, 1)).split(split)) for split in SPLITS}
    assert facts["fingerprint"] == digits(classes=(0, 1)).fingerprint and facts["spec"]["classes"] == 10
    assert set(run.data().labels.tolist()) == {0, 1}
    found = run.evaluate(against=tmp_path / "other.yaml", only="reconstruction")["squared_error_auroc"]
    held_out = rows_of(digits(), "test")[1]
    assert found.n == np.isin(held_out, (0, 1, 7, 8)).sum() and found.protocol["against"] == "digits of 7, 8"
    assert run.evaluate(only="clustering")["nmi"].protocol["clusters"] == 2
    same = called("eval", run.id, "--against", "some.yaml", cwd=tmp_path)
    assert same.returncode == 2 and "these are no anomalies" in same.stderr
