"""The cache of decoded images: made once, by whoever comes first, never believed where it is damaged, and there for others."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from process import aecli

from aecli.config.load import load
from aecli.config.schema import Data
from aecli.data import contents, decoded, duplicates
from aecli.data.dataset import open_dataset
from aecli.data.sources.npz import NpzSource
from aecli.errors import DataError, StorageError
from aecli.system import files
from aecli.system.arrays import kept_arrays
from aecli.system.files import exclusive
from aecli.verbs import check

CONFIG = """\
data: {{name: npz, path: {path}, batch_size: 4}}
model: {{variant: bottleneck, net: linear, latent: 2}}
train: {{steps: 1}}
"""
OPEN = """
import sys
from aecli.config.schema import Data
from aecli.data.dataset import open_dataset
print(open_dataset(Data(name="npz", path=sys.argv[1], batch_size=4)).fingerprint)
"""


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("AECLI_DATA_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write(path: Path, seed: int = 0) -> Data:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(seed).integers(0, 256, (20, 4, 4), np.uint8)
    np.savez(path, image=images, label=np.arange(20) % 3)
    return Data(name="npz", path=str(path), batch_size=4)


def entry(cache: Path) -> Path:
    [found] = [path for path in (cache / "decoded").iterdir() if path.is_dir()]
    return found


def everything(data: Data, said: list[str]) -> tuple[Any, ...]:
    opened = open_dataset(data, said.append)
    rows = [opened.split(split) for split in ("train", "validation", "test")]
    return opened.spec, opened.fingerprint, *(array.tobytes() for r in rows for array in r.take(np.arange(len(r))))


def decodings(said: list[str]) -> list[str]:
    return [line for line in said if "decoding" in line]


def test_the_same_content_elsewhere_is_the_same_cache(fresh: Path, tmp_path: Path) -> None:
    said: list[str] = []
    first = everything(write(tmp_path / "one" / "a.npz"), said)
    assert said[0] == "decoding 20 images of a.npz (once)"
    said.clear()
    assert everything(write(tmp_path / "two" / "b.npz"), said) == first and not decodings(said)
    entry(fresh)


def test_damage_anywhere_is_told_and_mended(fresh: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "own.npz")
    first = everything(data, [])
    folder = entry(fresh)
    for file in sorted(folder.iterdir()):
        raw = file.read_bytes()
        steps = range(0, len(raw), 41 if file.suffix == ".json" else max(1, len(raw) // 6))
        damages = [raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :] for at in [*steps, len(raw) - 1]]
        for damaged in [*damages, raw[: len(raw) // 2], raw + b"\n\0", b"", None]:
            file.unlink()
            if damaged is not None:
                file.write_bytes(damaged)
            said: list[str] = []
            assert everything(data, said) == first
            assert [line for line in said if str(folder) in line and "damaged" in line] or file.name == "meta.json", file
            assert file.read_bytes() == raw
            said.clear()
            assert everything(data, said) == first and not decodings(said)


def test_check_opens_no_file_of_own_data_that_is_decoded(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path / "a.npz")
    os.utime(data.path or "", (0, 0))
    monkeypatch.setattr(contents, "RACY_NS", 0)
    (tmp_path / "c.yaml").write_text(CONFIG.format(path=data.path))
    config = load(tmp_path / "c.yaml")
    told = check.hold_against_data(config)
    everything(config.experiment.data, [])
    said: list[str] = []
    monkeypatch.setattr("aecli.verbs.check.say", said.append)
    with monkeypatch.context() as patch:
        patch.setattr("aecli.verbs.check.peek", None)
        assert check.hold_against_data(config) == told
        assert len(said) == 1 and "16 train" not in said[0] and "18" in said[0]
    labels = entry(fresh) / "train_labels.npy"
    whole = labels.read_bytes()
    for bit in range(0, 8 * 128, 7):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        labels.write_bytes(flipped)
        decoded.outline(data)  # raises nothing, whatever NumPy makes of a header
    (entry(fresh) / "meta.json").write_text("{}")
    assert check.hold_against_data(config) == told, "a damaged cache is no cache"
    everything(config.experiment.data, [])
    write(tmp_path / "a.npz", seed=1)
    assert decoded.outline(data) is None, "of other files"


def test_what_the_system_lacks_is_no_damage(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path / "a.npz")
    whole = everything(data, [])
    with monkeypatch.context() as patch:

        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        patch.setattr(decoded, "sha256_file", refuse)
        with pytest.raises(OSError, match="Too many open files"):
            open_dataset(data)
    said: list[str] = []
    assert everything(data, said) == whole and not decodings(said)


def test_large_files_are_checked_too(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "DEVICE_BYTES", 100)
    data = write(tmp_path / "own.npz")
    first = everything(data, [])
    raw = bytearray((entry(fresh) / "train.npy").read_bytes())
    raw[200] ^= 1
    (entry(fresh) / "train.npy").write_bytes(raw)
    said: list[str] = []
    assert everything(data, said) == first and "damaged" in said[0]


def test_a_file_where_the_cache_should_be_is_replaced(fresh: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "own.npz")
    first = everything(data, [])
    import shutil

    folder = entry(fresh)
    shutil.rmtree(folder)
    folder.write_text("?")
    assert everything(data, []) == first


def test_what_changes_while_it_is_decoded_is_not_kept(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path / "own.npz")
    real = NpzSource.read

    def read(self: NpzSource, split: str, index: Any) -> Any:
        write(tmp_path / "own.npz", 1)
        return real(self, split, index)

    monkeypatch.setattr(NpzSource, "read", read)
    with pytest.raises(DataError, match="changed while it was read"):
        open_dataset(data)


def no_word(line: str) -> None:
    raise AssertionError(line)


HOLD = """
import sys
from pathlib import Path
from aecli.system.files import exclusive
from aecli.verbs import check
with exclusive(Path(sys.argv[1]), sys.argv[2], print):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def held(path: Path, doing: str) -> Generator[tuple[int, Callable[[], None]]]:
    """Another process has the lock, whose id this gives, until it is let go."""
    command = [sys.executable, "-c", HOLD, str(path), doing]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None and process.stdout.readline() == "held\n"
        yield process.pid, process.stdin.close


