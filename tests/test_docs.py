"""Every block of code in README.md and docs/ does what it says: shell and Python are run, a file's blocks one after another in a
folder of their own, YAML is read as a config. A comment `<!-- not run: why -->` before a block that takes minutes or a network
keeps it from being run; it is looked at all the same, and a tenth of the blocks at most are such."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
import yaml
from process import environment

from aecli.cli.app import app
from aecli.config.load import load, parse

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]  # not what `make docs` has made
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<why>[^\n]+) -->\n+)?^ *```(?P<language>\w*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"\]\((?![a-z]+:)([^)#\s]*)(?:#([^)\s]*))?\)")
SHELL, PYTHON, YAML = "sh", "python", "yaml"
REST = {"data": {"name": "digits"}, "model": {"variant": "bottleneck"}, "train": {"steps": 1}}
"""What a block of YAML that shows a part of a config leaves out."""


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    text: str
    why: str | None

    @property
    def id(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("text"))
        yield Block(page, line, found["language"], textwrap.dedent(found["text"]), found["why"])


EVERY = [block for page in PAGES for block in blocks(page)]
CODE = [block for block in EVERY if block.language]
COMMANDS = typer.main.get_command(app)


def verbs() -> dict[str, Any]:
    """Every verb with its command, those of `data` by both words."""
    found: dict[str, Any] = {}
    for name, command in COMMANDS.commands.items():  # type: ignore[attr-defined]
        found[name] = command
        found |= {f"{name} {inner}": each for inner, each in getattr(command, "commands", {}).items()}
    return found


VERBS = verbs()


def mistakes(words: list[str]) -> list[str]:
    """What is wrong with a command line, `aecli` left out, as far as can be told without running it."""
    words = [word for word in words if word != "--debug"]
    if not words or words[0].startswith("-"):
        return [] if words in ([], ["--help"], ["--version"], ["-h"]) else [f"no flag {words[0]}"]
    verb = " ".join(words[:2]) if " ".join(words[:2]) in VERBS else words[0]
    if verb not in VERBS:
        return [f"no verb {verb}"]
    flags = {flag for parameter in VERBS[verb].params for flag in (*parameter.opts, *parameter.secondary_opts)} | {"--help", "-h"}
    given = [word.partition("=")[0] for word in words[1:] if re.match(r"-[a-z]$|--[a-z]", word)]
    return [f"{verb} has no {flag}" for flag in given if flag not in flags]


def command_lines(text: str) -> Iterator[list[str]]:
    """The words after each `aecli` of a shell script, up to what ends a command."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        lexer = shlex.shlex(line.replace("$(", " ( "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] | None = None
        for word in (*lexer, ";"):
            if re.fullmatch(r"[();<>|&]+", word):
                if words is not None:
                    yield words
                words = None
            elif words is not None:
                words.append(word)
            elif word == "aecli":
                words = []


def test_no_block_is_of_a_language_that_nobody_looks_at() -> None:
    assert {block.language for block in CODE} <= {SHELL, PYTHON, YAML}


def test_no_command_stands_in_a_block_that_nobody_runs() -> None:
    """A block without a language is what a program printed, commands in it with a prompt."""
    assert not [block.id for block in EVERY if not block.language and re.search(r"^(aecli|make|python) ", block.text, re.M)]


def test_a_tenth_of_the_blocks_at_most_is_not_run() -> None:
    left_out = [block.id for block in CODE if block.why is not None]
    assert 10 * len(left_out) <= len(CODE), left_out


@pytest.mark.parametrize("block", [block for block in CODE if block.language == SHELL], ids=lambda block: block.id)
def test_the_verbs_and_flags_of_a_block_are_there(block: Block) -> None:
    lines = list(command_lines(block.text))
    assert not [wrong for words in lines for wrong in mistakes(words)]
    for path in {word for words in lines for word in words if word.startswith("configs/")}:
        load(ROOT / path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_verbs_and_flags_that_are_told_in_passing_are_there(page: Path) -> None:
    text = BLOCK.sub("", page.read_text())
    told = [code for code in re.findall(r"`([^`\n]+)`", text) if code.startswith("aecli ")]
    wrong: dict[str, list[str]] = {}
    for code in told:
        words = re.sub(r"[\[\]()…]|\.\.\.", " ", code).replace("|", " ").split()[1:]
        if found := mistakes(words):
            wrong[code] = found
    assert not wrong


@pytest.mark.parametrize("block", [block for block in CODE if block.language == YAML], ids=lambda block: block.id)
def test_a_config_is_one(block: Block) -> None:
    said = yaml.safe_load(block.text)
    if "config" in said:  # a sweep's file, which the commands beside it read
        return
    if "jobs" in said:  # a workflow
        scripts = [step["run"] for job in said["jobs"].values() for step in job["steps"] if "run" in step]
        assert not [wrong for script in scripts for words in command_lines(script) for wrong in mistakes(words)]
        return
    parse(yaml.safe_dump({**REST, **said}), block.id)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_a_link_leads_to_a_file_and_to_a_heading_of_it(page: Path) -> None:
    wrong: list[str] = []
    for target, place in LINK.findall(page.read_text()):
        path = (page.parent / target) if target else page
        if not path.is_file() or (place and place not in headings(path.read_text())):
            wrong.append(f"{target}#{place}")
    assert not wrong


def headings(text: str) -> set[str]:
    """As links name them: in small letters, with hyphens for spaces."""
    every = re.findall(r"^#+ (.+)$", BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in every}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that looks like a clone whose environment has been set up."""
    for name, target in (("configs", ROOT / "configs"), (".venv", Path(sys.prefix)), ("docs", ROOT / "docs")):
        (tmp_path / name).symlink_to(target)
    return tmp_path


def is_run(block: Block) -> bool:
    return block.language in (SHELL, PYTHON) and block.why is None


@pytest.mark.parametrize("page", sorted({block.page for block in CODE if is_run(block)}), ids=lambda page: page.name)
def test_the_blocks_of_a_page_run_as_they_stand(page: Path, place: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for language, some in groupby(
        (block for block in CODE if block.page == page and is_run(block)), lambda block: block.language
    ):
        group = list(some)
        text = "\n".join(block.text for block in group)
        command = ["bash", "-e", "-o", "pipefail", "-c", text] if language == SHELL else [sys.executable, "-c", text]
        done = subprocess.run(
            command, cwd=place, env=environment(PATH=path, PYTHONPATH=str(ROOT)), capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, f"{group[0].id} and on: {done.stderr[-3000:]}"
