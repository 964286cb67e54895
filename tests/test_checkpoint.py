"""Checkpoints: what is committed is whole, what is damaged is found, and the order of writes would survive a power cut."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aecli.errors import CheckpointError, DeviceError, StorageError, translate
from aecli.runs import checkpoint, commits
from aecli.system import files, reading

pytestmark = pytest.mark.portable


def state(offset: float = 0.0):
    return {
        "params": {"kernel": jnp.arange(600.0).reshape(20, 30) + offset, "bias": jnp.zeros((1, 1, 1, 4))},
        "step": jnp.int32(7),
        "none": None,
    }


def no_warning(text: str) -> None:
    raise AssertionError(text)


def equal(a, b) -> bool:
    return all(bool(jnp.array_equal(x, y)) and x.dtype == y.dtype for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three checkpoints of different states."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for step in (1, 2, 3):
        checkpoint.save(folder, step, state(step), {"progressed": {"best_step": 2}, "n": step})
    return folder


def test_what_is_restored_is_what_was_saved(folder: Path) -> None:
    restored = checkpoint.restore(folder, state(), no_warning)
    assert restored is not None and restored.step == 3 and restored.extra["n"] == 3
    assert equal(restored.state, state(3))
    older = checkpoint.restore(folder, state(), no_warning, 2)
    assert older is not None and older.step == 2 and equal(older.state, state(2))
    assert commits.newest(folder).extra["progressed"]["best_step"] == 2


def test_an_empty_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoint.restore(tmp_path, state(), no_warning) is None
    assert commits.steps(tmp_path / "nowhere") == []


def test_the_commit_file_tells_paths_shapes_types_and_checksums(folder: Path) -> None:
    manifest = json.loads((folder / "3.commit.json").read_text())
    leaves = {leaf["path"]: leaf for leaf in manifest["leaves"]}
    assert set(leaves) == {"params/kernel", "params/bias", "step"}
    kernel = leaves["params/kernel"]
    assert (kernel["shape"], kernel["dtype"]) == ([20, 30], "float32")
    assert kernel["sha256"] == hashlib.sha256(np.asarray(state(3)["params"]["kernel"]).tobytes()).hexdigest()
    on_disk = {str(p.relative_to(folder / "3")) for p in (folder / "3").rglob("*") if p.is_file()}
    assert set(manifest["files"]) == on_disk


def checkpoint_files(folder: Path, step: int) -> list[Path]:
    written = sorted(p for p in (folder / str(step)).rglob("*") if p.is_file() and p.stat().st_size)
    return [*written, folder / f"{step}.commit.json"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "delete"])
def test_any_damage_to_any_file_is_found_and_an_older_one_is_used(folder: Path, damage: str, tmp_path: Path) -> None:
    for i, name in enumerate(path.relative_to(folder) for path in checkpoint_files(folder, 3)):
        copy = tmp_path / f"{damage}-{i}"
        shutil.copytree(folder, copy)
        path = copy / name
        raw = bytearray(path.read_bytes())
        if damage == "flip":
            raw[len(raw) // 2] ^= 4
            path.write_bytes(raw)
        elif damage == "truncate":
            path.write_bytes(raw[: len(raw) // 2])
        elif damage == "empty":
            path.write_bytes(b"")
        else:
            path.unlink()
        warnings: list[str] = []
        restored = checkpoint.restore(copy, state(), warnings.append, writing=True)
        assert restored is not None
        if damage == "delete" and name.name == "3.commit.json":
            assert restored.step == 2 and "no commit file: set aside as 3.damaged" in warnings[0]
        else:
            assert restored.step == 2 and "checkpoint 3 is damaged" in warnings[0]
            assert commits.steps(copy) == [1, 2], "set aside"
        assert equal(restored.state, state(2))


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("where", ["3.commit.json", "3/_METADATA"])
@pytest.mark.parametrize(
    ("number", "code", "help"),
    [
        (errno.EMFILE, 7, "ulimit -n"),
        (errno.ENFILE, 7, "ulimit -n"),
        (errno.EACCES, 7, "check the permissions"),
        (errno.EPERM, 7, "check the permissions"),
        (errno.EIO, 7, "look after the disk"),
        (errno.ENOMEM, 8, "lower data.batch_size"),
    ],
)
def test_what_the_system_refuses_is_no_damage(
    folder: Path, monkeypatch: pytest.MonkeyPatch, where: str, number: int, code: int, help: str
) -> None:
    opened = os.open

    def refuse(path, *arguments, **options):
        if str(path) == str(folder / where):
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(reading.os, "open", refuse)
    before = names(folder)
    with pytest.raises(OSError) as caught:
        checkpoint.restore(folder, state(), no_warning, writing=True)
    told = translate(caught.value)
    assert told is not None and told.code == code and help in str(told.help)
    assert names(folder) == before


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), MemoryError),
        (ValueError("RESOURCE_EXHAUSTED: Failed to open: x [OS error 24: EMFILE Too many open files]"), OSError),
    ],
)
def test_nor_is_what_it_refuses_the_library(folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type) -> None:
    def refuse(*arguments):
        raise error

    monkeypatch.setattr(checkpoint, "_load", refuse)
    before = names(folder)
    with pytest.raises(kind) as caught:
        checkpoint.restore(folder, state(), no_warning, writing=True)
    told = translate(caught.value)
    assert told is not None and told.code in (7, 8)
    assert names(folder) == before


def test_a_flipped_bit_anywhere_in_the_commit_file_is_found(folder: Path) -> None:
    path = folder / "3.commit.json"
    whole = path.read_bytes()
    unseen: list[int] = []
    for position in range(0, len(whole), 7):
        raw = bytearray(whole)
        raw[position] ^= 1 << position % 7
        path.write_bytes(raw)
        restored = checkpoint.restore(folder, state(), lambda text: None)
        assert restored is not None
        if restored.step == 3 and json.loads(raw) != json.loads(whole):
            unseen.append(position)
    assert unseen == []


def test_an_array_other_than_the_one_saved_is_damage_though_every_file_is_as_it_was(folder: Path) -> None:
    """As if the library read its files in another way than it wrote them."""
    manifest = json.loads((folder / "3.commit.json").read_text())
    manifest["leaves"][0]["sha256"] = 64 * "0"
    (folder / "3.commit.json").write_text(json.dumps(commits.sealed(manifest)))
    warnings: list[str] = []
    restored = checkpoint.restore(folder, state(), warnings.append)
    assert restored is not None and restored.step == 2 and "is not what was saved" in warnings[0]


def _described(described: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({**described, **changes}).encode()


def _blosc(described: dict[str, Any]) -> bytes:
    packed = [{"name": "bytes"}, {"name": "blosc", "configuration": {"cname": "zstd", "clevel": 5, "typesize": 4}}]
    return _described(described, codecs=packed)


@pytest.mark.parametrize(
    "change",
    [
        lambda described: b"[" * 30_000 + b"]" * 30_000,
        lambda described: b" " * 2**20,
        lambda described: b"",
        lambda described: _described(described, shape=[200_000, 100_000]),
        lambda described: _described(described, data_type="float64"),
        lambda described: _described(described, chunk_grid={"name": "regular", "configuration": {"chunk_shape": [2**40, 30]}}),
        lambda described: _described(described, chunk_grid={"name": [], "configuration": {"chunk_shape": 7}}),
        lambda described: _described(described, codecs=[{"name": "bytes", "configuration": {"endian": "none"}}]),
        _blosc,
    ],
    ids=["deep", "long", "gone", "larger", "another type", "larger pieces", "pieces of nothing", "wrong", "blosc"],
)
def test_what_a_store_says_of_an_array_is_not_believed(folder: Path, change: Callable[[dict[str, Any]], bytes]) -> None:
    """As somebody would who means it, with checksums that fit: tensorstore allocates what it is told, and dies of it."""
    import tensorstore as ts

    for step in (1, 2, 3):
        target = folder / str(step)
        store = ts.KvStore.open({"driver": "ocdbt", "base": f"file://{target}/"}).result()
        key = "params/kernel/zarr.json"
        store.write(key, change(json.loads(store.read(key).result().value))).result()
        manifest = json.loads((folder / f"{step}.commit.json").read_bytes())
        files = {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
        manifest["files"] = {name: {"size": len(d), "sha256": hashlib.sha256(d).hexdigest()} for name, d in files.items()}
        commits.write(folder, step, manifest)
    warnings: list[str] = []
    with pytest.raises(CheckpointError, match="every checkpoint"):
        checkpoint.restore(folder, state(), warnings.append)
    assert "checkpoint 3 is damaged" in warnings[0] and len(warnings[0]) < 1000


def test_a_checkpoint_that_no_memory_holds_is_refused_before_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "free_memory", lambda: 2000)
    with pytest.raises(DeviceError, match=r"checkpoint 3 takes .* of memory"):
        checkpoint.restore(folder, state(), no_warning, writing=True)
    assert commits.steps(folder) == [1, 2, 3]


def test_a_folder_whose_name_is_no_utf_8_is_refused(folder: Path) -> None:
    other = folder.with_name("x\udcff")
    shutil.copytree(folder, other)
    before = names(other)
    with pytest.raises(StorageError, match="no UTF-8"):
        checkpoint.restore(other, state(), no_warning, writing=True)
    assert names(other) == before
    with pytest.raises(StorageError, match="no UTF-8"):
        checkpoint.save(other, 4, state(4), {})


def test_a_reader_sets_nothing_aside(folder: Path) -> None:
    (folder / "3" / "manifest.ocdbt").write_bytes(b"x")
    restored = checkpoint.restore(folder, state(), lambda text: None)
    assert restored is not None and restored.step == 2
    assert commits.steps(folder) == [1, 2, 3]


def test_when_all_are_damaged_it_is_an_error_and_no_fresh_start(folder: Path) -> None:
    for step in (1, 2, 3):
        (folder / str(step) / "manifest.ocdbt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="every checkpoint"):
        checkpoint.restore(folder, state(), lambda text: None)


def test_another_model_is_refused_with_the_differences(folder: Path) -> None:
    other = {"params": {"kernel": jnp.zeros((20, 31)), "scale": jnp.zeros(3)}, "step": jnp.float32(0)}
    with pytest.raises(CheckpointError) as caught:
        checkpoint.restore(folder, other, no_warning, writing=True)
    text = str(caught.value)
    assert "params/kernel: float32[20, 30] in the checkpoint, float32[20, 31] in the model" in text
    assert "params/scale: missing from the checkpoint" in text and "params/bias: not in the model" in text
    assert "step: int32[] in the checkpoint, float32[] in the model" in text
    assert commits.steps(folder) == [1, 2, 3], "it is sound, so it stays"


def test_retention_keeps_the_newest_and_the_best(folder: Path) -> None:
    for step in (4, 5, 6):
        checkpoint.save(folder, step, state(step), {})
    checkpoint.retain(folder, 2, 2)
    assert commits.steps(folder) == [2, 5, 6]
    assert sorted(p.name for p in folder.iterdir()) == ["2", "2.commit.json", "5", "5.commit.json", "6", "6.commit.json"]


def test_what_a_killed_save_left_is_no_checkpoint_and_is_swept(folder: Path) -> None:
    (folder / "4").mkdir()
    (folder / "4" / "half").write_bytes(b"x")
    (folder / commits.SAVING).write_text("4")
    os.rename(folder / "1.commit.json", folder / "1.removed")
    (folder / "4.orbax-checkpoint-tmp").mkdir()
    (folder / ".4.commit.json.abc.tmp").write_bytes(b"{")
    assert commits.steps(folder) == [2, 3] and commits.without_commit(folder) == []
    checkpoint.save(folder, 4, state(4), {})
    assert sorted(p.name for p in folder.iterdir()) == ["2", "2.commit.json", "3", "3.commit.json", "4", "4.commit.json"]
    restored = checkpoint.restore(folder, state(), no_warning)
    assert restored is not None and equal(restored.state, state(4))


def test_what_no_save_left_stays(folder: Path) -> None:
    shutil.copytree(folder / "3", folder / "backup")
    (folder / "notes.tmp").write_text("mine")
    (folder / "4").mkdir()
    (folder / "4" / "array").write_text("of somebody")
    (folder / commits.SAVING).write_text("../../x")
    checkpoint.save(folder, 4, state(4), {})
    checkpoint.retain(folder, 1, None)
    assert {"backup", "notes.tmp", "4.damaged"} <= {path.name for path in folder.iterdir()}
    assert (folder / "4.damaged" / "array").read_text() == "of somebody" and commits.steps(folder) == [4]


def test_arrays_whose_commit_file_is_lost_are_set_aside_beside_those_that_were_before(folder: Path) -> None:
    for number in ("", ".2"):
        (folder / "3.commit.json").unlink()
        kept = (folder / "3" / "manifest.ocdbt").read_bytes()
        warnings: list[str] = []
        restored = checkpoint.restore(folder, state(), warnings.append, writing=True)
        assert restored is not None and restored.step == 2
        assert warnings == [f"the arrays of step 3 have no commit file: set aside as 3.damaged{number}"]
        assert (folder / f"3.damaged{number}" / "manifest.ocdbt").read_bytes() == kept
        checkpoint.save(folder, 3, state(3), {"progressed": {"best_step": 2}, "n": 3})
    assert commits.steps(folder) == [1, 2, 3]


def test_the_commit_is_written_after_everything_else_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of fsyncs and renames, as a power cut would see it."""
    log: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        log.append(("fsync", os.path.relpath(os.readlink(f"/proc/self/fd/{handle}"), tmp_path)))
        fsync(handle)

    def noted_replace(source, target) -> None:
        log.append(("replace", os.path.relpath(target, tmp_path)))
        replace(source, target)

    monkeypatch.setattr(files.os, "fsync", noted_fsync)
    monkeypatch.setattr(files.os, "replace", noted_replace)
    checkpoint.save(tmp_path, 1, state(), {})
    commit = log.index(("replace", "1.commit.json"))
    before = {name for kind, name in log[:commit] if kind == "fsync"}
    for path in [tmp_path / "1", *(tmp_path / "1").rglob("*")]:
        assert os.path.relpath(path, tmp_path) in before, path
    assert "." in before, "the name of the step's folder"
    assert any(name.startswith(".1.commit.json") for kind, name in log[:commit] if kind == "fsync")
    assert ("fsync", ".") in log[commit:], "the name of the commit file"


