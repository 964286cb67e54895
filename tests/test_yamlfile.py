"""The YAML subset: one reading for every text, and no text that does harm."""

from __future__ import annotations

import os
from math import inf, isnan
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aecli.config.load import parse as parse_config
from aecli.config.yamlfile import MAX_BYTES, parse, parse_quickly, read
from aecli.errors import ConfigError

pytestmark = pytest.mark.portable

SCALARS = {
    "1e-3": 0.001,
    "1E3": 1000.0,
    ".5": 0.5,
    "1.": 1.0,
    "-1": -1,
    "010": 10,
    "0o10": 8,
    "0x1F": 31,
    "1_000": "1_000",
    "no": "no",
    "on": "on",
    "yes": "yes",
    "y": "y",
    "true": True,
    "False": False,
    "null": None,
    "~": None,
    "": None,
    "12:30": "12:30",
    "1:30": "1:30",
    "2024-01-01": "2024-01-01",
    "1e400": inf,
    "-.inf": -inf,
    "'5'": "5",
    "[1, 2.5, x]": (1, 2.5, "x"),
    "{a: 1}": {"a": 1},
}


@pytest.mark.parametrize("text", SCALARS)
def test_each_scalar_has_its_yaml_1_2_reading(text: str) -> None:
    value = parse(f"a: {text}", "x.yaml").data["a"]
    assert value == SCALARS[text] and type(value) is type(SCALARS[text])


def test_nan_is_read_as_a_number() -> None:
    assert isnan(parse("a: .nan", "x.yaml").data["a"])


