"""Strict YAML: values with the place that each was written at.

A subset of YAML 1.2 that has one reading: `1e-3` is a float, `no` a string, `010` an integer ten; duplicate keys, anchors,
aliases, tags and several documents are errors; sequences become tuples. PyYAML's pure Python loader does the parsing: the
one written in C can be made to overflow the stack.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml

from aecli.config import shipped
from aecli.errors import ConfigError, Diagnostic
from aecli.system.own import open_own
from aecli.system.reading import kind_of

MAX_BYTES = 20_000
"""Of a config; the longest have a few thousand. What is written to keep the parser busy takes it most of a second for as much."""
MAX_DEPTH = 50

Path_ = tuple[str | int, ...]


class Mark(NamedTuple):
    """Where a key or a value stands; `line` and `column` count from 1."""

    line: int
    column: int
    width: int


class Document(NamedTuple):
    """A parsed file: `values` and `keys` say where the value and the key of each path stand. `problems` are mistakes that
    leave the rest readable (a key given twice, say), for the caller to report beside its own."""

    name: str
    lines: tuple[str, ...]
    data: Any
    values: dict[Path_, Mark]
    keys: dict[Path_, Mark]
    problems: list[Diagnostic]

    def diagnostic(self, mark: Mark, rule: str, message: str, label: str = "", help: str = "") -> Diagnostic:
        source = self.lines[mark.line - 1] if 0 < mark.line <= len(self.lines) else ""
        return Diagnostic(self.name, mark.line, mark.column, rule, message, source, mark.width, label, help)


class _Loader(yaml.SafeLoader):
    """The core schema of YAML 1.2 instead of PyYAML's 1.1."""


_TAG = "tag:yaml.org,2002:"
_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+0123456789.",
    ),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), list(_first))  # pyright: ignore[reportUnknownMemberType]


def read(path: Path) -> Document:
    """Reads and parses a file; every problem, a missing file among them, raises ConfigError."""
    return parse(read_text(path), str(path))


def read_text(path: Path) -> str:
    """The text of a config file as it stands, or where there is no such file of the config of that name that comes with aecli;
    raises ConfigError if it cannot be read as text, or is larger than any config."""
    name = str(path)
    if not os.path.lexists(path):
        path = shipped.file_of(path) or path

    def refuse(rule: str, message: str, help: str = "") -> ConfigError:
        return ConfigError([Diagnostic(name, 0, 0, rule, message, help=help)])

    try:
        mode = path.stat().st_mode
        if kind := kind_of(mode):
            raise refuse("not-a-file", f"this is {kind}", shipped.help_of(path))
        with open_own(path) as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise refuse("no-such-file", "no such file", shipped.help_of(path)) from None
    except OSError as error:
        raise refuse("unreadable", (error.strerror or str(error)).lower()) from None
    if len(raw) > MAX_BYTES:
        raise refuse("too-large", f"larger than {MAX_BYTES:,} bytes: this is no config")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        raise ConfigError([Diagnostic(name, line, column, "not-utf8", f"byte 0x{raw[error.start]:02x} is not UTF-8")]) from None


