"""Inputs made from sound ones: changes that leave most of the form, so that what is read later is reached too. Each function
takes bytes and a source of chance and gives other bytes; the same chance gives the same bytes."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

from damage import HOSTILE

from aecli.runs import commits

Mutate = Callable[[bytes, Random], bytes]

_NUMBERS = (
    0,
    1,
    2,
    3,
    7,
    8,
    127,
    128,
    255,
    256,
    32767,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53,
    2**63 - 1,
    2**63,
    2**64,
)


def of_bytes(data: bytes, chance: Random) -> bytes:
    """Bits, bytes, little and big numbers, and pieces that are lost, doubled or moved."""
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        at, length = chance.randrange(len(made) + 1), chance.choice((1, 2, 4, 8, 64))
        kind = chance.randrange(7)
        if not made or kind == 0:
            made[at:at] = chance.randbytes(length)
        elif kind == 1:
            made[at % len(made)] ^= 1 << chance.randrange(8)
        elif kind == 2:
            made[at % len(made)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        elif kind == 3:
            size = chance.choice((2, 4, 8))
            number = chance.choice(_NUMBERS) % 2 ** (8 * size)
            made[at : at + size] = number.to_bytes(size, chance.choice(("little", "big")))
        elif kind == 4:
            del made[at : at + length]
        elif kind == 5:
            made[at:at] = made[at : at + length] * chance.choice((1, 1, 100))
        else:
            other = chance.randrange(len(made))
            made[at : at + length] = made[other : other + length]
    return bytes(made[: chance.randrange(len(made))] if made and chance.random() < 0.1 else made)


_WORD = re.compile(r"\n *|[A-Za-z0-9_.+-]+|\s+|.", re.DOTALL)
_VALUE = re.compile(r"(?<=[:=] )[^\s,{}\[\]]+|(?<==)\S+")
_YAML = (
    *("&a ", "*a", "!!int ", "!x ", "? ", "- ", ": ", ", ", "{", "}", "[", "]", "|\n ", ">-\n ", "---\n", "...\n", "%YAML 1.2\n"),
    *("# ", "'", '"', "<<", "~", "null", "true", "no", ".nan", "-.inf", "1e400", "1e-400", "-0", "0x", "0o7", "0x" + "f" * 17),
    *("-1", "0", "1", "0.5", "1.0", "9" * 19, "9" * 25, "''", "{}", "[]", "[1]", "[1, 2]", "[[1], {a: 1}]", "{name: x}", "auto"),
    *('"\\0"', '"\\uD800"', '"\\U00110000"', '"\\e[2J"', '"\\u202e"', '"~\\0"', "~nobody/x", "/", "x" * 300, "\t", "\r", "\x85"),
    *("\u2028", "\ufeff", "\U0001f600", "é", "variant: vq", "name: npz", "path: x", "seed", "model", "data", "train", "10" * 9),
)


def of_yaml(data: bytes, chance: Random) -> bytes:
    """Words, marks and indents of a text, and its lines."""
    if chance.random() < 0.1:
        return of_bytes(data, chance)
    text = data.decode("utf-8", "surrogateescape")
    for _ in range(chance.choice((1, 1, 2, 3))):
        whole_lines = chance.random() < 0.25
        parts = text.splitlines(keepends=True) if whole_lines else _WORD.findall(text)
        parts = parts or [""]
        at, other, kind = chance.randrange(len(parts)), chance.randrange(len(parts)), chance.randrange(7)
        if kind == 0:
            del parts[at]
        elif kind == 1:
            parts[at] = parts[other]
        elif kind == 2:
            parts.insert(at, parts[other] * chance.choice((1, 2, 100 if len(text) < 5000 else 2)))
        elif kind == 3:
            parts[at] = " " * chance.randrange(5) + parts[at].strip(" ")
        elif kind == 4:
            parts[at] = chance.choice(_YAML)
        elif kind == 6 and (values := list(_VALUE.finditer(text))):
            value = chance.choice(values)
            parts = [text[: value.start()], chance.choice(_YAML), text[value.end() :]]
        else:
            parts.insert(at, chance.choice(_YAML))
        text = "".join(parts)
    return text.encode("utf-8", "surrogateescape")


_JSON: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 1.5, -0.0, 10**400, 2**53, 2**53 + 1, 2**63, 2**64, -(2**63), 1e308, 5e-324, [], {}, [[]], ""),
    *([0], [None], {"a": 1}, {"": {}}, "x", "\0", "/", "..", "../x", "nan", HOSTILE, "\udcff", "x" * 70_000, "0" * 64, "f" * 64),
    *(
        "vae",
        "gan",
        "vector",
        "image",
        "auto",
        "stream",
        "crashed",
        "2026-01-01T00:00:00",
        "0001-01-01T00:00:00+23:59",
        "é" * 100,
    ),
    *("9999-12-31T23:59:59-23:59", "float32", "lower", "train", list(range(1000)), {str(i): i for i in range(1000)}),
)
_JSON_TEXT = (
    "1e400",
    "-1e999",
    "NaN",
    "Infinity",
    "[" * 100 + "]" * 100,
    "[" * 20_000,
    '{"a":1,"a":2}',
    "1" * 5000,
    "// x",
    "\ufeff",
)


def json_of(data: bytes, chance: Random) -> Any:
    """The value of a JSON text with some of its parts changed, gone, doubled, renamed or exchanged."""
    content = [json.loads(data)]
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        paths = list(_paths(content))
        path, other = chance.choice(paths), chance.choice(paths)
        inside, key, kind = _at(content, path[:-1]), path[-1], chance.randrange(9)
        if kind == 0 and len(path) > 1:
            del inside[key]
        elif kind == 1:
            inside[key] = json.loads(json.dumps(_at(content, other)))
        elif kind == 2 and isinstance(inside, dict):
            inside[chance.choice(("", "a", "steps", "x" * 300, HOSTILE, str(other[-1])))] = inside.pop(key)
        elif kind == 8 and isinstance(inside, dict):
            inside["new"] = chance.choice(_JSON)
        elif kind == 3:
            inside[key] = [inside[key]] if chance.random() < 0.5 else {str(other[-1]): inside[key]}
        elif kind == 4 and isinstance(inside[key], int | float) and abs(inside[key]) < 1e300:
            inside[key] = chance.choice((inside[key] + 1, -inside[key], inside[key] * 1000, float(inside[key]), str(inside[key])))
        else:
            inside[key] = chance.choice(_JSON)
    return content[0]


def of_json(data: bytes, chance: Random) -> bytes:
    """Values of JSON, and now and then its text: numbers and brackets that a writer of JSON does not give."""
    if chance.random() < 0.1:
        return of_bytes(data, chance)
    with contextlib.suppress(ValueError, RecursionError):
        text = json.dumps(json_of(data, chance), ensure_ascii=chance.random() < 0.5)
        if chance.random() < 0.2:
            marks = list(re.finditer(r"(?<=[:\[,] )[^\[{,\]}]+", text))
            if marks:
                mark = chance.choice(marks)
                text = text[: mark.start()] + chance.choice(_JSON_TEXT) + text[mark.end() :]
        return text.encode(errors="surrogatepass" if chance.random() < 0.1 else "backslashreplace")
    return of_bytes(data, chance)


def of_json_lines(data: bytes, chance: Random) -> bytes:
    """Single rows of JSON, and the ends of lines."""
    lines = data.split(b"\n")
    at = chance.randrange(len(lines))
    lines[at] = of_json(lines[at], chance) if lines[at] else chance.choice((b"", b"{}", b"null", b"\0", b"\r"))
    if chance.random() < 0.2:
        lines.insert(at, chance.choice(lines))
    return (b"\n" if chance.random() < 0.95 else b"\r\n").join(lines)


def of_commit(data: bytes, chance: Random) -> bytes:
    """As `of_json`, most often with a checksum that fits again, as somebody would make who means it."""
    if chance.random() < 0.8:
        with contextlib.suppress(ValueError, RecursionError):
            made = json_of(data, chance)
            return json.dumps(commits.sealed(made) if isinstance(made, dict) else made).encode()
    return of_json(data, chance)


def of_archive(data: bytes, chance: Random) -> bytes:
    """As `of_bytes`, or the list at the start of an archive changed as `of_json` does, with names and hashes that still fit."""
    if chance.random() < 0.6:
        with contextlib.suppress(OSError, EOFError, zlib.error, ValueError, tarfile.TarError):  # of what was changed before
            return _with_list(data, chance)
    return of_bytes(data, chance)


def _with_list(data: bytes, chance: Random) -> bytes:
    made = io.BytesIO()
    packed = data[:2] == b"\x1f\x8b"
    with (
        tarfile.open(fileobj=io.BytesIO(gzip.decompress(data) if packed else data)) as source,
        tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as target,
    ):
        for number, entry in enumerate(source):
            file = source.extractfile(entry)
            content = b"" if file is None else file.read()
            if number == 0:
                content = of_json(content, chance)
                entry.size = len(content)
            target.addfile(entry, io.BytesIO(content))
    return gzip.compress(made.getvalue(), 1) if packed else made.getvalue()


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return ([path] if path else []) + [below for key, each in inner for below in _paths(each, (*path, key))]


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


_TYPES = (
    *(
        "|u1",
        "<u2",
        ">u2",
        "<i4",
        "<i8",
        "<f2",
        "<f4",
        "<f8",
        ">f8",
        "<f16",
        "|b1",
        "<c8",
        "<c16",
        "<U5",
        ">U3",
        "|S3",
        "|S0",
        "<U0",
    ),
    *("|O", "|V4", "<M8[s]", "<m8[D]", "|u9", "f", "", "3f4", "f4,i4", "x" * 200, "(2,3)f4", "<U1000000"),
)
_SHAPES = (
    "",
    "0,",
    "1,",
    "0, 8, 8",
    "-1, 8",
    "8, -8, -8",
    "8.0,",
    "True, 8",
    f"{2**62}, 4",
    f"{2**31}, 8, 8",
    "8,8,8,8,8",
    "'8',",
)


def of_npy(data: bytes, chance: Random) -> bytes:
    """Type, order and shape in the header of an array, and its values."""
    match = re.match(rb"\x93NUMPY([\x01-\x03])\0(..)(\{.*?\}) *\n", data, re.DOTALL)
    if match is None or chance.random() < 0.15:
        return of_bytes(data, chance)
    version, header, rest = match[1][0], match[3].decode("latin1"), data[match.end() :]
    kind = chance.randrange(6)
    if kind == 0:
        header = re.sub(r"'descr': '[^']*'", f"'descr': '{chance.choice(_TYPES)}'", header)
    elif kind == 1:
        header = re.sub(r"\([^)]*\)", f"({_another_shape(header, chance)})", header)
    elif kind == 2:
        header = header.replace("False", chance.choice(("True", "None", "0", "1e3")))
    elif kind == 3:
        header = of_yaml(header.encode("latin1"), chance).decode("latin1")
    elif kind == 4:
        version = chance.randrange(5)
    else:
        rest = _other_values(rest, chance)
    size = 2 if version == 1 else 4
    packed = header.encode("latin1") + b"\n"
    length = len(packed) if chance.random() < 0.95 else chance.choice((0, 5, 20_000, 65_535))
    return b"\x93NUMPY" + bytes([version, 0]) + min(length, 65_535).to_bytes(size, "little") + packed + rest


def _another_shape(header: str, chance: Random) -> str:
    shape = re.findall(r"\d+", header.partition("shape")[2])
    if not shape or chance.random() < 0.3:
        return chance.choice(_SHAPES)
    kind = chance.randrange(4)
    if kind == 0:
        chance.shuffle(shape)
    elif kind == 1:
        shape.insert(chance.randrange(len(shape) + 1), "1")
    elif kind == 2 and len(shape) > 1:
        shape = [str(int(shape[0]) * int(shape[1])), *shape[2:]]
    else:
        shape[chance.randrange(len(shape))] = str(chance.choice(_NUMBERS))
    return ", ".join(shape) + ","


def _other_values(values: bytes, chance: Random) -> bytes:
    made = bytearray(values)
    special = [
        struct.pack(form, number) for form in ("<f", "<d") for number in (float("nan"), float("inf"), -1.0, 1e30, 0.0, 1.0)
    ]
    special += [b"\0", b"\1", b"\xff", b"\xff" * 8, b"\0" * 8, b"\0\0\x11\0", b"\0\xd8\0\0", "é".encode()]
    one = chance.choice(special)
    for _ in range(chance.choice((1, 1, 10, 1000))):
        at = chance.randrange(len(made) // len(one) + 1) * len(one)
        made[at : at + len(one)] = one
    return bytes(made)


_NAMES = (
    "image",
    "label",
    "x_train",
    "y_train",
    "x_test",
    "y_test",
    "train_image",
    "labels",
    "data",
    "arr_0",
    "fine_labels",
    "num_x",
)
_MEMBER_NAMES = ("", ".npy", "../x.npy", "/x.npy", "image", "a/b.npy", HOSTILE.replace("\ud800", "") + ".npy", "é.npy", "x" * 300)


def of_npz(data: bytes, chance: Random) -> bytes:
    """Members of an archive, with checksums that fit again; and its own bytes."""
    if chance.random() < 0.25:
        return of_bytes(data, chance)
    with contextlib.suppress(Exception), zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
        at, kind = chance.randrange(len(members)), chance.randrange(8)
        name, content = members[at]
        if kind == 0:
            members[at] = (chance.choice((*_MEMBER_NAMES, *(f"{each}.npy" for each in _NAMES))), content)
        elif kind == 1:
            members.insert(at, (chance.choice((name, *(f"{each}.npy" for each in _NAMES))), content))
        elif kind == 2 and len(members) > 1:
            del members[at]
        elif kind == 3:
            members[at] = (name, chance.choice(members)[1])
        else:
            members[at] = (name, of_npy(content, chance))
        made = io.BytesIO()
        forms = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
        with zipfile.ZipFile(made, "w", chance.choice(forms)) as written:
            for each, stored in members:
                with warnings.catch_warnings(action="ignore"):  # of a name that is there twice
                    written.writestr(zipfile.ZipInfo(each), stored, compress_type=chance.choice((None, 0, 8)))
        return of_bytes(made.getvalue(), chance) if chance.random() < 0.1 else made.getvalue()
    return of_bytes(data, chance)


_CHUNKS = (
    *(
        (b"tRNS", b"\0\0"),
        (b"tRNS", b"\0\1\0\2\0\3"),
        (b"gAMA", b"\0\0\0\0"),
        (b"sRGB", b"\xff"),
        (b"pHYs", b"\0" * 9),
        (b"tRNS", b""),
    ),
    *((b"iCCP", b"x\0\0" + zlib.compress(b"no profile")), (b"zTXt", b"k\0\0" + zlib.compress(bytes(2**21))), (b"bKGD", b"\0\0")),
    *((b"eXIf", b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"), (b"eXIf", b"II*\0\xff\xff\xff\xff"), (b"eXIf", b"")),
    *((b"acTL", b"\0\0\0\2\0\0\0\0"), (b"acTL", b"\xff" * 8), (b"fcTL", bytes(26)), (b"fdAT", bytes(8)), (b"PLTE", bytes(3))),
    *((b"iTXt", b"k\0\1\0\0\0" + b"x" * 9), (b"cHRM", bytes(32)), (b"IEND", b""), (b"IDAT", b""), (b"tEXt", b"k\0\x1b[2J")),
)


def of_png(data: bytes, chance: Random) -> bytes:
    """Chunks of a PNG with checksums that fit, the compressed pixels among them; of other images the bytes."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or chance.random() < 0.1:
        return of_bytes(data, chance)
    chunks, at = [], 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    for _ in range(chance.choice((1, 1, 2))):
        at, kind = chance.randrange(len(chunks)) if chunks else 0, chance.randrange(7)
        if kind == 0 or not chunks:
            chunks.insert(at + (at == 0), chance.choice(_CHUNKS))
        elif kind == 1:
            del chunks[at]
        elif kind == 2:
            chunks.insert(at, chance.choice(chunks))
        elif kind == 3:
            chunks[at] = (chunks[at][0], of_bytes(chunks[at][1], chance))
        elif kind == 4 and len(chunks[0][1]) == 13:
            width, height, *form = struct.unpack(">IIBBBBB", chunks[0][1])
            form[0], form[1] = chance.choice((1, 2, 4, 8, 16, form[0])), chance.choice((0, 2, 3, 4, 6, form[1]))
            form[4] = chance.choice((0, 1, form[4]))
            sides = (width, height, 0, 1, 3, 100, 5000, 2**31 - 1)
            chunks[0] = (b"IHDR", struct.pack(">IIBBBBB", chance.choice(sides), chance.choice(sides), *form))
        else:
            chunks = [(name, _other_pixels(part, chance) if name == b"IDAT" else part) for name, part in chunks]
    body = b"".join(_chunk(name, part) for name, part in chunks)
    return data[:8] + body


def _chunk(name: bytes, part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + name + part + zlib.crc32(name + part).to_bytes(4, "big")


def _other_pixels(part: bytes, chance: Random) -> bytes:
    with contextlib.suppress(zlib.error):
        return zlib.compress(of_bytes(zlib.decompressobj().decompress(part, 2**20), chance))
    return of_bytes(part, chance)
