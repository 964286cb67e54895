"""Sweeps end as single runs would, to the bit, whatever is done to them on the way; and what cannot go on is told, not
repeated."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import DATA
from process import TINY, aecli, called, environment, started, wait_for

from aecli import api
from aecli.config import yamlfile
from aecli.errors import AecliError, ConfigError, DataError, DivergedError, RunError, StorageError, UsageError
from aecli.runs import commits, directory, numbers
from aecli.runs.directory import Run
from aecli.sweeps import flow, folder, states, worker
from aecli.sweeps.asked import from_flags
from aecli.sweeps.choice import choose
from aecli.sweeps.draft import config_hash, draft
from aecli.sweeps.flow import Done, Watch
from aecli.sweeps.folder import Sweep
from aecli.sweeps.holding import Held
from aecli.sweeps.local import Ended, Running, Workers
from aecli.sweeps.states import State
from aecli.sweeps.worker import Outcome
from aecli.system.signals import SIGNALS

CONFIG = TINY.replace("steps: 40", "steps: 1000").replace("checkpoint_every: 10", "checkpoint_every: 50")
CONFIG = CONFIG.replace("log_every: 10", "log_every: 100, eval_every: 10")
FLAGS = ["--grid", "model.beta=1,4", "--seeds", "2", "--jobs", "2", "--eval", "--only", "objective"]


def digests(run: Run) -> dict[str, str]:
    """The SHA-256 of every array of a run's last state."""
    return {leaf.path: leaf.sha256 for leaf in commits.read(run.checkpoints, commits.steps(run.checkpoints)[-1]).leaves}


def by_cell(home: Path) -> dict[int, list[Run]]:
    """The runs that say of which cell they are."""
    found: dict[int, list[Run]] = {}
    for run in directory.every(home / "runs"):
        origin = run.info().sweep
        assert origin is not None
        found.setdefault(origin.cell, []).append(run)
    return found


def only_sweep(home: Path) -> Sweep:
    return folder.find(home / "runs", "last")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep that nothing disturbed."""
    home = tmp_path_factory.mktemp("whole")
    (home / "c.yaml").write_text(CONFIG)
    done = aecli("sweep", "c.yaml", *FLAGS, "--json", cwd=home)
    assert done.returncode == 0, done.stderr
    (home / "told.json").write_text(done.stdout)
    return home


def test_a_cell_is_the_run_that_train_makes_of_the_same_flags_to_the_bit(whole: Path, tmp_path: Path) -> None:
    (run,) = by_cell(whole)[4]
    info = run.info()
    assert info.overrides == ["train.threads=1", "model.beta=4", "seed=1"] or os.cpu_count() != 2
    assert info.threads == max(1, len(os.sched_getaffinity(0)) // 2)
    command = info.command[1:3] + [part for flag in info.overrides for part in ("--set", flag)]
    assert info.command[1:] == command and command[0] == "train", "the command that makes it alone"
    done = aecli(*info.command[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    alone = directory.find(tmp_path / "runs", "last")
    assert digests(run) == digests(alone)
    assert run.resolved_config() == alone.resolved_config()
    assert [row.values["loss"] for row in run.rows()] == [row.values["loss"] for row in alone.rows()]


def test_the_folder_says_what_was_done(whole: Path) -> None:
    sweep, told = only_sweep(whole), json.loads((whole / "told.json").read_text())
    plan, runs = sweep.plan(), by_cell(whole)
    assert sorted(runs) == [1, 2, 3, 4] == [cell["cell"] for cell in told["cells"]] and all(
        len(some) == 1 for some in runs.values()
    )
    for cell, row in zip(plan.cells, told["cells"], strict=True):
        (run,) = runs[cell.cell]
        info = run.info()
        assert (row["run"], row["state"]) == (run.id, "completed")
        assert info.sweep is not None and info.sweep.id == sweep.id and info.data.fingerprint == cell.data
        assert config_hash(yamlfile.parse(run.resolved_config(), "").data) == cell.config
        stored = numbers.read(run.path / "eval", "test", info.identity)
        assert {name: number.value for name, number in stored.numbers.items()} == row["test"] and stored.numbers
        assert "steps on" in sweep.log(cell.cell).read_text(), "what train tells"
    assert {line.cell: line.run for line in sweep.lines()[0]} == {number: some[0].id for number, some in runs.items()}


def test_what_is_done_is_not_done_again_and_what_was_removed_is(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "home")
    home = tmp_path / "home"
    runs = by_cell(home)
    before = (home / "runs" / runs[1][0].id / "eval" / "test.json").stat().st_mtime_ns
    done = called("sweep", "--resume", "last", cwd=home)
    assert done.returncode == 0 and by_cell(home) == runs and "begins" not in done.stderr
    (runs[2][0].path / "eval" / "test.json").unlink()
    shutil.rmtree(runs[3][0].path)
    (home / "c.yaml").write_text("the sweep has its own")
    done = aecli("sweep", "--resume", "last", cwd=home)
    assert done.returncode == 0, done.stderr
    assert f"run {runs[3][0].id} was removed; it is trained anew" in done.stderr
    after = by_cell(home)
    assert [after[n] for n in (1, 2, 4)] == [runs[n] for n in (1, 2, 4)]
    assert digests(after[3][0]) == digests(by_cell(whole)[3][0])
    assert (runs[2][0].path / "eval" / "test.json").exists()
    assert (runs[1][0].path / "eval" / "test.json").stat().st_mtime_ns == before, "it was measured already"


def validations(run: Run) -> list[dict[str, Any]]:
    """Rows of training tell of the steps since a run went on; these are the same."""
    return [row.model_dump(exclude={"seconds"}) for row in run.rows() if row.split == "validation"]


def children(pid: int) -> list[int]:
    """The workers of a sweep that lives."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"popen_loky" in (path.parent / "cmdline").read_bytes():
                found.append(int(path.parent.name))
        except (OSError, IndexError):
            continue
    return found


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if os.path.exists(f"/proc/{pid}/exe") and os.readlink(f"/proc/{pid}/exe")]


