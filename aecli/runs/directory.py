"""Run directories: how they are made, named, found, locked, and what state each is in. Reads and writes small files only."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aecli.errors import RunError, StorageError, UsageError, did_you_mean
from aecli.system.files import write_atomic, write_json

STATES = ("created", "running", "completed", "interrupted", "failed", "diverged", "crashed")
_ID = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_LOCK_SECONDS = 0.5
SCHEMA = 1


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

    def info(self) -> dict[str, Any]:
        """`run.json`. Raises RunError if it cannot be read."""
        return self._json("run.json")

    def recorded(self) -> dict[str, Any]:
        """`state.json` as it was last written; see `state` for what is true now."""
        return self._json("state.json")

    def state(self) -> str:
        """One of STATES. `crashed` is no record: it says running, and nobody holds the lock."""
        state = str(self.recorded()["state"])
        if state not in ("running", "created"):
            return state
        if self.is_locked():
            return state
        # Between the two looks the run may have ended.
        again = str(self.recorded()["state"])
        return "crashed" if again == "running" else again

    def set_state(self, state: str, **facts: Any) -> None:
        write_json(self.path / "state.json", {**self.recorded(), "state": state, **facts})

    def resolved_config(self) -> str:
        try:
            return (self.path / "config.resolved.yaml").read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"run {self.id} has no readable config.resolved.yaml: {error}") from None

    def is_locked(self) -> bool:
        try:
            with (self.path / ".lock").open("r") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
        except BlockingIOError:
            return True
        except OSError:
            return False

    @contextlib.contextmanager
    def locked(self) -> Generator[None]:
        """Holds the run for writing. Raises RunError if another process has it."""
        with (self.path / ".lock").open("a+") as file:
            give_up = time.monotonic() + _LOCK_SECONDS  # whoever only looks whether it is locked holds it for an instant
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > give_up:
                        file.seek(0)
                        holder = file.read(200).strip() or "another process"
                        raise RunError(f"run {self.id} is being trained by {holder}", "wait for it, or stop it") from None
                    time.sleep(0.02)
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """One line of JSON; NaN and infinity raise ValueError."""
        line = json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n"
        with self.metrics.open("ab") as file:
            file.write(line.encode())

    def metrics_size(self) -> int:
        """The offset up to which metrics are written, made durable."""
        if not self.metrics.exists():
            return 0
        with self.metrics.open("ab") as file:
            os.fsync(file.fileno())
            return file.tell()

    def cut_metrics(self, offset: int) -> None:
        """Moves rows past `offset` aside into `metrics.discarded.jsonl`: they tell of steps that will be done again."""
        if not self.metrics.exists() or self.metrics.stat().st_size <= offset:
            return
        content = self.metrics.read_bytes()
        with (self.path / "metrics.discarded.jsonl").open("ab") as file:
            file.write(content[offset:])
            file.flush()
            os.fsync(file.fileno())
        write_atomic(self.metrics, content[:offset])

    def rows(self) -> list[dict[str, Any]]:
        """The metrics, without a last line that a kill cut short."""
        if not self.metrics.exists():
            return []
        rows: list[dict[str, Any]] = []
        for line in self.metrics.read_bytes().split(b"\n"):
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
        return rows

    def _json(self, name: str) -> dict[str, Any]:
        try:
            value = json.loads((self.path / name).read_bytes())
        except (OSError, ValueError) as error:
            raise RunError(f"run {self.id} has no readable {name}: {error}") from None
        if not isinstance(value, dict):
            raise RunError(f"run {self.id}: {name} is not a JSON object")
        return value


def create(root: Path, name: str, config: str, resolved: str, info: Mapping[str, Any]) -> Run:
    """Makes a new run directory; `run.json` is written last, so a folder without it is no run."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:60] or "run"
    try:
        root.mkdir(parents=True, exist_ok=True)
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
        (path / ".lock").touch()
        write_atomic(path / "config.yaml", config.encode())
        write_atomic(path / "config.resolved.yaml", resolved.encode())
        write_json(path / "state.json", {"schema": SCHEMA, "state": "created", "step": 0})
        write_json(path / "run.json", {"schema": SCHEMA, "id": path.name, "created": now.isoformat(), "name": stem, **info})
    except FileExistsError:
        raise StorageError(f"{root} exists and is not a folder", "name another with --runs-dir") from None
    return Run(path)


def every(root: Path) -> list[Run]:
    """All runs below a folder, oldest first; folders that are no runs are left out."""
    found: list[tuple[str, Run]] = []
    if not root.is_dir():
        return []
    for entry in os.scandir(root):
        if _ID.match(entry.name) and entry.is_dir(follow_symlinks=False):
            run = Run(Path(entry.path))
            with contextlib.suppress(RunError):
                found.append((str(run.info().get("created", "")), run))
    return [run for _, run in sorted(found, key=lambda pair: (pair[0], pair[1].id))]


def find(root: Path, name: str) -> Run:
    """The run with this id, or the only one whose id starts so, or the newest for `last`. Raises RunError, and UsageError
    for what can be no id."""
    if not _ID.match(name):
        raise UsageError(f"{name!r} is no run id", "ids are letters, digits, '.', '_' and '-'; `aecli runs` lists them")
    path = root / name
    if path.is_dir() and not path.is_symlink():
        run = Run(path)
        run.info()
        return run
    runs = every(root)
    if not runs:
        raise RunError(f"there are no runs in {root}", "train one: aecli train configs/quickstart.yaml")
    if name == "last":
        return runs[-1]
    matches = [run for run in runs if run.id.startswith(name)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        shown = ", ".join(run.id for run in matches[:5]) + (", ..." if len(matches) > 5 else "")
        raise RunError(f"'{name}' is the start of {len(matches)} run ids: {shown}", "give more of the id")
    raise RunError(
        f"there is no run '{name}' in {root}", did_you_mean(name, [run.id for run in runs]) or "`aecli runs` lists them"
    )


def run_facts(run: Run) -> dict[str, Any]:
    """The row of a run; a run whose files are damaged still has one."""
    info = run.info()
    facts: dict[str, Any] = {
        "id": run.id,
        "state": "unreadable",
        "variant": info.get("variant"),
        "data": info.get("data", {}).get("name"),
        "step": None,
        "best": None,
        "best_step": None,
        "created": info.get("created"),
    }
    try:
        recorded = run.recorded()
        facts |= {
            "state": run.state(),
            "step": recorded.get("step"),
            "best": recorded.get("best_value"),
            "best_step": recorded.get("best_step"),
        }
    except (RunError, KeyError):
        pass
    return facts
