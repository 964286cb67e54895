"""Run directories: how they are made, named, found, locked, and what state each is in. Reads and writes small files only."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aecli.config.yamlfile import MAX_BYTES
from aecli.errors import CheckpointError, RunError, StorageError, UsageError, did_you_mean
from aecli.runs import commits, seal
from aecli.runs.parts import check_parts
from aecli.runs.records import SCHEMA, Row, RunFile, StateFile, validated
from aecli.system.files import append_line, fsync_directory, holder_of, is_taken, make_folder, write_atomic, write_json
from aecli.system.reading import GONE, Unreadable, open_regular, parse_json, read_json, read_regular, set_aside

_ID = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_IDS = "ids are 1 to 100 letters of a to z, digits, '.', '_' and '-', the first a letter or a digit"
_LAST = re.compile(r"\Alast(?:~(\d{1,9}))?\Z", re.ASCII)
ID_END = re.compile(r"-[0-9]{8}-[0-9]{6}-[0-9a-f]{4}\Z")
"""What an id ends with: when the run was made, and four hex digits."""
SHORTEST_END = 4
"""Letters of the end of an id that name a run: the hex digits at the end of each."""
LOCK_SECONDS = 0.5
"""How long one waits for who holds a run or a sweep: whoever only looks whether it is held does so for an instant."""
UNREADABLE = "unreadable"
"""What stands in place of a state of a run that cannot be read."""
NO_RUNS, HOW_TO_TRAIN = "there are no runs in {root} yet", "train one: aecli train quickstart"
MOST_RESOLVED = 4 * MAX_BYTES
"""Bytes of `config.resolved.yaml`: letters beyond ASCII and numbers in lists take more as written than as given."""
MOST_METRICS = 2**30
"""Bytes of `metrics.jsonl`: a row a step of a million steps has a quarter of it."""
MOST_LINE = 2**20
"""Bytes of one of its lines."""
MOST_SPLITS = 10
"""Names of splits in it: there are two."""


class Run(NamedTuple):
    """One run directory. Its files: `run.json` (immutable), `config.yaml` as given, `config.resolved.yaml`, `state.json`,
    `.lock`, `checkpoints/`, `metrics.jsonl`, `samples/`, `eval/`."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def info(self) -> RunFile:
        """`run.json`. Raises RunError if it cannot be read."""
        try:
            return validated(RunFile, read_json(self.path / "run.json"))
        except (OSError, Unreadable) as error:
            raise _unreadable(self, "run.json", error) from None

    def recorded(self) -> StateFile:
        """`state.json` as it was last written; see `state` for what is true now, and `look` where it cannot be read."""
        return self.look()[0]

    def look(self) -> tuple[StateFile, str | None]:
        """`state.json`, and None; or, where it is gone or damaged, what the newest readable checkpoint tells, and what is wrong
        with the file. Raises OSError as the system does."""
        try:
            return validated(StateFile, read_json(self.path / "state.json")), None
        except FileNotFoundError:
            wrong = "state.json is gone"
        except Unreadable as error:
            wrong = f"state.json cannot be read: {error}"
        facts: dict[str, Any] = {"schema": SCHEMA, "state": "crashed", "step": 0}
        newest = commits.newest(self.checkpoints)
        if newest is not None:
            facts["step"] = newest.step
            with contextlib.suppress(Unreadable):
                at = commits.progressed(newest)
                facts |= {"best_step": at.best_step, "best_value": at.best_value}
        return validated(StateFile, facts), wrong

    def state(self) -> str:
        """One of STATES. `crashed` is no record: it says running, and nobody holds the lock."""
        return self.state_now(self.recorded())

    def state_now(self, recorded: StateFile) -> str:
        """The same of a `state.json` that has just been read."""
        state = recorded.state
        if state not in ("running", "created", "crashed"):
            return state
        if self.is_locked():
            return "running" if state == "crashed" else state
        # Between the two looks the run may have ended.
        again = self.recorded().state
        return "crashed" if again == "running" else again

    def set_state(self, state: str, **facts: Any) -> None:
        write_json(self.path / "state.json", {**self.recorded().as_json(), "state": state, **facts})

    def mend(self, say: Callable[[str], None]) -> None:
        """Sets aside what is to be written and cannot be read, and says so: `state.json`, which its checkpoints tell anew, and
        metrics that are no file. The caller has locked the run."""
        known, wrong = self.look()
        if wrong is not None:
            with contextlib.suppress(FileNotFoundError):
                set_aside(self.path / "state.json")
            write_json(self.path / "state.json", known.as_json())
            say(f"{wrong}: made anew from the checkpoints, at step {known.step:,}")
        if self.metrics.is_dir():
            say(f"metrics.jsonl is a folder: now {set_aside(self.metrics).name}")

    def resolved_config(self) -> str:
        try:
            return read_regular(self.path / "config.resolved.yaml", MOST_RESOLVED).decode("utf-8")
        except (OSError, UnicodeDecodeError, Unreadable) as error:
            raise _unreadable(self, "config.resolved.yaml", error) from None

    def is_locked(self) -> bool:
        return holder_of(self.path / ".lock") is not None

    @contextlib.contextmanager
    def locked(self, doing: str | None = None) -> Generator[None]:
        """Holds the run for training, or for what one is `doing` ("removes it"). Raises RunError if another process has it, the
        run has been removed meanwhile, or the lock is no file of its own."""
        try:
            handle = self._open(".lock")
        except FileNotFoundError:
            raise self._removed() from None
        with os.fdopen(handle, "r+") as file:
            if not is_taken(handle, LOCK_SECONDS):
                holder = file.read(200).strip() or "another process"
                held = "held" if ", which" in holder else "being trained"
                raise RunError(f"run {self.id} is {held} by {holder}", "wait for it, or stop it")
            try:
                there = os.path.samestat(os.fstat(handle), os.lstat(self.path / ".lock"))
            except FileNotFoundError:
                there = False
            if not there:
                raise self._removed()
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()} on {socket.gethostname()}" + (f", which {doing}" if doing else ""))
            file.flush()
            yield

    def _removed(self) -> RunError:
        return RunError(f"run {self.id} has been removed from {self.path.parent}", "`aecli runs` lists those that are there")

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """One line of JSON; NaN and infinity raise ValueError. What a kill or a lost block left of the line before is ended."""
        line = json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n"
        with os.fdopen(self._open("metrics.jsonl", os.O_APPEND), "r+b") as file:
            append_line(file, line.encode(errors="backslashreplace"))

    def metrics_size(self) -> int:
        """The offset up to which metrics are written, made durable."""
        if not self.metrics.exists():
            return 0
        handle = self._open("metrics.jsonl")
        try:
            os.fsync(handle)
            size = os.fstat(handle).st_size
        finally:
            os.close(handle)
        fsync_directory(self.path)  # of the first rows the file's name is new too
        return size

    def cut_metrics(self, offset: int) -> None:
        """Moves rows past `offset` aside into `metrics.discarded.jsonl`: they tell of steps that will be done again. Raises
        RunError if there are more than any training writes between two checkpoints."""
        more = self.metrics.stat().st_size - offset if self.metrics.exists() else 0
        if more > MOST_METRICS:
            message = f"metrics.jsonl of run {self.id} has {more:,} bytes after those that its checkpoint knows"
            raise RunError(message, f"cut them off: truncate -s {offset} {self.metrics}")
        if more <= 0:
            return
        with os.fdopen(self._open("metrics.jsonl"), "r+b") as metrics:
            metrics.seek(offset)
            with os.fdopen(self._open("metrics.discarded.jsonl", os.O_APPEND), "r+b") as discarded:
                shutil.copyfileobj(metrics, discarded, 2**20)
                discarded.flush()
                os.fsync(discarded.fileno())
            fsync_directory(self.path)  # the discarded rows' name may be new, and nothing else has them from here
            metrics.truncate(offset)
            os.fsync(metrics.fileno())

    def rows(self) -> list[Row]:
        """The rows of `metrics.jsonl`, without what is no row: a line that a kill cut short, or that was damaged later."""
        return self.read_rows()[0]

    def read_rows(self) -> tuple[list[Row], int]:
        """The rows, and how many lines are none; a last line without an end, which may still be being written, is not counted."""
        lines = list(self.each_row())
        return [row for row in lines if row is not None], lines.count(None)

    def last_rows(self) -> tuple[dict[str, Row], int]:
        """The last row of each split, and how many lines are none."""
        last: dict[str, Row] = {}
        damaged = 0
        for row in self.each_row():
            if row is None:
                damaged += 1
            elif row.split in last or len(last) < MOST_SPLITS:
                last[row.split] = row
        return last, damaged

    def each_row(self) -> Iterator[Row | None]:
        """Row after row, and None for each line that is none."""
        try:
            handle = open_regular(self.metrics)
        except GONE:
            return
        except Unreadable:
            yield None
            return
        with os.fdopen(handle, "rb") as file:
            if os.fstat(handle).st_size > MOST_METRICS:
                yield None
                return
            while line := file.readline(MOST_LINE):
                try:
                    yield validated(Row, parse_json(line))
                except Unreadable:
                    if line != b"\n" and line.endswith(b"\n"):
                        yield None

    def _open(self, name: str, flags: int = 0) -> int:
        """A descriptor for reading and writing of a file of the run, made where it is not there. Raises RunError if something
        else stands there, or a file that has another name elsewhere, which would be written to."""
        try:
            return open_regular(self.path / name, os.O_RDWR | os.O_CREAT | flags)
        except Unreadable as error:
            raise RunError(f"{name} of run {self.id} cannot be written to: {error}", "move it away") from None