def gone(pids: list[int]) -> bool:
    """Whether processes end, which takes those that save a run a moment."""
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up:
        try:
            if not alive(pids):
                return True
        except OSError:
            pass
        time.sleep(0.05)
    return False


def begun(home: Path, cells: int) -> bool:
    return len({path.parts[-3] for path in home.glob("runs/*/checkpoints/*.commit.json")}) >= cells


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc")
def test_killed_again_and_again_a_sweep_ends_as_one_that_was_not(whole: Path, tmp_path: Path) -> None:
    """Its own process by kill -9, then by SIGTERM, then a worker by kill -9."""
    (tmp_path / "c.yaml").write_text(CONFIG)
    with started("sweep", "c.yaml", *FLAGS, cwd=tmp_path) as process:
        wait_for(lambda: begun(tmp_path, 2), process)
        workers = children(process.pid)
        process.kill()
        process.wait()
        assert workers and gone(workers), "no worker is left behind"
    states_now = {run.state() for some in by_cell(tmp_path).values() for run in some}
    assert "running" not in states_now and states_now & {"interrupted", "crashed"}

    with started("sweep", "--resume", "last", "--jobs", "2", cwd=tmp_path) as process:
        wait_for(lambda: "running" in {run.state() for some in by_cell(tmp_path).values() for run in some}, process)
        workers = children(process.pid)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGTERM, err
        assert "aecli sweep --resume" in err and gone(workers)
    assert {run.state() for some in by_cell(tmp_path).values() for run in some} <= {"interrupted", "completed"}

    with started("sweep", "--resume", "last", "--jobs", "1", cwd=tmp_path) as process:
        wait_for(lambda: "running" in {run.state() for some in by_cell(tmp_path).values() for run in some}, process)
        os.kill(children(process.pid)[0], signal.SIGKILL)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0 and "its worker was killed; it goes on in a new one" in err, err
    undisturbed, disturbed = by_cell(whole), by_cell(tmp_path)
    assert sorted(disturbed) == sorted(undisturbed) and all(len(some) == 1 for some in disturbed.values()), "no cell twice"
    for number, (run,) in disturbed.items():
        assert digests(run) == digests(undisturbed[number][0])
        assert validations(run) == validations(undisturbed[number][0])


