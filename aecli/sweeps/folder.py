"""The folder of a sweep, `<runs>/.sweeps/<id>/`: how it is made, found, locked, read, and added to. Files: `sweep.yaml` as given,
`config.yaml`, `plan.json` (immutable), `cells.jsonl`, `selected.json`, `logs/`, `.lock`."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import re
import secrets
import socket
from collections.abc import Generator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from aecli.config.yamlfile import MAX_BYTES
from aecli.errors import RunError, StorageError, UsageError, did_you_mean
from aecli.runs import directory
from aecli.runs.directory import Run
from aecli.runs.records import SCHEMA, validated
from aecli.sweeps.records import Cell, Line, Plan, Selected
from aecli.system.files import append_line, fsync_directory, is_taken, make_folder, write_atomic, write_json
from aecli.system.reading import GONE, Unreadable, open_regular, parse_json, read_json, read_regular

SWEEPS = ".sweeps"


class Sweep(NamedTuple):
    """One sweep of a folder of runs. Small enough to be handed to another process."""

    root: Path
    id: str

    @property
    def path(self) -> Path:
        return self.root / SWEEPS / self.id

    def plan(self) -> Plan:
        """`plan.json`. Raises RunError if it cannot be read."""
        path = self.path / "plan.json"
        try:
            return _plan(path, path.stat().st_mtime_ns)
        except (OSError, Unreadable) as error:
            raise self._unreadable("plan.json", error) from None

    def config(self) -> str:
        """The text of the config as it was given."""
        try:
            return read_regular(self.path / "config.yaml", MAX_BYTES).decode("utf-8")
        except (OSError, UnicodeDecodeError, Unreadable) as error:
            raise self._unreadable("config.yaml", error) from None

    def cell(self, number: int) -> Cell:
        cells = self.plan().cells
        return cells[number - 1]

    def log(self, cell: int) -> Path:
        return self.path / "logs" / f"{cell:04d}.log"

    def lines(self) -> tuple[list[Line], int]:
        """What `cells.jsonl` says, and how many of its lines cannot be read; a last one without an end may still be being
        written. Raises RunError if it is no file."""
        try:
            content = read_regular(self.path / "cells.jsonl")
        except FileNotFoundError:
            return [], 0
        except (OSError, Unreadable) as error:
            raise self._unreadable("cells.jsonl", error) from None
        lines: list[Line] = []
        damaged = 0
        for text in content.split(b"\n")[:-1]:
            if not text:
                continue
            try:
                lines.append(validated(Line, parse_json(text)))
            except Unreadable:
                damaged += 1
        return lines, damaged

    def append(self, **line: Any) -> None:
        """A line of `cells.jsonl`, which survives a power cut once this returns; what a kill left of the line before is ended."""
        try:
            handle = open_regular(self.path / "cells.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        except Unreadable as error:
            raise RunError(f"cells.jsonl of sweep {self.id} cannot be written to: {error}", "move it away") from None
        with os.fdopen(handle, "r+b", buffering=0) as file:
            fcntl.flock(handle, fcntl.LOCK_EX)
            is_new = not os.fstat(handle).st_size
            append_line(file, json.dumps(line).encode() + b"\n")
            os.fsync(handle)
            if is_new:
                fsync_directory(self.path)

    def selected(self) -> Selected | None:
        """`selected.json`; None if nothing was selected yet. Raises RunError if it cannot be read."""
        try:
            return validated(Selected, read_json(self.path / "selected.json"))
        except FileNotFoundError:
            return None
        except (OSError, Unreadable) as error:
            raise self._unreadable("selected.json", error) from None

    @contextlib.contextmanager
    def locked(self) -> Generator[None]:
        """Holds the sweep. Raises RunError if another process does."""
        try:
            handle = open_regular(self.path / ".lock", os.O_RDWR | os.O_CREAT)
        except Unreadable as error:
            raise RunError(f".lock of sweep {self.id} cannot be locked: {error}", "move it away") from None
        with os.fdopen(handle, "r+") as file:
            if not is_taken(handle, directory.LOCK_SECONDS):
                holder = file.read(200).strip() or "another process"
                raise RunError(f"sweep {self.id} is being worked on by {holder}", "wait for it, or stop it")
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield

    def _unreadable(self, name: str, error: Exception) -> RunError:
        if isinstance(error, OSError) and not isinstance(error, GONE):
            raise error
        why = "it is gone" if isinstance(error, GONE) else str(error)
        return RunError(
            f"{name} of sweep {self.id} cannot be read: {why}", "restore it from a backup; the runs stand by themselves"
        )


@lru_cache(maxsize=2)
def _plan(path: Path, modified: int) -> Plan:
    """Read once by a worker, which has many cells of it."""
    plan = validated(Plan, read_json(path))
    if [cell.cell for cell in plan.cells] != [*range(1, len(plan.cells) + 1)]:
        raise Unreadable("its cells are not numbered one by one")
    return plan


def create(root: Path, name: str, asked: str, config: str, plan: Mapping[str, Any]) -> Sweep:
    """Makes the folder of a new sweep, of files as they were asked for and given; `plan.json` is written last, so a folder
    without it is no sweep. Survives a power cut once this returns. Raises StorageError if `root` is no folder."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:60] or "sweep"
    try:
        make_folder(root / SWEEPS)
        while True:
            now = datetime.datetime.now(datetime.UTC)
            sweep = Sweep(root, f"{stem}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}")
            try:
                sweep.path.mkdir()
                break
            except FileExistsError:
                continue
        (sweep.path / "logs").mkdir()
        fsync_directory(sweep.path.parent)
        write_atomic(sweep.path / "sweep.yaml", asked.encode(errors="backslashreplace"))
        write_atomic(sweep.path / "config.yaml", config.encode())
        facts = {"schema": SCHEMA, "id": sweep.id, "created": now.isoformat(), "name": stem}
        write_json(sweep.path / "plan.json", {**facts, **plan})
    except FileExistsError:
        raise StorageError(f"{root} exists and is not a folder", "name another with --runs-dir") from None
    return sweep