REFUSED = {
    "": ("empty", 0, 0),
    "# only a comment": ("empty", 0, 0),
    "a: &x 1\nb: 2": ("anchor", 1, 4),
    "a: 1\nb: *x": ("alias", 2, 4),
    "a: !!int 3": ("tag", 1, 4),
    "a: !!python/object/apply:os.system [id]": ("tag", 1, 4),
    "%YAML 1.1\n---\na: 1": ("directive", 1, 1),
    "a: [": ("syntax", 1, 5),
    "a: 1\n b: 2": ("syntax", 2, 3),
    "a: b: c": ("syntax", 1, 5),
    "a: \x01": ("syntax", 1, 4),
    "a\t: {": ("syntax", 1, 2),
    "[" * 60: ("too-deep", 1, 51),
    "a: {" * 60: ("too-deep", 1, 200),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused_is_refused_at_its_place(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "x.yaml")
    first = caught.value.diagnostics[0]
    rule, line, column = REFUSED[text]
    assert (first.rule, first.line, first.column) == (rule, line, column)


def test_problems_that_leave_the_rest_readable_are_told_and_the_rest_is_read() -> None:
    document = parse("a: 1\nb: 2\na: 3\n? [x]\n: 1\nc: 4\n---\nd: 5\n", "x.yaml")
    assert [(d.rule, d.line) for d in document.problems] == [("documents", 8), ("duplicate-key", 3), ("bad-key", 4)]
    assert document.data["c"] == 4


def test_a_merge_key_is_a_key_like_any_other() -> None:
    assert parse("<<: {a: 1}", "x.yaml").data == {"<<": {"a": 1}}


@pytest.mark.timeout(60)  # they would take far longer, and gigabytes, if they were let in
def test_bombs_are_refused_at_once() -> None:
    merge = "a: &a {x: 1}\n" + "\n".join(f"k{i}: &k{i} {{<<: [*a, *a, *a]}}" for i in range(12))
    laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(f"b{i}: &b{i} [*a, *a, *a, *a, *a, *a, *a]" for i in range(9))
    for bomb in (merge, laughs, "[" * 100_000, "{a: " * 20_000, "- " * 50_000):
        with pytest.raises(ConfigError):
            parse(bomb, "x.yaml")


@pytest.mark.parametrize("text", ["9" * 5000, str(2**63), "-" + str(2**63), "0x" + "f" * 17, "0o1" + "0" * 21])
def test_a_very_long_integer_is_refused(text: str) -> None:
    assert parse(f"a: {text}", "x.yaml").problems[0].rule == "bad-value"


@pytest.mark.parametrize("text", [str(2**63 - 1), str(1 - 2**63), "0x7" + "f" * 15, "0o7" + "7" * 20])
def test_what_is_read_of_an_integer_can_be_read_again_in_decimals(text: str) -> None:
    document = parse(f"a: {text}", "x.yaml")
    assert not document.problems and document.data == parse(f"a: {document.data['a']}", "x.yaml").data


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "huge", "latin1", "unreadable-utf16"])
def test_what_is_no_text_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "c.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "huge":
        path.write_bytes(b"a: 1\n" * (MAX_BYTES // 5 + 1))
    elif kind == "latin1":
        path.write_bytes("a: é".encode("latin1"))
    elif kind == "unreadable-utf16":
        path.write_bytes("a: 1".encode("utf-16"))
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert caught.value.diagnostics[0].file == str(path)


def test_a_file_that_takes_seconds_to_parse_is_refused_before(tmp_path: Path) -> None:
    """PyYAML reads some 30 kB of short lists a second."""
    path = tmp_path / "c.yaml"
    path.write_text("a: 1\n" * 6000)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert [d.rule for d in caught.value.diagnostics] == ["too-large"]


def test_of_many_mistakes_a_hundred_are_told_and_how_many_more() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config("data: {name: digits}\nmodel: {variant: vae}\ntrain: {steps: 1}\n" + "x: 1\n" * 1235, "x.yaml")
    lines = caught.value.render().splitlines()
    assert len([line for line in lines if "error[" in line]) == 100
    assert lines[-2:] == ["and 1,135 more", "1,235 errors"]
    assert len(caught.value.message) < 10_000 and caught.value.message.endswith("and 1,135 more")


@pytest.mark.parametrize(
    "line", ["a: 1\n", "- " * 49 + "\n", "[" * 45 + "]" * 45 + ",\n", "? [x]\n: 1\n", "'", "- &a !!x *b\n", " \n"]
)
def test_the_largest_file_of_one_thing_is_read_or_refused(line: str) -> None:
    try:
        parse_config((line * MAX_BYTES)[:MAX_BYTES], "x.yaml")
    except ConfigError as error:
        assert len(error.render()) < 100_000


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read(path).data == {"a": 1}


def test_a_message_never_controls_the_terminal() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config('data: {name: digits}\nmodel: {variant: vae, "\\e[31m": 1}\ntrain: {steps: 1}\n', "\x1b[2Jx.yaml")
    text = caught.value.render()
    assert "\x1b" not in text and "[31m" in text


def test_of_a_long_line_the_part_around_the_mistake_is_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("a: [" + "1, " * 5000 + "*x]", "x.yaml")
    shown = caught.value.render().splitlines()
    assert max(map(len, shown)) < 200
    assert shown[1][shown[2].index("^")] == "*"


def test_positions_count_from_one() -> None:
    document = parse("a: 1\nblock: {key: [x, yy]}\n", "x.yaml")
    assert document.values[("block", "key", 1)] == (2, 18, 2)
    assert document.keys[("block", "key")] == (2, 9, 3)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab:-[]{}#&*!%|>'\"\n ,?0.e", max_size=40))
def test_no_text_escapes_as_another_error(text: str) -> None:
    try:
        parse(text, "x.yaml")
    except ConfigError as error:
        assert error.render()


WRITTEN = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.stem)
def test_quickly_is_the_same(path: Path) -> None:
    text = path.read_text()
    assert parse_quickly(text, "x") == parse(text, "x").data
    resolved = parse_config(text, "x").resolved()
    assert parse_quickly(resolved, "x") == parse(resolved, "x").data


@pytest.mark.parametrize("text", SCALARS)
def test_each_scalar_has_the_same_reading_quickly(text: str) -> None:
    value = parse_quickly(f"a: {text}", "x.yaml")["a"]
    assert value == SCALARS[text] and type(value) is type(SCALARS[text])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("part", ["[", "- ", "? ", ": ", "-\t", "{a: ", "&a [*a, ", "!!python/object "])
def test_what_would_overflow_the_stack_is_not_read_in_haste(part: str) -> None:
    """The loader written in C dies of it, and the process with it."""
    with pytest.raises(ConfigError):
        parse_quickly(part * (2 * MAX_BYTES // len(part)), "x")
    with pytest.raises(ConfigError):
        parse_quickly("x: " + part * 400, "x")


def test_quickly_refuses_what_nothing_can_be_made_of() -> None:
    for text in ("", "a: [", "a: 9999999999999999999999999999", "a: *x", "\0"):
        with pytest.raises(ConfigError):
            parse_quickly(text, "x")
