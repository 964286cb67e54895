"""Tags and notes: kept beside the run, whoever else writes, and shown as text whatever they hold."""

from __future__ import annotations

import contextlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from damage import HOSTILE
from made_runs import made
from process import aecli, called, started

from aecli.errors import RunError, UsageError
from aecli.runs import directory, labels
from aecli.runs.directory import Run
from aecli.runs.records import MOST_NOTE, MOST_TAGS
from aecli.verbs.labels import note, parse_changes, tag


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return made(tmp_path / "runs")


def kept(run: Run) -> list[str]:
    return labels.look(run)[0].tags


def test_tags_are_added_and_removed_in_order(run: Run, tmp_path: Path) -> None:
    before = (run.path / "run.json").read_bytes()
    for given, now in (
        (["paper", "+old", "x.1_-"], "paper old x.1_-"),
        (["-old", "+new", "+paper"], "paper x.1_- new"),
        (["-path", "-hot", "-debug"], "paper x.1_- new"),
        ([], "paper x.1_- new"),
        (["-paper", "-x.1_-", "-new"], ""),
    ):
        done = called("tag", "last", *given, cwd=tmp_path)
        assert done.returncode == 0 and done.stdout.strip() == now == " ".join(kept(run)), done.stderr
    assert (run.path / "run.json").read_bytes() == before
    assert "has no tag 'none'" in called("tag", "last", "-none", "--runs-dir", "runs", cwd=tmp_path).stderr


@pytest.mark.parametrize("text", ["", "+", "-", "a b", "é", "x" * 51, "--x", "++x", "+-x", "a/b", "a\n", HOSTILE])
def test_what_is_no_tag_is_refused(run: Run, text: str) -> None:
    with pytest.raises(UsageError, match="is no tag"):
        parse_changes([text])


def test_a_tag_is_not_added_and_removed(run: Run, tmp_path: Path) -> None:
    assert called("tag", "last", "+x", "-x", cwd=tmp_path).returncode == 2 and not (run.path / "labels.json").exists()
    many = [f"t{i}" for i in range(MOST_TAGS)]
    tag(run, many, [], print)
    with pytest.raises(UsageError, match="101 tags"):
        tag(run, ["more"], [], print)
    assert kept(run) == many and tag(run, ["more"], ["t0"], print) == [*many[1:], "more"]


def test_a_note_is_replaced_printed_and_removed(run: Run, tmp_path: Path) -> None:
    assert called("note", "last", cwd=tmp_path).stdout == ""
    for text in ("better than before", "two\nlines", "- with a dash", "é 狐"):
        assert called("note", "last", "--", text, cwd=tmp_path).returncode == 0
        assert called("note", "last", cwd=tmp_path).stdout == text + "\n"
    tag(run, ["kept"], [], print)
    assert called("note", "last", "--clear", cwd=tmp_path).returncode == 0
    assert called("note", "last", cwd=tmp_path).stdout == "" and kept(run) == ["kept"]
    for wrong in (["x", "--clear"], [" "], ["x" * (MOST_NOTE + 1)]):
        assert called("note", "last", *wrong, cwd=tmp_path).returncode == 2


