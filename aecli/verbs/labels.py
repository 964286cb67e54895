"""`aecli tag` and `aecli note`: what somebody wants to remember of a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from aecli.errors import UsageError
from aecli.runs import labels
from aecli.runs.directory import Run
from aecli.runs.records import MOST_NOTE, MOST_TAGS

_CHANGE = re.compile(r"\A([+-]?)([A-Za-z0-9][A-Za-z0-9._-]{0,49})\Z")


def parse_changes(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """The tags that are added (`paper`, `+paper`) and those that are removed (`-old`). Raises UsageError for what is no tag, and
    for one that is both."""
    added: list[str] = []
    removed: list[str] = []
    for text in given:
        match = _CHANGE.match(text)
        if match is None:
            rule = "a tag is 1 to 50 letters of a to z, digits, '.', '_' and '-', the first a letter or a digit"
            raise UsageError(f"{text!r} is no tag", f"{rule}; +TAG adds it, -TAG removes it")
        (removed if match[1] == "-" else added).append(match[2])
    if both := sorted({*added} & {*removed}):
        raise UsageError(f"tag '{both[0]}' is to be added and removed", "give one of them")
    return added, removed


def tag(run: Run, added: Sequence[str], removed: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """Changes the tags of a run, which may be in training, and returns those that it has now. Raises UsageError if there would be
    more than any run has."""
    with labels.changing(run, say) as before:
        now = list(dict.fromkeys(each for each in (*before.tags, *added) if each not in removed))
        if len(now) > MOST_TAGS:
            raise UsageError(f"run {run.id} would have {len(now)} tags, and {MOST_TAGS} are the most", "remove some: -TAG")
        for name in removed:
            if name not in before.tags:
                say(f"{run.id} has no tag '{name}'")
        if now != before.tags:
            labels.write(run, before, tags=now)
    return now


def note(run: Run, text: str | None, say: Callable[[str], None]) -> None:
    """Replaces the note of a run; None removes it. Raises UsageError for one that is longer than any."""
    if text is not None and len(text) > MOST_NOTE:
        raise UsageError(f"a note has at most {MOST_NOTE:,} letters, and this has {len(text):,}", "keep longer texts in a file")
    with labels.changing(run, say) as before:
        if text != before.note:
            labels.write(run, before, note=text)
