"""Cells on this machine: each worker is a process of joblib's loky that keeps what it traced and compiled for the next cell, so
that seeds of one config come one after another in the same one."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from aecli.errors import DeviceError
from aecli.sweeps import worker
from aecli.sweeps.cell import config_of
from aecli.sweeps.folder import Sweep
from aecli.sweeps.records import Cell
from aecli.sweeps.worker import Outcome
from aecli.system import backend

LOOK_SECONDS = 0.2
"""How often it is looked for signals, and for what to show, while workers work."""
MOST_KILLED = 2
"""A cell whose worker was killed so often is left: it would kill the next one too."""
KILLED = DeviceError.code
"""The exit code of a cell whose worker was killed: most often it is the system, which is out of memory."""


class Ended(NamedTuple):
    cell: int
    outcome: Outcome


class Workers:
    """Processes that end when this is left, each for itself: one that is killed costs its own cell alone. `environment`: what
    they have in it beside this process's."""

    def __init__(self, count: int, environment: Sequence[Mapping[str, str]] = ()) -> None:
        self._private = Path(tempfile.mkdtemp(prefix="aecli-sweep-"))  # mode 0700
        self._environment = [dict(environment[i]) if i < len(environment) else {} for i in range(count)]
        self._executors: list[Any] = [None] * count
        self._futures: dict[int, Future[Any]] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for index, executor in enumerate(self._executors):
            if executor is not None:
                busy = index in self._futures  # only if an error ended the sweep
                executor.shutdown(wait=True, kill_workers=busy)
        shutil.rmtree(self._private, ignore_errors=True)

    def __len__(self) -> int:
        return len(self._executors)

    @property
    def idle(self) -> list[int]:
        return [index for index in range(len(self)) if index not in self._futures]

    def begin(self, index: int, call: Callable[..., Any], *arguments: Any) -> None:
        """Has a worker call something, which needs to be a function of a module."""
        if self._executors[index] is None:
            self._executors[index] = self._executor(index)
        try:
            self._futures[index] = self._executors[index].submit(call, *arguments)
        except BrokenProcessPool:  # it was killed while it was idle
            self.end(index)
            self._executors[index] = self._executor(index)
            self._futures[index] = self._executors[index].submit(call, *arguments)

    def wait(self, seconds: float) -> dict[int, Any]:
        """What workers have returned, by their index, after at most so long; None of one that was killed, which begins anew."""
        wait(self._futures.values(), seconds, FIRST_COMPLETED)
        returned: dict[int, Any] = {}
        for index, future in list(self._futures.items()):
            if future.done():
                del self._futures[index]
                try:
                    returned[index] = future.result()
                except BrokenProcessPool:
                    returned[index] = None
                    self.end(index)
        return returned

    def end(self, index: int) -> None:
        """Ends a worker that is idle; the next call has a fresh one."""
        executor, self._executors[index] = self._executors[index], None
        self._pid_file(index).unlink(missing_ok=True)
        if executor is not None:
            executor.shutdown(wait=True)

    def send(self, signum: int, to: set[int]) -> set[int]:
        """Hands a signal on to those workers, and returns those that could be reached: one that has just been started has not
        said yet which process it is. To send it twice would end a worker at once."""
        reached: set[int] = set()
        for index in to:
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(self._pid_file(index).read_text()), signum)
                reached.add(index)
        return reached

    @property
    def busy(self) -> set[int]:
        return set(self._futures)

    def _pid_file(self, index: int) -> Path:
        return self._private / f"{index}.pid"

    def _executor(self, index: int) -> Any:
        from joblib.externals.loky import ProcessPoolExecutor

        return ProcessPoolExecutor(
            max_workers=1,
            initializer=worker.begin,
            initargs=(os.getpid(), str(self._pid_file(index))),
            # A file of the user's in the current folder is no module of the worker's.
            env={"PYTHONSAFEPATH": "1", **self._environment[index]},
        )


