"""Cells as an array of jobs of Slurm, by submitit. What has become of them is told by the folders of their runs and by a small
file that each job leaves, not by sacct, which many clusters do without."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from aecli.errors import DeviceError, RunError, UsageError
from aecli.sweeps import worker
from aecli.sweeps.cell import config_of
from aecli.sweeps.folder import Sweep
from aecli.sweeps.local import LOOK_SECONDS, Ended, Running
from aecli.sweeps.records import Cell
from aecli.sweeps.worker import Outcome
from aecli.system.files import make_folder, write_json
from aecli.system.reading import Unreadable, read_json

POLL_SECONDS = 5.0
"""How often Slurm is asked which jobs there are; whether they have ended is looked for more often."""
ENDED_SECONDS = 1.0
WARNED_SECONDS = 90
"""A job is told so long before its time is over, and requeued with its run saved; of a short time the third."""
_CELLS = "cells.json"
_UNITS = {"s": 1 / 60, "m": 1, "min": 1, "h": 60, "d": 1440}


class Slurm(NamedTuple):
    """How jobs are asked for: the partition, the time of a cell such as `2h`, GPUs of a cell, how many run at once, and whether
    it is waited for them."""

    partition: str | None = None
    time: str | None = None
    gpus: int | None = None
    parallel: int | None = None
    wait: bool = True

    def check(self) -> None:
        """Raises UsageError where no job could be submitted."""
        self.minutes()
        try:
            import submitit  # noqa: F401  # pyright: ignore[reportUnusedImport, reportMissingImports]
        except ImportError:
            raise UsageError("--engine slurm needs submitit", "pip install 'aecli[slurm]'") from None
        for program in ("sbatch", "srun", "squeue"):
            if shutil.which(program) is None:
                raise UsageError(f"there is no {program} here: this is no machine of a Slurm cluster", "leave out --engine slurm")

    def minutes(self) -> int:
        if self.time is None:
            raise UsageError(
                "--engine slurm needs --time, the limit of one cell", "such as --time 2h; a cell that needs more goes on"
            )
        text = self.time.strip()
        if found := re.fullmatch(r"(\d{1,6})\s*(s|m|min|h|d)?", text):
            minutes = int(found[1]) * _UNITS[found[2] or "m"]
        elif found := re.fullmatch(r"(?:(\d{1,3})-)?(\d{1,4}):(\d\d)(?::(\d\d))?", text):
            days, first, second, third = (int(part or 0) for part in found.groups())
            # As Slurm reads it: two numbers are minutes and seconds, after days they are hours and minutes.
            hours = found[4] is not None or found[1] is not None
            minutes = days * 1440 + (first * 60 + second + third / 60 if hours else first + second / 60)
        else:
            raise UsageError(f"--time {self.time}: this is no time", "such as 90m, 2h, 1d or 12:00:00")
        if minutes <= 0:
            raise UsageError(f"--time {self.time}: a cell needs some time")
        return ceil(minutes)


class Job:
    """What is pickled for a job: which cell of which sweep."""

    def __init__(self, root: str, sweep_id: str, number: int) -> None:
        self.root, self.sweep_id, self.number = root, sweep_id, number

    def __call__(self) -> int:
        """Works on the cell. When its time is nearly over, or a more urgent job wants the machine, the run is saved and the job
        requeued; at SIGTERM it is saved and the job ends."""
        warning = getattr(signal, "SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2"))
        requeue: Any = signal.getsignal(warning)
        warned: list[int] = []

        def note(signum: int, frame: Any) -> None:
            warned.append(signum)
            os.kill(os.getpid(), signal.SIGTERM)

        signal.signal(warning, note)
        outcome = worker.work(self.root, self.sweep_id, self.number)
        if warned and outcome.code == 128 + signal.SIGTERM and callable(requeue):
            requeue(warning, None)  # calls `checkpoint`, and ends the process
        write_json(Path(os.environ["SUBMITIT_FOLDER"]) / f"{self.number}.json", outcome._asdict())
        return outcome.code

    def checkpoint(self) -> Any:
        """The same again, which goes on where the run was saved."""
        from submitit.helpers import DelayedSubmission  # pyright: ignore[reportMissingImports]

        return DelayedSubmission(Job(self.root, self.sweep_id, self.number))


class Array:
    """Jobs that were submitted together: a private folder of the sweep that holds their cells, what submitit pickles, and how
    each ended. It is removed when all have."""

    def __init__(self, sweep: Sweep, path: Path) -> None:
        self._sweep, self.path = sweep, path
        try:
            self.cells = [int(cell) for cell in read_json(path / _CELLS)]
        except (Unreadable, TypeError, ValueError) as error:
            where = f"see `squeue --name {self.name}`, and remove the folder"
            raise RunError(f"{path / _CELLS} cannot be read: {error}", where) from None

    @property
    def name(self) -> str:
        """By which Slurm finds the jobs, even if a kill fell right after they were submitted."""
        return f"{self._sweep.id}.{self.path.name}"

    def jobs(self) -> dict[int, str] | None:
        """The state in Slurm of each cell whose job is queued or running; None if Slurm does not answer."""
        command = ["squeue", "--noheader", "--array", "--name", self.name, "--format", "%i %T"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.SubprocessError):
            return None
        if done.returncode:
            return {} if "Invalid job" in done.stderr else None
        found: dict[int, str] = {}
        for line in done.stdout.splitlines():
            job, _, state = line.strip().partition(" ")
            index = int(job.partition("_")[2] or 0)
            if index < len(self.cells):
                found[self.cells[index]] = state
        return found

    def outcome(self, cell: int) -> Outcome | None:
        """How a job ended; None if it has not said so."""
        try:
            said = read_json(self.path / f"{cell}.json")
            return Outcome(int(said["code"]), str(said["message"]), str(said["help"]), float(said["seconds"]))
        except (FileNotFoundError, Unreadable, KeyError, TypeError, ValueError):
            return None

    def remove(self) -> None:
        """Leaves what jobs have printed, if there is anything to find out from it."""
        bad = any((outcome := self.outcome(cell)) is None or 0 < outcome.code < 128 for cell in self.cells)
        for path in self.path.iterdir():
            if not (bad and path.suffix in (".out", ".err")):
                path.unlink()
        with contextlib.suppress(OSError):
            self.path.rmdir()
            self.path.parent.rmdir()


def arrays(sweep: Sweep) -> list[Array]:
    """Those that nobody has seen the end of."""
    return [Array(sweep, path.parent) for path in sorted((sweep.path / "slurm").glob(f"*/{_CELLS}"))]


def queued(sweep: Sweep) -> set[int]:
    """The cells whose jobs are queued or running; of arrays that have ended nothing is kept. The caller has locked the sweep.
    Raises RunError if that cannot be known here."""
    found: set[int] = set()
    for array in arrays(sweep):
        jobs = array.jobs()
        if jobs is None:
            raise RunError(
                f"cells of sweep {sweep.id} were submitted to Slurm, and whether they still run cannot be asked here",
                f"go on where squeue answers; if the jobs are gone for sure, remove {array.path}",
            )
        found |= set(jobs)
        if not jobs:
            array.remove()
    return found


def run(slurm: Slurm, threads: int | None, sweep: Sweep, cells: Sequence[Cell], running: Running) -> None:
    """Submits the cells whose jobs are not there yet, and waits for all of them unless that is not wanted. A signal ends the
    waiting alone."""
    known = arrays(sweep)
    there = queued(sweep) if known else set[int]()
    known = [array for array in known if array.path.exists()]
    if new := [cell for cell in cells if cell.cell not in there]:
        array = _submit(slurm, threads, sweep, new)
        known.append(array)
        running.say(f"{len(new)} jobs submitted: squeue --name {array.name}")
    if slurm.wait:
        _Waiting(sweep, known, {cell.cell for cell in cells}, running).wait()
    else:
        running.say(f"aecli sweep --resume {sweep.id} --engine slurm --time {slurm.time} tells what has become of them")


class _Waiting:
    """Looks at arrays until all their jobs have ended."""

    def __init__(self, sweep: Sweep, some: Sequence[Array], cells: Collection[int], running: Running) -> None:
        self._sweep, self._arrays, self._running = sweep, some, running
        self._left = {cell: array for array in some for cell in array.cells if cell in cells}
        self._seen: set[int] = set()
        self._missed: dict[int, int] = {}
        self._given_up = False

    def wait(self) -> None:
        looked = asked = 0.0
        while self._left:
            if self._running.stop() is not None:
                names = ",".join(array.name for array in self._arrays)
                self._running.say(f"the jobs go on without being watched; scancel --name {names} ends them")
                return
            now = time.monotonic()
            if now - looked >= ENDED_SECONDS:
                looked, ask = now, now - asked >= POLL_SECONDS
                asked = now if ask else asked
                for array in self._arrays:
                    self._look(array, array.jobs() if ask else None)
            self._running.look()
            time.sleep(LOOK_SECONDS)
        for array in self._arrays:
            array.remove()

    def _look(self, array: Array, jobs: Mapping[int, str] | None) -> None:
        """`jobs`: what Slurm said, if it was asked and answered."""
        if self._running.give_up() and not self._given_up:
            self._given_up = True
            for each in self._arrays:
                subprocess.run(["scancel", "--state=PENDING", "--name", each.name], capture_output=True, timeout=60)
        for cell in [cell for cell, its in self._left.items() if its is array]:
            outcome = array.outcome(cell)
            if outcome is None and jobs is not None and cell not in jobs:
                # A shared disk may show the file later than Slurm shows the end.
                self._missed[cell] = self._missed.get(cell, 0) + 1
                if self._missed[cell] >= 3:
                    outcome = self._lost(array)
            elif jobs is not None and jobs.get(cell) == "RUNNING" and cell not in self._seen:
                self._seen.add(cell)
                self._running.began(cell)
            if outcome is not None:
                del self._left[cell]
                self._running.ended(Ended(cell, outcome))

    def _lost(self, array: Array) -> Outcome:
        message = "its job ended without a word, as one that is killed does"
        if self._given_up:
            message = "its job was cancelled before it began"
        return Outcome(DeviceError.code, message, f"see {array.path}, and the memory and time that Slurm gave it")


def _submit(slurm: Slurm, threads: int | None, sweep: Sweep, cells: Sequence[Cell]) -> Array:
    """Raises UsageError if Slurm refuses."""
    import logging

    import submitit  # pyright: ignore[reportMissingImports]

    logging.getLogger("submitit").setLevel(logging.CRITICAL)
    folder = sweep.path / "slurm"
    make_folder(folder)
    number = 1 + max((int(path.name) for path in folder.iterdir() if path.name.isdecimal()), default=0)
    path = folder / str(number)
    path.mkdir(mode=0o700)
    write_json(path / _CELLS, [cell.cell for cell in cells])
    array = Array(sweep, path)
    minutes = slurm.minutes()
    cores = threads or config_of(sweep, sweep.plan(), cells[0]).experiment.train.threads
    asked: Mapping[str, Any] = {
        "job_name": array.name,
        "time": minutes,
        "signal_delay_s": min(WARNED_SECONDS, minutes * 60 // 3),
        "array_parallelism": slurm.parallel or len(cells),
        "partition": slurm.partition,
        "gpus_per_node": slurm.gpus,
        "cpus_per_task": cores,
    }
    executor: Any = submitit.SlurmExecutor(str(path), max_num_timeout=10_000)  # each goes on where the last was saved
    executor.update_parameters(**{key: value for key, value in asked.items() if value is not None})
    try:
        executor.submit_array([Job(str(sweep.root), sweep.id, cell.cell) for cell in cells])
    except Exception as error:
        shutil.rmtree(path)
        lines = [line for line in str(error).splitlines() if line.strip()]
        told = lines[-1] if lines else type(error).__name__
        raise UsageError(f"Slurm refuses: {told}", "see `sinfo` for its partitions") from None
    return array