def test_runs_and_show_tell_them(run: Run, tmp_path: Path) -> None:
    other = made(tmp_path / "runs")
    tag(run, ["paper", "best-of-3"], [], print)
    note(run, "the first\nof many", print)
    shown = called("show", run.id, cwd=tmp_path).stdout
    assert "tags       paper best-of-3" in shown and "note       the first\n           of many" in shown
    facts = json.loads(called("show", run.id, "--json", cwd=tmp_path).stdout)
    assert (facts["tags"], facts["note"], facts["damage"]) == (["paper", "best-of-3"], "the first\nof many", None)
    for where, expected in (("tags=paper", [run.id]), ("tags!=paper", [other.id]), ("note=null", [other.id]), ("tags=pap", [])):
        listed = json.loads(called("runs", "--where", where, "--json", cwd=tmp_path).stdout)
        assert [fact["id"] for fact in listed] == expected
    assert "paper best-of-3" in called("runs", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", '{"schema": 1, "tags": "x"}', '{"schema": 1, "tags": ["\\u001b[2J"]}', '{"schema": 2}', "[" * 9999),
        json.dumps({"schema": 1, "tags": ["x"] * (MOST_TAGS + 1)}),
        json.dumps({"schema": 1, "note": "x" * (MOST_NOTE + 1)}),
    ],
)
def test_damaged_labels_are_told_and_set_aside(run: Run, tmp_path: Path, content: str) -> None:
    (run.path / "labels.json").write_text(content)
    for arguments in (["tag", "last"], ["note", "last"], ["runs"]):
        done = called(*arguments, cwd=tmp_path)
        assert done.returncode == 0 and "labels.json cannot be read" in done.stderr
    assert "labels.json cannot be read" in called("show", "last", cwd=tmp_path).stdout
    done = called("tag", "last", "+new", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == "new\n" and "set aside as labels.json.damaged" in done.stderr
    assert (run.path / "labels.json.damaged").read_text() == content and labels.look(run)[1] is None


def test_hostile_notes_are_text(run: Run, tmp_path: Path) -> None:
    assert called("note", "last", HOSTILE, cwd=tmp_path).returncode == 0
    assert labels.look(run)[0].note == HOSTILE
    for arguments in (["note", "last"], ["show", "last"], ["show", "last", "--json"], ["runs", "--columns", "note"]):
        for form in ("table", "csv", "json") if arguments[0] == "runs" else ("",):
            done = called(*arguments, *(["--format", form] if form else []), cwd=tmp_path)
            assert done.returncode == 0 and all(line.isprintable() for line in (done.stdout + done.stderr).split("\n"))
            assert "\\u001b" in done.stdout


@pytest.mark.parametrize("name", ["labels.json", ".labels.lock"])
def test_labels_of_a_stranger_lead_nowhere(run: Run, tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("{}")
    (run.path / name).symlink_to(victim)
    with pytest.raises(RunError, match=f"{name} of run .* is a link"):
        directory.find(run.path.parent, run.id)
    (run.path / name).unlink()
    os.mkfifo(run.path / name)
    assert called("tag", "last", "+x", cwd=tmp_path).returncode == 4
    (run.path / name).unlink()
    (run.path / name).mkdir()
    done = called("tag", "last", "+x", cwd=tmp_path)
    assert (done.returncode == 7) == (name == ".labels.lock") and "is a folder" in done.stderr
    assert victim.read_text() == "{}"


def test_what_a_newer_version_added_stays(run: Run) -> None:
    (run.path / "labels.json").write_text('{"schema": 1, "colour": "red", "tags": ["a"]}')
    tag(run, ["b"], [], print)
    assert json.loads((run.path / "labels.json").read_text()) == {"schema": 1, "colour": "red", "tags": ["a", "b"]}


def test_many_at_once_lose_nothing(run: Run) -> None:
    names = [f"t{i}" for i in range(40)]
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda name: tag(run, [name], [], print), names))
    assert sorted(kept(run)) == sorted(names)


def test_two_processes_lose_nothing_and_wait_for_each_other(run: Run, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        with labels.changing(run, print) as before:
            process = stack.enter_context(started("tag", "last", "+theirs", cwd=tmp_path))
            assert process.stderr is not None
            assert process.stderr.readline() == f"waiting for process {os.getpid()}, which labels {run.id}\n"
            labels.write(run, before, tags=["ours"])
        assert process.wait(60) == 0
    assert kept(run) == ["ours", "theirs"]


def test_a_run_that_is_held_for_training_can_be_labelled(run: Run, tmp_path: Path) -> None:
    with run.locked():
        run.set_state("running", step=3)
        assert aecli("tag", "last", "+now", cwd=tmp_path).returncode == 0
        assert called("note", "last", "goes well", cwd=tmp_path).returncode == 0
    assert kept(run) == ["now"] and run.recorded().step == 3
