"""A run comes out of an archive as it went in, or not at all."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fit import dataset, experiment, fit
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import made, measured, row
from process import called, started, wait_for

from aecli.errors import CheckpointError, RunError, StorageError, UsageError
from aecli.evaluation.request import EvalRequest
from aecli.runs import directory
from aecli.runs.directory import Run
from aecli.runs.trained import load
from aecli.sampling.request import SampleRequest
from aecli.verbs import archive as archiving
from aecli.verbs import unpack as unpacking
from aecli.verbs.archive import MANIFEST, PIECE, archive, contents_of
from aecli.verbs.evaluate import evaluate_run
from aecli.verbs.sample import sample_run
from aecli.verbs.unpack import unpack


def filled(root: Path, name: str = "test") -> Run:
    """A run with a file of every kind, of names that are long, and no UTF-8."""
    run = made(root, name)
    measured(run, {"mse": 0.5})
    run.append_metrics(row(1))
    (run.path / "checkpoints" / "5" / "d").mkdir(parents=True)
    (run.path / "checkpoints" / "5" / "d" / ("e" * 120)).write_bytes(os.urandom(3 * PIECE + 7))
    (run.path / "checkpoints" / "5.commit.json").write_text("{}")
    (run.path / "samples" / os.fsdecode(b"\xff \n")).write_bytes(b"")
    (run.path / "samples" / "é 狐").write_text("x" * 1024)
    (run.path / "samples" / "empty").mkdir()
    (run.path / "eval" / ".test.json.abc.tmp").write_text("half")
    (run.path / "eval" / ".lock").touch()
    return run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return filled(tmp_path / "runs")


def no_words(line: str) -> None:
    raise AssertionError(line)


@pytest.mark.parametrize("ending", [".tar", ".tar.gz", ".tgz"])
def test_what_comes_out_is_what_went_in(run: Run, tmp_path: Path, ending: str) -> None:
    other = filled(tmp_path / "runs", "other")
    done = archive([run, other, run], tmp_path / f"x{ending}")
    assert done.runs == 2 and done.size == (tmp_path / f"x{ending}").stat().st_size
    imported = unpack(tmp_path / f"x{ending}", tmp_path / "new" / "runs", no_words)
    assert [(each.run.id, each.same) for each in imported] == sorted([(run.id, False), (other.id, False)])
    for each in imported:
        before, after = (contents_of(tmp_path / place / each.run.id) for place in ("runs", "new/runs"))
        assert before.as_json("") == after.as_json("") and len(after.files) > 8
        assert not list(each.run.path.rglob("*.lock")) and not list(each.run.path.rglob("*.tmp"))
    assert len(os.listdir(tmp_path / "new" / "runs")) == 2
    with tarfile.open(tmp_path / f"x{ending}") as tar:
        assert {(entry.mtime, entry.uid, entry.uname) for entry in tar} == {(0, 0, "")}


def test_two_archives_are_equal(run: Run, tmp_path: Path) -> None:
    archive([run], tmp_path / "a.tar.gz")
    os.utime(run.path / "run.json", (1, 1))
    os.chmod(run.path / "run.json", 0o600)
    (run.path / "eval" / ".other.lock").touch()
    archive([run], tmp_path / "b.tgz")
    unpack(tmp_path / "a.tar.gz", tmp_path / "new", no_words)
    archive(directory.every(tmp_path / "new"), tmp_path / "c.tar.gz")
    first, second, third = ((tmp_path / name).read_bytes() for name in ("a.tar.gz", "b.tgz", "c.tar.gz"))
    assert first == second == third


def test_from_the_command_line(run: Run, tmp_path: Path) -> None:
    done = called("archive", "test", "last", "-o", "x.tar.gz", cwd=tmp_path)
    assert (
        done.returncode == 0 and done.stdout == "x.tar.gz\n" and f"1 run, {len(contents_of(run.path).files)} files" in done.stderr
    )
    for twice in (False, True):
        done = called("import", "x.tar.gz", "--runs-dir", "new", cwd=tmp_path)
        assert done.returncode == 0 and done.stdout == f"{run.id}\n"
        assert ("is there already, and the same" in done.stderr) == twice
    before = contents_of(tmp_path / "new" / run.id)
    (tmp_path / "new" / run.id / "config.yaml").write_text("edited")
    done = called("import", "x.tar.gz", "--runs-dir", "new", cwd=tmp_path)
    assert done.returncode == 4 and "config.yaml differs" in done.stderr
    assert (tmp_path / "new" / run.id / "config.yaml").read_text() == "edited"
    assert os.listdir(tmp_path / "new") == [run.id] and before.files.keys() == contents_of(tmp_path / "new" / run.id).files.keys()
    for wrong, code in (("x.tar.gz", 2), ("x.tar.zst", 2), ("x", 2), ("none/x.tar", 7)):
        assert called("archive", "last", "-o", wrong, cwd=tmp_path).returncode == code
    assert called("archive", "none", "-o", "y.tar", cwd=tmp_path).returncode == 4
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for wrong, code in (("none", 7), ("folder", 7), ("fifo", 3), ("runs/" + run.id + "/run.json", 4)):
        done = called("import", wrong, "--runs-dir", "new", cwd=tmp_path)
        assert done.returncode == code and "internal" not in done.stderr, done.stderr


def test_one_name_and_something_else(run: Run, tmp_path: Path) -> None:
    archive([run], tmp_path / "x.tar")
    for make in (Path.touch, lambda path: path.symlink_to(run.path), lambda path: path.mkdir()):
        place = tmp_path / "new"
        place.mkdir()
        make(place / run.id)
        with pytest.raises(RunError, match="there is another run"):
            unpack(tmp_path / "x.tar", place, no_words)
        assert os.listdir(place) == [run.id]
        shutil.rmtree(place)


def test_a_run_that_somebody_trains_is_refused(run: Run, tmp_path: Path) -> None:
    with run.locked():
        done = called("archive", "last", "-o", "x.tar", cwd=tmp_path)
    assert done.returncode == 4 and "is being trained by" in done.stderr and not (tmp_path / "x.tar").exists()


@pytest.mark.parametrize(
    "change", [lambda file: file.write_text("longer than it was before"), lambda file: file.write_text(""), Path.unlink]
)
def test_a_run_that_changes_meanwhile_is_refused(
    run: Run, tmp_path: Path, change: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = archiving._write

    def late(*arguments: Any) -> None:
        change(run.path / "metrics.jsonl")
        write(*arguments)

    monkeypatch.setattr(archiving, "_write", late)
    with pytest.raises(RunError, match=r"metrics\.jsonl of run .* has changed while it was archived"):
        archive([run], tmp_path / "x.tar.gz")
    assert sorted(os.listdir(tmp_path)) == ["runs"]


def test_a_kill_in_the_middle_leaves_no_half(run: Run, tmp_path: Path) -> None:
    (run.path / "samples" / "large").write_bytes(os.urandom(40 * PIECE))
    with started("archive", "last", "-o", "x.tar.gz", cwd=tmp_path) as process:
        wait_for(lambda: any(path.stat().st_size for path in tmp_path.glob(".x.tar.gz.*.tmp")), process)
        process.kill()
        process.wait()
    assert not (tmp_path / "x.tar.gz").exists()
    archive([run], tmp_path / "x.tar.gz")
    with started("import", "x.tar.gz", "--runs-dir", "new", cwd=tmp_path) as process:
        wait_for(lambda: list(tmp_path.glob("new/.importing-*/*/samples/*")), process)
        process.kill()
        process.wait()
    assert directory.every(tmp_path / "new") == [] and len(os.listdir(tmp_path / "new")) == 1
    unpack(tmp_path / "x.tar.gz", tmp_path / "new", no_words)
    assert os.listdir(tmp_path / "new") == [run.id], "what the kill left is swept"


def test_what_another_import_is_at_work_on_is_not_swept(run: Run, tmp_path: Path) -> None:
    archive([run], tmp_path / "x.tar")
    (tmp_path / "new").mkdir()
    with unpacking._temporary(tmp_path / "new") as place:
        unpack(tmp_path / "x.tar", tmp_path / "new", no_words)
        assert place.is_dir()
    assert os.listdir(tmp_path / "new") == [run.id]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """An archive, packed and not."""
    folder = tmp_path_factory.mktemp("small")
    run = made(folder / "runs")
    for ending in (".tar", ".tar.gz"):
        archive([run], folder / f"x{ending}")
    return (folder / "x.tar").read_bytes(), (folder / "x.tar.gz").read_bytes()


def refused(data: bytes, place: Path, match: str = "is no whole archive of runs") -> None:
    (place / "x").write_bytes(data)
    with pytest.raises(RunError, match=match):
        unpack(place / "x", place / "new", no_words)
    assert not (place / "new").exists() or os.listdir(place / "new") == []


@pytest.mark.parametrize("packed", [False, True])
def test_a_cut_archive_leaves_nothing(small: tuple[bytes, bytes], tmp_path: Path, packed: bool) -> None:
    data = small[packed]
    end = len(data) if packed else -(-len(data.rstrip(b"\0")) // 512) * 512 + 512  # the rest is padding
    for size in sorted({0, 1, 100, 512, *range(0, end, end // 12), *range(end - 10, end)}):
        refused(data[:size], tmp_path)


@settings(max_examples=60, deadline=None)
@given(packed=st.booleans(), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_bit_that_is_turned_over_is_found_or_says_nothing(
    small: tuple[bytes, bytes], tmp_path_factory: pytest.TempPathFactory, packed: bool, where: float, bit: int
) -> None:
    data = bytearray(small[packed])
    data[int(where * len(data))] ^= 1 << bit
    place = tmp_path_factory.mktemp("bit")
    (place / "x").write_bytes(small[0])
    [(whole, _)] = unpack(place / "x", place / "whole", no_words)
    (place / "x").write_bytes(data)
    try:
        [(run, _)] = unpack(place / "x", place / "new", no_words)
    except RunError:
        assert not (place / "new").exists() or os.listdir(place / "new") == []
    else:  # a time, a mode, a name of an owner, or nothing
        assert contents_of(run.path).as_json("") == contents_of(whole.path).as_json("")


Entry = tuple[str, bytes, bytes, dict[str, str]]
"""Name, type, content and headers."""


def forged(run: dict[str, Any] | None, *entries: Entry, **changed: Any) -> bytes:
    """An archive as a stranger would make it: `run` is what its list says of the one run in it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        manifest = json.dumps({"schema": 1, "runs": [run], **changed}).encode()
        for name, kind, content, headers in ((MANIFEST, tarfile.REGTYPE, manifest, {}), *entries):
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.pax_headers = kind, len(content), headers
            entry.linkname = "../../victim" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def facts(content: bytes) -> dict[str, Any]:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