class Blocks:
    """Which cell a worker takes next: of its own group, then a group that nobody has begun, then half of what another worker has
    before it."""

    def __init__(self, cells: Iterable[Cell], workers: int) -> None:
        groups: dict[int, deque[int]] = {}
        for cell in cells:
            groups.setdefault(cell.group, deque()).append(cell.cell)
        self._groups = deque(groups.values())
        self._own: list[deque[int]] = [deque() for _ in range(workers)]

    def __len__(self) -> int:
        return sum(map(len, (*self._groups, *self._own)))

    def next(self, index: int) -> int | None:
        own = self._own[index]
        if not own and self._groups:
            own.extend(self._groups.popleft())
        if not own:
            longest = max(self._own, key=len)
            own.extendleft(longest.pop() for _ in range((len(longest) + 1) // 2))
        return own.popleft() if own else None

    def again(self, index: int, cell: int) -> None:
        self._own[index].appendleft(cell)

    def clear(self) -> None:
        self._groups.clear()
        for own in self._own:
            own.clear()


class Running(NamedTuple):
    """What a sweep's engine is told while it runs: `began` and `ended` of cells, `look` again and again; `stop` gives the signal
    that has come, or None; `give_up` says that no other cell is to be begun."""

    began: Callable[[int], None]
    ended: Callable[[Ended], None]
    look: Callable[[], None]
    stop: Callable[[], int | None]
    give_up: Callable[[], bool]
    say: Callable[[str], None]


def run(workers: Workers, sweep: Sweep, cells: Sequence[Cell], running: Running) -> None:
    """Works on cells until none is left, or, after a signal, until those that are being worked on are saved."""
    blocks, threads = Blocks(cells, len(workers)), _threads(sweep, cells)
    working: dict[int, int] = {}
    cores: dict[int, int | None] = {}
    killed: dict[int, int] = {}
    told: set[int] = set()
    while len(blocks) or working:
        signum = running.stop()
        if signum is not None or running.give_up():
            blocks.clear()
        if signum is not None:
            told |= workers.send(signum, workers.busy - told)
        for index in workers.idle:
            cell = blocks.next(index)
            if cell is None:
                continue
            if cores.get(index, threads[cell]) != threads[cell]:
                workers.end(index)
            cores[index], working[index] = threads[cell], cell
            workers.begin(index, worker.work, str(sweep.root), sweep.id, cell)
            running.began(cell)
        for index, outcome in workers.wait(LOOK_SECONDS).items():
            cell = working.pop(index)
            if outcome is None and signum is not None:
                outcome = Outcome(128 + signum, "interrupted")  # while it was starting
            elif outcome is None:
                outcome = _killed(blocks, index, cell, killed, running)
            if outcome is not None:
                running.ended(Ended(cell, outcome))
        running.look()


def _threads(sweep: Sweep, cells: Sequence[Cell]) -> dict[int, int | None]:
    """The threads that each cell is to be computed on, which a process cannot change once it has begun."""
    plan = sweep.plan()
    of_group: dict[int, int | None] = {}
    for cell in cells:
        if cell.group not in of_group:
            of_group[cell.group] = config_of(sweep, plan, cell).experiment.train.threads
    return {cell.cell: of_group[cell.group] for cell in cells}


def _killed(blocks: Blocks, index: int, cell: int, killed: dict[int, int], running: Running) -> Outcome | None:
    """Begins a cell again whose worker was killed; how it ended if that has happened before."""
    killed[cell] = killed.get(cell, 0) + 1
    if killed[cell] < MOST_KILLED:
        running.say(f"cell {cell}: its worker was killed; it goes on in a new one from its newest checkpoint")
        blocks.again(index, cell)
        return None
    return Outcome(
        KILLED,
        f"its worker was killed {MOST_KILLED} times, which most often means that the memory is full",
        "lower data.batch_size or the size of the network, or --jobs",
    )


def environments(jobs: int) -> list[dict[str, str]]:
    """What each of several workers has in its environment: one of the GPUs that are there, and a share of its memory where they
    are fewer."""
    gpus = backend.gpus()
    if jobs < 2 or not gpus:
        return []
    share = {}
    if jobs > len(gpus) and not any(name in os.environ for name in backend.SHARES):
        share = {"XLA_CLIENT_MEM_FRACTION": f"{0.9 / -(-jobs // len(gpus)):.3f}"}
    return [{"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)], **share} for index in range(jobs)]