def parse(text: str, name: str) -> Document:
    """Parses one document; raises ConfigError where nothing can be made of it."""
    problems: list[Diagnostic] = []
    document = Document(name, tuple(text.splitlines()), None, {}, {}, problems)

    def mark(start: Any, end: Any = None) -> Mark:
        width = end.column - start.column if end is not None and end.line == start.line else 1
        return Mark(start.line + 1, start.column + 1, max(1, width))

    def problem(where: Mark, rule: str, message: str, label: str = "", help: str = "") -> None:
        problems.append(document.diagnostic(where, rule, message, label, help))

    try:
        _scan(text, problem, mark)
        if problems:
            raise ConfigError(problems)
        nodes = list(yaml.compose_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        where = mark(at) if at is not None else Mark(1, 1, 1)
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError([document.diagnostic(where, "syntax", what or "not valid YAML")]) from None
    except yaml.reader.ReaderError as error:
        position = cast(int, error.position)
        line = text[:position].count("\n") + 1
        column = position - (text.rfind("\n", 0, position) + 1) + 1
        raise ConfigError(
            [document.diagnostic(Mark(line, column, 1), "syntax", "this character is not allowed in YAML")]
        ) from None
    except (yaml.YAMLError, ValueError, AttributeError, KeyError, RecursionError) as error:
        raise ConfigError([Diagnostic(name, 1, 1, "syntax", f"not valid YAML: {error}")]) from None

    if not nodes or nodes[0] is None:
        raise ConfigError([Diagnostic(name, 0, 0, "empty", "the file holds nothing", help="aecli init writes one to begin with")])
    if len(nodes) > 1:
        second = nodes[1]
        problem(mark(second.start_mark), "documents", "a second document starts here: a config is one document")

    def construct(node: yaml.Node, path: Path_) -> Any:
        document.values[path] = mark(node.start_mark, node.end_mark)
        if isinstance(node, yaml.MappingNode):
            result: dict[str, Any] = {}
            for key_node, value_node in cast(list[tuple[yaml.Node, yaml.Node]], node.value):
                where = mark(key_node.start_mark, key_node.end_mark)
                if not isinstance(key_node, yaml.ScalarNode):
                    problem(where, "bad-key", "a key must be a single word")
                    continue
                key = str(key_node.value)
                if key in result:
                    first = document.keys[(*path, key)].line
                    problem(where, "duplicate-key", f"'{key}' is given twice", f"first on line {first}")
                    continue
                document.keys[(*path, key)] = where
                result[key] = construct(value_node, (*path, key))
            return result
        if isinstance(node, yaml.SequenceNode):
            children = cast(list[yaml.Node], node.value)
            return tuple(construct(child, (*path, i)) for i, child in enumerate(children))
        return _scalar(
            str(node.value), str(node.tag), lambda message: problem(mark(node.start_mark, node.end_mark), "bad-value", message)
        )

    return document._replace(data=construct(nodes[0], ()))


def parse_value(text: str, name: str) -> Any:
    """One value as it could stand in a file, for `--set a.b=VALUE`; raises ConfigError."""
    if not text.strip():
        return None
    return _sound(text, name)


def _sound(text: str, name: str) -> Any:
    document = parse(text, name)
    if document.problems:
        raise ConfigError(document.problems)
    return document.data


_C: Any = getattr(yaml, "CSafeLoader", None)
_Quick: Any = _C and type("_Quick", (_C,), {"yaml_implicit_resolvers": _Loader.yaml_implicit_resolvers})
_QUICK_OPENINGS = ("[", "{", "- ", "? ", ": ", "-\t", "?\t", ":\t")
_QUICK_DEPTH = 500
"""Levels that brackets and compact blocks can make in a text that the loader written in C is given: it overflows the stack at
some ten thousand. Levels by indentation are few: each takes a blank more than the one above."""


def parse_quickly(text: str, name: str) -> Any:
    """What `parse` finds in a sound text, in a tenth of the time, without places and without a look for mistakes: for the
    resolved configs of hundreds of runs. Raises ConfigError where nothing can be made of it."""
    deep = sum(map(text.count, _QUICK_OPENINGS)) > _QUICK_DEPTH
    if _Quick is None or deep or len(text) > 4 * MAX_BYTES or any(mark in text for mark in "&*!%"):  # anchors, tags, directives
        return _sound(text, name)
    try:
        return _plain(yaml.compose(text, Loader=_Quick))
    except (yaml.YAMLError, ValueError, RecursionError):
        return _sound(text, name)  # which says where and what


def _plain(node: Any) -> Any:
    if isinstance(node, yaml.MappingNode):
        pairs = cast(list[tuple[yaml.Node, yaml.Node]], node.value)
        return {str(key.value): _plain(value) for key, value in pairs if isinstance(key, yaml.ScalarNode)}
    if isinstance(node, yaml.SequenceNode):
        return tuple(_plain(child) for child in cast(list[yaml.Node], node.value))
    if node is None:
        raise ValueError("holds nothing")
    return _scalar(str(node.value), str(node.tag), _too_long)


def _too_long(message: str) -> None:
    raise ValueError(message)


def _scan(text: str, problem: Any, mark: Any) -> None:
    """Refuses what would be dangerous or ambiguous to compose: aliases, tags, directives, deep nesting."""
    depth = 0
    refused = {
        yaml.AnchorToken: ("anchor", "anchors are not supported: write the value out"),
        yaml.AliasToken: ("alias", "aliases are not supported: write the value out"),
        yaml.TagToken: ("tag", "tags are not supported: the type follows from the setting"),
        yaml.DirectiveToken: ("directive", "directives are not supported"),
    }
    opening = (yaml.BlockMappingStartToken, yaml.BlockSequenceStartToken, yaml.FlowMappingStartToken, yaml.FlowSequenceStartToken)
    closing = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
    for token in yaml.scan(text, Loader=_Loader):
        if isinstance(token, opening):
            depth += 1
            if depth > MAX_DEPTH:
                problem(mark(token.start_mark), "too-deep", f"nested more than {MAX_DEPTH} levels deep")
                return
        elif isinstance(token, closing):
            depth -= 1
        elif type(token) in refused:
            rule, message = refused[type(token)]
            problem(mark(token.start_mark, token.end_mark), rule, message)


def _scalar(text: str, tag: str, refuse: Any) -> Any:
    kind = tag.removeprefix(_TAG)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        value = 0 if len(text) > 25 else int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if len(text) > 25 or abs(value) >= 2**63:  # by its value: written again, in decimals, it is to be read again
            refuse("this integer is too long")
            return 0
        return value
    if kind == "float":
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text
