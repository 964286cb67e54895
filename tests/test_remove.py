"""Runs are removed wholly, never while somebody holds them, and nothing else goes with them."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from made_runs import made
from process import called, environment, started, wait_for

from aecli.errors import RunError
from aecli.runs import directory
from aecli.runs.directory import Run
from aecli.system import files
from aecli.system.files import exclusive
from aecli.verbs import remove as removal
from aecli.verbs.remove import chosen, remove, sweep


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Run, Run]:
    return made(tmp_path / "runs", "one"), made(tmp_path / "runs", "two")


def left(root: Path) -> list[str]:
    return sorted(os.listdir(root))


def test_what_is_named_goes_and_the_rest_stays(pair: tuple[Run, Run], tmp_path: Path) -> None:
    first, second = pair
    done = called("rm", "one", first.id, "--yes", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == f"{first.id}\n" and "created, 5 files, 0 MB" in done.stderr
    assert left(tmp_path / "runs") == [second.id]
    third = made(tmp_path / "runs")
    assert called("rm", "last", "last~1", "-y", cwd=tmp_path).stdout.split() == [third.id, second.id]
    assert left(tmp_path / "runs") == []


def test_without_a_terminal_it_asks_for_yes(pair: tuple[Run, Run], tmp_path: Path) -> None:
    done = called("rm", pair[0].id, cwd=tmp_path)
    assert done.returncode == 2 and "--yes" in done.stderr and len(left(tmp_path / "runs")) == 2
    assert called("rm", pair[0].id, "nothing", "--yes", cwd=tmp_path).returncode == 4
    assert len(left(tmp_path / "runs")) == 2, "all names are looked at before the first goes"


@pytest.mark.parametrize(("answer", "goes"), [("y", True), ("YES", True), ("", False), ("n", False), ("\x04", False)])
def test_on_a_terminal_it_asks(pair: tuple[Run, Run], tmp_path: Path, answer: str, goes: bool) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "aecli", "rm", "one"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdin=theirs, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(ours, 1000)
    assert pair[0].id.encode() in shown and b"created" in shown
    os.write(ours, answer.encode() + b"\n" * (answer != "\x04"))
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0 and (out.decode() == f"{pair[0].id}\n") == goes
    assert (pair[0].id in left(tmp_path / "runs")) != goes


def test_a_run_that_somebody_holds_stays(pair: tuple[Run, Run], tmp_path: Path) -> None:
    first, second = pair
    with first.locked():
        done = called("rm", second.id, first.id, "--yes", cwd=tmp_path)
        assert done.returncode == 4 and f"is being trained by process {os.getpid()} on" in done.stderr
        with pytest.raises(RunError, match="being trained"):
            remove(first)
    with exclusive(first.path / "eval" / ".lock", "evaluates it", print):
        done = called("rm", second.id, first.id, "--yes", cwd=tmp_path)
        assert done.returncode == 4 and f"in use by process {os.getpid()}, which evaluates it" in done.stderr
        with pytest.raises(RunError, match="which evaluates it"):
            remove(first)  # who began while it was asked about
    assert left(tmp_path / "runs") == sorted([first.id, second.id])


def test_a_folder_that_is_called_as_an_age_is_not_what_it_means(pair: tuple[Run, Run], tmp_path: Path) -> None:
    for name in ("last", "last~1"):
        shutil.copytree(pair[0].path, tmp_path / "runs" / name)
    assert [going.run for going in chosen(tmp_path / "runs", ["last~1", "last"])] == [
        directory.find(tmp_path / "runs", name) for name in ("last~1", "last")
    ]


def test_nobody_begins_to_train_what_is_being_removed(
    pair: tuple[Run, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pair[0]
    said: list[str] = []

    def meanwhile(path: Path) -> None:
        with pytest.raises(RunError, match="has been removed"), first.locked():
            pass
        with pytest.raises(RunError, match=r"is held by process \d+ on .*, which removes it"), Run(path).locked():
            pass
        said.append(path.name)
        shutil.rmtree(path)

    monkeypatch.setattr(removal, "remove_tree", meanwhile)
    remove(first)
    assert len(said) == 1 and said[0].startswith(".removed-one-") and directory.every(tmp_path / "runs") == [pair[1]]


def test_who_waited_for_the_lock_of_a_removed_run_is_told(pair: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    first = pair[0]
    flock = files.fcntl.flock

    def late(file: object, how: int) -> None:
        flock(file, how)
        if first.path.exists():
            os.rename(first.path, first.path.with_name(".removed-x"))

    monkeypatch.setattr(files.fcntl, "flock", late)
    with pytest.raises(RunError, match="has been removed"), first.locked():
        pass


def test_a_kill_in_the_middle_leaves_no_half_and_the_next_sweeps(pair: tuple[Run, Run], tmp_path: Path) -> None:
    root, first = tmp_path / "runs", pair[0]
    for i in range(3000):
        (first.path / "samples" / str(i)).touch()
    with started("rm", "one", "--yes", cwd=tmp_path) as process:
        wait_for(lambda: not first.path.exists(), process)
        process.kill()
        process.wait()
    rest = [name for name in left(root) if name != pair[1].id]
    assert all(name.startswith(".removed-one-") for name in rest) and directory.every(root) == [pair[1]]
    (root / ".removed-one-made").mkdir()
    (root / ".removed-two").symlink_to(tmp_path)
    other = made(root)
    assert called("rm", other.id, "--yes", cwd=tmp_path).returncode == 0
    assert left(root) == sorted([".removed-two", pair[1].id]) and tmp_path.exists()


def test_what_cannot_be_swept_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".removed-x").mkdir()

    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(removal, "remove_tree", refused)
    said: list[str] = []
    sweep(tmp_path, said.append)
    sweep(tmp_path / "none", said.append)
    assert len(said) == 1 and ".removed-x" in said[0] and "permission denied" in said[0]


def test_links_are_not_followed(pair: tuple[Run, Run], tmp_path: Path) -> None:
    first, second = pair
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("x")
    (tmp_path / "runs" / "best").symlink_to(first.id)
    (tmp_path / "runs" / "elsewhere").symlink_to(outside)
    for name in ("best", "elsewhere"):
        done = called("rm", name, "--yes", cwd=tmp_path)
        assert done.returncode == 4 and "is a link" in done.stderr
    (second.path / "samples" / "link").symlink_to(outside)
    (second.path / "folder").symlink_to(outside)
    assert called("rm", second.id, "--yes", cwd=tmp_path).returncode == 0
    assert (outside / "file").read_text() == "x" and first.path.is_dir() and not second.path.exists()
    for name in ("..", ".", "../outside", str(outside), ".removed-x"):
        assert called("rm", name, "--yes", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize("damage", ["run.json", "lock", "name", "hard link"])
def test_a_run_that_no_verb_takes_goes_by_its_whole_id(pair: tuple[Run, Run], tmp_path: Path, damage: str) -> None:
    first, name = pair[0], pair[0].id
    if damage == "run.json":
        (first.path / "run.json").write_text("{")
    elif damage == "lock":
        (first.path / ".lock").unlink()
        os.mkfifo(first.path / ".lock")
    elif damage == "hard link":
        os.link(first.path / ".lock", tmp_path / "second")
    else:
        name = "обучение (copy)"
        os.rename(first.path, first.path.with_name(name))
    [going] = chosen(tmp_path / "runs", [name])
    assert going.state == ("created" if damage == "hard link" else "unreadable")
    done = called("rm", name, "--yes", cwd=tmp_path)
    assert done.returncode == 0 and left(tmp_path / "runs") == [pair[1].id], done.stderr


def test_a_run_that_goes_meanwhile_is_told(pair: tuple[Run, Run]) -> None:
    shutil.rmtree(pair[0].path)
    with pytest.raises(RunError, match="has been removed"):
        remove(pair[0])
