"""`name: vectors`: rows of numbers, such as saved activations, from .npy, .npz, .safetensors or .csv, with labels or without.

Of an .npy and a .safetensors file only the rows that are asked for are read; the others are loaded whole.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aecli.config.schema import Data
from aecli.data.sources.arrays import Classes, classes_of
from aecli.data.sources.base import Images, Labels, Origin, fixed_shuffle
from aecli.data.sources.names import LABELS, roles, some_labels
from aecli.data.sources.npy import DAMAGED, StoredArray, names_of
from aecli.data.sources.told import about, lacking, some
from aecli.errors import DataError, did_you_mean
from aecli.system.own import check_own, open_own
from aecli.system.reading import of_the_system

MAX_BYTES = 16 * 2**30
"""A .csv file that is larger is refused before it is loaded: it would be whole."""
_INDEX = ("", "index", "unnamed: 0")
"""What libraries call a column that numbers the rows, in small letters."""
_KINDS = {
    "vector": ("x", "data", "vector", "vectors", "act", "acts", "activation", "activations", "feature", "features", "embeddings"),
    "label": LABELS,
}
_REAL = ("bool", "int", "uint", "float", "bfloat")
"""The names of types of real numbers without their bits. NumPy does not know every name that it gives a type: `str96` is none."""
_WINDOW = 8192
"""Rows that are read at once of a file that gives only neighbours."""
_CSV_ROWS = 10_000
_MOST_CLASSES = 100
"""Of a column that is called no label, and may be one."""
_ONE_LABEL = "set data.label to one of them, or data.labels: none to read the vectors without labels"


class Matrix(NamedTuple):
    """Rows of numbers on a disk or in memory: `shape`, `dtype` by its NumPy name, and `read(start, stop)`, which gives some of
    them."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[int, int], Any]

    def take(self, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows at `index`, float32 [n, d]."""
        found = np.empty((len(index), *self.shape[1:]), np.float32)
        window = index // _WINDOW
        for number in np.unique(window):
            here = window == number
            start = int(index[here].min())
            with np.errstate(over="ignore"):  # what becomes infinite is named by whoever checks
                found[here] = np.asarray(self.read(start, int(index[here].max()) + 1))[index[here] - start]
        return found


class Stored(NamedTuple):
    """What a file holds: rows of vectors and labels by split, each with its name in the file, and what is to be told."""

    vectors: Mapping[str, tuple[str, Matrix]]
    labels: Mapping[str, tuple[str, Any]]
    facts: list[str]


class VectorSource:
    """Vectors [n, d] as [n, 1, d, 1]; where the file has no test split, one is drawn from its rows, always the same."""

    def __init__(self, data: Data, whole: bool = False) -> None:
        """Of a `whole` file nothing is held out. Raises DataError if there are no vectors, or what is there can be understood in
        two ways."""
        assert data.path is not None
        self._path = Path(data.path)
        stored = _open(self._path, data)
        self._stored = {split: rows for split, (_, rows) in stored.vectors.items()}
        self._names = {split: name for split, (name, _) in stored.vectors.items()}
        facts = list(stored.facts)
        for split, rows in self._stored.items():
            _check_form(self._path, self._names[split], rows)
        widths = {split: rows.shape[1] for split, rows in self._stored.items()}
        if len(set(widths.values())) > 1:
            of = ", ".join(f"'{self._names[split]}' {width}" for split, width in widths.items())
            raise DataError(f"{self._path}: vectors differ in length: {of}", "save those of all splits alike")
        if rounded := sorted({rows.dtype for rows in self._stored.values()} - {"float32", "float16", "bfloat16"}):
            facts.append(f"{' and '.join(rounded)} rounded to float32")
        sizes = {split: rows.shape[0] for split, rows in self._stored.items()}
        classes = _classes(self._path, stored, sizes, data, facts)
        self._kept = {split: (split, np.arange(n)) for split, n in sizes.items()}
        if "test" not in self._kept and not whole:
            n = sizes["train"]
            order, held_out = fixed_shuffle(n), max(1, round(data.test * n))
            if held_out >= n:
                raise DataError(f"{self._path} holds one vector; none is left to train on", "add vectors, or a test split")
            self._kept |= {"train": ("train", np.sort(order[:-held_out])), "test": ("train", np.sort(order[-held_out:]))}
        self._labels = classes.labels
        order = [split for split in ("train", "validation", "test") if split in self._kept]
        sizes = {split: len(self._kept[split][1]) for split in order}
        have = {split: set(self._of(split)[0].tolist()) for split in order}
        facts += lacking(have.pop("train"), have, classes.names)
        # A vector of d values has the shape (1, d, 1): see `Spec`.
        shape, names = (1, next(iter(widths.values())), 1), classes.names
        told = about(sizes, names, shape, facts, "vector")
        self.origin = Origin(shape, len(names), sizes, "", names, told, "float32", "vector")

    def read(self, split: str, index: NDArray[np.int64]) -> tuple[Images, Labels]:
        labels, kept = self._of(split)
        source = self._kept[split][0]
        rows = kept[index]
        found = self._stored[source].take(rows)
        if not np.isfinite(found).all():
            row, column = np.argwhere(~np.isfinite(found))[0]
            wide = " (or beyond float32)" if self._stored[source].dtype in ("float64", "int64", "uint64") else ""
            raise DataError(
                f"{self._path}: '{self._names[source]}' holds {found[row, column]}{wide} at [{rows[row]}, {column}]",
                "replace what is no finite number, or leave those rows out",
            )
        return found[:, None, :, None], labels[index]

    def labels(self, split: str) -> Labels:
        return self._of(split)[0]

    def converted(self) -> tuple[str, ...]:
        return ()

    def _of(self, split: str) -> tuple[Labels, NDArray[np.int64]]:
        """The labels of a split, and which rows of the file it is."""
        source, kept = self._kept[split]
        return self._labels[source][kept], kept


def _open(path: Path, data: Data) -> Stored:
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise DataError(f"{path}: vectors are read from {', '.join(READERS)}", "save them as one of these")
    try:
        return READERS[suffix](path, data)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", "set data.path to a file of vectors") from None
    except DAMAGED as error:
        if of_the_system(error):
            raise
        raise DataError(f"{path}: no readable {suffix} file: {error}", "write the file anew") from None


def _npy(path: Path, data: Data) -> Stored:
    if data.label is not None or data.array is not None:
        raise DataError(
            f"{path}: an .npy file is one array and has no labels", "leave data.array and data.label out, or save an .npz"
        )
    return Stored({"train": (path.name, _stored(StoredArray(path)))}, {}, [])


def _npz(path: Path, data: Data) -> Stored:
    return _by_name(path, data, {name: _stored(StoredArray(path, name)) for name in names_of(path)})


def _safetensors(path: Path, data: Data) -> Stored:
    from safetensors import SafetensorError, safe_open

    names = {"BOOL": "bool", "BF16": "bfloat16"}
    check_own(path)
    try:
        with safe_open(path, framework="np") as file:
            found: dict[str, Matrix] = {}
            for name in list(file.keys()):
                part = file.get_slice(name)
                code = str(part.get_dtype())
                dtype = names.get(code) or code.replace("F", "float").replace("I", "int").replace("Uint", "uint")
                found[name] = Matrix(tuple(part.get_shape()), dtype, lambda start, stop, part=part: part[start:stop])
    except SafetensorError as error:
        raise DataError(f"{path}: no readable .safetensors file: {error}", "write the file anew") from None
    return _by_name(path, data, found)


def _csv(path: Path, data: Data) -> Stored:
    """A table with a header or without; the delimiter is a comma, a semicolon, a tab or a space."""
    if data.array is not None:
        raise DataError(f"{path} is one table", "leave data.array out")
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path}: more than {MAX_BYTES:,} bytes of text", "save the vectors as an .npy file")
    with io.TextIOWrapper(open_own(path), "utf-8-sig") as file:
        lines = ((number, line) for number, line in enumerate(file, 1) if line.strip())
        number, first = next(lines, (0, ""))
        if not first:
            raise DataError(f"{path} is empty")
        delimiter = next((mark for mark in (",", ";", "\t") if len(_cells(first, mark)) > 1), None)
        cells = _cells(first, delimiter)
        header = cells if _is_header(cells) else None
        column = _label_column(path, data, header, len(cells))
        if header is None:
            lines = chain([(number, first)], lines)
        used = [i for i in range(len(cells)) if i != column]
        facts = [] if header is None else ["the first line is a header"]
        pieces: list[Any] = []
        texts: list[Any] = []
        while part := list(islice(lines, _CSV_ROWS)):
            if not pieces and header is not None and _numbers_rows(header, used, part, delimiter):
                facts.append(f"column '{header[used[0]]}' is left out, it numbers the rows")
                used = used[1:]
            if not used:
                raise DataError(f"{path} has no column of numbers beside the label")
            pieces.append(_numbers(path, part, delimiter, used))
            if column is not None:
                text = [line for _, line in part]
                texts.append(np.loadtxt(text, str, delimiter=delimiter, usecols=[column], ndmin=1, comments=None, quotechar='"'))
    if not pieces:
        raise DataError(f"{path} holds a header and nothing else", "write the rows below it")
    name = path.name if header is None or column is None else header[column]
    labels = {} if column is None else {"train": (name, np.concatenate(texts))}
    if column is not None:
        facts.append(f"labels are column '{name}'" if header is not None else f"labels are column {column}, there is no header")
    table = np.concatenate(pieces)
    if column is None and data.labels != "none":
        facts += _may_be_labels(table, [str(i) if header is None else header[i] for i in used])
    return Stored({"train": (path.name, _matrix(table))}, labels, facts)


READERS = {".npy": _npy, ".npz": _npz, ".safetensors": _safetensors, ".csv": _csv, ".tsv": _csv, ".txt": _csv}
"""What reads a file of vectors, by its ending."""


def _may_be_labels(table: NDArray[np.float32], names: list[str]) -> list[str]:
    """Of a table of fractions, what is to be told of columns of few whole numbers: a label that is not called so would be taken
    for an activation."""
    whole = (table == np.rint(table)).all(axis=0)
    if whole.mean() > 0.5:
        return []
    values = {names[i]: len(np.unique(table[:, i])) for i in np.flatnonzero(whole)}
    few = {name: n for name, n in values.items() if 1 < n <= min(_MOST_CLASSES, len(table) // 2)}
    if len(few) == 1:
        ((name, n),) = few.items()
        return [f"column '{name}' holds whole numbers of {n} values: if it is a label, set data.label: {name}"]
    return [f"columns of few whole numbers: {some([*few])}: if one is a label, set data.label to it"] if few else []


def _cells(line: str, delimiter: str | None) -> list[str]:
    """The cells of a line, in which quotes keep a delimiter; None is blanks."""
    if delimiter is None:
        return next(csv.reader([" ".join(line.split())], delimiter=" "))
    return [cell.strip() for cell in next(csv.reader([line.strip("\r\n")], delimiter=delimiter, skipinitialspace=True))]


def _is_header(cells: list[str]) -> bool:
    """Whether the first line names columns. A line with numbers is one of the data, its texts being labels; but for the numbers
    from 0 on by which libraries call columns that have no names, beside a name that says so."""
    numbers = [cell for cell in cells if _is_number(cell)]
    others = [cell.lower() for cell in cells if not _is_number(cell)]
    counted = numbers == [str(i) for i in range(len(numbers))] and set(others) <= {*LABELS, *_INDEX}
    return not numbers or (bool(others) and counted)


def _numbers_rows(header: list[str], used: list[int], part: list[tuple[int, str]], delimiter: str | None) -> bool:
    """Whether the first column is the number of the row, which a library wrote beside the data: it has no name, and counts."""
    if not used or used[0] != 0 or header[0].lower() not in _INDEX:
        return False
    values = [_cells(line, delimiter)[0] for _, line in part]
    return values == [str(i) for i in range(len(values))] and len(values) > 1


def _numbers(path: Path, part: list[tuple[int, str]], delimiter: str | None, used: list[int]) -> NDArray[np.float32]:
    try:
        lines = [line for _, line in part]
        return np.loadtxt(lines, np.float32, delimiter=delimiter, usecols=used, ndmin=2, comments=None, quotechar='"')
    except ValueError as error:
        fix = "every line needs a number in every column but that of the label, which data.label names"
        for number, line in part:
            cells = _cells(line, delimiter)
            wrong = [i for i in used if i >= len(cells) or not _is_number(cells[i])]
            if wrong:
                what = f"'{cells[wrong[0]]}' is no number" if wrong[0] < len(cells) else "is missing"
                if delimiter == "," and ";" in line:
                    fix = "the line was split at commas: write numbers with a point, and a comma between them"
                raise DataError(f"{path}: line {number}, column {wrong[0]} (from 0): {what}", fix) from None
        raise DataError(f"{path}, among the lines from {part[0][0]:,} to {part[-1][0]:,}: {error}", fix) from None


def _label_column(path: Path, data: Data, header: list[str] | None, columns: int) -> int | None:
    """Which column is the label: the one that `data.label` names or numbers from 0, else the only one that is called so."""
    if data.labels == "none" and data.label is None:
        return None
    if data.label is not None:
        if header is not None and data.label in header:
            return header.index(data.label)
        if data.label.isdecimal() and int(data.label) < columns:
            return int(data.label)
        of = some(header, 20) if header is not None else f"0 to {columns - 1}, there is no header"
        fix = did_you_mean(data.label, header or ()) or "set data.label to one of them"
        raise DataError(f"{path} has no column '{data.label}', only {of}", fix)
    names = header or []
    found = [name for name in names if name.lower() in LABELS] or [*some_labels(path, names, _ONE_LABEL).values()]
    if len(found) > 1:
        raise DataError(f"{path}: each of columns {some(found)} may be the label", _ONE_LABEL)
    return names.index(found[0]) if found else None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _matrix(array: Any) -> Matrix:
    return Matrix(tuple(array.shape), str(array.dtype.name), lambda start, stop: array[start:stop])


def _stored(array: StoredArray) -> Matrix:
    return Matrix(array.shape, str(array.dtype.name), lambda start, stop: array[start:stop])


def _by_name(path: Path, data: Data, arrays: Mapping[str, Matrix]) -> Stored:
    """The vectors and labels of a file of several arrays: those that `data.array` and `data.label` name, or by their names; a
    single array needs none."""

    def whole(name: str) -> Any:
        rows = arrays[name]
        return np.asarray(rows.read(0, rows.shape[0])) if rows.shape else np.zeros(())

    for setting, name in (("array", data.array), ("label", data.label)):
        if name is not None and name not in arrays:
            raise DataError(
                f"{path} holds no array '{name}', only {some(list(arrays)) or 'nothing'}", f"set data.{setting} to one of them"
            )
    rest = [name for name in arrays if name not in (data.array, data.label)]
    found, told = roles(path, rest, _KINDS), list[str]()
    if data.label is None and data.labels != "none":
        found, told = found.with_some_labels(path, _ONE_LABEL)
    vectors = {split: name for (kind, split), name in found.names.items() if kind == "vector"}
    labels = {split: name for (kind, split), name in found.names.items() if kind == "label"}
    if data.array is not None:
        vectors, found = {"train": data.array}, found._replace(unused=[*found.unused, *vectors.values()])
    elif not vectors and len(tables := [name for name in found.unused if len(arrays[name].shape) == 2]) == 1:
        vectors, found = {"train": tables[0]}, found._replace(unused=[name for name in found.unused if name != tables[0]])
    if data.label is not None:
        labels = {"train": data.label}
    if "train" not in vectors:
        several = some([f"{name} {list(rows.shape)}" for name, rows in arrays.items()]) or "nothing"
        raise DataError(f"{path} holds {several}, and which of it are vectors is not plain", "set data.array to the name of one")
    facts = [f"vectors are '{vectors['train']}'"] if len(arrays) > 1 else []
    facts += [*told, *([f"arrays left out: {some(found.unused)}"] if found.unused else [])]
    return Stored(
        {split: (name, arrays[name]) for split, name in vectors.items()},
        {split: (name, whole(name)) for split, name in labels.items()} if data.labels != "none" else {},
        facts + (["labels left out (data.labels: none)"] if labels and data.labels == "none" else []),
    )


def _check_form(path: Path, name: str, rows: Matrix) -> None:
    shape = list(rows.shape)
    what = f"{path}: '{name}' {rows.dtype} {shape}"
    if len(shape) != 2:
        each, all_of = "x.reshape(-1, x.shape[-1])", "x.reshape(len(x), -1)"
        fix = f"keep one row a vector: {each}, or one an example: {all_of}" if len(shape) > 2 else "save [n, d]"
        raise DataError(f"{what} must be [n, d]", f"{fix}; images are name: npz" if len(shape) > 2 else fix)
    if 0 in shape:
        raise DataError(f"{what} is empty", "save [n, d]")
    if rows.dtype.rstrip("0123456789") not in _REAL:
        raise DataError(f"{what} holds no real numbers", "save floats")


def _classes(path: Path, stored: Stored, sizes: Mapping[str, int], data: Data, facts: list[str]) -> Classes:
    for split in stored.labels.keys() - sizes.keys():
        raise DataError(
            f"{path} holds labels '{stored.labels[split][0]}' and no vectors of the {split} split", "save both or neither"
        )
    if not stored.labels:
        return Classes((), {split: np.full(n, -1, np.int32) for split, n in sizes.items()}, "")
    for split in sizes.keys() - stored.labels.keys():
        raise DataError(f"{path}: vectors of the {split} split have no labels, others have", "add them, or set data.labels: none")
    classes = classes_of(stored.labels, sizes, str(path))
    facts += [classes.fact] if classes.fact else []
    return classes
