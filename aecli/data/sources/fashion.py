"""The original Fashion-MNIST files out of Debian's package `dataset-fashion-mnist`.

Debian compresses the four files again without their names and times, so the registered checksums fail; the deflate streams
are the originals. Putting the gzip header back restores the originals byte for byte.
"""

from __future__ import annotations

import struct
from pathlib import Path

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
_MODIFIED = {
    "train-images-idx3-ubyte": 1504176606,
    "train-labels-idx1-ubyte": 1504176606,
    "t10k-images-idx3-ubyte": 1504176627,
    "t10k-labels-idx1-ubyte": 1504176627,
}
FILES = tuple(f"{name}.gz" for name in _MODIFIED)


def has_files(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES)


def restore_originals(folder: Path, into: Path) -> None:
    """Copies the four files, restoring the header of those whose own was stripped. Contents are for TFDS to verify."""
    for name, modified in _MODIFIED.items():
        raw = (folder / f"{name}.gz").read_bytes()
        if raw[:4] == b"\x1f\x8b\x08\x00":  # no flags: a header without the file's name
            # RFC 1952: magic, deflate, FNAME, time, no extra flags, Unix, then the name ended by NUL
            raw = b"\x1f\x8b\x08\x08" + struct.pack("<I", modified) + b"\x00\x03" + name.encode() + b"\0" + raw[10:]
        (into / f"{name}.gz").write_bytes(raw)
