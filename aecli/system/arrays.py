"""Arrays by name in npz files: written at once, read without belief. What can be made anew is kept with a seal, and made anew
where the file is not what was written. Nothing here knows what the arrays are."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from aecli.system.files import exclusive, replacing, write_atomic
from aecli.system.progress import say, tell
from aecli.system.reading import Unreadable, open_regular, set_aside

MOST_BYTES = 16 * 2**30
"""Of arrays that are kept, unpacked: what claims to hold more was not written by us."""
_KEY, _SEAL = "key", "seal"


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """A compressed npz, at once."""
    write_atomic(path, pack_arrays(arrays))


def write_in_pieces(
    path: Path, name: str, shape: tuple[int, ...], dtype: Any, pieces: Iterable[Any], more: Mapping[str, Any]
) -> None:
    """A compressed npz, at once: an array of this shape from its pieces [m, ...], of which one is in memory, and `more` arrays by
    name. An error of `pieces` leaves nothing behind."""
    import numpy as np

    def member(archive: zipfile.ZipFile, called: str) -> Any:
        info = zipfile.ZipInfo(f"{called}.npy")  # of no time: the same arrays are the same bytes
        info.compress_type = zipfile.ZIP_DEFLATED
        return archive.open(info, "w", force_zip64=True)

    with replacing(path) as file, zipfile.ZipFile(file, "w", compresslevel=1) as archive:
        with member(archive, name) as target:
            form = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(target, form)
            n = 0
            for piece in pieces:
                target.write(np.ascontiguousarray(piece, dtype).tobytes())
                n += len(piece)
        if n != shape[0]:
            raise ValueError(f"{n} rows of {shape[0]}")
        for called, array in more.items():
            with member(archive, called) as target:
                np.lib.format.write_array(target, np.asarray(array), allow_pickle=False)


def pack_arrays(arrays: Mapping[str, Any]) -> bytes:
    """The bytes of a compressed npz."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def read_arrays(path: Path, most: int = MOST_BYTES) -> dict[str, Any]:
    """The arrays of an npz by name. Raises Unreadable for whatever else stands there, a damaged file among it, and if they take
    more than `most` bytes; OSError and MemoryError as the system does."""
    import numpy as np

    # NumPy leaves a file open that it cannot read.
    with os.fdopen(open_regular(path), "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                size = sum(member.file_size for member in archive.infolist())
                if size > most:
                    raise Unreadable(f"it unpacks to {size:,} bytes")
                for member in archive.infolist():
                    _check_size(archive, member)
            file.seek(0)
            with np.load(file, allow_pickle=False) as stored:
                return {name: with_texts(array) for name, array in stored.items()}
        except (Unreadable, MemoryError):
            raise
        except OSError as error:
            if error.errno != errno.EINVAL:  # which is what a seek to before the beginning gives
                raise
            raise Unreadable("it cannot be read as npz: it leads to before its beginning") from None
        except Exception as error:  # zipfile, zlib and NumPy have a dozen ways to refuse a file of whatever bytes
            raise Unreadable(f"it cannot be read as npz: {(str(error).splitlines() or [type(error).__name__])[0]}") from None


def _check_size(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raises Unreadable if an array's header claims more than its member holds: NumPy makes room for it before it reads."""
    import numpy as np

    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    if math.prod(shape) * dtype.itemsize > member.file_size:
        raise Unreadable(f"{member.filename} claims more than it holds: {dtype} {list(shape)}")


def with_texts(array: Any) -> Any:
    """The same array. Raises ValueError if its texts hold what is no character: NumPy makes texts of Python's of it, at which
    whatever is done with them fails."""
    import numpy as np

    if isinstance(array, np.ndarray) and array.dtype.kind == "U" and array.nbytes:
        codes = np.ascontiguousarray(array).view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        if codes.max() > sys.maxunicode:
            raise ValueError("it holds text of what is no character")
    return array


def keep(path: Path, key: str, arrays: Mapping[str, Any]) -> None:
    """Writes arrays that `kept` finds under the same key, as they are: to compress what is kept for a while takes longer than to
    make some of it again."""
    import numpy as np

    exact = {name: np.asarray(array) for name, array in arrays.items()}
    buffer = io.BytesIO()
    every: dict[str, Any] = {**exact, _KEY: np.asarray(key), _SEAL: np.asarray(_seal(key, exact))}
    np.savez(buffer, **every)
    write_atomic(path, buffer.getvalue())


def kept(path: Path, key: str) -> dict[str, Any] | None:
    """The arrays that `keep` wrote under this key; None if there are none, or those of another key. A file that is not what was
    written is set aside, with a line, since it can be made anew."""
    try:
        arrays = read_arrays(path)
        seal, written = arrays.pop(_SEAL, None), str(arrays.pop(_KEY, ""))
        if seal is None:  # of an older version
            return None
        if str(seal) != _seal(written, arrays):
            raise Unreadable("its checksum is wrong")
        return arrays if written == key else None
    except FileNotFoundError:
        return None
    except Unreadable as error:
        with contextlib.suppress(OSError, Unreadable):
            tell(f"{path} is not what was written ({error}): set aside as {set_aside(path).name}, and made anew")
        return None


def kept_arrays(path: Path, key: str, make: Callable[[], Mapping[str, Any]], doing: str | None = None) -> dict[str, Any]:
    """The arrays kept in `path` under `key`, which `make()` gives if they are not there yet. Where it is said what is done
    ("fits a scaling"), one process makes them and others wait."""
    found = kept(path, key)
    if found is not None:
        return found
    lock = path.with_name(f".{path.stem}.lock")
    with exclusive(lock, doing, say) if doing is not None else contextlib.nullcontext():
        found = kept(path, key)
        if found is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            keep(path, key, make())
            found = kept(path, key)
    if found is None:
        raise OSError(f"{path} cannot be read back")
    return found


def _seal(key: str, arrays: Mapping[str, Any]) -> str:
    """The SHA-256 of names, types, shapes and values, and of what they are kept as: one file in another's place is none."""
    digest = hashlib.sha256(json.dumps([key, sorted(arrays)]).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode(errors="backslashreplace"))
        digest.update(memoryview(array.tobytes()))
    return digest.hexdigest()