def test_only_the_best_on_validation_is_measured_on_test(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(TINY)
    grid = ["--grid", "optimizer.learning_rate=1e9,1e-4,1e-2", "--seeds", "2"]
    done = aecli("sweep", "c.yaml", *grid, "--select", "mse", "--only", "reconstruction", "--json", cwd=tmp_path)
    assert done.returncode == DivergedError.code, done.stderr
    told, sweep, runs = json.loads(done.stdout), only_sweep(tmp_path), by_cell(tmp_path)
    selected = sweep.selected()
    assert selected is not None and told["selected"]["group"] == selected.group and list(selected.left_out) == ["1"]
    means = {}
    for choice in selected.choices:
        ids = [run.id for cell in sweep.plan().cells if cell.group == choice.group for run in runs[cell.cell]]
        stored = [
            numbers.read(tmp_path / "runs" / name / "eval", "validation", Run(tmp_path / "runs" / name).info().identity)
            for name in ids
        ]
        assert [each.numbers["mse"].value for each in stored] == list(choice.values.values())
        means[choice.group] = sum(choice.values.values()) / 2
        assert choice.mean == pytest.approx(means[choice.group])
    assert selected.better == "lower" and selected.group == min(means, key=lambda group: means[group])
    measured = {cell.group for cell in sweep.plan().cells if (runs[cell.cell][0].path / "eval" / "test.json").exists()}
    assert measured == {selected.group}, "of no other is test looked at"
    ids = {cell.group: set[str]() for cell in sweep.plan().cells}
    for cell in sweep.plan().cells:
        ids[cell.group] |= {run.id for run in runs[cell.cell]}
    for split, expected in (("test", ids[selected.group]), ("validation", set[str]().union(*ids.values()))):
        shown = called("compare", "--sweep", sweep.id, "--split", split, "--format", "json", cwd=tmp_path)
        told_runs = {run for group in json.loads(shown.stdout)["groups"] for run in group["runs"]}
        assert told_runs == expected and ("--split validation` has all runs" in shown.stderr) == (split == "test"), shown.stderr
    content = (sweep.path / "selected.json").read_bytes()
    done = called("sweep", "--resume", sweep.id, cwd=tmp_path)
    assert done.returncode == DivergedError.code and "diverged and would do so again" in done.stderr
    assert "best (validation)" in done.stdout and "mse (test)" in done.stdout
    assert (sweep.path / "selected.json").read_bytes() == content and by_cell(tmp_path) == runs


def test_what_no_cell_could_do_is_told_before_any_begins(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(TINY)
    grid = ["train.monitor=loss,nope", "data.validation=0,0.1", "data.batch_size=32,5000"]
    done = aecli(
        "sweep",
        "c.yaml",
        *(part for each in grid for part in ("--grid", each)),
        "--select",
        "mse",
        "--only",
        "nope",
        cwd=tmp_path,
    )
    assert done.returncode == ConfigError.code and not (tmp_path / "runs").exists()
    for mistake in (
        "'nope' is no metric of variant 'vae'",
        "a batch of 5000 is larger than the 1350",
        "selected on the validation split",
        "there is no evaluator 'nope'",
    ):
        assert done.stderr.count(mistake) == 1, done.stderr


# What a sitting does with cells, tried on runs that nobody trained.


def cells_of(home: Path, *grid: str, **more: Any) -> Sweep:
    home.mkdir(exist_ok=True)
    (home / "c.yaml").write_text(TINY)
    made = draft(from_flags(home / "c.yaml", grid=grid or ("model.beta=1,2,3",), **more), None, print)
    made.mistakes.check()
    return flow.create(home / "runs", made, [Held(DATA["fingerprint"], "objective")] * len(made.groups))


def made_up(sweep: Sweep, cell: int, state: str, noted: bool = True) -> Run:
    facts = {"variant": "vae", "parameters": 0, "data": DATA, "sweep": {"id": sweep.id, "cell": cell}}
    run = directory.create(sweep.root, "made", "a: 1\n", "a: 1\n", facts)
    run.set_state(state, reason="told so")
    if noted:
        sweep.append(cell=cell, run=run.id)
    return run


def sat(sweep: Sweep, codes: dict[int, int] | None = None, **more: Any) -> tuple[list[int], list[str], Done]:
    """A sitting with an engine that ends cells with these codes, the others well: the cells that it was given, and what was
    told."""
    given: list[int] = []
    lines: list[str] = []

    def engine(sweep: Sweep, cells: Any, running: Running) -> None:
        for cell in cells:
            if running.give_up():
                return
            given.append(cell.cell)
            running.began(cell.cell)
            code = (codes or {}).get(cell.cell, 0)
            made_up(sweep, cell.cell, {0: "completed", 6: "diverged"}.get(code, "failed"))
            running.ended(Ended(cell.cell, Outcome(code, f"code {code}", "mend it")))

    return given, lines, flow.go_on(sweep, engine, Watch(lines.append), **more)


def test_the_exit_code_is_that_of_a_divergence_or_of_the_first_that_failed(tmp_path: Path) -> None:
    assert sat(cells_of(tmp_path / "a"))[2].code == 0
    assert sat(cells_of(tmp_path / "b"), {2: 3, 3: 8})[2].code == 3
    assert sat(cells_of(tmp_path / "c"), {1: 3, 3: 6})[2].code == 6


def test_a_cell_that_fails_is_told_with_its_log_and_the_others_go_on(tmp_path: Path) -> None:
    sweep = cells_of(tmp_path)
    given, lines, _ = sat(sweep, {1: DataError.code})
    assert given == [1, 2, 3]
    assert any("model.beta=1 seed=0): failed (exit 3): code 3; 1 of 3 done" in line for line in lines)
    assert any("mend it" in line and str(sweep.log(1)) in line for line in lines)


def test_after_a_failure_no_other_is_begun_if_that_is_asked_for_or_the_disk_is_full(tmp_path: Path) -> None:
    assert sat(cells_of(tmp_path / "a"), {1: 3}, fail_fast=True)[0] == [1]
    given, lines, done = sat(cells_of(tmp_path / "b"), {2: StorageError.code})
    assert given == [1, 2] and done.code == StorageError.code and any("no other cell is begun" in line for line in lines)


def test_what_failed_is_begun_anew_only_if_that_is_asked_for_and_what_diverged_never(tmp_path: Path) -> None:
    sweep = cells_of(tmp_path)
    failed, diverged = made_up(sweep, 1, "failed"), made_up(sweep, 2, "diverged")
    made_up(sweep, 3, "completed")
    given, lines, done = sat(sweep)
    assert given == [] and done.code == DivergedError.code
    assert any(f"run {failed.id} failed and is left: told so (--retry" in line for line in lines)
    assert any(f"run {diverged.id} diverged and would do so again: told so" in line for line in lines)
    given, lines, done = sat(sweep, retry=True)
    assert given == [1] and any(f"begun anew; run {failed.id} stays as it failed" in line for line in lines)
    assert failed.path.is_dir() and [run.id for run in done.runs].count(failed.id) == 0
    assert len(done.runs) == 3


def test_what_was_stopped_goes_on_as_the_run_that_it_was(tmp_path: Path) -> None:
    sweep = cells_of(tmp_path)
    for cell, state in ((1, "interrupted"), (2, "running"), (3, "created")):
        made_up(sweep, cell, state)  # running, and nobody holds its lock: crashed
    assert [state.state for state in states.look(sweep)] == ["interrupted", "crashed", "created"]
    assert sat(sweep)[0] == [1, 2, 3]


def test_a_run_that_another_process_trains_is_left_to_it(tmp_path: Path) -> None:
    sweep = cells_of(tmp_path)
    with made_up(sweep, 2, "running").locked():
        given, lines, done = sat(sweep)
    assert given == [1, 3] and done.code == RunError.code and any("is being trained by another process" in line for line in lines)


def test_a_run_that_a_kill_kept_from_being_noted_is_found(tmp_path: Path) -> None:
    sweep = cells_of(tmp_path)
    run, other = made_up(sweep, 2, "completed", noted=False), cells_of(tmp_path / "other")
    strange = made_up(Sweep(sweep.root, other.id), 1, "completed", noted=False)
    given, _, done = sat(sweep)
    assert given == [1, 3] and done.states[1].run_id == run.id
    assert strange.id not in [state.run_id for state in done.states], "it is of another sweep"


def test_a_retry_is_not_answered_by_the_run_that_failed(tmp_path: Path) -> None:
    sweep = cells_of(tmp_path)
    made_up(sweep, 1, "failed")
    sweep.append(cell=1, run=None)  # and then a kill
    assert sat(sweep)[0] == [1, 2, 3]


def test_numbers_of_another_step_or_without_a_seal_do_not_count(tmp_path: Path) -> None:
    sweep = cells_of(tmp_path, only=())
    runs = [made_up(sweep, cell, "completed") for cell in (1, 2, 3)]
    for run in runs:
        number = {"value": 1.0, "standard_error": None, "n": 4, "unit": "1", "better": "lower", "baselines": {}, "protocol": {}}
        numbers.write(run.path / "eval", "test", run.info().identity, {"mse": {**number, "evaluator": "reconstruction"}}, {})
        sweep.append(cell=runs.index(run) + 1, run=run.id, measured="test", at=0)
    assert sat(sweep)[0] == []
    runs[1].set_state("completed", step=10)
    (runs[2].path / "eval" / "test.json").write_text("{}")
    assert [state.measured for state in states.look(sweep)] == [{"test"}, frozenset(), frozenset()]


def test_cells_that_this_version_would_make_otherwise_are_refused(tmp_path: Path) -> None:
    sweep = cells_of(tmp_path)
    text = (sweep.path / "config.yaml").read_text()
    (sweep.path / "config.yaml").write_text(text.replace("latent: 3", "latent: 5"))
    with pytest.raises(RunError, match="another experiment"):
        sat(sweep)
    (sweep.path / "config.yaml").write_text(text + "# a remark\n")
    assert sat(sweep)[0] == [1, 2, 3]


def test_nothing_is_selected_before_all_is_trained_and_measured(tmp_path: Path) -> None:
    sweep = cells_of(tmp_path, select="loss")
    given, lines, _ = sat(sweep, {2: 3})
    assert given == [1, 2, 3] and sweep.selected() is None
    assert any("nothing is selected yet: 3 of 3 cells" in line for line in lines)


def test_several_sweeps_are_compared(tmp_path: Path) -> None:
    """Each once: the second flag does not take the place of the first."""
    one, other = cells_of(tmp_path), cells_of(tmp_path, "model.beta=7")
    ids = [made_up(sweep, cell.cell, "completed").id for sweep in (one, other) for cell in sweep.plan().cells]
    done = called("compare", "--sweep", one.id, "--sweep", other.id, "--sweep", one.id, cwd=tmp_path)
    assert len(ids) == 4 and all(name in done.stderr + done.stdout for name in ids)


def test_a_metric_that_no_cell_has_is_an_error_and_not_a_choice(tmp_path: Path) -> None:
    """What a model can be measured by may depend on the images: gray ones have no likelihood of binary pixels."""
    sweep = cells_of(tmp_path, select="loss")
    runs = [made_up(sweep, cell.cell, "completed") for cell in sweep.plan().cells]
    measured = frozenset({"validation"})
    done = [State(cell, "completed", run.id, measured=measured) for cell, run in zip(sweep.plan().cells, runs, strict=True)]
    with pytest.raises(RunError, match="nothing can be selected by 'loss'"):
        choose(sweep, done, print)
    lines: list[str] = []
    choose(sweep, [state._replace(state="diverged") for state in done], lines.append)
    assert lines == ["nothing can be selected: in every combination a cell diverged"] and sweep.selected() is None


def test_hostile_text_moves_no_cursor(tmp_path: Path) -> None:
    sweep = cells_of(tmp_path)
    made_up(sweep, 1, "failed").set_state("failed", reason="\x1b[2J\u202e")
    plan = json.loads((sweep.path / "plan.json").read_text())
    plan["varied"] = ["\x1b[31m"]
    (sweep.path / "plan.json").write_text(json.dumps(plan))
    for cell in (2, 3):
        made_up(sweep, cell, "diverged").set_state("diverged", reason="\x1b]0;x\x07")
    done = called("sweep", "--resume", "last", cwd=tmp_path)
    assert done.returncode == DivergedError.code and not {"\x1b", "\x07", "\u202e"} & set(done.stdout + done.stderr)


@pytest.fixture
def lines_of_a_worker() -> Iterator[Any]:
    """Calls `worker.work` in a process of its own, as an engine does."""

    def call(sweep: Sweep, cell: int, **env: str) -> tuple[Any, str]:
        code = f"from aecli.sweeps.worker import work; print(*work({str(sweep.root)!r}, {sweep.id!r}, {cell})[:2])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(**env), timeout=120)
        return done.stdout, done.stderr

    yield call


def test_a_worker_tells_what_is_wrong_and_raises_nothing(tmp_path: Path, lines_of_a_worker: Any) -> None:
    sweep = cells_of(tmp_path)
    out, err = lines_of_a_worker(sweep, 1)
    assert out.startswith(f"{DataError.code} the data of digits is not what it was") and not err, (
        "the plan says another fingerprint"
    )
    assert "the data of digits is not what it was" in sweep.log(1).read_text()
    assert directory.every(sweep.root) == [], "nothing was begun"


def test_a_signal_that_comes_while_a_cell_is_begun_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between being handed a cell and heeding signals for it, a worker only notes them."""
    monkeypatch.setattr(worker, "_come", [])
    sweep = cells_of(tmp_path)
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    try:
        worker._heed_nothing()
        os.kill(os.getpid(), signal.SIGTERM)
        outcome = worker.work(str(sweep.root), sweep.id, 1)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    assert outcome.code == 128 + signal.SIGTERM and not by_cell(tmp_path)


def test_an_idle_worker_that_was_killed_is_replaced() -> None:
    with Workers(1) as workers:
        workers.begin(0, os.getpid)
        first = waited(workers)[0]
        os.kill(first, signal.SIGKILL)
        while alive([first]):
            time.sleep(0.01)
        workers.begin(0, os.getpid)
        assert waited(workers)[0] != first


def test_a_worker_that_is_not_there_yet_is_told_later() -> None:
    with Workers(1) as workers:
        workers.begin(0, time.sleep, 2)
        reached = workers.send(signal.SIGTERM, workers.busy)
        while not reached:
            time.sleep(0.05)
            reached = workers.send(signal.SIGTERM, workers.busy)
        assert reached == {0} and waited(workers) == {0: None}, "a worker between two cells notes it alone"


def waited(workers: Workers) -> dict[int, Any]:
    while not (found := workers.wait(0.1)):
        pass
    return found


def test_a_run_that_is_older_than_the_one_of_its_cell_is_not_taken_for_it(tmp_path: Path) -> None:
    """As if the line of the older one were damaged."""
    sweep = cells_of(tmp_path)
    made_up(sweep, 1, "failed", noted=False)
    time.sleep(0.01)
    newer = made_up(sweep, 1, "completed")
    assert folder.unnoted(sweep, sweep.lines()[0]) == {}
    time.sleep(0.01)
    newest = made_up(sweep, 1, "running", noted=False)
    assert folder.unnoted(sweep, sweep.lines()[0]) == {1: newest.id} and newest.id != newer.id


def test_a_sweep_from_python_takes_the_values_of_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(TINY)
    found = api.sweep("c.yaml", grid={"model.beta": np.array([1.0, 4.0]), "model.net": ["mlp"]}, overrides={"train.steps": 5})
    assert found.code == 0 and found.states == ["completed"] * 2 and found.chosen == []
    assert [run.config["model"]["beta"] for run in found.runs] == [1.0, 4.0]
    for wrong, said in (({"model.beta": [object()]}, "of type object"), ({"model.bta": [1]}, "did you mean 'beta'")):
        with pytest.raises(AecliError, match=said):
            api.sweep("c.yaml", grid=wrong)
    with pytest.raises(UsageError, match="an empty list of evaluators"):
        api.sweep("c.yaml", seeds=2, evaluate=[])
