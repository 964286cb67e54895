"""Arrays that stay in their files: the same rows as NumPy loads, in little memory, and nothing believed that is not there."""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aecli.data.sources import npy
from aecli.data.sources.npy import StoredArray
from aecli.errors import DataError
from aecli.system.arrays import read_arrays
from aecli.system.reading import Unreadable

RNG = np.random.default_rng(0)
TABLE = RNG.integers(0, 256, (500, 6, 5)).astype(np.uint8)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AECLI_DATA_DIR", str(tmp_path / "cache"))


def stored(tmp_path: Path, kind: str, array: Any = TABLE) -> StoredArray:
    if kind == "npy":
        np.save(tmp_path / "a.npy", array)
        return StoredArray(tmp_path / "a.npy")
    (np.savez if kind == "plain" else np.savez_compressed)(tmp_path / "a.npz", image=array)
    return StoredArray(tmp_path / "a.npz", "image")


ORDERS = {
    "all": np.arange(500),
    "some": np.array([3, 4, 5, 9, 200, 499]),
    "twice": np.array([3, 3, 4, 4, 4, 499, 499]),
    "shuffled": RNG.permutation(500),
    "none": np.array([], np.int64),
}


@pytest.mark.parametrize("kind", ["npy", "plain", "packed"])
@pytest.mark.parametrize("by_column", [False, True])
def test_rows_are_those_that_numpy_loads(tmp_path: Path, kind: str, by_column: bool) -> None:
    array = stored(tmp_path, kind, np.asfortranarray(TABLE) if by_column else TABLE)
    assert (array.shape, array.dtype, len(array)) == (TABLE.shape, TABLE.dtype, 500)
    assert np.array_equal(np.concatenate([part for _, part in array.parts(1000)]), TABLE)
    for _ in range(3):
        for index in ORDERS.values():
            assert np.array_equal(array[index], TABLE[index])
    array.arrange(lambda rows: rows[..., None])
    assert array.shape == (500, 6, 5, 1) and np.array_equal(array[10:20], TABLE[10:20, ..., None])


def test_what_is_small_is_loaded(tmp_path: Path) -> None:
    for array in (np.array(3.5), np.array(["a", "bcd"]), np.arange(3)):
        assert np.array_equal(stored(tmp_path, "packed", array).whole(), array)


def test_only_what_is_asked_for_out_of_order_is_unpacked_to_the_disk(tmp_path: Path) -> None:
    array = stored(tmp_path, "packed")
    for start in (0, 100, 499, 0, 17):
        array[start : start + 1]
    assert not (tmp_path / "cache").exists()
    array[np.array([7, 3])]
    assert list((tmp_path / "cache" / "decoded").iterdir()) == []  # a file without a name


def lying(path: Path, shape: tuple[int, ...], data: bytes = bytes(1000), dtype: str = "|u1") -> Path:
    """An archive whose header claims a shape."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": dtype, "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", head.getvalue() + data)
    return path


@pytest.mark.parametrize("shape", [(10**15,), (10**15, 28, 28), (10**30,), (999,), (1001,), (-5,), (2, -3)])
def test_a_header_that_lies_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"takes .* bytes, and there are|no values|cannot be read"):
        StoredArray(lying(tmp_path / "a.npz", shape), "image")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("{'descr': '|u1',", "its header is damaged"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (2, '", "its header is damaged"),
        ("{'descr': 'nothing', 'fortran_order': False, 'shape': (2,)}", "its header is damaged"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (True, 2)}", "no values"),
        ("{'descr': '1u2', 'fortran_order': False, 'shape': (1,)}", "its header is damaged|no values"),
        ("{'descr': '2u1', 'fortran_order': False, 'shape': (1,)}", "no values"),
    ],
)
def test_a_header_that_is_none_is_refused(tmp_path: Path, header: str, words: str) -> None:
    """NumPy reads it as Python's source, of which the tokens come first."""
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode() + bytes(2))
    with pytest.raises(DataError, match=words):
        StoredArray(tmp_path / "a.npy")


