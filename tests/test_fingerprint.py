"""A run is held to the data that it was trained on, on every road, wherever that data lies by now."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from process import called

from aecli.config.schema import Data
from aecli.data import contents, fingerprints
from aecli.data.dataset import open_dataset
from aecli.data.sources.registry import open_source
from aecli.errors import UsageError
from aecli.runs.data import open_run_data
from aecli.runs.directory import Run
from aecli.sampling.modes import MODES
from aecli.sampling.samplers import SAMPLERS

CONFIG = """\
data: {name: folder, path: imgs, batch_size: 8, validation: 4, test: 0.3}
model: {variant: vae, hidden: [8], latent: 2}
train: {steps: 4}
"""
MODES_OF_IMAGES = [mode for mode in MODES if mode not in ("prior", "class", "complete", "translate", "codes")]
"""Of the modes that a VAE can serve; `complete`, `translate` and `codes` are given their images in the same way."""
ROADS = {
    "eval": ("eval", "--only", "objective"),
    "resume": ("train", "--set", "train.steps=6", "--resume"),
    **{mode: ("sample", "--mode", mode) for mode in MODES_OF_IMAGES},
    **{sampler: ("sample", "--sampler", sampler) for sampler in SAMPLERS},
}


def write_images(folder: Path, seed: int, n: int = 12) -> list[Path]:
    rng = np.random.default_rng(seed)
    paths = [folder / label / f"{i:02d}.png" for label in ("bar", "dot") for i in range(n)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 5), np.uint8)).save(path)
    return paths


class Place:
    """Two folders of one project each: `a`, where the run was trained, and `b`, whose images bear the same names."""

    def __init__(self, root: Path) -> None:
        self.a, self.b = root / "a", root / "b"
        write_images(self.a / "imgs", 0)
        write_images(self.b / "imgs", 1)
        (self.a / "own.yaml").write_text(CONFIG)
        done = called("train", "own.yaml", cwd=self.a)
        assert done.returncode == 0, done.stderr
        self.run = done.stdout.strip()

    @property
    def runs(self) -> Path:
        return self.a / "runs"

    def call(self, *words: str, cwd: Path) -> Any:
        """The run's id goes behind `--resume`, and first otherwise."""
        at = len(words) if words[-1] == "--resume" else 1
        return called(*words[:at], self.run, *words[at:], "--runs-dir", self.runs, cwd=cwd)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One pixel of one image is another than in training, by one."""
    place = Place(tmp_path_factory.mktemp("changed"))
    path = place.a / "imgs" / "dot" / "07.png"
    pixels = np.array(Image.open(path))
    pixels[2, 3] ^= 1
    Image.fromarray(pixels).save(path)
    return place


@pytest.mark.parametrize("road", ROADS)
def test_one_changed_pixel_is_refused_on_every_road(changed: Place, road: str) -> None:
    done = changed.call(*ROADS[road], cwd=changed.a)
    assert done.returncode == 3, done.stderr
    assert str(changed.a / "imgs") in done.stderr and "fingerprint" in done.stderr and "Traceback" not in done.stderr


def test_the_prior_needs_no_data(changed: Place) -> None:
    hidden = changed.a / "away"
    (changed.a / "imgs").rename(hidden)
    try:
        assert changed.call("sample", "-n", "4", cwd=changed.b).returncode == 0
        refused = changed.call("sample", "--mode", "reconstruct", cwd=changed.b)
        assert refused.returncode == 3
        assert str(changed.a / "imgs") in refused.stderr and str(changed.b / "imgs") in refused.stderr
    finally:
        hidden.rename(changed.a / "imgs")


def test_images_of_the_same_name_elsewhere_are_not_taken(place: Place) -> None:
    done = place.call("sample", "--mode", "reconstruct", "-n", "4", cwd=place.b)
    assert done.returncode == 0, done.stderr
    arrays = dict(np.load(done.stdout.split()[1]))
    ours = {np.array(Image.open(path)).tobytes() for path in (place.a / "imgs").rglob("*.png")}
    shown = next(array for name, array in arrays.items() if "recon" not in name and array.ndim == 4)
    assert {image.tobytes() for image in shown} <= ours


def test_a_project_that_is_moved_finds_its_data(place: Place, tmp_path: Path) -> None:
    shutil.copytree(place.a, tmp_path / "moved")
    hidden = place.a / "away"
    (place.a / "imgs").rename(hidden)
    try:
        done = called("eval", place.run, "--only", "objective", "--runs-dir", tmp_path / "moved" / "runs", cwd=place.b)
        assert done.returncode == 0 and f"is now in {tmp_path / 'moved' / 'imgs'}" in done.stderr
        shutil.rmtree(tmp_path / "moved" / "imgs")
        empty = called("eval", place.run, "--runs-dir", tmp_path / "moved" / "runs", cwd=tmp_path)
        assert empty.returncode == 3 and "is not found" in empty.stderr and "a link to it" in empty.stderr
        (tmp_path / "moved" / "imgs").symlink_to(hidden)
        linked = called("eval", place.run, "--only", "objective", "--runs-dir", tmp_path / "moved" / "runs", cwd=tmp_path)
        assert linked.returncode == 0, linked.stderr
    finally:
        hidden.rename(place.a / "imgs")


@pytest.mark.parametrize("road", ["eval", "resume", "reconstruct"])
def test_it_can_be_told_where_data_is_by_now(place: Place, tmp_path: Path, road: str) -> None:
    shutil.copytree(place.runs, tmp_path / "runs")
    words = {
        "eval": ("eval", place.run, "--only", "objective"),
        "resume": ("train", "--resume", place.run, "--set", "train.steps=6"),
        "reconstruct": ("sample", place.run, "--mode", "reconstruct"),
    }[road]

    def told(path: Path | str) -> Any:
        return called(*words, "--data-path", path, "--runs-dir", tmp_path / "runs", cwd=place.a)

    (place.a / "imgs").rename(place.a / "renamed")
    try:
        other, nowhere, found = told(place.b / "imgs"), told("imgs"), told("renamed")
    finally:
        (place.a / "renamed").rename(place.a / "imgs")
    assert found.returncode == 0, found.stderr
    assert other.returncode == 3 and f"{place.b / 'imgs'} has " in other.stderr and "fingerprint" in other.stderr
    assert nowhere.returncode == 3 and f"{place.a / 'imgs'} does not exist" in nowhere.stderr
    assert "--data-path PATH" in nowhere.stderr


def test_a_place_is_told_of_own_data_of_a_run_alone(place: Place, tmp_path: Path) -> None:
    new = called("train", "own.yaml", "--data-path", "imgs", cwd=place.a)
    assert new.returncode == 2 and "--set data.path=imgs" in new.stderr
    moved = called("train", "--resume", place.run, "--set", "data.path=imgs", cwd=place.a)
    assert moved.returncode == 2 and "--data-path" in moved.stderr
    run = Run(place.runs / place.run)
    with pytest.raises(UsageError, match="no file or folder of yours"):
        open_run_data(run, Data(name="digits"), print, "imgs")


def test_classes_that_are_called_otherwise_by_now_are_told(place: Place) -> None:
    (place.a / "imgs" / "dot").rename(place.a / "imgs" / "egg")
    try:
        done = place.call("sample", "--mode", "reconstruct", cwd=place.b)
    finally:
        (place.a / "imgs" / "egg").rename(place.a / "imgs" / "dot")
    assert done.returncode == 0 and "classes were called bar, dot when" in done.stderr
    assert "classes were called" not in place.call("sample", "--mode", "reconstruct", cwd=place.b).stderr


def test_a_run_without_a_kept_path_is_found_by_the_folder_of_its_runs(place: Place, tmp_path: Path) -> None:
    """Older versions kept the path as it was written."""
    shutil.copytree(place.a, tmp_path, dirs_exist_ok=True)
    run = tmp_path / "runs" / place.run
    info = json.loads((run / "run.json").read_text())
    del info["data"]["path"]
    (run / "run.json").write_text(json.dumps(info))
    data = Data(name="folder", path="imgs", batch_size=8, validation=4, test=0.3)
    said: list[str] = []
    assert open_run_data(Run(run), data, said.append).fingerprint == info["data"]["fingerprint"]
    assert any(str(tmp_path / "imgs") in line for line in said)


def test_the_resolved_config_of_a_run_can_be_trained_from_anywhere(place: Place) -> None:
    resolved = place.runs / place.run / "config.resolved.yaml"
    done = called("train", resolved, cwd=place.b)
    assert done.returncode == 0, done.stderr
    again, first = (
        json.loads((runs / name / "run.json").read_text())["data"]["fingerprint"]
        for runs, name in ((place.b / "runs", done.stdout.strip()), (place.runs, place.run))
    )
    assert again == first


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("AECLI_DATA_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def streams(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[list[Data]]:
    """Data of every kind, in pieces of a few rows."""
    monkeypatch.setattr(fingerprints, "_AT_ONCE", 7)
    write_images(tmp_path / "imgs", 0)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "own.npz", image=rng.integers(0, 256, (20, 4, 3, 3), np.uint8), label=np.arange(20) % 3)
    own = [("folder", "imgs"), ("npz", "own.npz")]
    yield [Data(name=name, path=str(tmp_path / path), batch_size=4, tier="stream") for name, path in own]


def test_a_stream_has_the_fingerprint_of_what_is_decoded(streams: list[Data]) -> None:
    for data in [*streams, streams[0].model_copy(update={"size": (4, 4), "channels": 3})]:
        said: list[str] = []
        stream = open_dataset(data, said.append)
        decoded = open_dataset(data.model_copy(update={"tier": "auto"}))
        assert (stream.tier, decoded.tier) == ("stream", "device") and stream.fingerprint == decoded.fingerprint
        assert [line for line in said if "fingerprint" in line]
        assert open_dataset(data, said.append).fingerprint == stream.fingerprint
        assert len([line for line in said if "fingerprint" in line]) == 1, "it is known by then"


def test_a_prepared_data_set_has_the_fingerprint_that_it_always_had(data_dir: Path) -> None:
    """Shipped classifiers and old runs know `digits` by it; of a stream alike."""
    [old] = Path(__file__).parent.glob("old_runs/runs/digits-*/run.json")
    known = json.loads(old.read_text())["data"]["fingerprint"]
    assert open_dataset(Data(name="digits")).fingerprint == open_dataset(Data(name="digits", tier="stream")).fingerprint == known


def test_a_stream_is_still_known_by_its_origin(streams: list[Data]) -> None:
    for data in streams:
        before = hashlib.sha256(open_source(data, print, 1).origin.identity.encode()).hexdigest()
        said: list[str] = []
        assert open_dataset(data, said.append, 1, before).fingerprint == before and len(said) == 1, (
            "only by which rules it is read"
        )
        assert open_dataset(data, said.append, 1, "0" * 64).fingerprint not in (before, "0" * 64)


def test_a_replaced_file_of_equal_size_and_time_is_read_anew(fresh: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    data = Data(name="npz", path=str(path), batch_size=4)
    seen: list[Any] = []
    for seed in (0, 1):
        images = np.random.default_rng(seed).integers(0, 256, (20, 4, 4), np.uint8)
        np.savez(tmp_path / "new.npz", image=images)
        os.replace(tmp_path / "new.npz", path)
        os.utime(path, ns=(10**18, 10**18))
        opened = open_dataset(data)
        seen.append({image.tobytes() for image in opened.train.take(np.arange(len(opened.train)))[0]})
        assert seen[-1] <= {image.tobytes() for image in images}
    assert path.stat().st_mtime_ns == 10**18 and not seen[0] & seen[1]


def test_files_that_did_not_change_are_not_read_again(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_images(tmp_path / "imgs", 0)
    (tmp_path / "imgs" / "notes.txt").write_text("no part of the images")
    read: list[Path] = []
    real = contents._read
    monkeypatch.setattr(contents, "_read", lambda path: read.append(path) or real(path))
    data = Data(name="folder", path=str(tmp_path / "imgs"), batch_size=4)
    first = contents.identity(data, print)
    assert sorted(read) == paths
    read.clear()
    assert contents.identity(data, print) == first and sorted(read) == paths, "what was written this moment is not believed"
    monkeypatch.setattr(contents, "RACY_NS", -(10**9))
    contents.identity(data, print)
    read.clear()
    assert contents.identity(data, print) == first and not read
    paths[3].write_bytes(paths[4].read_bytes())
    assert contents.identity(data, print) != first and read == [paths[3]]


def test_names_and_empty_folders_are_part_of_a_folder(fresh: Path, tmp_path: Path) -> None:
    def identity(folder: str) -> str:
        return contents.identity(Data(name="folder", path=str(tmp_path / folder), batch_size=4), print)

    write_images(tmp_path / "imgs", 0, 2)
    shutil.copytree(tmp_path / "imgs", tmp_path / "other")
    assert identity("imgs") == identity("other")
    (tmp_path / "other" / "test").mkdir()
    assert identity("imgs") != identity("other")
    (tmp_path / "other" / "test").rmdir()
    (tmp_path / "other" / "dot").rename(tmp_path / "other" / "cat")
    assert identity("imgs") != identity("other")


def test_a_loop_of_links_a_pipe_and_a_link_to_nothing_do_not_stop_it(fresh: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "imgs", 0, 2)
    data = Data(name="folder", path=str(tmp_path / "imgs"), batch_size=4)
    (tmp_path / "imgs" / "bar" / "up").symlink_to(tmp_path / "imgs")
    os.mkfifo(tmp_path / "imgs" / "pipe.png")
    (tmp_path / "imgs" / "gone.png").symlink_to(tmp_path / "nothing")
    assert contents.identity(data, print)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("damage", ["empty", "text", "half", "bits", "folder", "fifo"])
def test_a_damaged_index_is_made_anew(fresh: Path, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "RACY_NS", -(10**9))
    write_images(tmp_path / "imgs", 0)
    data = Data(name="folder", path=str(tmp_path / "imgs"), batch_size=4, tier="stream")
    before = open_dataset(data).fingerprint
    index = fresh / "contents.sqlite"
    raw = bytearray(index.read_bytes())
    if damage == "folder":
        index.unlink()
        index.mkdir()
    elif damage == "fifo":
        index.unlink()
        os.mkfifo(index)
    elif damage == "bits":
        for place in range(0, len(raw), 97):
            turned = bytearray(raw)
            turned[place] ^= 1
            index.write_bytes(turned)
            assert open_dataset(data).fingerprint == before, place
    else:
        index.write_bytes({"empty": b"", "text": b"no index\n" * 900, "half": bytes(raw[: len(raw) // 2])}[damage])
    assert open_dataset(data).fingerprint == before
    contents.note("key", "value")
    assert contents.noted("key") == (None if damage in ("folder", "fifo") else "value")
