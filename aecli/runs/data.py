"""The data of a run: where it was, and opening it again, there and nothing else.

`run.json` keeps under `data.path` how the path was written, where that was, and how to get there from the run's folder. So a run
and its data can be moved together, and no folder that happens to bear the same name elsewhere is taken for it: what decides is
the fingerprint.
"""

from __future__ import annotations

import os
from pathlib import Path

from aecli.config.schema import OWN_FILES, Data
from aecli.data.dataset import Dataset, open_dataset
from aecli.data.sources.base import Say
from aecli.data.sources.told import some
from aecli.errors import DataError, SettingError, UsageError
from aecli.runs.directory import Run
from aecli.runs.records import DataFacts
from aecli.system.folders import cache_root

SHOWN = 12
"""Characters of a fingerprint in a message."""


def path_facts(root: Path, given: str, path: str) -> dict[str, str]:
    """What `run.json` keeps of a path, for a run below `root`: as it was `given`, where that was, and how it is reached from the
    run's folder."""
    run = os.path.join(os.path.realpath(root), "run")
    return {"given": given, "absolute": os.path.abspath(path), "from_run": os.path.relpath(os.path.realpath(path), run)}


def rules_of(run: Run) -> int:
    """The rules that a run's data is read by; those that runs keep no word of are the first."""
    return run.info().data.rules


def open_run_data(run: Run, data: Data, say: Say, told: str | None = None) -> Dataset:
    """The data that a run was trained on, which `data` describes. Own files are looked for where they were, then where they are
    seen from the run's folder, then where the path as it was given leads now; or, if it is `told` where they are by now, there
    and nowhere else. Raises DataError, naming every place, if the images and labels of none are the run's, UsageError if a place
    is told of data that has none."""
    about = run.info().data
    wanted = about.fingerprint
    was, places = f"in {cache_root()}", [data]
    if data.name in OWN_FILES:
        was, paths = _places(run, data, about)
        paths = paths if told is None else [os.path.abspath(os.path.expanduser(told))]
        places = [data.model_copy(update={"path": str(path)}) for path in paths]
    elif told is not None:
        raise UsageError(f"--data-path {told}: run {run.id} is on {data.name}, no file or folder of yours", "leave it out")
    found: list[str] = []
    gone = 0
    for number, place in enumerate(places):
        where = place.path or f"{data.name} in {cache_root()}"
        if place.path is not None and not os.path.exists(place.path):
            found.append(f"{where} does not exist")
            gone += 1
            continue
        try:
            dataset = open_dataset(place, say, rules_of(run), wanted)
        except (DataError, SettingError) as error:
            if place.path is None:
                raise
            found.append(f"{where} cannot be it ({error.message})")
            continue
        if dataset.fingerprint == wanted:
            if number:
                say(f"the data of run {run.id} is now in {where}")
            if about.class_names and tuple(about.class_names) != dataset.class_names:
                say(f"classes were called {some(about.class_names)} when run {run.id} was trained, which its pictures keep")
            return dataset
        found.append(f"{where} has {dataset.fingerprint[:SHOWN]}")
    if gone == len(places):
        raise DataError(
            f"the data that run {run.id} was trained on is not found: {', '.join(found)}",
            "say where it is by --data-path PATH, or put it, or a link to it, at one of these places",
        )
    raise DataError(
        f"this is not the data that run {run.id} was trained on: that was {was}, with the fingerprint {wanted[:SHOWN]}; "
        + ", ".join(found),
        "restore its images and labels, or say where they are by --data-path PATH; a run on other data is another: train anew",
    )


def _places(run: Run, data: Data, about: DataFacts) -> tuple[str, list[str]]:
    """Where own files were, in words, and where they may be: absolute paths, the likeliest first, each once."""
    assert data.path is not None
    root, kept = os.path.realpath(run.path), about.path
    if kept is not None:
        was, places = f"in {kept.absolute}", [data.path, kept.absolute, os.path.join(root, kept.from_run), kept.given]
    else:  # of an older version: seen from the folder that it was started in, which is most often that of `runs`
        was, places = f"in {data.path}", [data.path, os.path.join(root, "..", "..", data.path)]
    return was, list(dict.fromkeys(os.path.abspath(os.path.expanduser(place)) for place in places))
