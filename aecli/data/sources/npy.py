"""Arrays of .npy files and .npz archives that stay where they are: what the header says is known at once, rows are read when they
are asked for.

The format is that of `numpy.lib.format`. Headers and archives are believed in nothing that is not checked: what claims to hold
more than it does, or more than there is room for, is refused before memory is taken for it.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from lzma import LZMAError
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aecli.errors import DataError
from aecli.system.arrays import with_texts
from aecli.system.folders import cache_folder, cache_root
from aecli.system.own import open_own
from aecli.system.reading import of_the_system
from aecli.system.room import free_disk, free_memory, gigabytes

MAGIC = b"\x93NUMPY"
DAMAGED = (zipfile.BadZipFile, zlib.error, LZMAError, ValueError, EOFError, OSError, KeyError, RuntimeError)
"""What zipfile, its decompressors and NumPy raise of files of whatever bytes."""
_HEADER_BYTES = 2**16
"""A header is looked for in so many first bytes: NumPy believes none of more than 10,000."""
_PIECE_BYTES = 2**20
_REWINDS = 4
"""An array is unpacked so often from its beginning before it is unpacked for good."""


class StoredArray:
    """An array in a file, NumPy's as far as `shape`, `dtype`, `ndim`, `len`, `array[start:stop]` and `array[index]` go: the last
    two read rows. Of an archive they are read as they come where they are asked for in ascending order; for any other order all
    that are compressed are unpacked once, into a file of the cache folder that has no name and goes with the process. So are
    those of an array that is kept by columns.

    Raises DataError if the file holds no array, less or more than it says, or more than the disk has room for; when rows are
    read, also if they are damaged, or do not fit into memory."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        """The array of a .npy file, or the array `name` of an .npz archive."""
        self._path, self._name = path, name or path.name
        self._member = None if name is None else _member(path, name)
        self._file: Any = None  # where rows can be read in any order, from `_offset` on
        self._stream: Any = None  # what gives rows one after the other; the next is the row `_next`
        self._close: Callable[[], Any] = lambda: None
        self._next = self._rewinds = 0
        self._arrange: Callable[[NDArray[Any]], NDArray[Any]] = lambda rows: rows
        with self._reading():
            with _opened(self._path, self._member) as file:
                head = io.BytesIO(file.read(_HEADER_BYTES))
            self._kept_shape, self._by_column, self.dtype = self._header(head)
            self._offset = head.tell()
            self.shape = self._kept_shape
            self._row_bytes = prod(self.shape[1:]) * self.dtype.itemsize
            self._check_size()
            if self._member is None:
                self._hold(open_own(path))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def arrange(self, how: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        """From now on rows have another form: `how` takes [n, ...] and gives a view of it, [n, ...]."""
        self.shape = (len(self), *how(np.empty((1, *self.shape[1:]), self.dtype)).shape[1:])
        self._arrange = how

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[Any]:
        index = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else rows
        self._check_memory(len(index) * self._row_bytes)
        with self._reading():
            return self._arrange(with_texts(self._take(index)))

    def whole(self) -> NDArray[Any]:
        """All of it, in memory: for what is small."""
        if self.shape:
            return self[:]
        self._check_memory(self.nbytes)
        with self._reading(), _opened(self._path, self._member) as file:
            file.read(self._offset)
            return with_texts(np.frombuffer(file.read(self.nbytes), self.dtype).reshape(()))

    def parts(self, at_once: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """All rows in turn, some `at_once` bytes of them at a time, each part with the number of its first row."""
        step = max(1, at_once // max(1, self._row_bytes))
        for start in range(0, len(self), step):
            yield start, self[start : start + step]

    @property
    def _what(self) -> str:
        return f"{self._path}: '{self._name}'"

    @contextlib.contextmanager
    def _reading(self) -> Generator[None]:
        try:
            yield
        except (PermissionError, FileNotFoundError, IsADirectoryError):
            raise
        except DAMAGED as error:
            if of_the_system(error):
                raise
            raise DataError(f"{self._what} cannot be read: {error}", "save or copy the file again") from None

    def _hold(self, file: Any) -> None:
        self._file = file
        weakref.finalize(self, file.close)

    def _header(self, head: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        if not head.getvalue().startswith(MAGIC):
            raise DataError(f"{self._what} is no array", "write the file with np.savez")
        try:
            version = np.lib.format.read_magic(head)
            if version not in ((1, 0), (2, 0), (3, 0)):
                raise ValueError(f"version {version[0]}.{version[1]} is none that NumPy writes")
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, by_column, dtype = read(head)
        except Exception as error:  # a header is Python's source, and NumPy lets through whatever reading that raises
            raise ValueError(f"its header is damaged: {(str(error).splitlines() or [type(error).__name__])[0]}") from None
        lengths = all(type(length) is int and length >= 0 for length in shape)
        if not lengths or dtype.subdtype is not None or (dtype.itemsize == 0 and 0 not in shape):
            raise DataError(f"{self._what} is {dtype} {list(shape)}, which are no values", "save or copy the file again")
        if dtype.hasobject:
            raise DataError(
                f"{self._what} is an array of Python objects (a pickle), which could run code and is not read",
                "save an array of numbers: np.stack(list_of_arrays), for which images need one size, or labels.astype(str)",
            )
        return shape, by_column and len(shape) > 1, dtype

    def _check_size(self) -> None:
        """Raises DataError if the header claims other than what is there, or what must be unpacked could nowhere be put."""
        there = self._path.stat().st_size if self._member is None else self._member.file_size
        claimed = self._offset + self.nbytes
        if claimed > there or (self._member is not None and claimed < there):
            raise DataError(
                f"{self._what} is damaged: {self.dtype} {list(self.shape)} takes {claimed:,} bytes, and there are {there:,}",
                "save or copy the file again",
            )
        if self._member is not None and not _is_plain(self._member):
            self._check_disk()

    def _check_disk(self) -> None:
        folder = cache_root()
        if self.nbytes > (free := free_disk(folder)):
            raise DataError(
                f"{self._what} unpacks to {gigabytes(self.nbytes)}, and {gigabytes(free)} are free in {folder}",
                "free some, or set AECLI_DATA_DIR to a folder on a larger disk",
            )

    def _check_memory(self, size: int) -> None:
        """Raises DataError if so many bytes of it do not fit into memory."""
        if size > _PIECE_BYTES and size > (free := free_memory()) // 2:  # what is made of it takes as much again
            raise DataError(
                f"{self._what} {self.dtype} {list(self.shape)}: {gigabytes(size)} of it are needed in memory at once, in which"
                f" {gigabytes(free)} are free",
                "free some, or save less in one array",
            )

    def _take(self, index: NDArray[np.int64]) -> NDArray[Any]:
        if self._by_column:
            self._unpack()
            return np.memmap(self._file, self.dtype, "r", self._offset, self._kept_shape, "F")[index]
        if self._file is None and len(index):
            self._rewinds += int(index[0]) < self._next
            if (np.diff(index) < 0).any() or self._rewinds > _REWINDS:
                self._unpack()
        if self._file is not None:
            return self._read(index, self._read_at)
        rows, where = np.unique(index, return_inverse=True)  # of a row that is asked for twice the bytes come once
        found = self._read(rows, self._read_on)
        return found if len(rows) == len(index) else found[where]

    def _read(self, index: NDArray[np.int64], read: Callable[[int, memoryview], None]) -> NDArray[Any]:
        """The rows at `index`; `read(first, into)` fills memory with rows that follow each other."""
        found = np.empty((len(index), *self._kept_shape[1:]), self.dtype)
        if not found.nbytes:
            return found
        into = found.view(np.uint8).reshape(-1).data
        starts = np.concatenate([[0], np.flatnonzero(np.diff(index) != 1) + 1])
        for start, stop, first in zip(starts.tolist(), [*starts[1:].tolist(), len(index)], index[starts].tolist(), strict=True):
            read(first, into[start * self._row_bytes : stop * self._row_bytes])
        return found

    def _read_at(self, first: int, into: memoryview) -> None:
        handle, at = self._file.fileno(), self._offset + first * self._row_bytes
        while into:
            n = os.preadv(handle, [into], at)
            if not n:
                raise EOFError("it ends before its last row")
            into, at = into[n:], at + n

    def _read_on(self, first: int, into: memoryview) -> None:
        if self._stream is None or first < self._next:
            self._close()
            opened = contextlib.ExitStack()
            self._stream = opened.enter_context(_opened(self._path, self._member))
            self._close = weakref.finalize(self, opened.close)
            self._next = 0
            _skip(self._stream, self._offset)
        _skip(self._stream, (first - self._next) * self._row_bytes)
        self._next = first + len(into) // self._row_bytes
        while into:
            n = self._stream.readinto(into[:_PIECE_BYTES])
            if not n:
                raise EOFError("it ends before its last row")
            into = into[n:]

    def _unpack(self) -> None:
        """Makes rows readable in any order: in the archive, if they stand there as they are and their checksum is right, else
        from a copy without a name."""
        if self._file is not None:
            return
        assert self._member is not None
        self._close()
        plain = _is_plain(self._member)
        if not plain:
            self._check_disk()
        file: Any = open_own(self._path) if plain else tempfile.TemporaryFile(dir=cache_folder("decoded"))  # noqa: SIM115
        self._hold(file)
        with _opened(self._path, self._member) as packed:
            while piece := packed.read(_PIECE_BYTES):  # to the end, where the checksum is compared
                if not plain:
                    file.write(piece)
        file.flush()
        self._offset += _start(self._path, self._member) if plain else 0


def names_of(path: Path) -> list[str]:
    """The arrays of an archive, as NumPy calls them. Raises what zipfile and `open_own` do."""
    with _archive(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


@contextlib.contextmanager
def _opened(path: Path, member: zipfile.ZipInfo | None) -> Generator[Any]:
    """The bytes of an array from its header on. Of no array: what is left open is closed when the array goes."""
    if member is None:
        with open_own(path) as file:
            yield file
    else:
        with _archive(path) as archive, archive.open(member) as file:
            yield file


@contextlib.contextmanager
def _archive(path: Path) -> Generator[zipfile.ZipFile]:
    with open_own(path) as file, zipfile.ZipFile(file) as archive:
        yield archive


def _member(path: Path, name: str) -> zipfile.ZipInfo:
    with _archive(path) as archive:
        found = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        return found[name]


def _is_plain(member: zipfile.ZipInfo) -> bool:
    """Whether a member stands in the archive byte by byte, neither compressed nor encrypted."""
    return member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & 1


def _start(path: Path, member: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin in its archive, which nothing but the header right before them tells."""
    with open_own(path) as file:
        file.seek(member.header_offset)
        local = file.read(30)
    if local[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile("no member is where the archive says")
    return member.header_offset + 30 + sum(int.from_bytes(local[i : i + 2], "little") for i in (26, 28))


def _skip(stream: Any, size: int) -> None:
    while size > 0:
        n = len(stream.read(min(size, _PIECE_BYTES)))
        if not n:
            raise EOFError("it ends before its last row")
        size -= n
