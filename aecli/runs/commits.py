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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aecli.errors import CheckpointError
from aecli.runs.records import SCHEMA, Commit, Progressed, validated
from aecli.system.files import write_json
from aecli.system.reading import Unreadable, read_json, read_regular

SAVING = ".saving"
"""Holds the step of a first checkpoint while it is written."""
_STEP = re.compile(r"\A(\d{1,15})\.commit\.json\Z")
_FOLDER = re.compile(r"\A\d{1,15}\Z")


def path_of(folder: Path, step: int) -> Path:
    return folder / f"{step}.commit.json"


def steps(folder: Path) -> list[int]:
    """The committed steps, oldest first."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(int(match[1]) for name in names if (match := _STEP.match(name)))


def check_not_lost(folder: Path, run_id: str, recorded: int) -> None:
    """Raises CheckpointError if there is no commit file, and something says that there was one: arrays, damaged checkpoints, or a
    state above step 0, which is `recorded`. Whoever went on would train from step 0 again and remove what is left."""
    saving = _being_saved(folder)  # looked at first: whoever saves removes it when the commit file is there
    names = os.listdir(folder) if os.path.isdir(folder) else []
    if any(map(_STEP.match, names)):
        return
    arrays = [name for name in names if _FOLDER.match(name) and name != saving]
    damaged = [name for name in names if name.endswith(".damaged")]
    if arrays:
        trace = f"checkpoints/ holds the arrays of step {max(map(int, arrays))}"
    elif damaged:
        trace = f"checkpoints/ holds {sorted(damaged)[0]}"
    elif recorded:
        trace = f"state.json tells of step {recorded}"
    else:
        return
    raise CheckpointError(
        f"the commit files of run {run_id}'s checkpoints are gone, and {trace}",
        "restore checkpoints/ from a backup, or train anew: a run that has been trained is not started at step 0 again",
    )


def _being_saved(folder: Path) -> str:
    """The step whose arrays were being written when the process was killed; empty if there is none."""
    with contextlib.suppress(OSError, Unreadable, UnicodeDecodeError):
        return read_regular(folder / SAVING, 100).decode()
    return ""


def write(folder: Path, step: int, manifest: Mapping[str, Any]) -> None:
    """Writes the commit file of a step with its checksum: from then on it is a checkpoint."""
    write_json(path_of(folder, step), sealed(manifest))


def read(folder: Path, step: int) -> Commit:
    """Raises Unreadable if it is not there, or not as it was written; CheckpointError if it has another schema."""
    try:
        manifest = read_json(path_of(folder, step))
    except OSError as error:
        raise Unreadable(f"its commit file cannot be read: {(error.strerror or str(error)).lower()}") from None
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


def newest(folder: Path) -> Commit | None:
    """The commit file of the newest step whose file can be read; None if none can."""
    for step in reversed(steps(folder)):
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