def test_who_waits_for_a_lock_is_told_whose_it_is(tmp_path: Path) -> None:
    lock, said = tmp_path / ".lock", []
    with held(lock, "decodes digits") as (holder, let_go):
        with exclusive(lock, "waits", lambda line: (said.append(line), let_go())):
            assert lock.read_text() == f"process {os.getpid()}, which waits"
        assert said == [f"waiting for process {holder}, which decodes digits"]
    assert lock.read_bytes() == b""


def test_who_gets_a_lock_soon_is_told_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "WAIT_SECONDS", 60.0)
    with held(tmp_path / ".lock", "decodes digits") as (_, let_go):
        threading.Timer(0.2, let_go).start()
        with exclusive(tmp_path / ".lock", "waits", no_word):
            pass


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"process 1, which \n lies", b"x" * 5000])
def test_what_is_no_word_of_a_holder_is_not_shown(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "WAIT_SECONDS", 0.0)
    lock, said = tmp_path / ".lock", []
    with held(lock, "decodes digits") as (_, let_go):
        lock.write_bytes(content)
        with exclusive(lock, "waits", lambda line: (said.append(line), let_go())):
            assert said == ["waiting for another process"]


def test_shared_arrays_wait_for_those_of_the_same_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "WAIT_SECONDS", 0.0)
    with held(tmp_path / ".pca.lock", "fits pca") as (holder, let_go):
        kept_arrays(tmp_path / "kmeans.npz", "key", lambda: {"a": np.ones(2)}, "fits kmeans")
        assert "waiting" not in capsys.readouterr().err
        threading.Timer(0.2, let_go).start()
        kept_arrays(tmp_path / "pca.npz", "key", lambda: {"a": np.ones(2)}, "fits pca")
        assert f"waiting for process {holder}, which fits pca" in capsys.readouterr().err


