"""What is fuzzed: for each kind of file that nobody vouches for, a function that takes its bytes and does with them what the
program does. It returns in a few words how that ended, in a value or in one of the program's own errors; whatever else comes out
of it is a fault of the program, and so is a value that is not what the file says."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import mutations
import numpy as np
import typer.main
from mutations import Mutate
from PIL import Image
from process import TINY, called

from aecli.cli.tables import show_metrics
from aecli.config import load
from aecli.config.schema import Data
from aecli.core.model import Spec
from aecli.data.sources import rules_1
from aecli.data.sources.decode import Look, decode, heard, says_gray
from aecli.data.sources.folder import FolderSource
from aecli.data.sources.npy import StoredArray, names_of
from aecli.data.sources.npz import NpzSource
from aecli.data.sources.registry import check_name
from aecli.data.sources.vectors import VectorSource
from aecli.errors import AecliError, VariantError, printable_lines, translate
from aecli.runs import checkpoint, commits, numbers, seal, trained
from aecli.runs.data import _places
from aecli.runs.directory import Run
from aecli.runs.records import Beside, validated
from aecli.runs.state import state_template
from aecli.system.arrays import read_arrays
from aecli.system.files import to_json
from aecli.system.placement import placement
from aecli.system.reading import Unreadable
from aecli.verbs.evaluate import _kept

ROOT = Path(__file__).parent.parent
CODES = {2, 3, 4, 5, 7}
"""What a file may make a verb end with: no bug, no divergence, no device."""
MOST_SHOWN = 100_000
"""Letters of a message: of more, nobody finds the mistake."""


_COMMAND = functools.cache(typer.main.get_command)
"""To make the command of its functions takes longer than to run it."""


class Target(NamedTuple):
    """`seconds` of the processor are what one input may take."""

    run: Callable[[bytes], str]
    mutate: Mutate
    seeds: Sequence[bytes]
    seconds: float


def targets(place: Path) -> dict[str, Target]:
    """Every target by name. They work in `place`, which holds what `prepare` made."""
    [folder] = (place / "runs").iterdir()
    run = _Run(place, Run(folder))
    configs = [path.read_bytes() for path in sorted((ROOT / "configs").glob("*.yaml"))]
    files = _Files(place)
    newest = commits.steps(run.it.checkpoints)[-1]
    sound = {name: (folder / name).read_bytes() for name in ("run.json", "state.json", "metrics.jsonl", "eval/test.json")}
    told = json.loads(sound["run.json"])
    told["data"]["path"] = {"given": "~/own", "absolute": "/nowhere/own", "from_run": "../../own"}
    on_own_files = json.dumps(told).encode()
    commit = commits.path_of(run.it.checkpoints, newest).read_bytes()
    return {
        "config": Target(files.config, mutations.of_yaml, [*configs, *map(str.encode, OWN_FILES)], 3),
        "flag": Target(files.flag, mutations.of_yaml, [flag.encode() for flag in FLAGS], 3),
        "run.json": Target(run.info, mutations.of_json, [sound["run.json"], on_own_files], 5),
        "state.json": Target(run.state, mutations.of_json, [sound["state.json"]], 5),
        "metrics.jsonl": Target(run.rows, mutations.of_json_lines, [sound["metrics.jsonl"]], 5),
        "test.json": Target(run.numbers, mutations.of_json, [sound["eval/test.json"]], 5),
        "commit": Target(run.commit, mutations.of_commit, [commit], 5),
        "npz": Target(files.npz, mutations.of_npz, list(_archives()), 5),
        "npy": Target(files.npy, mutations.of_npy, [_npy(array) for array in _some_arrays().values()], 5),
        "image": Target(files.image, mutations.of_png, list(_images()), 10),
    }


def prepare(place: Path) -> None:
    """A run that was really trained and measured. Its numbers have no seal, as those of older versions: else all that is changed
    would be refused by it, and nothing behind it reached."""
    place.mkdir(exist_ok=True)
    (place / "c.yaml").write_text(TINY.replace("steps: 40", "steps: 20"))
    done = called("train", "c.yaml", cwd=place)
    assert done.returncode == 0, done.stderr
    done = called("eval", "last", "--only", "objective,reconstruction", cwd=place)
    assert done.returncode == 0, done.stderr
    for path in place.glob("runs/*/eval/.test.seal.json"):
        path.unlink()


OWN_FILES = (
    "data: {name: folder, path: ., labels: folders, splits: none, background: [1, 2, 3], size: [4, 6], channels: 1}\n"
    "model: {variant: vq, hidden: [8]}\ntrain: {epochs: 2, patience: 3}\n",
    "data:\n  name: npz\n  path: ~/a.npz\n  range: [0.0, 1.0]\n  layout: gray\n  validation: 0\n"
    "model:\n  variant: denoising\n  corruption: {name: gaussian, noise: 0.5}\ntrain: {steps: 3, monitor: mse}\n",
    "data: {name: vectors, path: a.csv, label: 3, standardize: zscore, array: x}\nmodel: {variant: sparse}\ntrain: {steps: 1}\n",
)
FLAGS = (
    "train.steps=100",
    "data.path=~/x",
    "model.hidden=[8, 8]",
    "model={variant: gan}",
    "data={name: npz, path: x}",
    "seed=1",
    "optimizer.learning_rate=1e-3",
    "model.corruption={name: gaussian, noise: 0.5}",
)


def _ended(action: Callable[[], Any]) -> tuple[Any, str]:
    """What an action gives and "value", or None and how it failed, as the program's users are told it. A variant's file is never
    at fault here; Unreadable is what the program's own reading of files raises, where that is what the action is."""
    try:
        return action(), "value"
    except Unreadable as error:
        return None, f"Unreadable: {_shown(str(error))}"
    except Exception as error:
        known = translate(error)
        if not isinstance(known, AecliError) or isinstance(known, VariantError) or known.code not in CODES:
            raise
        return None, f"{type(known).__name__}: {_shown(known.render())}"


