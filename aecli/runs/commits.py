"""The commit files of checkpoints, `<step>.commit.json`: which steps there are, and what was saved beside their arrays. Without
jax.

A commit file holds the size and SHA-256 of each file of its checkpoint, the path, shape, type and SHA-256 of each array, what the
training keeps beside them, and a checksum of itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aecli.errors import CheckpointError
from aecli.runs.records import SCHEMA, Commit, Progressed, validated
from aecli.system.files import write_json
from aecli.system.reading import GONE, Unreadable, read_json, read_regular

SAVING = ".saving"
"""Holds the step of a checkpoint while it is written."""
LEFT_OUT = ".left-out"
"""Stands in place of checkpoints that were left out of the archive that a run came in."""
REMOVED = re.compile(r"\A(0|[1-9]\d{0,14})\.removed\Z")
"""The name of a commit file while its checkpoint is being removed."""
_STEP = re.compile(r"\A(0|[1-9]\d{0,14})\.commit\.json\Z")
_FOLDER = re.compile(r"\A(0|[1-9]\d{0,14})\Z")


def path_of(folder: Path, step: int) -> Path:
    return folder / f"{step}.commit.json"


def steps(folder: Path) -> list[int]:
    """The committed steps, oldest first."""
    return _committed(os.listdir(folder) if os.path.isdir(folder) else [])


def _committed(names: Iterable[str]) -> list[int]:
    return sorted(int(match[1]) for name in names if (match := _STEP.match(name)))


def without_commit(folder: Path) -> list[int]:
    """The steps whose arrays are there and whose commit file is not, oldest first: it has been lost. What is being saved or
    removed is none of them, nor what a killed save or removal left."""
    return _look(folder)[1]


def _look(folder: Path) -> tuple[list[int], list[int], list[str]]:
    """The committed steps, those that lost their commit file, and all names."""
    saving = {being_saved(folder)}
    names = os.listdir(folder) if os.path.isdir(folder) else []
    saving.add(being_saved(folder))  # a save may begin or end meanwhile
    known = _committed(names)
    flux = {int(name) for name in saving if name} | {int(match[1]) for name in names if (match := REMOVED.match(name))}
    return known, sorted({int(name) for name in names if _FOLDER.match(name)} - {*known} - flux), names


def check_not_lost(folder: Path, run_id: str, recorded: int) -> str | None:
    """A line about the newest step that there was, if its commit file is gone and there are older ones; None if nothing is lost.
    What says that there was one: arrays, damaged checkpoints, or a state above step 0, which is `recorded` and was read before.
    Raises CheckpointError if there is no commit file: whoever went on would train from step 0 again."""
    known, arrays, names = _look(folder)
    if LEFT_OUT in names and not known:
        raise CheckpointError(
            f"the checkpoints of run {run_id} were left out of the archive that it came in",
            "import an archive with them, after `aecli rm`, or into another --runs-dir",
        )
    damaged = sorted(name for name in names if ".damaged" in name)
    if known:
        if (lost := max([recorded, *arrays])) <= known[-1]:
            return None
        trace = "state.json tells of it" if lost not in arrays else "its arrays are there, and its commit file is gone"
        return f"checkpoint {lost} of run {run_id} is lost ({trace}): the newest that is left is of step {known[-1]}"
    if arrays:
        trace = f"checkpoints/ holds the arrays of step {arrays[-1]}"
    elif damaged:
        trace = f"checkpoints/ holds {damaged[0]}"
    elif recorded:
        trace = f"state.json tells of step {recorded}"
    else:
        return None
    raise CheckpointError(
        f"the commit files of run {run_id}'s checkpoints are gone, and {trace}",
        "restore checkpoints/ from a backup, or train anew: a run that has been trained is not started at step 0 again",
    )


def being_saved(folder: Path) -> str:
    """The step whose arrays are being written, or were when the process was killed; empty if there is none."""
    with contextlib.suppress(*GONE, Unreadable, UnicodeDecodeError):
        step = read_regular(folder / SAVING, 100).decode()
        return step if _FOLDER.match(step) else ""
    return ""


def write(folder: Path, step: int, manifest: Mapping[str, Any]) -> None:
    """Writes the commit file of a step with its checksum: from then on it is a checkpoint."""
    write_json(path_of(folder, step), sealed(manifest))


def read(folder: Path, step: int) -> Commit:
    """Raises Unreadable if it is not there, or not as it was written; CheckpointError if it has another schema; OSError as the
    system does."""
    try:
        manifest = read_json(path_of(folder, step))
    except GONE:
        raise Unreadable("its commit file is gone") from None
    except Unreadable as error:
        raise Unreadable(f"its commit file: {error}") from None
    if not isinstance(manifest, dict) or manifest != sealed(manifest):
        raise Unreadable("its commit file is not what was written")
    try:
        commit = validated(Commit, manifest)
    except Unreadable as error:
        raise Unreadable(f"its commit file: {error}") from None
    if commit.schema_ != SCHEMA:
        raise CheckpointError(
            f"checkpoint {step} has schema {commit.schema_}, this aecli reads {SCHEMA}", "use the version that wrote it"
        )
    if commit.step != step:
        raise Unreadable(f"its commit file is that of step {commit.step}")
    return commit


def newest(folder: Path, known: Sequence[int] | None = None) -> Commit | None:
    """The commit file of the newest step whose file can be read, of those that are known or of all; None if none can."""
    for step in reversed(steps(folder) if known is None else known):
        with contextlib.suppress(Unreadable, CheckpointError):
            return read(folder, step)
    return None


def progressed(commit: Commit) -> Progressed:
    """How far the run was. Raises Unreadable if the file does not say."""
    return validated(Progressed, commit.extra.get("progressed"))


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with the SHA-256 of the rest of itself, so that a flipped bit in it is found too."""
    rest = {key: value for key, value in manifest.items() if key != "seal"}
    return {**rest, "seal": hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}