def test_a_version_that_is_none_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", TABLE)
    raw = (tmp_path / "a.npy").read_bytes()
    for version in (b"\0\0", b"\4\0", b"\1\1"):
        (tmp_path / "a.npy").write_bytes(raw[:6] + version + raw[8:])
        with pytest.raises(DataError, match="is none that NumPy writes"):
            StoredArray(tmp_path / "a.npy")


@pytest.mark.parametrize("by_column", [False, True])
def test_text_of_no_characters_is_refused(tmp_path: Path, by_column: bool) -> None:
    """NumPy would make a text of it that fails wherever it is used."""
    sound = np.array([["cat", "dög"], ["cow", "\U0010ffff"]], order="F" if by_column else "C")
    assert np.array_equal(stored(tmp_path, "npy", sound).whole(), sound)
    np.save(tmp_path / "a.npy", sound)
    raw = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(raw.replace("c".encode("utf-32-le"), b"\0\0\x11\0"))
    with pytest.raises(DataError, match="no character"):
        StoredArray(tmp_path / "a.npy").whole()
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.write(tmp_path / "a.npy", "key.npy")
    with pytest.raises(Unreadable, match="no character"):
        read_arrays(tmp_path / "a.npz")


def test_what_fits_nowhere_is_refused_with_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lying(tmp_path / "a.npz", (300, 1000, 1000), bytes(300_000_000))  # a thousand times as large as the file
    assert path.stat().st_size < 400_000
    monkeypatch.setattr(npy, "free_memory", lambda: 100_000_000)
    with pytest.raises(DataError, match=r"0.3 GB of it are needed in memory at once, in which 0.1 GB are free"):
        StoredArray(path, "image").whole()
    monkeypatch.setattr(npy, "free_disk", lambda folder: 200_000_000)
    with pytest.raises(DataError, match=r"unpacks to 0.3 GB, and 0.2 GB are free"):
        StoredArray(path, "image")


def test_damage_is_found_whichever_way_rows_are_read(tmp_path: Path) -> None:
    stored(tmp_path, "plain")
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    raw[5000] ^= 1
    (tmp_path / "a.npz").write_bytes(raw)
    for index in (np.arange(500), np.array([5, 3])):
        with pytest.raises(DataError, match="cannot be read: Bad CRC-32"):
            StoredArray(tmp_path / "a.npz", "image")[index]


def peak_of(script: str) -> int:
    """Bytes of memory that a process has at most; `ru_maxrss` would begin with its parent's."""
    tell = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    done = subprocess.run([sys.executable, "-c", script + tell], capture_output=True, text=True, check=True, timeout=240)
    return 1024 * int(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells memory as Linux does")
def test_a_large_archive_is_looked_at_in_little_memory(tmp_path: Path) -> None:
    path = lying(tmp_path / "a.npz", (600, 1000, 1000), bytes(600_000_000))
    imports = "from pathlib import Path\nfrom aecli.data.sources.arrays import finite_extremes\n"
    imports += "from aecli.data.sources.npy import StoredArray\n"
    look = f"array = StoredArray(Path({str(path)!r}), 'image')\n"
    look += "assert finite_extremes(array, 'x') == (0, 0)\n"
    assert peak_of(imports + look) < peak_of(imports) + 250_000_000


def test_what_is_left_open_is_closed_with_the_array(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", label=np.arange(40))
    gc.collect()  # what other tests left open is theirs
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        assert StoredArray(tmp_path / "a.npz", "label").whole()[-1] == 39
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_kept_arrays_that_claim_more_than_they_hold_take_no_memory(tmp_path: Path) -> None:
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (137438953472,), }"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + bytes(8))
    with pytest.raises(Unreadable, match="claims more than it holds"):
        read_arrays(tmp_path / "a.npz")