def test_without_room_nothing_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "posix_fallocate", full)
    before = sorted(p.name for p in folder.iterdir())
    with pytest.raises(StorageError, match=r"no room for the checkpoint of step 4 in .*: no space left on device"):
        checkpoint.save(folder, 4, state(4), {})
    assert sorted(p.name for p in folder.iterdir()) == before


def test_a_checkpoint_of_a_future_schema_is_told_apart_from_damage(folder: Path) -> None:
    manifest = json.loads((folder / "3.commit.json").read_text())
    (folder / "3.commit.json").write_text(json.dumps(commits.sealed({**manifest, "schema": 99})))
    with pytest.raises(CheckpointError, match="schema 99"):
        checkpoint.restore(folder, state(), no_warning)


@pytest.mark.parametrize("content", ["5", "[]", "null", "{}", "", "\xff"])
def test_a_commit_file_of_any_content_is_damage_and_no_crash(folder: Path, content: str) -> None:
    (folder / "3.commit.json").write_bytes(content.encode("latin1"))
    restored = checkpoint.restore(folder, state(), lambda text: None)
    assert restored is not None and restored.step == 2
    assert commits.newest(folder).extra["progressed"]["best_step"] == 2


def test_an_atomic_write_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1} and [p.name for p in tmp_path.iterdir()] == ["x.json"]
