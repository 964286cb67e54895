"""The seal of a run: hashes of its config and of what it keeps of its data, written when it starts and with every checkpoint.

A bit that flips in `config.resolved.yaml` may leave a config that is sound and another experiment, whose numbers nobody would
take for wrong. So whoever reads a run compares.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

from aecli.config import yamlfile
from aecli.errors import ConfigError, RunError
from aecli.runs.records import Commit, DataFacts, RunFile

FREE = {"train": ("steps", "epochs", "trackers"), "data": ("tier",)}
"""Settings that are not sealed: a resumed run may change how long it trains, and neither where images live nor who else is told
of the training decides a number."""
_FILE = "config.resolved.yaml"
_MEND = "restore it from a backup, or train anew: its numbers would be of another experiment"


def of_config(text: str) -> str:
    """The SHA-256 of what a resolved config says, however it is laid out. Raises RunError if it is no YAML."""
    try:
        said: Any = yamlfile.parse(text, _FILE).data
    except ConfigError as error:
        raise RunError(f"{_FILE} cannot be read:\n{error.render()}", _MEND) from None
    return of_settings(said)


def of_settings(said: Any) -> str:
    """The same of a config that has been read."""
    blocks = dict(cast("Mapping[str, Any]", said)) if isinstance(said, dict) else {"": said}
    for name, free in FREE.items():
        block = blocks.get(name)
        if isinstance(block, dict):
            blocks[name] = {key: value for key, value in cast("dict[str, Any]", block).items() if key not in free}
    return _sha256(blocks)


def of_data(data: DataFacts) -> str:
    """The SHA-256 of what decides how a run's data is read and shown: all of `data` in `run.json` but where it lies."""
    kept = data.as_json()
    return _sha256({key: value for key, value in kept.items() if key not in ("path", "tier", "duplicates")})


def facts(text: str, data: DataFacts) -> dict[str, str]:
    """What a commit file keeps."""
    return {"experiment": of_config(text), "data": of_data(data), "fingerprint": data.fingerprint}


def check_config(run_id: str, text: str, info: RunFile) -> None:
    """Raises RunError if the config is not the one that the run was started with."""
    if info.experiment is not None and info.experiment != of_config(text):
        raise RunError(f"{_FILE} of run {run_id} is not what the run was started with", _MEND)


def check_commit(run_id: str, text: str, info: RunFile, commit: Commit) -> bool:
    """Whether a checkpoint is sealed, as those of older versions are not. Raises RunError if it is of another config or of other
    data than the run now says."""
    kept = _kept(commit)
    if kept is None:
        return False
    now = facts(text, info.data)
    for key, file in (("experiment", _FILE), ("data", "run.json"), ("fingerprint", "run.json")):
        if kept.get(key) != now[key]:
            raise RunError(f"{file} of run {run_id} has been changed since checkpoint {commit.step} was written ({key})", _MEND)
    return True


def disagreement(info: RunFile, commit: Commit) -> str | None:
    """What is wrong with a run whose checkpoint is of another config or other data than `run.json` says, without a look at the
    config; None if they agree, or there is no seal."""
    kept = _kept(commit)
    if kept is None or info.experiment is None:
        return None
    now = {"experiment": info.experiment, "data": of_data(info.data), "fingerprint": info.data.fingerprint}
    if all(kept.get(key) == value for key, value in now.items()):
        return None
    return f"run.json is of another experiment or other data than checkpoint {commit.step}"


def _kept(commit: Commit) -> Mapping[str, Any] | None:
    kept = commit.extra.get("seal")
    return cast("Mapping[str, Any]", kept) if isinstance(kept, dict) else None


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
