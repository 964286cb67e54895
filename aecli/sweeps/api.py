"""What the command line and `aecli.sweep` call: a new sweep, what it would be, and going on with one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from aecli.errors import RunError
from aecli.sweeps import draft as drafting
from aecli.sweeps import flow, folder, local
from aecli.sweeps import slurm as slurm_engine
from aecli.sweeps.asked import Asked
from aecli.sweeps.flow import NOBODY, Done, Engine, Watch
from aecli.sweeps.folder import Sweep
from aecli.sweeps.local import Workers
from aecli.sweeps.slurm import Slurm

MANY_CELLS = 1_000
"""From so many on it is asked whether they are meant."""


def _anything(cells: int) -> None:
    pass


def start(
    asked: Asked,
    root: Path,
    jobs: int = 1,
    slurm: Slurm | None = None,
    watch: Watch = NOBODY,
    fail_fast: bool = False,
    confirm: Callable[[int], None] = _anything,
    begun: Callable[[Sweep], None] = lambda sweep: None,
) -> Done:
    """Plans a sweep, and trains and measures every cell. `confirm` is asked about many cells and raises an error if they are not
    meant; `begun` is told of the sweep before its first cell begins. Raises ConfigError and its like for what is wrong with any
    cell, all at once and before anything is made; see `flow.go_on` for the rest."""
    if slurm is not None:
        slurm.check()
    cells = drafting.count(asked)
    if cells >= MANY_CELLS:
        confirm(cells)
    with _workers(jobs, slurm) as workers:
        sketch, found = flow.held(asked, 1 if slurm else jobs, workers, watch.say)
        sweep = flow.create(root.absolute() if slurm else root, sketch, found)
        begun(sweep)
        return flow.go_on(sweep, _engine(workers, slurm, asked.threads), watch, fail_fast=fail_fast)


def plan(asked: Asked, jobs: int = 1, say: Callable[[str], None] = lambda line: None) -> list[list[str]]:
    """The flags of every cell, checked as `start` does. Makes nothing."""
    drafting.count(asked)
    with _workers(jobs, None) as workers:
        sketch, _ = flow.held(asked, jobs, workers, say)
    return [[*group.flags, f"seed={seed}"] for group in sketch.groups for seed in sketch.seeds]


def resume(
    root: Path,
    name: str,
    jobs: int = 1,
    slurm: Slurm | None = None,
    watch: Watch = NOBODY,
    retry: bool = False,
    fail_fast: bool = False,
) -> Done:
    """Goes on with a sweep: with what was interrupted, what was not begun, and, to `retry`, what failed."""
    if slurm is not None:
        slurm.check()
    sweep = folder.find(root.absolute() if slurm else root, name)

    def attached() -> set[int]:
        found = slurm_engine.queued(sweep)
        if found and slurm is None:
            raise RunError(
                f"{len(found)} cells of sweep {sweep.id} are queued or running in Slurm", "--engine slurm waits for them"
            )
        return found

    with _workers(jobs, slurm) as workers:
        return flow.go_on(sweep, _engine(workers, slurm, None), watch, retry, fail_fast, attached)


def _workers(jobs: int, slurm: Slurm | None) -> Workers:
    # Where jobs are submitted there may be no such device as they will have.
    return Workers(1, [{"JAX_PLATFORMS": "cpu"}]) if slurm else Workers(jobs, local.environments(jobs))


def _engine(workers: Workers, slurm: Slurm | None, threads: int | None) -> Engine:
    if slurm is None:
        return partial(local.run, workers)
    workers.end(0)
    return partial(slurm_engine.run, slurm, threads)