def test_two_processes_open_new_data_at_once(fresh: Path, tmp_path: Path) -> None:
    path = str(write(tmp_path / "own.npz").path)
    both = [
        subprocess.Popen([sys.executable, "-c", OPEN, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ends = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert len({out for out, _ in ends}) == 1 and len(ends[0][0].strip()) == 64
    entry(fresh)


def test_a_data_set_does_not_wait_for_another(fresh: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "own.npz")
    open_dataset(data)
    folder = entry(fresh)
    done: list[str] = []
    with exclusive(folder.parent / f".{folder.name}.lock", "holds it", no_word):
        other = threading.Thread(
            target=lambda: done.append(open_dataset(write(tmp_path / "other.npz", 1)).fingerprint), daemon=True
        )
        other.start()
        other.join(30)
        assert done
        open_dataset(data)  # what is whole is read without a lock


def test_others_can_read_what_is_prepared_and_decoded(fresh: Path, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        duplicates.count(open_dataset(Data(name="digits")))
        open_dataset(write(tmp_path / "own.npz"))
    finally:
        os.umask(before)
    made = [fresh, *(path for path in fresh.rglob("*") if path.suffix != ".lock")]
    assert len(made) > 10 and {"decoded", "tfds", "shared"} <= {path.name for path in made}
    for path in made:
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


@pytest.mark.parametrize("root", ["file/below", "/proc/below"])
def test_a_cache_that_cannot_be_made_is_a_storage_error(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AECLI_DATA_DIR", str(tmp_path / root))
    with pytest.raises(StorageError, match="cannot be made") as caught:
        open_dataset(write(tmp_path / "own.npz"))
    assert "AECLI_DATA_DIR" in str(caught.value.help) and caught.value.code == 7
    with pytest.raises(StorageError):
        open_dataset(Data(name="digits"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_second_user_reads_a_cache_that_only_the_first_can_write(fresh: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "own.npz")
    first = everything(data, [])
    os.chmod(fresh, 0o555)
    try:
        assert everything(data, []) == first
    finally:
        os.chmod(fresh, 0o755)


def test_the_command_ends_with_7_where_there_can_be_no_cache(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "c.yaml").write_text("data: {name: digits}\nmodel: {variant: bottleneck}\ntrain: {steps: 1}\n")
    done = aecli("train", "c.yaml", cwd=tmp_path, AECLI_DATA_DIR=str(tmp_path / "file" / "below"))
    assert done.returncode == 7 and "AECLI_DATA_DIR" in done.stderr and "internal" not in done.stderr


def test_one_entry_in_the_place_of_another_is_not_believed(fresh: Path, tmp_path: Path) -> None:
    data = write(tmp_path / "own.npz")
    first = everything(data, [])
    here = entry(fresh)
    larger = data.model_copy(update={"size": (8, 8)})
    second = everything(larger, [])
    [there] = [path for path in here.parent.iterdir() if path.is_dir() and path != here]
    here.rename(tmp_path / "aside")
    there.rename(here)
    (tmp_path / "aside").rename(there)
    assert decoded.outline(data) is None and decoded.outline(larger) is None
    for request, expected in ((data, first), (larger, second)):
        said: list[str] = []
        assert everything(request, said) == expected
        assert "of other data or other settings" in said[0] and decodings(said)
        said.clear()
        assert everything(request, said) == expected and not decodings(said)


@pytest.mark.timeout(60)
def test_an_entry_of_what_is_no_file_is_not_waited_for(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path / "own.npz")
    os.utime(data.path or "", (0, 0))
    monkeypatch.setattr(contents, "RACY_NS", 0)
    first = everything(data, [])
    assert decoded.outline(data) is not None
    for name in ("meta.json", "train.npy", "train_labels.npy"):
        for make in (os.mkfifo, lambda path: os.symlink("/dev/zero", path)):
            (entry(fresh) / name).unlink()
            make(entry(fresh) / name)
            assert decoded.outline(data) is None or name == "train.npy"
            said: list[str] = []
            assert everything(data, said) == first and decodings(said)