def _shown(text: str) -> str:
    """A message as it comes to a terminal."""
    text = printable_lines(text)
    assert all(line.isprintable() for line in text.split("\n")), text
    assert len(text) <= MOST_SHOWN, f"a message of {len(text):,} letters"
    return text


class _Files:
    """Configs, arrays and images, which are written to a folder and read from there."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._folder = place / "images"
        self._folder.mkdir()
        for i in range(3):
            Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) + 50 * i).save(self._folder / f"{i}.png")

    def config(self, data: bytes) -> str:
        path = self._place / "fuzzed.yaml"
        path.write_bytes(data)
        config, how = _ended(lambda: load.load(path, (), check_name))
        if config is None:
            return how
        return self._valid(config)

    def flag(self, data: bytes) -> str:
        flag = os.fsdecode(data.replace(b"\0", b""))  # which no argument holds
        config, how = _ended(lambda: load.parse(TINY, "c.yaml", [flag], check_name).beside(self._place, print_nothing))
        return how if config is None else self._valid(config)

    def _valid(self, config: load.Config) -> str:
        text = config.resolved()
        again = load.parse(text, "again.yaml").experiment
        assert again == config.experiment, "what is written of an experiment is that experiment"
        seal.of_config(text)
        config.text.encode()
        objections = [_shown(f"{one.message} {one.help}") for one in config.experiment.model.objections(Spec(8, 8, 1, 10))]
        return f"value, {len(objections)} objections"

    def npz(self, data: bytes) -> str:
        path = self._place / "fuzzed.npz"
        path.write_bytes(data)
        kept, how = _ended(lambda: read_arrays(path, 2**26))
        names, _ = _ended(lambda: _archived(path))
        for name in names or ():
            array, _ = _ended(lambda name=name: StoredArray(path, name).whole())
            alone = sum(each.removesuffix(".npy") == name for each in names) == 1
            if array is not None and kept is not None and name in kept and alone:
                _equal(array, kept[name], name)
        return "; ".join(map(_line, [how, *self._sources(path)]))

    def npy(self, data: bytes) -> str:
        path = self._place / "fuzzed.npy"
        path.write_bytes(data)
        array, how = _ended(lambda: StoredArray(path).whole())
        if array is not None:
            with warnings.catch_warnings(action="ignore"):  # of names of types that will go
                _equal(array, np.load(path, allow_pickle=False), "array")
        return "; ".join(map(_line, [how, *self._sources(path)]))

    def _sources(self, path: Path) -> Iterator[str]:
        """How the file is read as images, by several settings, and as vectors."""
        ways: list[tuple[Any, Data]] = [
            (NpzSource, Data(name="npz", path=str(path))),
            (NpzSource, Data(name="npz", path=str(path), labels="none", range=(0, 255), dtype="float32", layout="gray")),
            (NpzSource, Data(name="npz", path=str(path), labels="none", range=(-1, 1000), size=(4, 4), layout="channels_last")),
            (rules_1.NpzSource, Data(name="npz", path=str(path))),
            (VectorSource, Data(name="vectors", path=str(path))),
            (VectorSource, Data(name="vectors", path=str(path), labels="none", array="data")),
        ]
        for opener, data in ways:
            source, how = _ended(lambda opener=opener, data=data: opener(data))
            yield how if source is None else _read(source)

    def image(self, data: bytes) -> str:
        looks = (Look(None, None, (255, 255, 255), None), Look((4, 6), 1, (255, 0, 0), (0, 70_000)))
        hows: list[str] = []
        for look in looks:
            with heard():
                decoded, how = _ended(lambda look=look: decode(data, "x.png", look))
            hows.append(how)
            if decoded is None:
                continue
            image = decoded.image
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] in (1, 3) and image.size
            assert look.size is None or image.shape == (*look.size, 1)
            assert all(line.isprintable() for line in map(printable_lines, (*decoded.notes, *decoded.warnings)))
            if not decoded.notes and look.size is None:
                with Image.open(io.BytesIO(data)) as plain:
                    pixels = np.asarray(plain.convert("L" if image.shape[2] == 1 else "RGB"))
                assert np.array_equal(pixels.reshape(image.shape), image), "pixels are those that Pillow reads"
        path = self._folder / "x.png"
        path.write_bytes(data)
        says_gray(path)
        source, how = _ended(lambda: FolderSource(Data(name="folder", path=str(self._folder))))
        return "; ".join(map(_line, [*hows, how if source is None else _read(source)]))


def _said(data: bytes) -> Any:
    """What JSON says, its numbers as floats, which is what the program makes of those that are no counts."""
    return json.loads(data, parse_int=float)


def _line(how: str) -> str:
    return how.split("\n")[0]


def print_nothing(line: str) -> None:
    _shown(line)


def _archived(path: Path) -> list[str]:
    """The names in an archive; a file that is none is told by whoever reads it."""
    try:
        return names_of(path)
    except Exception:
        return []


def _equal(found: Any, expected: Any, name: str) -> None:
    alike = found.dtype == expected.dtype or expected.dtype.itemsize == 0  # of no bytes, which NumPy widens to one
    assert alike and found.shape == expected.shape, (name, found.dtype, expected.dtype, found.shape, expected.shape)
    assert found.tobytes() == expected.tobytes(), name


def _read(source: Any) -> str:
    """Reads every example of a source, in two orders, which must give the same."""
    origin = source.origin
    _shown(origin.about)
    for split, n in origin.sizes.items():
        found, how = _ended(lambda split=split, n=n: source.read(split, np.arange(n)))
        if found is None:
            return how
        images, labels = found
        assert images.shape == (n, *origin.shape) and str(images.dtype) == origin.dtype and labels.shape == (n,)
        assert np.isfinite(images).all() if images.dtype.kind == "f" else images.dtype == np.uint8
        assert origin.kind == "vector" or images.dtype == np.uint8 or (images.min() >= 0 and images.max() <= 1)
        assert n == 0 or (labels.min() >= -1 and labels.max() < max(1, origin.classes))
        again, _ = _ended(lambda split=split, n=n: source.read(split, np.arange(n)[::-1]))
        assert again is None or (np.array_equal(again[0][::-1], images) and np.array_equal(again[1][::-1], labels))
    _, how = _ended(source.converted)
    return how


class _Run:
    """The files of a run, each put in the place of the sound one."""

    def __init__(self, place: Path, run: Run) -> None:
        self._place, self.it = place, run
        self._sound = run.info()
        self._experiment = trained.stored_experiment(run)
        self._template = state_template(self._experiment, trained.spec_of(run), self._sound.data.sizes.train, placement(1))
        self._step = commits.steps(run.checkpoints)[-1]
        restored = checkpoint.restore(run.checkpoints, self._template, print_nothing)
        assert restored is not None
        self._state = checkpoint.leaves(restored.state)
        [recorded, *_] = json.loads((run.path / "eval/test.json").read_bytes()).values()
        common = ("version", "split", "step", "binarize", "seed", "batch", "fingerprint")
        self._protocol = {key: recorded["protocol"][key] for key in common}

    @contextlib.contextmanager
    def _in_place(self, name: str, data: bytes) -> Iterator[Path]:
        path = self.it.path / name
        before = path.read_bytes()
        path.write_bytes(data)
        try:
            yield path
        finally:
            path.write_bytes(before)

    def _listed(self) -> str:
        """What `runs` and `show` tell, which never is a reason to end otherwise than well or with a documented error."""
        listed = self._called("runs", "--json")
        assert listed.returncode == 0 and [fact["id"] for fact in json.loads(listed.stdout)] == [self.it.id]
        self._called("runs")
        shown = self._called("show", self.it.id, "--json")
        assert shown.returncode or json.loads(shown.stdout)["id"]
        plain = self._called("show", self.it.id)
        return _line(plain.stderr or json.loads(listed.stdout)[0]["damage"] or "value")

    def _called(self, *arguments: str) -> Any:
        with mock.patch.object(typer.main, "get_command", _COMMAND):
            done = called(*arguments, cwd=self._place)
        text = done.stdout + done.stderr
        assert done.returncode in CODES | {0} and "internal error" not in text and "Traceback" not in text, text[-3000:]
        assert all(line.isprintable() for line in text.split("\n")), ascii(text)
        assert done.returncode == 0 or "error: " in done.stderr, text
        return done

    def info(self, data: bytes) -> str:
        with self._in_place("run.json", data):
            how = self._listed()
            info, _ = _ended(self.it.info)
            if info is None:
                return how
            assert _said(to_json(info.as_json())) == _said(data), "what is kept of it is what it says"
            _ended(lambda: trained.stored_experiment(self.it))
            _ended(lambda: trained.check_seals(self.it, print_nothing))
            for place in _places(self.it, Data(name="folder", path="x"), info.data)[1]:
                os.path.exists(place)
            if info.data.spec != self._sound.data.spec or info.variant != self._sound.variant:
                _, loaded = _ended(lambda: trained.load(self.it, "best", print_nothing))
                how += loaded
            return how

    def state(self, data: bytes) -> str:
        with self._in_place("state.json", data):
            how = self._listed()
            recorded, wrong = self.it.look()
            written = to_json(recorded.as_json())
            assert wrong is not None or _said(written) == _said(data)
            return how

    def rows(self, data: bytes) -> str:
        with self._in_place("metrics.jsonl", data):
            how = self._listed()
            rows, damaged = self.it.read_rows()
            assert len(rows) + damaged <= data.count(b"\n") + 1
            assert all(np.isfinite(value) for row in rows for value in row.values.values())
            for row in rows:
                to_json(row.as_json())
            return how

    def numbers(self, data: bytes) -> str:
        with self._in_place("eval/test.json", data) as path:
            how = self._listed()
            stored = numbers.read(path.parent, "test", None, values=True)  # of a run without seals, so that it is read
            if stored.wrong is not None:
                return f"not to be believed: {stored.wrong}"
            kept = _kept(stored, self._protocol, ())
            written, said = _said(to_json({name: one.as_json() for name, one in kept.items()})), _said(data)
            for name, number in written.items():  # keys that a number has beyond these are of no version that there is
                assert number == {key: said[name][key] for key in number}, "numbers stay as they are"
            if kept:
                with contextlib.redirect_stdout(io.StringIO()) as table:
                    show_metrics(self.it.id, kept)
                _shown(table.getvalue())
            return how if how != "value" else f"value, {bool(kept)}"

    def commit(self, data: bytes) -> str:
        with self._in_place(f"checkpoints/{self._step}.commit.json", data):
            commit, how = _ended(lambda: commits.read(self.it.checkpoints, self._step))
            commits.newest(self.it.checkpoints)
            trained.best_step(self.it, commits.steps(self.it.checkpoints))
            _ended(lambda: trained.check_seals(self.it, print_nothing))
            if commit is None:
                return how
            assert _said(to_json(commit.as_json())) == _said(data)
            beside, going_on = _ended(lambda: validated(Beside, commit.extra))
            if beside is not None:
                _ended(lambda: commits.progressed(commit))
            loaded, restored = _ended(lambda: checkpoint.restore(self.it.checkpoints, self._template, print_nothing, self._step))
            if loaded is not None and loaded.step == self._step:
                now = checkpoint.leaves(loaded.state)
                assert all(np.array_equal(now[path], leaf) for path, leaf in self._state.items()), "arrays are as saved"
            return "; ".join(map(_line, (how, going_on, restored)))


def _some_arrays() -> dict[str, Any]:
    """Small arrays of images, labels and vectors, of all types that are read."""
    chance = np.random.default_rng(0)
    images = chance.integers(0, 256, (12, 5, 4), dtype=np.uint8)
    return {
        "bytes": images,
        "colour": np.stack([images] * 3, -1),
        "channels first": np.stack([images] * 3, 1),
        "by column": np.asfortranarray(images),
        "floats": images.astype(np.float32) / 255,
        "doubles": images / 255,
        "halves": (images / 255).astype(np.float16),
        "deep": images.astype(">u2") * 257,
        "whole": images.astype(np.int64),
        "bool": images > 127,
        "vectors": chance.normal(size=(20, 7)).astype(np.float32),
        "labels": np.arange(12) % 3,
        "texts": np.array(["cat", "dog", "cow"] * 4),
        "one-hot": np.eye(3, dtype=np.uint8)[np.arange(12) % 3],
        "single": np.array(3.5),
    }


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _archives() -> Iterator[bytes]:
    some = _some_arrays()
    for save in (np.savez, np.savez_compressed):
        for images in ("bytes", "colour", "channels first", "by column", "floats", "deep", "bool"):
            for labels in ("labels", "texts", "one-hot"):
                yield _packed(save, image=some[images], label=some[labels])
        yield _packed(save, x_train=some["bytes"], y_train=some["labels"], x_test=some["bytes"][:3], y_test=some["labels"][:3])
        yield _packed(save, train_image=some["doubles"], val_image=some["doubles"][:2], fine_labels=some["labels"])
        yield _packed(save, data=some["vectors"], labels=np.arange(20) % 2, more=some["single"])


def _packed(save: Callable[..., None], **arrays: Any) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def _images() -> Iterator[bytes]:
    """PNGs of every kind, and an image of every other format."""
    gray = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    colour = Image.fromarray(np.stack([gray, gray.T, 255 - gray], -1))
    for mode in ("L", "RGB", "P", "1", "LA", "RGBA"):
        yield _saved(colour.convert(mode), "PNG")
    yield _saved(colour.convert("P", palette=Image.Palette.ADAPTIVE, colors=5), "PNG", transparency=1, bits=4)
    yield _saved(Image.fromarray(gray.astype(np.uint16) * 250), "PNG")
    yield _saved(colour, "PNG", pnginfo=_text(), exif=_turned(), dpi=(72, 72))
    yield _saved(colour, "PNG", save_all=True, append_images=[colour.rotate(90)])
    yield _saved(colour, "JPEG", exif=_turned())
    yield _saved(colour.convert("CMYK"), "JPEG")
    yield _saved(colour, "WEBP")
    yield _saved(colour.convert("RGBA"), "WEBP", lossless=True)
    yield _saved(colour, "BMP")
    yield _saved(colour.convert("P"), "GIF", save_all=True, append_images=[colour.rotate(90).convert("P")], transparency=0)
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield _saved(colour, "TIFF", compression=compression)
    yield _saved(Image.fromarray(gray.astype(np.float32)), "TIFF")
    yield _saved(Image.fromarray(gray.astype(np.int32) * 1000), "TIFF")
    yield _saved(colour.convert("LAB"), "TIFF")


def _text() -> Any:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", "a text", zip=True)
    return info


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def kind_of(how: str) -> str:
    """How an input ended, without what differs from one to the next: names, numbers and places."""
    how = re.sub(r": .*?: error\[", ": error[", how.split("\n")[0])
    return re.sub(r"'[^']*'|\"[^\"]*\"|\S*\d\S*|/\S+", "_", how)[:300]
