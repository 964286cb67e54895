"""What `aecli check` finds, as text, JSON and annotations of GitHub, and the resolved config that it prints."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from cases import CASES
from process import TINY, called

from aecli.cli.checking import annotation, diagnostics
from aecli.config.load import load, parse
from aecli.errors import DataError, Diagnostic, VariantError

ROOT = Path(__file__).parent.parent
BAD = "data: {name: digits}\nmodel: {variant: vae, latnet: 3,\n  beta: -1}\ntrain: {steps: 1}\n"
COMMAND = re.compile(r"::error (?P<properties>[^:]*)::(?P<message>.*)")


def read(line: str) -> dict[str, str]:
    """A workflow command as GitHub's runner takes it apart."""
    found = COMMAND.fullmatch(line)
    assert found, line
    pairs = [pair.split("=", 1) for pair in found["properties"].split(",")]
    return {key: unquote(value) for key, value in pairs} | {"message": unquote(found["message"])}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("formats")
    (folder / "bad.yaml").write_text(BAD)
    (folder / "tiny.yaml").write_text(TINY)
    return folder


def test_the_three_formats_tell_the_same_mistakes_at_the_same_places(place: Path) -> None:
    arguments = ("check", "bad.yaml", "tiny.yaml", "nowhere.yaml")
    text = called(*arguments, cwd=place)
    told = called(*arguments, "--format", "json", cwd=place)
    annotated = called(*arguments, "--format", "github", cwd=place)
    assert text.returncode == told.returncode == annotated.returncode == 2
    bad, tiny, nowhere = json.loads(told.stdout)
    assert [each["ok"] for each in (bad, tiny, nowhere)] == [False, True, False]
    assert (tiny["code"], tiny["errors"], tiny["variant"]) == (0, [], "vae") and "resolved" not in tiny
    commands = [read(line) for line in annotated.stdout.splitlines() if line.startswith("::")]
    errors = [*bad["errors"], *nowhere["errors"]]
    assert [(each["line"], each["column"], each["rule"]) for each in errors] == [
        (2, 23, "unknown-key"),
        (3, 9, "bad-value"),
        (None, None, "no-such-file"),
    ]
    for error, command in zip(errors, commands, strict=True):
        assert command["title"] == error["rule"] and command["file"] == error["file"]
        assert command.get("line") == (str(error["line"]) if error["line"] else None)
        assert error["message"] in command["message"] and f"error[{error['rule']}]: {error['message']}" in text.stderr
    assert commands[0]["endColumn"] == "29" and "did you mean 'latent'?\nhelp: allowed: variant," in commands[0]["message"]
    for done in (text, annotated):
        assert f"tiny.yaml: ok (vae, {tiny['told']})" in done.stdout.splitlines()


def test_what_would_end_a_command_is_encoded() -> None:
    hostile = Diagnostic("a,b:c%.yaml", 3, 4, "odd,rule", "50 % of\n::error file=x::no\r\x1b[2J", width=0)
    line = annotation(hostile)
    assert "\n" not in line and "\r" not in line and "\x1b" not in line
    command = read(line)
    assert (command["file"], command["title"]) == ("a,b:c%.yaml", "odd,rule") and command["endColumn"] == "5"
    assert command["message"] == "50 % of\n::error file=x::no\\u000d\\u001b[2J"


def test_a_mistake_in_a_flag_is_told_at_the_config(place: Path) -> None:
    arguments = ("check", "tiny.yaml", "--set", "model.latnet=3", "--format")
    command = read(called(*arguments, "github", cwd=place).stdout.strip())
    assert command["file"] == "tiny.yaml" and "line" not in command and "--set model.latnet=3: 'latnet'" in command["message"]
    (told,) = json.loads(called(*arguments, "json", cwd=place).stdout)
    assert told["errors"][0]["file"] == "tiny.yaml"


def test_an_error_that_is_no_mistake_of_the_config_has_its_own_place() -> None:
    (found,) = diagnostics("my.yaml", VariantError("aecli.models.mine", 7, "no Model", "one Model a file", "write one"))
    assert (found.file, found.line, found.label, found.help) == ("aecli/models/mine.py", 7, "one Model a file", "write one")
    (found,) = diagnostics("my.yaml", DataError("no images", "put some there"))
    assert (found.file, found.line, found.rule, found.help) == ("my.yaml", 0, "data", "put some there")
    assert "line=" not in annotation(found)


CONFIGS = sorted((ROOT / "configs").glob("**/*.yaml"))


def resolved(text: str) -> Any:
    return parse(text, "config").experiment


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_resolved_config_is_the_same_experiment(case: Any) -> None:
    config = parse(f"data: {{name: digits}}\nmodel: {{{case.text}}}\ntrain: {{steps: 3}}\n", case.name)
    assert (
        resolved(config.resolved()) == config.experiment
        and resolved(config.resolved()).model_dump() == config.experiment.model_dump()
    )


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_resolves_to_itself(path: Path) -> None:
    assert resolved(load(path).resolved()) == load(path).experiment


def test_print_has_the_configs_alone_on_stdout(place: Path) -> None:
    done = called("check", "--print", "--set", "model.latent=5", "tiny.yaml", "bad.yaml", cwd=place)
    assert done.returncode == 2
    (printed,) = yaml.safe_load_all(done.stdout)
    assert printed["model"]["latent"] == 5 and printed["optimizer"]["name"] == "adam"
    assert "tiny.yaml: ok" in done.stderr and "unknown-key" in done.stderr
    (place / "again.yaml").write_text(done.stdout)
    told = json.loads(called("check", "--print", "--format", "json", "again.yaml", cwd=place).stdout)
    assert told[0]["resolved"] == printed
