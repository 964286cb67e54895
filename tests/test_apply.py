"""A run applied to other data: what is written equals what Python gives for the same images, and nothing is written by halves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fit import blobs
from PIL import Image
from process import TINY, called

import aecli
from aecli.api import TrainedRun
from aecli.data.rows import JoinedRows, LabelledRows
from aecli.errors import UsageError
from aecli.system.arrays import write_in_pieces


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    (folder / "tiny.yaml").write_text(TINY.replace("latent: 3", "latent: 3, likelihood: gaussian").replace("40", "10"))
    aecli.train(folder / "tiny.yaml", runs_dir=folder / "runs", name="plain")
    aecli.train(folder / "tiny.yaml", {"model.conditional": True}, runs_dir=folder / "runs", name="conditional")
    run = aecli.load("plain", runs_dir=folder / "runs")
    images, labels = run.data()
    np.savez(folder / "test.npz", image=images, label=labels)
    np.save(folder / "test.npy", images[..., 0] / np.float32(255))
    np.savez(folder / "large.npz", image=np.repeat(np.repeat(images[:5], 2, 1), 2, 2))
    for number, (image, label) in enumerate(zip(images[:12], labels, strict=False)):
        for place_ in (folder / "flat", folder / "classes" / str(label)):
            place_.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(place_ / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def run(place: Path) -> TrainedRun:
    return aecli.load("plain", runs_dir=place / "runs")


def made(place: Path, *arguments: Any, name: str = "out.npz") -> tuple[dict[str, Any], str]:
    """The arrays that a verb writes, and what it says."""
    done = called(*arguments, "-o", name, "--force", cwd=place)
    assert done.returncode == 0 and done.stdout == f"{name}\n", done.stderr
    with np.load(place / name) as arrays:
        return dict(arrays), done.stderr


def test_a_split_and_a_file_of_it_give_the_codes_that_python_gives(place: Path, run: TrainedRun) -> None:
    images, labels = run.data()
    code = run.encode(images)
    of_split, _ = made(place, "encode", "plain", "--split", "test")
    of_file, said = made(place, "encode", "plain", "test.npz")
    assert of_split.keys() == of_file.keys() == {"code", "label", "class_names"} and "297 images of 10 classes" in said
    for arrays in (of_split, of_file):
        assert arrays["code"].tobytes() == code.tobytes() and np.array_equal(arrays["label"], labels)
        assert arrays["class_names"].tolist() == list(run.classes)
    floats, _ = made(place, "encode", "plain", "test.npy")
    assert np.allclose(floats["code"], code, atol=1e-4) and set(floats) == {"code"}
    train, _ = made(place, "encode", "plain", "--split", "train")
    assert len(train["code"]) == 1350


def test_files_of_a_folder_are_named_in_natural_order(place: Path, run: TrainedRun) -> None:
    images, labels = run.data()
    flat, said = made(place, "encode", "plain", "flat")
    assert flat["name"].tolist() == [f"{number}.png" for number in range(12)] and "12 images without labels" in said
    assert np.array_equal(flat["code"], run.encode(images[:12])) and set(flat) == {"name", "code"}
    classes, _ = made(place, "encode", "plain", "classes")
    order = [int(Path(name).stem) for name in classes["name"]]
    assert np.array_equal(classes["label"], labels[order]), "numbered as the run's, though some classes are not there"
    assert np.array_equal(classes["code"], run.encode(images[order]))
    assert sorted(order) == list(range(12))
    assert [Path(name).parent.name for name in classes["name"]] == list(map(str, labels[order]))
    alone, _ = made(place, "encode", "plain", "flat/7.png")
    assert alone["name"].tolist() == ["7.png"] and np.array_equal(alone["code"], run.encode(images[7:8]))


def test_reconstructions_and_likelihoods_are_those_of_python(place: Path, run: TrainedRun) -> None:
    images, _ = run.data()
    arrays, _ = made(place, "reconstruct", "plain", "test.npz")
    assert np.array_equal(arrays["image"], np.rint(run.reconstruct(images) * 255).astype(np.uint8))
    arrays, _ = made(place, "score", "plain", "test.npz", "--importance-samples", "20")
    assert np.array_equal(arrays["nll_nats"], run.score(images, samples=20))


def test_a_conditional_model_is_told_the_classes_of_a_file(place: Path) -> None:
    conditional = aecli.load("conditional", runs_dir=place / "runs")
    images, labels = conditional.data()
    arrays, _ = made(place, "score", "conditional", "test.npz", "--importance-samples", "5")
    assert np.array_equal(arrays["nll_nats"], conditional.score(images, labels, samples=5))
    done = called("score", "conditional", "flat", "-o", "none.npz", cwd=place)
    assert done.returncode == 2 and "12 of 12 labels are missing" in done.stderr and not (place / "none.npz").exists()
    np.savez(place / "texts.npz", image=images[:3], label=np.array(["cat", "dog", "cat"]))
    arrays, said = made(place, "encode", "conditional", "texts.npz")
    assert "the classes cat, dog are not those of the run" in said and "told no label of 3 of 3" in said
    assert arrays["label"].tolist() == [0, 1, 0] and arrays["class_names"].tolist() == ["cat", "dog"]
    assert np.array_equal(arrays["code"], conditional.encode(images[:3]))


def test_all_splits_of_a_file_come_one_after_another(place: Path, run: TrainedRun) -> None:
    images, _ = run.data()
    np.savez(place / "splits.npz", test_image=images[250:], image=images[:200], val_image=images[200:250])
    arrays, _ = made(place, "encode", "plain", "splits.npz")
    assert np.array_equal(arrays["code"], run.encode(images))


def test_images_of_another_size_are_resized_only_where_that_is_asked_for(place: Path, run: TrainedRun) -> None:
    done = called("encode", "plain", "large.npz", "-o", "none.npz", cwd=place)
    assert done.returncode == 3 and "large.npz holds 16x16 gray images, and run plain" in done.stderr
    assert "trained on 8x8 gray images" in done.stderr and "--set data.size=[8,8]" in done.stderr
    arrays, _ = made(place, "encode", "plain", "large.npz", "--set", "data.size=[8,8]")
    assert arrays["code"].shape == (5, 3)
    np.savez(place / "colour.npz", image=np.repeat(run.data().images, 3, 3))
    done = called("encode", "plain", "colour.npz", "-o", "none.npz", cwd=place)
    assert done.returncode == 3 and "--set data.channels=1 makes them gray" in done.stderr
    arrays, _ = made(place, "encode", "plain", "colour.npz", "--set", "data.channels=1")
    assert np.allclose(arrays["code"], run.encode(run.data().images), atol=1e-3)


def test_vectors_are_read_as_a_run_on_vectors_reads_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(200, 4)) * [1, 10, 100, 1]).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.savetxt(tmp_path / "new.csv", x[:7], delimiter=",", fmt="%.9g")
    config = {"data": {"name": "vectors", "path": "x.npy", "batch_size": 32, "standardize": "zscore"}}
    config |= {"model": {"variant": "bottleneck", "net": "linear", "latent": 2}, "train": {"steps": 5}}
    (tmp_path / "v.yaml").write_text(json.dumps(config))
    assert called("train", "v.yaml", cwd=tmp_path).returncode == 0
    handle = aecli.load(runs_dir=tmp_path / "runs")
    for file, rows in (("x.npy", x), ("new.csv", x[:7])):
        arrays, _ = made(tmp_path, "reconstruct", "last", file)
        assert np.array_equal(arrays["vector"], handle.reconstruct(rows)), file
    np.save(tmp_path / "wide.npy", np.zeros((3, 5)))
    done = called("encode", "last", "wide.npy", "-o", "none.npz", cwd=tmp_path)
    assert done.returncode == 3 and "vectors of 5" in done.stderr and "vectors of 4" in done.stderr


def test_vectors_without_the_arrays_that_the_run_names_are_read_by_what_they_hold(tmp_path: Path) -> None:
    x, digit = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32), np.arange(90) % 3
    np.savez(tmp_path / "acts.npz", layer=x, other=x + 1, digit=digit)
    np.save(tmp_path / "bare.npy", x[:5])
    np.savez(tmp_path / "called.npz", acts=x[:5], labels=digit[:5])
    np.savez(tmp_path / "nan.npz", acts=np.full((5, 4), np.nan), labels=digit[:5])
    config = {"data": {"name": "vectors", "path": "acts.npz", "array": "layer", "label": "digit", "batch_size": 8}}
    config |= {"model": {"variant": "bottleneck", "net": "linear", "latent": 2}, "train": {"steps": 2}}
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    assert called("train", "c.yaml", cwd=tmp_path).returncode == 0
    whole, _ = made(tmp_path, "encode", "last", "acts.npz")
    for file, labels in (("bare.npy", None), ("called.npz", digit[:5])):
        arrays, said = made(tmp_path, "encode", "last", file)
        assert np.array_equal(arrays["code"], whole["code"][:5]) and "read without data.label" in said, file
        assert ("label" in arrays) == (labels is not None) and (labels is None or np.array_equal(arrays["label"], labels))
    done = called("encode", "last", "nan.npz", "-o", "none.npz", cwd=tmp_path)
    assert done.returncode == 3 and not (tmp_path / "none.npz").exists()
    flags = ("--set", "data.array=null", "--set", "data.label=digit")
    done = called("encode", "last", "called.npz", *flags, "-o", "none.npz", cwd=tmp_path)
    assert done.returncode == 3 and "'digit'" in done.stderr, "a flag is taken at its word"


def test_a_file_is_read_as_the_runs_own_files_were(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 5, (60, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "x.npz", image=levels, label=np.arange(60) % 3)
    np.save(tmp_path / "new.npy", levels[:9])
    config = {"data": {"name": "npz", "path": "x.npz", "batch_size": 8, "range": [0, 4], "labels": "none"}}
    config |= {"model": {"variant": "bottleneck", "net": "linear", "latent": 2}, "train": {"steps": 2}}
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    assert called("train", "c.yaml", cwd=tmp_path).returncode == 0
    handle = aecli.load(runs_dir=tmp_path / "runs")
    for file, images in (("x.npz", levels), ("new.npy", levels[:9])):
        arrays, _ = made(tmp_path, "encode", "last", file)
        assert set(arrays) == {"code"}, "without labels, as the run's own"
        assert np.array_equal(arrays["code"], handle.encode(np.rint(images / 4 * 255).astype(np.uint8))), file


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["test.npz"], 2, "is there already"),
        (["test.npz", "-o", "none.npz", "--split", "test"], 2, "takes a file or a folder, or a split"),
        (["-o", "none.npz"], 2, "takes a file or a folder, or a split"),
        (["test.npz", "-o", "none.txt"], 2, "-o none.txt.npz"),
        (["test.npz", "-o", "none/none.npz"], 7, "there is no folder none"),
        (["test.npz", "-o", "fifo.npz", "--force"], 7, "fifo.npz is a FIFO"),
        (["test.npz", "-o", "link.npz", "--force"], 7, "link.npz is a link"),
        (["test.npz", "-o", "folder.npz", "--force"], 7, "folder.npz is a folder"),
        (["fifo.npz", "-o", "none.npz"], 3, "is a FIFO, not a file"),
        (["test.npz", "-o", "test.npz", "--force"], 2, "would take the place of what it is made from"),
        (["test.npz", "-o", "none.npz", "--set", "model.latent=2"], 2, "only how data is read may be set"),
        (["test.npz", "-o", "none.npz", "--set", "data.sise=2"], 2, "did you mean 'size'"),
        (["--split", "test", "-o", "none.npz", "--set", "data.size=[8,8]"], 2, "is read as it was"),
        (["--split", "all", "-o", "none.npz"], 2, "there are train, validation, test"),
        (["no.npz", "-o", "none.npz"], 3, "no such file or folder"),
        (["tiny.yaml", "-o", "none.npz"], 3, "no readable .npz or .npy file"),
        (["empty", "-o", "none.npz"], 3, "holds no"),
        (["mixed", "-o", "none.npz"], 3, "images differ in size"),
        (["broken", "-o", "none.npz"], 3, "7.png"),
        (["nan.npz", "-o", "none.npz"], 3, "holds nan"),
        (["test.npz", "-o", "none.npz", "--data-path", "x"], 2, "--data-path is for the run's own data"),
    ],
)
def test_what_cannot_be_done_is_told_and_nothing_is_written(place: Path, arguments: list[str], code: int, said: str) -> None:
    for folder in ("empty", "mixed", "broken"):
        (place / folder).mkdir(exist_ok=True)
    for folder in ("mixed", "broken"):
        for number in range(300):
            Image.fromarray(np.full((8, 8), number % 256, np.uint8)).save(place / folder / f"{number}.png")
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(place / "mixed" / "299.png")
    (place / "broken" / "299.png").write_bytes(b"")
    (place / "broken" / "7.png").write_bytes(b"")
    np.savez(place / "nan.npz", image=np.full((2, 8, 8), np.nan))
    (place / "old.npz").write_bytes(b"old")
    if not (place / "fifo.npz").exists():
        os.mkfifo(place / "fifo.npz")
        (place / "link.npz").symlink_to("old.npz")
        (place / "folder.npz").mkdir()
    before = set(place.iterdir())
    done = called("encode", "plain", *(arguments if "-o" in arguments else [*arguments, "-o", "old.npz"]), cwd=place)
    assert done.returncode == code and said in done.stderr, done.stderr
    assert set(place.iterdir()) == before and (place / "old.npz").read_bytes() == b"old" and done.stdout == ""


def test_what_a_model_cannot_do_names_what_it_can(place: Path) -> None:
    config = {"data": {"name": "digits"}, "model": {"variant": "bottleneck", "net": "linear", "latent": 2}, "train": {"steps": 2}}
    other = aecli.train(config, runs_dir=place / "runs")
    done = called("score", other.id, "test.npz", "-o", "none.npz", cwd=place)
    assert done.returncode == 2 and "cannot score: it lacks the ability 'scores' or 'weighs'" in done.stderr
    assert "encodes" in done.stderr and "vae" in done.stderr


def test_an_array_in_pieces_is_the_array(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    for name in ("a.npz", "b.npz"):
        write_in_pieces(
            tmp_path / name, "x", (10, 3), np.float32, iter([array[:4], array[4:4], array[4:]]), {"y": np.array(["é"])}
        )
    with np.load(tmp_path / "a.npz") as arrays:
        assert np.array_equal(arrays["x"], array) and arrays["y"].tolist() == ["é"]
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with pytest.raises(ValueError, match="4 rows of 10"):
        write_in_pieces(tmp_path / "a.npz", "x", (10, 3), np.float32, iter([array[:4]]), {})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes() and len(list(tmp_path.iterdir())) == 2


def test_joined_rows_are_the_rows_one_after_another() -> None:
    parts = [blobs(5), blobs(1, seed=1), blobs(7, seed=2)]
    images, labels = (np.concatenate(some) for some in zip(*(part.all() for part in parts), strict=True))
    joined = JoinedRows(parts)
    assert len(joined) == 13 and np.array_equal(joined.labels, labels)
    for index in ([0], [4, 5, 6], [12, 12, 12], list(range(13)), [1, 1, 5, 5, 9]):
        taken = joined.take(np.array(index))
        assert np.array_equal(taken[0], images[index]) and np.array_equal(taken[1], labels[index])
    for start, stop in ((0, 13), (3, 9), (5, 6), (6, 6)):
        part = joined.part(start, stop)
        assert len(part) == stop - start and (not len(part) or np.array_equal(part.all()[0], images[start:stop]))
    other = LabelledRows(joined, labels + 1).part(2, 8)
    assert np.array_equal(other.labels, labels[2:8] + 1) and np.array_equal(other.take(np.array([1]))[1], labels[3:4] + 1)


def measured(place: Path, *arguments: Any) -> tuple[dict[str, Any], str]:
    done = called("eval", *arguments, "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_other_data_is_measured_beside_the_runs_own(place: Path, run: TrainedRun) -> None:
    images, labels = run.data()
    upside_down = images[:, ::-1]
    np.savez(place / "other.npz", image=images[:20], label=labels[:20], test_image=upside_down, test_label=labels)
    (place / "other.yaml").write_text("data: {name: npz, path: other.npz}\n")
    (place / "whole.yaml").write_text(TINY.replace("name: digits", "name: npz, path: other.npz"))
    own, _ = measured(place, run.id, "--only", "reconstruction")
    kept = (run.path / "eval" / "test.json").read_bytes()
    only = ("--only", "reconstruction,representation")
    found, said = measured(place, run.id, "--data", "other.yaml", *only)
    assert (run.path / "eval" / "test.json").read_bytes() == kept and found["mse"]["value"] != own["mse"]["value"]
    protocol = found["mse"]["protocol"]
    name = f"test-{protocol['fingerprint'][:12]}"
    assert protocol["data"] == "other.npz" and protocol["fingerprint"] != own["mse"]["protocol"]["fingerprint"]
    assert json.loads((run.path / "eval" / f"{name}.json").read_text()) == found and f"{name}.json" in said
    assert float(run.numbers(name)["mse"]) == found["mse"]["value"]
    x = upside_down / np.float32(255)
    assert found["mse"]["value"] == pytest.approx(((run.reconstruct(upside_down) - x) ** 2).mean(), rel=1e-5)
    mean = run.data("train").images.mean(0) / 255
    assert found["mse"]["baselines"]["mean image"] == pytest.approx(((mean - x) ** 2).mean(), rel=1e-4), "fitted to the run's own"
    assert found["linear_probe_accuracy"]["protocol"]["train_images"] == 1350
    assert measured(place, run.id, "--data", "whole.yaml", *only)[0] == found, "of a config the block data counts"
    assert run.evaluate(only=("reconstruction",), data=place / "other.yaml")["mse"].value == found["mse"]["value"]
    for verb in (["show", run.id], ["eval", run.id, "--data", "other.yaml", "--only", "reconstruction"]):
        assert f"other data, other.npz {protocol['fingerprint'][:12]}" in called(*verb, cwd=place).stdout, verb


def test_other_data_that_the_model_has_seen_is_told(place: Path, run: TrainedRun) -> None:
    seen, _ = run.data("train")
    np.savez(place / "seen.npz", image=seen[:50], test_image=np.concatenate([seen[:30], seen[:7, ::-1]]))
    (place / "seen.yaml").write_text("data: {name: npz, path: seen.npz}\n")
    found, said = measured(place, run.id, "--data", "seen.yaml", "--only", "objective")
    assert "30 of the 37 test images are equal to train images" in said and found["loss"]["n"] == 37


def test_other_data_that_is_the_runs_own_is_told(place: Path, run: TrainedRun) -> None:
    before = set((run.path / "eval").iterdir())
    (place / "own.yaml").write_text("data: {name: digits}\n")
    _, said = measured(place, run.id, "--data", "own.yaml", "--only", "objective")
    assert "digits is the run's own data" in said and "eval/test.json" in said
    names = {path.name for path in set((run.path / "eval").iterdir()) - before}
    assert names <= {"test.json", "test-values.npz", ".test.seal.json", ".lock"}


def test_some_classes_of_other_data_are_told_from_all_that_the_run_knows(place: Path) -> None:
    """Which classes there are of an image that is measured, nobody told the model."""
    (place / "some.yaml").write_text("data: {name: digits, classes: [3, 4]}\n")
    only = ("--only", "classification,clustering")
    conditional = aecli.load("conditional", runs_dir=place / "runs")
    measured(place, conditional.id, *only)
    with np.load(conditional.path / "eval" / "test-values.npz") as values:
        own = values["classification/label_nll_nats"]
    labels = conditional.data().labels
    found, _ = measured(place, conditional.id, "--data", "some.yaml", *only)
    number = found["label_nll_nats"]
    assert number["value"] == pytest.approx(own[np.isin(labels, (3, 4))].mean(), rel=0.02) and number["value"] > 1
    counts = np.bincount(conditional.data("train").labels) + 0.5
    frequencies = -np.log(counts / counts.sum())[labels[np.isin(labels, (3, 4))]].mean()
    assert number["baselines"]["class frequencies"] == pytest.approx(frequencies)
    assert found["nmi"]["protocol"]["clusters"] == 2, "as many as the images are of"


def test_where_classes_differ_what_needs_labels_is_left_out(place: Path, run: TrainedRun) -> None:
    images, _ = run.data()
    np.savez(place / "cats.npz", image=images, label=np.array(["cat", "dog", "cow"] * 99))
    (place / "cats.yaml").write_text("data: {name: npz, path: cats.npz}\n")
    found, said = measured(place, run.id, "--data", "cats.yaml", "--skip", "denoising,likelihood")
    assert "the classes of cats.npz, cat, cow, dog, are not those of the run" in said and "no representation" in said
    assert {number["evaluator"] for number in found.values()} == {"objective", "reconstruction"}
    done = called("eval", run.id, "--data", "cats.yaml", "--only", "representation", cwd=place)
    assert done.returncode == 2 and "no representation of this run" in done.stderr
    done = called("eval", "conditional", "--data", "cats.yaml", cwd=place)
    assert done.returncode == 3 and "conditional on the label" in done.stderr


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("data: {name: npz, path: large.npz}", 3, "data.size: [8,8] resizes them"),
        ("data: {name: npz, pth: test.npz}", 2, "wrong.yaml:1:19: error[unknown-key]"),
        ("model: {variant: vae}", 2, "wrong.yaml"),
        ("data: {name: npz, path: nowhere.npz}", 3, "nowhere.npz"),
        ("data: [", 2, "wrong.yaml"),
        ("data: {name: npz, path: test.npz, validation: 0}", 2, "test.npz has no validation split"),
    ],
)
def test_other_data_that_cannot_be_is_told(place: Path, run: TrainedRun, text: str, code: int, said: str) -> None:
    (place / "wrong.yaml").write_text(text + "\n")
    done = called("eval", run.id, "--data", "wrong.yaml", "--split", "validation", cwd=place)
    assert done.returncode == code and said in done.stderr, done.stderr


def test_other_vectors_are_scaled_as_the_runs_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("x", "other"):
        np.save(tmp_path / f"{name}.npy", (rng.normal(size=(200, 4)) * [1, 10, 100, 1]).astype(np.float32))
    config = {"data": {"name": "vectors", "path": tmp_path / "x.npy", "batch_size": 32, "standardize": "zscore"}}
    config |= {"model": {"variant": "bottleneck", "net": "linear", "latent": 2}, "train": {"steps": 5}}
    handle = aecli.train(config, runs_dir=tmp_path / "runs")
    (tmp_path / "other.yaml").write_text("data: {name: vectors, path: other.npy}\n")
    found = handle.evaluate(only="reconstruction", data=tmp_path / "other.yaml")
    with pytest.raises(UsageError, match=r"other\.npy is no config") as refused:
        handle.evaluate(only="reconstruction", data=tmp_path / "other.npy")
    assert "data: {name: vectors, path: " in str(refused.value.help)
    x = np.load(tmp_path / "other.npy")
    with np.load(handle.path / "scaling.npz") as scaling:
        scale = scaling["scale"].reshape(-1)
    errors = (((handle.reconstruct(x) - x) / scale) ** 2).mean(1)
    values = next((handle.path / "eval").glob("test-*-values.npz"))
    with np.load(values) as arrays:
        mse = arrays["reconstruction/mse"]
    assert len(mse) == 20 and found["mse"].value == pytest.approx(mse.mean(), rel=1e-5)
    assert all(np.isclose(errors, value, rtol=1e-3).any() for value in mse)