def every(root: Path) -> list[str]:
    """The ids of all sweeps below a folder of runs, oldest first."""
    try:
        names = [entry.name for entry in os.scandir(root / SWEEPS) if directory.is_id(entry.name)]
    except GONE:
        return []
    found = [name for name in names if (root / SWEEPS / name / "plan.json").is_file()]
    return sorted(found, key=lambda name: ((root / SWEEPS / name / "plan.json").stat().st_mtime_ns, name))


def find(root: Path, name: str) -> Sweep:
    """The sweep with this id, or the only one whose id starts so, or the newest for `last`. Raises RunError, also for one that
    cannot be read, and UsageError for what can be no id."""
    if not directory.is_id(name):
        raise UsageError(f"{name!r} is no id of a sweep", f"they are the names of folders in {root / SWEEPS}")
    ids = every(root)
    matches = ids[-1:] if name == "last" else [name] if name in ids else [each for each in ids if each.startswith(name)]
    if not matches:
        known = did_you_mean(name, ids) or "start one: aecli sweep quickstart --seeds 5"
        raise RunError(f"there is no sweep '{name}' in {root}" if ids else f"there are no sweeps in {root}", known)
    if len(matches) > 1:
        shown = ", ".join(matches[:5]) + (", ..." if len(matches) > 5 else "")
        raise RunError(f"'{name}' is the start of {len(matches)} ids of sweeps: {shown}", "give more of the id")
    sweep = Sweep(root, matches[0])
    if sweep.path.is_symlink():
        raise RunError(f"{sweep.path} is a link", "links to sweeps are not followed")
    sweep.plan()
    return sweep


def unnoted(sweep: Sweep, lines: Sequence[Line]) -> dict[int, str]:
    """The runs by cell that the sweep has started and the lines do not tell of: a kill fell between the making of a run and its
    line, or the line is damaged. Of several of a cell the newest counts, and none that is older than the one it has."""
    noted = {line.run for line in lines}
    has = {line.cell: line.run for line in lines if line.measured is None}
    found: dict[int, str] = {}
    for run in directory.every(sweep.root):  # the oldest first
        with contextlib.suppress(RunError, OSError):
            origin = run.info().sweep
            if origin is None or origin.id != sweep.id:
                continue
            if run.id not in noted:
                found[origin.cell] = run.id
            elif has.get(origin.cell) == run.id:
                found.pop(origin.cell, None)
    return found


def run_of(sweep: Sweep, run_id: str) -> Run | None:
    """A run of the sweep; None if it is gone."""
    run = Run(sweep.root / run_id)
    return run if (run.path / "run.json").is_file() else None
