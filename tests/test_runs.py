"""Run directories: names that cannot escape, states that cannot lie, and many at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from made_runs import DATA
from process import called

from aecli.errors import RunError, UsageError
from aecli.runs import directory, parts


def make(root: Path, name: str = "test") -> directory.Run:
    return directory.create(root, name, "a: 1\n", "a: 1\n", {"variant": "vae", "parameters": 0, "data": DATA})


def row(step: int) -> dict[str, Any]:
    return {"split": "train", "step": step, "epoch": 0.5, "loss": 1.5}


def test_an_id_is_name_time_and_four_hex_digits(tmp_path: Path) -> None:
    run = make(tmp_path, "my config/../é[x]")
    assert directory._ID.match(run.id) and run.id.startswith("my-config-..-x-2")
    assert {p.name for p in run.path.iterdir()} >= {
        "run.json",
        "config.yaml",
        "config.resolved.yaml",
        "state.json",
        ".lock",
        "checkpoints",
    }
    assert run.state() == "created"


def test_fifty_runs_made_at_once_are_fifty(tmp_path: Path) -> None:
    with ThreadPoolExecutor(50) as pool:
        made = list(pool.map(lambda i: make(tmp_path), range(50)))
    assert len({run.id for run in made}) == 50 == len(directory.every(tmp_path))


def test_a_run_is_found_by_id_by_a_unique_start_and_as_the_last(tmp_path: Path) -> None:
    first = make(tmp_path, "alpha")
    second = make(tmp_path, "beta")
    assert directory.find(tmp_path, first.id) == first == directory.find(tmp_path, "alpha")
    assert directory.find(tmp_path, "last") == second
    third = make(tmp_path, "beta")
    with pytest.raises(RunError, match="the start of 2 run ids"):
        directory.find(tmp_path, "beta")
    assert directory.find(tmp_path, third.id) == third
    with pytest.raises(RunError, match="no run 'gamma'"):
        directory.find(tmp_path, "gamma")
    with pytest.raises(RunError, match="no runs in"):
        directory.find(tmp_path / "empty", "last")


def test_a_run_is_found_by_its_end_and_by_how_many_are_newer(tmp_path: Path) -> None:
    made = [make(tmp_path, name) for name in ("alpha", "beta", "gamma")]
    for number, run in enumerate(reversed(made)):
        assert directory.find(tmp_path, f"last~{number}") == run
        assert directory.find(tmp_path, run.id[1:]) == run, "all but the first letter"
    assert directory.find(tmp_path, "last~0") == directory.find(tmp_path, "last")
    for name in ("last~3", "last~999999999"):
        with pytest.raises(RunError, match=f"there is no run '{name}' in .*: there are 3"):
            directory.find(tmp_path, name)
    for name in ("last~", "last~-1", "last~x", "last~1 ", "last~٣", "last~9999999999", "last~1~1"):
        with pytest.raises(UsageError, match="is no run id"):
            directory.find(tmp_path, name)
    with pytest.raises(RunError, match="there are no runs in"):
        directory.find(tmp_path / "none", "last~1")


def test_an_end_names_one_run_or_all_that_it_may_be_are_told(tmp_path: Path) -> None:
    first, second, third = (make(tmp_path) for _ in range(3))
    for run, name in ((first, "one-beef"), (second, "two-beef"), (third, "beef-three")):
        os.rename(run.path, tmp_path / name)
    assert directory.find(tmp_path, "one-beef") == directory.find(tmp_path, "e-beef")
    with pytest.raises(RunError, match=r"'beef' is the start or end of 3 run ids: beef-three, one-beef, two-beef") as caught:
        directory.find(tmp_path, "beef")
    assert caught.value.help == "give more of the id"
    with pytest.raises(RunError, match="there is no run 'eef'"):
        directory.find(tmp_path, "eef")
    shutil.rmtree(tmp_path / "beef-three")
    with pytest.raises(RunError, match="'beef' is the end of 2 run ids"):
        directory.find(tmp_path, "beef")


@pytest.mark.parametrize("name", ["../x", "/etc", "a/b", "..", ".", "", "-x", "a\n", "x" * 101, "~root", "[bold]", "a\0b"])
def test_what_can_be_no_id_is_refused(tmp_path: Path, name: str) -> None:
    make(tmp_path)
    with pytest.raises(UsageError):
        directory.find(tmp_path, name)


def test_a_symlink_is_no_run(tmp_path: Path) -> None:
    run = make(tmp_path / "elsewhere")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "link").symlink_to(run.path)
    assert directory.every(tmp_path / "runs") == []
    with pytest.raises(RunError):
        directory.find(tmp_path / "runs", "link")


def test_a_folder_whose_making_was_cut_is_no_run(tmp_path: Path) -> None:
    run = make(tmp_path)
    (run.path / "run.json").unlink()
    (tmp_path / "stray.txt").write_text("x")
    other = make(tmp_path)
    assert directory.every(tmp_path) == [other]


def test_running_without_a_holder_is_crashed(tmp_path: Path) -> None:
    run = make(tmp_path)
    with run.locked():
        run.set_state("running", step=3)
        assert run.is_locked() and run.state() == "running"
    assert not run.is_locked() and run.state() == "crashed"
    assert run.recorded().state == "running" and run.recorded().step == 3
    run.set_state("completed")
    assert run.state() == "completed" and run.recorded().step == 3


def _hold(path: Path, ready: str) -> None:
    with directory.Run(path).locked():
        Path(ready).touch()
        time.sleep(30)


def test_a_second_holder_is_told_who_has_it_and_a_kill_frees_it(tmp_path: Path) -> None:
    run, ready = make(tmp_path), tmp_path / "ready"
    process = multiprocessing.get_context("spawn").Process(target=_hold, args=(run.path, str(ready)))
    process.start()
    while not ready.exists():
        time.sleep(0.01)
    with pytest.raises(RunError, match=f"process {process.pid} on "), run.locked():
        pass
    process.kill()
    process.join()
    with run.locked():
        assert str(os.getpid()) in (run.path / ".lock").read_text()


def test_metrics_past_a_checkpoint_are_moved_aside(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.append_metrics(row(1))
    offset = run.metrics_size()
    run.append_metrics(row(2))
    run.append_metrics(row(3))
    run.cut_metrics(offset)
    assert [each.step for each in run.rows()] == [1]
    assert (run.path / "metrics.discarded.jsonl").read_text() == f"{json.dumps(row(2))}\n{json.dumps(row(3))}\n"
    run.cut_metrics(offset)
    assert [each.step for each in run.rows()] == [1]


def test_metrics_larger_than_any_are_not_copied(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.append_metrics(row(1))
    offset = run.metrics_size()
    os.truncate(run.metrics, offset + directory.MOST_METRICS + 1)
    with pytest.raises(RunError, match="after those that its checkpoint knows") as caught:
        run.cut_metrics(offset)
    assert f"truncate -s {offset} " in str(caught.value.help) and not (run.path / "metrics.discarded.jsonl").exists()
    assert run.last_rows() == ({}, 1)


def test_the_last_row_of_each_split_is_found_without_holding_all(tmp_path: Path) -> None:
    import tracemalloc

    run = make(tmp_path)
    lines = "".join(json.dumps({**row(step), "split": "validation" if step % 10 else "train"}) + "\n" for step in range(10_000))
    run.metrics.write_text("{\n" + lines + "x" * (directory.MOST_LINE + 10) + "\n\n{")
    tracemalloc.start()
    last, damaged = run.last_rows()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {split: each.step for split, each in last.items()} == {"train": 9990, "validation": 9999} and damaged == 2
    assert most < 5 * directory.MOST_LINE
    assert len(run.rows()) == 10_000


def test_metrics_are_on_the_disk_up_to_the_offset_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint counts on them: a resume keeps that many bytes."""
    run, synced, fsync = make(tmp_path), [], os.fsync

    def noted(handle: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{handle}"), os.fstat(handle).st_size))
        fsync(handle)

    monkeypatch.setattr(directory.os, "fsync", noted)
    run.append_metrics(row(1))
    assert (str(run.metrics.resolve()), run.metrics_size()) in synced


def test_a_row_that_a_kill_cut_short_is_not_read(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.append_metrics(row(1))
    with run.metrics.open("ab") as file:
        file.write(b'{"step": 2, "lo')
    assert [each.step for each in run.rows()] == [1]
    with pytest.raises(ValueError, match="JSON"):
        run.append_metrics({"loss": float("nan")})


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\xff", "[" * 200_000, '{"schema": 1, "state": "done", "step": 3}'])
def test_a_damaged_record_of_the_state_is_told_and_made_anew(tmp_path: Path, content: str) -> None:
    run, said = make(tmp_path), []
    run.set_state("completed", step=3)
    (run.path / "state.json").write_bytes(content.encode("latin1"))
    assert run.state() == "crashed" and run.recorded().step == 0, "no checkpoint tells of more"
    assert "state.json cannot be read" in directory.run_facts(run)["note"]
    run.mend(said.append)
    assert len(said) == 1 and run.look()[1] is None
    assert (run.path / "state.json.damaged").read_bytes() == content.encode("latin1")
    run.mend(said.append)
    assert len(said) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\xff", '{"schema": 1}', '{"schema": 2}'])
def test_a_run_without_a_readable_start_is_listed_and_never_used(tmp_path: Path, content: str) -> None:
    run, other = make(tmp_path), make(tmp_path)
    (run.path / "run.json").write_bytes(content.encode("latin1"))
    assert directory.every(tmp_path) == [run, other] and directory.find(tmp_path, "last") == other
    facts = directory.run_facts(run)
    assert facts["state"] == "unreadable" and facts["note"].startswith(f"run.json of run {run.id} cannot be read: ")
    with pytest.raises(RunError, match=r"run\.json"):
        directory.find(tmp_path, run.id)


def test_a_row_after_a_cut_line_is_a_row(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.append_metrics(row(1))
    with run.metrics.open("ab") as file:
        file.write(b'{"step": 2, "lo')
    run.append_metrics(row(3))
    rows, damaged = run.read_rows()
    assert [each.step for each in rows] == [1, 3] and damaged == 1


def test_order_is_by_creation_not_by_name(tmp_path: Path) -> None:
    made = [make(tmp_path, name) for name in ("zeta", "beta", "alpha")]
    assert directory.every(tmp_path) == made
    info = json.loads((made[0].path / "run.json").read_text())
    (made[0].path / "run.json").write_text(json.dumps({**info, "created": "2999-01-01T00:00:00+00:00"}))
    assert directory.find(tmp_path, "last") == made[0]


def test_a_run_that_is_being_saved_or_cannot_be_entered_spoils_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, other = make(tmp_path), make(tmp_path)
    scandir = os.scandir

    def gone(path: Any) -> Any:
        if Path(path).name == "samples":
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return scandir(path)

    monkeypatch.setattr(parts.os, "scandir", gone)
    assert directory.run_facts(run)["state"] == "created", "a folder that went while it was looked for"

    def closed(self: directory.Run) -> Any:
        if self == run:
            raise PermissionError(13, "Permission denied", str(self.path))
        return info(self)

    info = directory.Run.info
    monkeypatch.setattr(directory.Run, "info", closed)
    assert directory.every(tmp_path) == [run, other]
    assert directory.run_facts(run)["note"].startswith("permission denied")


def test_a_row_that_does_not_fit_on_the_disk_is_an_error(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.append_metrics(row(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (run.metrics_size() + 20, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            run.append_metrics(row(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_circle_of_links_and_a_link_to_nothing_are_told(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "gone").symlink_to("nothing")
    for name in ("circle", "gone"):
        with pytest.raises(RunError, match=f"{name} is a link that leads nowhere"):
            directory.find(tmp_path, name)


@pytest.mark.parametrize("arguments", [["runs"], ["show", "last"], ["show", "x"], ["train", "--resume", "last"]])
@pytest.mark.parametrize("kind", ["file", "circle", "closed"])
def test_a_place_of_runs_that_is_no_folder_is_exit_7_with_its_path(tmp_path: Path, kind: str, arguments: list[str]) -> None:
    place = tmp_path / "place"
    if kind == "file":
        place.write_text("x")
    elif kind == "circle":
        place.symlink_to("place")
    else:
        if os.getuid() == 0:
            pytest.skip("root may read anywhere")
        place.mkdir(0o000)
    ended = called(*arguments, "--runs-dir", place, cwd=tmp_path)
    assert ended.returncode == 7 and str(place) in ended.stderr, ended.stderr


def test_the_last_is_the_newest_whatever_is_called_so(tmp_path: Path) -> None:
    first, second = make(tmp_path), make(tmp_path)
    (tmp_path / "last").mkdir()
    assert directory.find(tmp_path, "last") == second
    (tmp_path / "last").rmdir()
    (tmp_path / "last").symlink_to(first.id)
    assert directory.find(tmp_path, "last") == second


@pytest.mark.parametrize("name", ["tiny (copy)", "обучение", "-x", "x" * 101, "a\nb", os.fsdecode(b"\xff")])
def test_a_run_under_a_name_that_is_no_id_is_listed_with_the_reason(tmp_path: Path, name: str) -> None:
    run = make(tmp_path)
    os.rename(run.path, tmp_path / name)
    [facts] = [directory.run_facts(run) for run in directory.every(tmp_path)]
    assert facts["id"] == name and facts["state"] == "unreadable" and "rename the folder" in facts["note"]
    with pytest.raises(UsageError) as caught:
        directory.find(tmp_path, name)
    assert caught.value.help is not None and caught.value.help.endswith("rename the folder")


def test_a_copy_under_a_name_that_can_be_no_id_is_listed_and_not_meant(tmp_path: Path) -> None:
    run = make(tmp_path)
    shutil.copytree(run.path, tmp_path / f"{run.id} (copy)")
    assert directory.find(tmp_path, "last") == run and directory.find(tmp_path, run.id[:5]) == run
    assert len(directory.every(tmp_path)) == 2
    with pytest.raises(UsageError, match="is no run id"):
        directory.find(tmp_path, "x" * 300)
