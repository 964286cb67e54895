"""Vectors in place of images: read from every form, scaled, trained on, measured and drawn in their own units."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fit import experiment, subject
from process import called

from aecli.config.schema import Data
from aecli.core.model import Spec
from aecli.data import scaling
from aecli.data.dataset import open_dataset
from aecli.data.rows import ArrayRows
from aecli.data.sources import vectors
from aecli.errors import DataError
from aecli.system.progress import Progress

N, D = 120, 6


def table(seed: int = 0, n: int = N, d: int = D) -> Any:
    """Vectors far from 0, of values that differ in spread, and one that never changes."""
    x = np.random.default_rng(seed).normal(0, 1, (n, d)) * np.arange(1, d + 1) + 100
    x[:, 0] = 7
    return x.astype(np.float32)


def write_every_form(folder: Path, x: Any) -> list[Path]:
    from safetensors.numpy import save_file

    np.save(folder / "acts.npy", x)
    np.savez(folder / "acts.npz", activations=x)
    np.savez_compressed(folder / "packed.npz", acts=x)
    save_file({"layer.3": x}, folder / "acts.safetensors")
    np.savetxt(folder / "plain.csv", x, fmt="%.9g", delimiter=",")
    np.savetxt(
        folder / "header.csv", x, fmt="%.9g", delimiter=";", header=";".join(f"f{i}" for i in range(x.shape[1])), comments=""
    )
    np.savetxt(folder / "tabs.tsv", x, fmt="%.9g", delimiter="\t")
    np.save(folder / "fortran.npy", np.asfortranarray(x))
    np.save(folder / "double.npy", x.astype(np.float64))
    np.save(folder / "big_endian.npy", x.astype(">f4"))
    return sorted(path for path in folder.iterdir() if path.is_file())


def opened(path: Path, **settings: Any) -> Any:
    lines: list[str] = []
    data = Data(path=str(path), **{"name": "vectors", "batch_size": 1, "validation": 0} | settings)
    return open_dataset(data, lines.append), "\n".join(lines)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AECLI_DATA_DIR", str(tmp_path / "cache"))
    return tmp_path


def test_every_form_of_the_same_numbers_is_the_same_data(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "_CSV_ROWS", 7)  # so that tables are read in pieces
    monkeypatch.setattr(vectors, "_WINDOW", 11)
    folder, x = fresh / "own", table()
    folder.mkdir()
    found = {path.name: opened(path)[0] for path in write_every_form(folder, x)}
    assert len({dataset.fingerprint for dataset in found.values()}) == 1, {k: v.fingerprint[:8] for k, v in found.items()}
    dataset = found["acts.npy"]
    assert dataset.spec == Spec(1, D, 1, 0, "vector")
    rows = np.concatenate([dataset.split(split).all()[0] for split in ("train", "test")])
    assert rows.dtype == np.float32 and rows.shape == (N, 1, D, 1)
    assert {row.tobytes() for row in rows} == {row.tobytes() for row in x}, "each vector once, to the last bit"
    stream = opened(folder / "acts.npy", tier="stream")[0]
    assert stream.tier == "stream" and stream.fingerprint == dataset.fingerprint


def test_labels_come_from_an_array_or_a_column(fresh: Path) -> None:
    x, label = table(), np.arange(N) % 3
    names = np.array(["cat", "dog", "emu"])[label]
    np.savez(fresh / "a.npz", x_train=x, y_train=label, x_test=x[:30], y_test=label[:30])
    np.savez(fresh / "b.npz", hidden=x, kind=names)
    lines = [",".join([f"{v:.9g}" for v in row] + [name]) for row, name in zip(x, names, strict=True)]
    (fresh / "c.csv").write_text("a,b,c,d,e,f,Label\n" + "\n".join(lines))
    keras, told = opened(fresh / "a.npz")
    assert (len(keras.train), len(keras.test), keras.class_names) == (N, 30, ("0", "1", "2")) and "'x_train'" in told
    for path, settings in (("b.npz", {"array": "hidden", "label": "kind"}), ("c.csv", {}), ("c.csv", {"label": "6"})):
        dataset, told = opened(fresh / path, **settings)
        assert dataset.class_names == ("cat", "dog", "emu"), told
        found, labels = dataset.train.all()
        of = {row.tobytes(): name for row, name in zip(x, names, strict=True)}
        assert [of[v.tobytes()] for v in found] == [dataset.class_names[i] for i in labels]


def test_a_column_that_may_be_a_label_is_told(fresh: Path) -> None:
    x, digit = table(), np.arange(N) % 3
    rows = "\n".join(",".join(f"{v:.9g}" for v in (*row, label)) for row, label in zip(x, digit, strict=True))
    (fresh / "a.csv").write_text("a,b,c,d,e,f,digit\n" + rows)
    (fresh / "none.csv").write_text(rows)
    told = opened(fresh / "a.csv")[1]
    assert "column 'digit' holds whole numbers of 3 values: if it is a label, set data.label: digit" in told
    assert "set data.label: 6" in opened(fresh / "none.csv")[1]
    for settings in ({"label": "digit"}, {"labels": "none"}):
        assert "whole numbers" not in opened(fresh / "a.csv", **settings)[1]
    with pytest.raises(DataError) as refused:
        opened(fresh / "a.csv", label="digitt")
    assert refused.value.help == "did you mean 'digit'?"
    np.savetxt(fresh / "whole.csv", np.arange(7 * N).reshape(N, 7) % 5, "%d", delimiter=",")
    assert "whole numbers" not in opened(fresh / "whole.csv")[1], "a table of whole numbers says nothing of one of them"


def test_a_help_fits_what_was_found(fresh: Path) -> None:
    np.save(fresh / "a.npy", np.zeros((20, 8, 16), np.float32))
    (fresh / "b.csv").write_text("1,5;2,5\n3,5;4,5\n")
    np.save(fresh / "c.npy", np.zeros((20, 33), np.float32))
    for name, words in (("a.npy", "x.reshape(len(x), -1)"), ("b.csv", "split at commas")):
        with pytest.raises(DataError) as refused:
            opened(fresh / name)
        assert words in str(refused.value.help)
    with pytest.raises(DataError) as refused:
        opened(fresh / "c.npy", name="npz")
    assert "--data vectors:FILE" in str(refused.value.help)


@pytest.mark.parametrize(
    ("made", "settings", "words"),
    [
        (lambda p, x: np.save(p / "a.npy", x[:, None]), {}, "must be [n, d]"),
        (lambda p, x: np.save(p / "a.npy", x[0]), {}, "must be [n, d]"),
        (lambda p, x: np.save(p / "a.npy", x[:0]), {}, "is empty"),
        (lambda p, x: np.save(p / "a.npy", x[:1]), {}, "none is left to train on"),
        (lambda p, x: np.save(p / "a.npy", x.astype(complex)), {}, "no real numbers"),
        (lambda p, x: np.save(p / "a.npy", x.astype(str)), {}, "no real numbers"),
        (lambda p, x: np.save(p / "a.npy", x.view("f4,i4")), {}, "no real numbers"),
        (lambda p, x: np.save(p / "a.npy", np.where(np.arange(N)[:, None] == 7, np.nan, x)), {}, "holds nan at [7, 0]"),
        (lambda p, x: np.save(p / "a.npy", x.astype(np.float64) * 1e40), {}, "beyond float32"),
        (lambda p, x: np.savez(p / "a.npz", one=x, two=x), {}, "which of it are vectors is not plain"),
        (lambda p, x: np.savez(p / "a.npz", x=x), {"array": "y"}, "holds no array 'y', only x"),
        (lambda p, x: np.savez(p / "a.npz", x=x, label=np.arange(N - 1) % 3), {}, "must be 120 labels"),
        (lambda p, x: np.savez(p / "a.npz", x=x, y=np.zeros(N, int), x_test=x), {}, "of the test split have no labels"),
        (lambda p, x: np.savez(p / "a.npz", x=x, x_test=x[:, :2]), {}, "differ in length"),
        (lambda p, x: (p / "a.csv").write_text("1,2\n\n3,x\n"), {}, "line 3, column 1 (from 0): 'x' is no number"),
        (lambda p, x: (p / "a.csv").write_text("1,2,cat\n3,4,dog\n"), {}, "line 1, column 2 (from 0): 'cat' is no number"),
        (lambda p, x: (p / "a.csv").write_text("a,b\n"), {}, "holds a header and nothing else"),
        (lambda p, x: (p / "a.csv").write_text("1,2\n3\n"), {}, "a.csv"),
        (lambda p, x: (p / "a.csv").write_text("a,b\n1,2\n"), {"label": "c"}, "has no column 'c', only a, b"),
        (lambda p, x: (p / "a.csv").write_text(""), {}, "is empty"),
        (lambda p, x: (p / "a.safetensors").write_bytes(b"\0" * 40), {}, "no readable .safetensors"),
        (lambda p, x: (p / "a.parquet").write_bytes(b"PAR1"), {}, "vectors are read from .npy"),
        (lambda p, x: None, {}, "no such file"),
    ],
)
def test_what_is_not_plain_is_refused(fresh: Path, made: Any, settings: Any, words: str) -> None:
    (fresh / "own").mkdir()
    made(fresh / "own", table())
    [path, *_] = [*(fresh / "own").iterdir(), fresh / "own" / "missing.npy"]
    with pytest.raises(DataError) as error:
        opened(path, **settings)
    assert words in error.value.message, error.value.message
    assert "no such" in words or "empty" in words or error.value.help


def test_scaling_is_that_of_the_train_split_and_is_undone(fresh: Path) -> None:
    x = table(n=400)
    np.save(fresh / "a.npy", x)
    plain = opened(fresh / "a.npy", validation=40)[0]
    train = plain.train.all()[0].astype(np.float64)
    for how in ("mean", "zscore"):
        dataset = opened(fresh / "a.npy", validation=40, standardize=how)[0]
        assert dataset.fingerprint == plain.fingerprint, "the data is the same, whatever is done to it"
        deviation = np.where(train.std(0) > 0, train.std(0), 1) if how == "zscore" else 1.0
        for split in ("train", "validation", "test"):
            want = (plain.split(split).all()[0] - train.mean(0)) / deviation
            got = dataset.split(split).all()[0]
            assert got.dtype == np.float32 and np.allclose(got, want, atol=2e-5)
            assert np.allclose(dataset.scaling.undo(got), plain.split(split).all()[0], rtol=1e-6, atol=1e-4)
            assert np.array_equal(dataset.split(split).take(np.array([3, 1]))[0], got[[3, 1]])
    assert len(list((fresh / "cache" / "decoded").glob("vectors-*"))) == 1, "however they are scaled, they are read once"


def test_what_runs_share_is_of_vectors_scaled_alike(fresh: Path) -> None:
    """Baselines are kept by the fingerprint, which does not know how vectors are scaled."""
    np.save(fresh / "a.npy", table(n=60))
    model = experiment("variant: bottleneck, latent: 2").model
    for how in ("none", "zscore"):
        dataset = opened(fresh / "a.npy", standardize=how)[0]
        moments = subject(model, None, dataset).moments
        assert moments is not None and np.allclose(moments.mean, dataset.train.all()[0].reshape(-1, D).mean(0), atol=1e-4)


def test_a_sum_in_pieces_is_the_sum_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ArrayRows(table(n=101).reshape(101, 1, D, 1), np.zeros(101, np.int32))
    whole = scaling.fit(rows, "zscore")
    monkeypatch.setattr(scaling, "_PIECE_BYTES", 8 * D * 7)
    for a, b in zip(whole, scaling.fit(rows, "zscore"), strict=True):
        assert np.allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize(
    ("first", "label", "rows", "names"),
    [
        ("1.5,2,cat", 2, 41, ("cat", "dog")),
        ("1.5,2,cat", "2", 41, ("cat", "dog")),
        ("a,b,kind", "kind", 40, ("cat", "dog")),
        ("a,b,label", None, 40, ("cat", "dog")),
        ('"length, cm","b",kind', "kind", 40, ("cat", "dog")),
        ("a;b;kind", "kind", 40, ("cat", "dog")),
        ('"a, b";c;kind', "kind", 40, ("cat", "dog")),
        ("a b kind", "kind", 40, ("cat", "dog")),
        ("0,1,label", None, 40, ("cat", "dog")),
        ("0,1,cat", "2", 41, ("cat", "dog")),
    ],
)
def test_the_first_line_of_a_table_is_lost_to_no_header(
    fresh: Path, tmp_path: Path, first: str, label: Any, rows: int, names: tuple[str, ...], recwarn: pytest.WarningsRecorder
) -> None:
    mark = ";" if ";" in first else "," if "," in first else " "
    lines = [mark.join([str(i), str(i * i), ("cat", "dog")[i % 2]]) for i in range(40)]
    (tmp_path / "t.csv").write_text("\n\n".join([first, *lines]) + "\n")
    data, _ = opened(tmp_path / "t.csv", label=label, test=0.2)
    assert sum(len(part) for part in (data.train, data.validation, data.test)) == rows
    assert data.class_names == names and data.spec.width == 2 and not recwarn.list


@pytest.mark.parametrize(("header", "width"), [(",a,b", 2), (",0,1", 2), ("", 3)])
def test_a_column_that_numbers_the_rows_is_no_value(fresh: Path, tmp_path: Path, header: str, width: int) -> None:
    lines = [f"{i},{i / 7},{-i}" for i in range(40)]
    (tmp_path / "t.csv").write_text("\n".join([header, *lines] if header else lines) + "\n")
    data, told = opened(tmp_path / "t.csv", test=0.2)
    assert data.spec.width == width and sum(len(part) for part in (data.train, data.validation, data.test)) == 40
    assert ("numbers the rows" in told) == (width == 2)


@pytest.mark.parametrize("form", ["npz", "csv"])
def test_labels_of_one_kind_are_labels_and_of_several_are_asked_for(fresh: Path, form: str) -> None:
    x, fine, coarse = table(), np.arange(N) % 6, np.arange(N) % 2

    def write(**labels: Any) -> Path:
        path = fresh / f"acts.{form}"
        if form == "npz":
            np.savez(path, x=x, **labels)
        else:
            header = ",".join([*(f"a{i}" for i in range(D)), *labels])
            np.savetxt(path, np.column_stack([x, *labels.values()]), "%g", ",", header=header, comments="")
        return path

    dataset, told = opened(write(fine_label=fine))
    assert dataset.spec == Spec(1, D, 1, 6, "vector") and "fine_label" in told
    path = write(fine_label=fine, coarse_label=coarse)
    with pytest.raises(DataError, match="each of fine_label, coarse_label may be the labels") as caught:
        opened(path)
    assert "data.label to one" in str(caught.value.help) and "data.labels: none" in str(caught.value.help)
    assert opened(path, label="coarse_label")[0].spec.classes == 2
    assert opened(path, labels="none")[0].spec.classes == 0


def test_speed_is_told_in_vectors(fresh: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(fresh / "acts.npz", x=table())
    (fresh / "c.yaml").write_text(CONFIG.format(model=MODELS["bottleneck"]))
    shown = called("bench", "c.yaml", "--seconds", 0.1, cwd=fresh)
    assert "vectors/s" in shown.stdout and "image" not in shown.stdout, shown.stderr + shown.stdout
    monkeypatch.setattr("aecli.system.progress.PLAIN_SECONDS", 0.0)
    with Progress(10, kind="vector") as progress:
        progress.update(5, {}, 1234.0)
    assert "5/10  1,234 vectors/s" in capsys.readouterr().err


CONFIG = """\
data: {{name: vectors, path: acts.npz, standardize: zscore, batch_size: 25, validation: 25}}
model: {{{model}}}
train: {{steps: 30, log_every: 10}}
"""
MODELS = {
    "bottleneck": "variant: bottleneck, net: linear, latent: 2",
    "sparse": "variant: sparse, units: 12, k: 2",
    "denoising": "variant: denoising, net: mlp, hidden: [8], latent: 3, corruption: {name: gaussian, sigma: 0.5}",
    "vae": "variant: vae, hidden: [8], latent: 2, likelihood: gaussian, conditional: true",
}


@pytest.mark.parametrize("variant", MODELS)
def test_a_run_on_vectors_from_training_to_samples(fresh: Path, variant: str) -> None:
    x = table()
    np.savez(fresh / "acts.npz", x=x, y=np.arange(N) % 3)
    (fresh / "c.yaml").write_text(CONFIG.format(model=MODELS[variant]))
    done = called("train", "c.yaml", cwd=fresh)
    assert done.returncode == 0 and "image" not in done.stderr and "vectors of acts.npz" in done.stderr, done.stderr
    run = fresh / "runs" / done.stdout.strip()
    assert json.loads((run / "run.json").read_text())["data"]["spec"]["kind"] == "vector"
    measured = called("eval", "last", "--samples", 5, cwd=fresh)
    assert measured.returncode == 0 and "image" not in measured.stdout, measured.stderr + measured.stdout
    numbers = json.loads((run / "eval" / "test.json").read_text())
    assert not numbers.keys() & {"psnr_db", "ssim", "frechet_distance"} and numbers["explained_variance"]["value"] is not None
    assert ("bayes_accuracy" in numbers) == (variant == "vae"), "a conditional likelihood of vectors tells classes, too"
    assert "raw pixels" not in measured.stdout
    (fresh / "acts.npz").rename(fresh / "elsewhere.npz")
    modes = ["reconstruct"] + ["prior"] * (variant == "vae")
    for mode in modes:
        drawn = called("sample", "last", "--mode", mode, "-n", 6, cwd=fresh)
        assert (drawn.returncode == 0) == (mode == "prior"), "a prior needs no data, what it draws is in its units all the same"
    (fresh / "elsewhere.npz").rename(fresh / "acts.npz")
    for mode in modes:
        drawn = called("sample", "last", "--mode", mode, "-n", 6, cwd=fresh)
        picture, arrays = (fresh / line for line in drawn.stdout.splitlines())
        with np.load(arrays) as file:
            found = dict(file)
        made = found["vector" if mode == "prior" else "reconstruction"]
        assert picture.stat().st_size > 0 and made.shape == (6, D) and made.dtype == np.float32
        assert np.abs(made.mean(0)[1:] - 100).max() < 25, "in the units of the data"
        if mode == "reconstruct":
            assert {row.tobytes() for row in np.round(found["vector"], 2)} <= {row.tobytes() for row in np.round(x, 2)}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("variant: gan", "'gan' serves images, and the data is vectors"),
        ("variant: autoregressive", "serves images"),
        ("variant: bottleneck, net: conv, latent: 2", "net: conv is for images"),
        ("variant: vae, latent: 2", "likelihood: bernoulli is for images"),
        ("variant: bottleneck, latent: 2, output: sigmoid", "output: sigmoid is for images"),
        ("variant: denoising, net: mlp, latent: 2, output: sigmoid", "output: sigmoid is for images"),
        ("variant: denoising", "net: unet is for images"),
        ("variant: sparse, k: 2, corruption: {name: salt_pepper, p: 0.1}", "salt_pepper is for images"),
    ],
)
def test_a_model_of_images_refuses_vectors(fresh: Path, model: str, words: str) -> None:
    np.save(fresh / "acts.npy", table())
    (fresh / "c.yaml").write_text(CONFIG.format(model=model).replace("acts.npz", "acts.npy"))
    done = called("check", "c.yaml", cwd=fresh)
    assert done.returncode == 2 and words in done.stderr, done.stderr


def test_images_of_floats_are_kept_as_they_are(fresh: Path) -> None:
    images = np.random.default_rng(0).random((40, 5, 4)).astype(np.float32) * 1e-3
    np.savez(fresh / "a.npz", image=images)
    found = open_dataset(Data(name="npz", path=str(fresh / "a.npz"), dtype="float32", batch_size=4, validation=0))
    rows = np.concatenate([found.split(split).all()[0] for split in ("train", "test")])
    assert rows.dtype == np.float32 and {row.tobytes() for row in rows} == {image.tobytes() for image in images}
    (fresh / "c.yaml").write_text(
        "data: {name: npz, path: a.npz, dtype: float32, batch_size: 8}\n"
        "model: {variant: bottleneck, net: linear, latent: 3}\ntrain: {steps: 2}\n"
    )
    done = called("check", "--smoke", "c.yaml", cwd=fresh)
    assert done.returncode == 0, done.stderr