GOOD = {"id": "r", "folders": [], "files": {"run.json": facts(b"{}")}}
HERE: Entry = ("r/run.json", tarfile.REGTYPE, b"{}", {})


def with_file(name: str) -> dict[str, Any]:
    return {**GOOD, "files": {**GOOD["files"], name: facts(b"x")}}


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", ".", "a//b", "a/", "x\0", "x" * 2000, "\ud800"])
def test_names_lead_nowhere(tmp_path: Path, name: str) -> None:
    refused(forged(with_file(name), HERE), tmp_path, "leads out|is wrong")
    refused(forged({**GOOD, "folders": [name]}, HERE), tmp_path, "leads out|is wrong")
    if "\0" not in name and name.isascii():
        refused(forged(GOOD, HERE, (f"r/{name}", tarfile.REGTYPE, b"x", {})), tmp_path)
        refused(forged({**GOOD, "id": name}, HERE), tmp_path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_no_link_and_no_device_is_made(tmp_path: Path, kind: bytes) -> None:
    (tmp_path / "victim").write_text("x")
    refused(forged(with_file("a"), HERE, ("r/a", kind, b"", {})), tmp_path)
    refused(forged(GOOD, ("r/run.json", kind, b"", {}), HERE), tmp_path)
    refused(forged(with_file("a/b"), ("r/a", kind, b"", {}), HERE, ("r/a/b", tarfile.REGTYPE, b"x", {})), tmp_path)
    assert (tmp_path / "victim").read_text() == "x"


def test_what_the_list_does_not_have_is_refused(tmp_path: Path) -> None:
    extra: Entry = ("r/more", tarfile.REGTYPE, b"x", {})
    refused(forged(GOOD, HERE, extra), tmp_path, "r/more is not what its list has")
    folder: Entry = ("r", tarfile.DIRTYPE, b"", {})
    refused(forged(GOOD, folder, HERE, folder), tmp_path, "r is not what its list has")
    refused(forged(GOOD, folder, HERE, ("r/more", tarfile.DIRTYPE, b"", {})), tmp_path, "r/more is not what its list has")
    refused(forged(GOOD, HERE, HERE), tmp_path, "is not what its list has")
    refused(forged(with_file("more"), HERE), tmp_path, "r/more is missing")
    refused(forged(GOOD, ("r/run.json", tarfile.REGTYPE, b"[]", {})), tmp_path, "the checksum of r/run.json is wrong")
    refused(forged(GOOD, ("r/run.json", tarfile.REGTYPE, b"{ }", {})), tmp_path, "has 3 bytes, and its list says 2")
    refused(forged({**GOOD, "files": {}}), tmp_path, "is no run")
    refused(forged(with_file("run.json/x"), HERE), tmp_path, "is a file and a folder")
    refused(forged(GOOD, HERE, runs=[GOOD, GOOD]), tmp_path, "twice")
    refused(forged(GOOD, HERE, runs=[]), tmp_path)
    refused(forged(GOOD, HERE, schema=2), tmp_path, "use the version that wrote it")
    refused(forged(None, HERE), tmp_path)
    refused(forged(GOOD, HERE), tmp_path, r"run\.json of run r cannot be read")
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "2", "GNU.sparse.name": "r/run.json"}
    refused(forged(GOOD, ("r/run.json", tarfile.REGTYPE, b"1\n0\n2\n".ljust(512, b"\0") + b"{}", sparse)), tmp_path)
    for other in (b"", b"x" * 5000, gzip.compress(b"x" * 5000), b"\x1f\x8b", os.urandom(2000)):
        refused(other, tmp_path)


