"""Runs that differ in the seed alone are one group: their mean, the spread over seeds, apart from it the error over images."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from aecli.errors import UsageError, did_you_mean
from aecli.reports.member import DECIDES_NOTHING, SEED, Member, setting_as_json

MOST_NAMED = 3
"""Settings in the name of a group; where more differ, it is called as its run."""
LONGEST_NAME = 40
VARIANT = "model.variant"


class Group(NamedTuple):
    """`varied`: the settings beside the seed in which its runs differ, of which there are some only where the user asked for such
    groups."""

    name: str
    members: tuple[Member, ...]
    varied: tuple[str, ...] = ()

    @property
    def seeds(self) -> tuple[str, ...]:
        return tuple(member.seed for member in self.members)


class Spread(NamedTuple):
    """The mean over `n` runs and their standard deviation, None of one. `standard_error` is that of the mean over images as a
    sample of the data, which says nothing of other seeds; None where the values of images are not known."""

    value: float
    deviation: float | None
    n: int
    standard_error: float | None = None


def spread(found: Sequence[float], standard_error: float | None = None) -> Spread | None:
    """None of no values, and of such that no float holds their mean or their spread."""
    try:
        deviation = statistics.stdev(found) if len(found) > 1 else None
        return Spread(statistics.fmean(found), deviation, len(found), standard_error) if found else None
    except OverflowError:
        return None


def differing(members: Sequence[Member]) -> tuple[str, ...]:
    """The settings that decide something and are not alike in all, the seed left out, in the order of the config."""
    keys = dict.fromkeys(key for member in members for key in member.settings)
    return tuple(key for key in keys if key != SEED and key not in DECIDES_NOTHING and len(_values(members, key)) > 1)


def _values(members: Sequence[Member], key: str) -> set[str]:
    return {setting_key(member.settings, key) for member in members}


def setting_key(settings: Mapping[str, Any], key: str) -> str:
    """A setting as a text that is equal where it is; nothing where it is not there."""
    return setting_as_json(settings[key]) if key in settings else ""


def setting_text(settings: Mapping[str, Any], key: str) -> str:
    """A setting for a person, as YAML writes it."""
    return value_text(settings[key]) if key in settings else "-"


def value_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.12g}"
    return setting_as_json(value).replace('"', "")


def without_twins(members: Sequence[Member], say: Callable[[str], None]) -> list[Member]:
    """One run of each config and seed: a second one is no second seed, and would make the spread smaller than it is. Of twins
    the first that has most numbers is kept, and the others are said."""
    alike: dict[str, list[Member]] = {}
    for member in members:
        alike.setdefault(f"{member.seed} {_key(member)}", []).append(member)
    kept: list[Member] = []
    for twins in alike.values():
        best = max(twins, key=lambda member: len(member.numbers))  # the first of several
        kept.append(best)
        for other in twins:
            if other is not best:
                say(f"{other.id} is left out: {best.id} has the same settings and the same seed, and one seed counts once")
    return kept


def _key(member: Member) -> str:
    """Equal for runs that differ in the seed alone, on equal data."""
    of = {key: value for key, value in member.settings.items() if key != SEED and key not in DECIDES_NOTHING}
    return f"{setting_as_json(of)} {member.fingerprint}"


def grouped(members: Sequence[Member], by: str | None = None) -> list[Group]:
    """Groups of runs that differ in the seed alone, or of an equal setting `by`, in the order in which they first occur. Each is
    named by the settings in which the groups differ, where these are few and short, else by the variant where each has another,
    and else by its run. Raises UsageError if no run has such a setting."""
    if by is not None and not any(by in member.settings for member in members):
        known = dict.fromkeys(key for member in members for key in member.settings)
        raise UsageError(f"--by {by}: no run has such a setting", did_you_mean(by, known) or "such as --by model.latent")
    alike: dict[str, list[Member]] = {}
    for member in members:
        alike.setdefault(_key(member) if by is None else setting_key(member.settings, by), []).append(member)
    parts = list(alike.values())
    keys = (by,) if by is not None else differing(members)
    names = _by_settings(parts, keys) or _by_settings(parts, [key for key in keys if key == VARIANT]) or _by_runs(parts)
    return [
        Group(name, tuple(part), tuple(key for key in differing(part) if key != by))
        for name, part in zip(names, parts, strict=True)
    ]


def _by_settings(parts: Sequence[Sequence[Member]], keys: Sequence[str]) -> list[str] | None:
    if len(parts) < 2 or not 1 <= len(keys) <= MOST_NAMED:
        return None
    if any(key not in part[0].settings for part in parts for key in keys):
        return None
    names = [", ".join(f"{key} {setting_text(part[0].settings, key)}" for key in keys) for part in parts]
    return names if len(set(names)) == len(names) and max(map(len, names)) <= LONGEST_NAME else None


def _by_runs(parts: Sequence[Sequence[Member]]) -> list[str]:
    names = [part[0].name[:LONGEST_NAME] for part in parts]
    return [name if names.count(name) == 1 else part[0].id for name, part in zip(names, parts, strict=True)]