def _unreadable(run: Run, name: str, error: Exception) -> RunError:
    if isinstance(error, OSError) and not isinstance(error, GONE):
        raise error
    why = "it is gone" if isinstance(error, GONE) else str(error)
    return RunError(f"{name} of run {run.id} cannot be read: {why}", "restore it from a backup, or train anew")


def create(
    root: Path, name: str, config: str, resolved: str, info: Mapping[str, Any], beside: Mapping[str, bytes] | None = None
) -> Run:
    """Makes a new run directory, with the files `beside` by name; `run.json` is written last, so a folder without it is no run.
    Survives a power cut once this returns. Raises StorageError if `root` is no folder."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:60] or "run"
    try:
        make_folder(root)
        while True:
            now = datetime.datetime.now(datetime.UTC)
            path = root / f"{stem}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
            try:
                path.mkdir()
                break
            except FileExistsError:
                continue
        for folder in ("checkpoints", "samples", "eval"):
            (path / folder).mkdir()
        fsync_directory(root)
        (path / ".lock").touch()
        write_atomic(path / "config.yaml", config.encode())
        write_atomic(path / "config.resolved.yaml", resolved.encode())
        for file, content in (beside or {}).items():
            write_atomic(path / file, content)
        write_json(path / "state.json", {"schema": SCHEMA, "state": "created", "step": 0})
        write_json(path / "run.json", {"schema": SCHEMA, "id": path.name, "created": now.isoformat(), "name": stem, **info})
    except FileExistsError:
        raise StorageError(f"{root} exists and is not a folder", "name another with --runs-dir") from None
    return Run(path)


def is_id(name: str) -> bool:
    """Whether a run could be called so."""
    return _ID.match(name) is not None


def every(root: Path) -> list[Run]:
    """All runs below a folder, oldest first, those whose `run.json` cannot be read before all others. Folders that are no runs
    are left out: those without a `run.json`, unless they hold checkpoints. Raises OSError if it is no folder that can be read."""
    return [run for run, _ in every_with_info(root)]


def every_with_info(root: Path) -> list[tuple[Run, RunFile | None]]:
    """The same, each with its `run.json` as it was just read; None where it cannot be."""
    found: list[tuple[Run, RunFile | None]] = []
    try:
        entries = list(os.scandir(root))
    except FileNotFoundError:
        return []
    for entry in entries:
        if entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False):
            continue
        run = Run(Path(entry.path))
        try:
            found.append((run, run.info()))
        except RunError:
            if os.path.lexists(run.path / "run.json") or commits.steps(run.checkpoints):
                found.append((run, None))
        except OSError:
            found.append((run, None))
    return sorted(found, key=lambda pair: ("" if pair[1] is None else pair[1].created, pair[0].id))


def is_last(name: str) -> bool:
    """Whether a name means a run by its age, whatever is called so."""
    return _LAST.match(name) is not None


def find(root: Path, name: str) -> Run:
    """The run with this id, or the only one whose id starts or ends so, or the newest for `last`, the one before it for `last~1`.
    Raises RunError, also for a run that holds what no run holds (`parts.py`) or whose `run.json` cannot be read, and UsageError
    for what can be no id."""
    if not _ID.match(name) and not _LAST.match(name):
        help = "`aecli runs` lists them"
        with contextlib.suppress(OSError):  # of a name that is too long
            if "/" not in name and (root / name / "run.json").is_file():
                help = "rename the folder"
        raise UsageError(f"{name!r} is no run id", f"{_IDS}; {help}")
    run = Run(_path_of(root, name))
    check_parts(run.path)
    run.info()
    return run


def _path_of(root: Path, name: str) -> Path:
    path = root / name
    runs = [run for run in every(root) if _ID.match(run.id)]
    if (last := _LAST.match(name)) and runs:  # whatever is called so
        before = int(last[1] or 0)
        if before >= len(runs):
            raise RunError(f"there is no run '{name}' in {root}: there are {len(runs)}", "`aecli runs` lists them")
        path = runs[-1 - before].path
    elif path.is_symlink():
        if not path.exists():
            raise RunError(f"{path} is a link that leads nowhere", "remove it; `aecli runs` lists the runs")
        target = Path(os.path.realpath(path))
        if str(target.parent) != os.path.realpath(root):
            message = f"{path} is a link to {target}, and links to runs elsewhere are not followed"
            raise RunError(message, f"--runs-dir {target.parent} {target.name}")
        path = root / target.name
    if path.is_dir():
        return path
    if not runs:
        raise RunError(NO_RUNS.format(root=root), HOW_TO_TRAIN)
    starts = [run for run in runs if run.id.startswith(name)]
    ends = [run for run in runs if len(name) >= SHORTEST_END and run.id.endswith(name) and run not in starts]
    matches = starts + ends
    if len(matches) == 1:
        return matches[0].path
    if matches:
        shown = ", ".join(run.id for run in matches[:5]) + (", ..." if len(matches) > 5 else "")
        where = " or ".join(word for word, found in (("start", starts), ("end", ends)) if found)
        raise RunError(f"'{name}' is the {where} of {len(matches)} run ids: {shown}", "give more of the id")
    raise RunError(
        f"there is no run '{name}' in {root}", did_you_mean(name, [run.id for run in runs]) or "`aecli runs` lists them"
    )


def _contradiction(run: Run, info: RunFile, recorded: StateFile) -> str | None:
    """What `run.json` and `state.json` say that the newest readable checkpoint does not; None if nothing. Of a run that goes on,
    or that an error ended, the state may be ahead."""
    newest = commits.newest(run.checkpoints)
    if newest is None:
        return None
    if (wrong := seal.disagreement(info, newest)) is not None or recorded.state != "completed":
        return wrong
    said = (recorded.step, recorded.best_step, recorded.best_value)
    with contextlib.suppress(Unreadable):
        at = commits.progressed(newest)
        if said != (newest.step, at.best_step, at.best_value):
            return f"state.json says step {recorded.step:,} and other than the newest checkpoint, of step {newest.step:,}"
    return None


def run_facts(run: Run, info: RunFile | None = None) -> dict[str, Any]:
    """The row of a run, whose `run.json` may have been read already; a run whose files are damaged still has one. `note` says
    what is wrong with it, if anything is."""
    facts: dict[str, Any] = dict.fromkeys(("variant", "data", "step", "best", "best_step", "created", "note"))
    facts = {"id": run.id, "state": UNREADABLE, **facts}
    try:
        if not _ID.match(run.id):
            raise RunError(f"its name can be no id: {_IDS}; rename the folder")
        check_parts(run.path)
        info = info or run.info()
        facts |= {"variant": info.variant, "data": info.data.name, "created": info.created}
        recorded, wrong = run.look()
        facts |= {"step": recorded.step, "best": recorded.best_value, "best_step": recorded.best_step}
        facts["state"] = run.state_now(recorded)
        facts["note"] = wrong or _contradiction(run, info, recorded)
    except (RunError, CheckpointError) as error:
        facts["note"] = error.message
    except OSError as error:
        facts["note"] = f"{(error.strerror or str(error)).lower()}: {error.filename}"
    return facts