def test_bombs_are_refused_before_they_go_off(tmp_path: Path) -> None:
    huge = {**GOOD, "files": {"run.json": {"size": 2**50, "sha256": "0" * 64}}}
    (tmp_path / "x").write_bytes(forged(huge, HERE))
    with pytest.raises(StorageError, match="are free"):
        unpack(tmp_path / "x", tmp_path / "new", no_words)
    assert not (tmp_path / "new").exists()
    refused(forged({**GOOD, "folders": [str(i) for i in range(200_001)]}, HERE), tmp_path, "more than 200,000 files")
    headers = {"comment": "x" * 40_000_000}
    packed = gzip.compress(forged(GOOD, HERE, ("r/more", tarfile.REGTYPE, b"", headers)), 1)
    tracemalloc.start()
    refused(packed, tmp_path, "a header larger than any")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.XHDTYPE, 12
    chain = (entry.tobuf() + b"12 a=bcdefg\n".ljust(512, b"\0")) * 5000
    start = forged(GOOD).rstrip(b"\0")
    refused(gzip.compress(start + b"\0" * (-len(start) % 512) + chain), tmp_path)


def test_a_full_disk_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive([run], tmp_path / "x.tar")

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unpacking, "fsync_tree", full)
    with pytest.raises(OSError, match="No space"):
        unpack(tmp_path / "x.tar", tmp_path / "new", no_words)
    assert os.listdir(tmp_path / "new") == []
    monkeypatch.setattr(archiving.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        archive([run], tmp_path / "y.tar")
    assert sorted(os.listdir(tmp_path)) == ["new", "runs", "x.tar"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fit(tmp_path_factory.mktemp("trained") / "runs", experiment("variant: vae, hidden: [12], latent: 3"), dataset())[0]


def test_an_imported_run_evaluates_and_samples_with_equal_numbers(trained: Run, tmp_path: Path) -> None:
    archive([trained], tmp_path / "x.tar.gz")
    [(run, _)] = unpack(tmp_path / "x.tar.gz", tmp_path / "runs", no_words)
    told: list[Any] = []
    for each in (trained, run):
        loaded = load(each, "best", no_words)
        metrics = evaluate_run(each, loaded, dataset(), EvalRequest(only=("objective", "reconstruction"))).metrics
        [picture, arrays] = sample_run(each, loaded, dataset, SampleRequest(n=4))
        told.append(({name: found.metric for name, found in metrics.items()}, picture.read_bytes(), arrays.read_bytes()))
    assert told[0] == told[1]


def test_without_checkpoints_it_says_so(trained: Run, tmp_path: Path) -> None:
    archive([trained], tmp_path / "x.tar", checkpoints=False)
    archive([trained], tmp_path / "whole.tar")
    assert (tmp_path / "x.tar").stat().st_size < (tmp_path / "whole.tar").stat().st_size
    [(run, _)] = unpack(tmp_path / "x.tar", tmp_path / "runs", no_words)
    assert directory.run_facts(run)["state"] == "completed" and directory.find(tmp_path / "runs", "last") == run
    with pytest.raises(CheckpointError, match="were left out of the archive"):
        load(run, "best", no_words)
    for arguments in (["eval", "last"], ["sample", "last"], ["train", "--resume", "last"]):
        done = called(*arguments, cwd=tmp_path)
        assert done.returncode == 5 and "were left out of the archive" in done.stderr, done.stderr
    with pytest.raises(RunError, match="there is another run"):
        unpack(tmp_path / "whole.tar", tmp_path / "runs", no_words)
    archive([run], tmp_path / "again.tar", checkpoints=False)
    assert (tmp_path / "again.tar").read_bytes() == (tmp_path / "x.tar").read_bytes()


def test_names_of_archives_are_refused_before_a_run_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="an archive ends with"):
        archive([], tmp_path / "x.zip")
