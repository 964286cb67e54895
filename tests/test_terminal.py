"""What reaches a terminal is text, whatever names, arguments and files hold; and stdout may be closed, full or cut short."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import HOSTILE
from PIL import Image
from process import SOAK, TINY, aecli, called, environment
from rich.cells import cell_len

from aecli.cli import tables
from aecli.cli.console import Console
from aecli.errors import printable, printable_lines
from aecli.measures.metric import VERSION, Metric, Recorded
from aecli.reports.table import Block, Line, Notes, terminal
from aecli.system.terminal import NARROWEST, Escaped

NAMED = HOSTILE.replace("\ud800", "")
"""The same as a file system that wants UTF-8 takes it."""


@pytest.mark.parametrize("text", [HOSTILE, "\0", "\x7f", "\x85", "\u2028", "\u202e", "\U000e0001", "\ud83d", "a\nb"])
def test_what_is_escaped_in_json_is_json_of_the_same(text: str) -> None:
    shown = printable(json.dumps(text, ensure_ascii=False))
    assert shown.isprintable() and json.loads(shown) == text


@pytest.mark.parametrize("text", ["", "cat", "Füchse 狐 🦊", "a\\b [bold]"])
def test_letters_of_any_language_stay(text: str) -> None:
    assert printable(text) == text


def test_lines_stay_lines_and_tabs_are_blanks() -> None:
    assert printable_lines("a\tb\r\nc\n") == "a b\\u000d\nc\n"


class Broken(io.StringIO):
    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


def test_what_cannot_be_told_on_stderr_is_no_error(tmp_path: Path) -> None:
    full = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="No space"):
        Escaped(Broken(full)).write("x")
    with (tmp_path / "file").open("w") as file:
        broken = Broken(full)
        broken.fileno = file.fileno  # pyright: ignore[reportAttributeAccessIssue]
        assert Escaped(broken, lossy=True).write("x") == 1


def _is_text(*arguments: Any, cwd: Path) -> Any:
    done = called(*arguments, cwd=cwd)
    text = done.stdout + done.stderr
    assert all(line.isprintable() for line in text.split("\n")), text
    assert "internal error" not in text and "Traceback" not in text, text
    return done


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", HOSTILE),
        ("eval", "last", "--only", HOSTILE),
        ("eval", "last", "--split", HOSTILE),
        ("eval", "last", "--inception", HOSTILE),
        ("sample", "last", "--mode", HOSTILE),
        ("sample", "last", "--region", HOSTILE),
        ("sample", "last", "--checkpoint", HOSTILE),
        ("sample", "last", "--sampler", HOSTILE),
        ("runs", "--state", HOSTILE),
        ("runs", "--variant", HOSTILE),
        ("runs", "--runs-dir", HOSTILE),
        ("runs", "--where", HOSTILE),
        ("runs", "--format", HOSTILE),
        ("show", "last", "--runs-dir", HOSTILE),
        ("tag", "last", HOSTILE),
        ("tag", HOSTILE, "x"),
        ("note", HOSTILE),
        ("rm", HOSTILE, "--yes"),
        ("rm", "last", "--yes", "--runs-dir", HOSTILE),
        ("archive", HOSTILE, "-o", "x.tar"),
        ("archive", "last", "-o", HOSTILE),
        ("archive", "last", "-o", f"{NAMED}.tar"),
        ("import", HOSTILE),
        ("import", "c.yaml", "--runs-dir", HOSTILE),
        ("watch", HOSTILE),
        ("variants", HOSTILE),
        ("data", "prepare", HOSTILE),
        ("check", HOSTILE),
        ("train", HOSTILE),
        ("train", "c.yaml", "--set", HOSTILE),
        ("train", "c.yaml", "--set", f"model.variant={NAMED}"),
        ("train", "c.yaml", "--set", f"data.path={NAMED}"),
        ("train", "--resume", HOSTILE),
        ("bench", HOSTILE),
        (HOSTILE,),
        (f"--{HOSTILE}",),
    ],
    ids=lambda arguments: " ".join("X" if part == HOSTILE else part for part in arguments).encode("ascii", "ignore").decode(),
)
def test_arguments_are_shown_as_text(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "c.yaml").write_text(TINY)
    done = _is_text(*arguments, cwd=tmp_path)
    assert done.returncode in (0, 2, 3, 4, 7)


def test_names_in_data_and_in_a_config_are_shown_as_text(tmp_path: Path) -> None:
    for name in (NAMED, f"{NAMED} too", "cat"):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(6):
            noise = np.random.default_rng(i).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(noise).save(tmp_path / "own" / name / f"{i}.png")
    data = "name: folder, path: own, batch_size: 4"
    config = TINY.replace("name: digits, batch_size: 32", data).replace("steps: 40", "steps: 2")
    (tmp_path / f"{NAMED}.yaml").write_text(config)
    done = _is_text("train", f"{NAMED}.yaml", cwd=tmp_path)
    assert done.returncode == 0 and "\\u001b" in done.stderr
    for arguments in (("runs",), ("show", "last"), ("show", "last", "--json"), ("eval", "last"), ("sample", "last")):
        assert _is_text(*arguments, cwd=tmp_path).returncode == 0
    names = json.loads(_is_text("show", "last", "--json", cwd=tmp_path).stdout)["data"]["class_names"]
    assert len(names) == 3
    (tmp_path / "bad.yaml").write_text(f'data: {{name: digits}}\n"{NAMED.encode("unicode_escape").decode()}": 1\n')
    assert _is_text("check", "bad.yaml", cwd=tmp_path).returncode == 2


VERBS = (("--help",), ("--version",), ("variants",), ("data", "list"), ("runs",), ("show", "last"), ("train", "--help"))
ENDS = (">&-", "> /dev/full", "| head -0", "2>&-", "2> /dev/full", "<&- >&- 2>&-")
ALL = [(" ".join(verb), end) for verb in VERBS for end in ENDS]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(("verb", "end"), ALL if SOAK else ALL[:: len(ENDS) + 1])
def test_stdout_may_be_closed_or_full(tmp_path: Path, verb: str, end: str) -> None:
    """Quiet where nobody reads, and 7 where what was asked for cannot be written."""
    shutil.copytree(Path(__file__).parent / "old_runs" / "runs", tmp_path / "runs")
    command = f"{sys.executable} -m aecli {verb} {end}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    if end == "> /dev/full":
        assert done.returncode == 7 and done.stderr == "error: no space left on device\n  help: free some space\n"
    else:
        assert done.returncode == 0 and done.stderr == ""


@pytest.mark.parametrize("columns", ["0", "1"])
def test_a_terminal_without_columns_is_told_all_the_same(tmp_path: Path, columns: str) -> None:
    shutil.copytree(Path(__file__).parent / "old_runs" / "runs", tmp_path / "runs")
    for arguments in (["runs"], ["show", "last"]):
        shown, expected = (aecli(*arguments, cwd=tmp_path, COLUMNS=n, FORCE_COLOR="1") for n in (columns, str(NARROWEST)))
        assert shown.returncode == 0 and shown.stdout == expected.stdout and len(shown.stdout.split()) > 10


@pytest.mark.parametrize("width", [200, 100, 80, 60, 45])
def test_a_table_of_numbers_breaks_no_number_and_no_name(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    protocol = {"step": 1899, "split": "test", "binarize": "none", "version": VERSION}
    numbers = {
        name: Recorded(Metric(0.00725061, 0.00022, 297, unit, "lower", {"PCA 16": 0.0105441}, protocol), evaluator)
        for name, unit, evaluator in (
            ("mse", "intensity^2", "reconstruction"),
            ("explained_variance", "1", "reconstruction"),
            ("linear_probe_accuracy", "nats, of a density on [0, 1]", "representation"),
        )
    }
    monkeypatch.setattr(tables, "_console", lambda: Console(width=width))
    tables.show_metrics("run", numbers)
    told = capsys.readouterr().out
    table = told.splitlines()[2:]
    assert max(map(len, table)) <= width
    assert told.count("0.0072506") == told.count("0.00022") == 3 and all(name in told for name in numbers)
    assert told.count("reconstruction") == told.count("representation") == 1
    assert [text in told for text in ("0.010544", "model", "intensity^2")] == [width >= 60, width >= 80, width >= 200]


IDS = ("vq_digits-20261128-091853-703a", "a_config_with_quite_a_long_name-20261128-091909-31a1")


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_an_id_is_never_broken_in_a_comparison(columns: int) -> None:
    lines = tuple(Line("", name, (name, "0", "x" * 90)) for name in IDS)
    text = terminal([Block("runs", ("run", "seed", "note"), lines)], Notes(), columns)
    for name in IDS:
        assert text.count(name) >= 2
    assert "x" * 41 not in text and "…" in text, "other cells are cut"


def test_a_dumb_terminal_is_as_wide_as_it_says(tmp_path: Path) -> None:
    """rich takes it for one of 80 columns."""
    told = aecli("variants", cwd=tmp_path, COLUMNS="60", FORCE_COLOR="1", TERM="dumb", NO_COLOR="1").stdout
    assert max(cell_len(line) for line in told.splitlines() if "aecli variants" not in line) <= 60 and "\x1b" not in told
