"""What a sweep is asked for, by flags or by a file: a config, settings that vary, seeds, and what is measured. Every mistake in
it has its position."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple, cast

from aecli.config import yamlfile
from aecli.config.yamlfile import Document, Path_
from aecli.errors import MAX_SOURCE, ConfigError, Diagnostic, UsageError, did_you_mean

MOST_LETTERS = 20 * yamlfile.MAX_BYTES
"""Of the values of one flag."""
MOST_SEED = 2**32
KEYS = ("config", "set", "grid", "zip", "seeds", "eval", "select", "threads", "name")
"""What a sweep's file may say."""

Place = Callable[[str, str, str, str], Diagnostic]
"""A mistake (rule, message, label, help) where something was said."""


class Value(NamedTuple):
    """One value of a setting, as `--set` takes it, and where it was said."""

    text: str
    place: Place


class Axis(NamedTuple):
    """Settings that vary together: `rows[i]` holds a value for each of the `keys`. Of a grid there is one key."""

    keys: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]


class Asked(NamedTuple):
    """`seeds`: which, how many from the config's own on, or None for that alone. `only`: the evaluators by which each cell is
    measured on test, none for all that fit; None if it is not measured. `problems`: mistakes that leave the rest readable."""

    config: Path
    sets: tuple[Value, ...] = ()
    axes: tuple[Axis, ...] = ()
    seeds: tuple[int, ...] | int | None = None
    only: tuple[str, ...] | None = None
    select: str | None = None
    threads: int | None = None
    name: str | None = None
    problems: tuple[Diagnostic, ...] = ()
    text: str | None = None
    """The file that it was said in, as it stands."""

    def as_file(self) -> str:
        """The same as a sweep's file."""
        if self.text is not None:
            return self.text
        lines = [f"config: {flag_text(str(self.config))}"]
        lines += _block("set", dict(value.text.split("=", 1) for value in self.sets))
        grid = [axis for axis in self.axes if len(axis.keys) == 1]
        lines += _block("grid", {axis.keys[0]: _list(row[0].text for row in axis.rows) for axis in grid})
        zipped = [axis for axis in self.axes if len(axis.keys) > 1]
        lines += _block(
            "zip", {key: _list(row[i].text for row in axis.rows) for axis in zipped for i, key in enumerate(axis.keys)}
        )
        if self.seeds is not None:
            lines.append(f"seeds: {self.seeds if isinstance(self.seeds, int) else _list(map(str, self.seeds))}")
        if self.only is not None:
            lines.append(f"eval: {_list(self.only) if self.only else 'true'}")
        for key, value in (("select", self.select), ("threads", self.threads), ("name", self.name)):
            if value is not None:
                lines.append(f"{key}: {flag_text(value)}")
        return "\n".join(lines) + "\n"


def _block(name: str, values: Mapping[str, str]) -> list[str]:
    return [f"{name}:", *(f"  {key}: {text}" for key, text in values.items())] if values else []


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(texts)}]"


def flag_text(value: Any) -> str:
    """A value as `--set` and a list in a file take it: text plain where that is read as the same, everything else as YAML's flow
    style has it in one line."""
    if isinstance(value, str):
        with contextlib.suppress(ConfigError):
            if (
                value.isprintable()
                and yamlfile.parse_value(f"[{value}]", "") == (value,)
                and yamlfile.parse_value(value, "") == value
            ):
                return value
        return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value) + '"'
    if isinstance(value, tuple):
        return _list(map(flag_text, cast("tuple[Any, ...]", value)))
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{flag_text(key)}: {flag_text(each)}" for key, each in cast("dict[str, Any]", value).items()) + "}"
        )
    if isinstance(value, float) and not isfinite(value):
        return ".nan" if value != value else ".inf" if value > 0 else "-.inf"
    return json.dumps(value)


def from_flags(
    config: Path,
    sets: Sequence[str] = (),
    grid: Sequence[str] = (),
    zipped: Sequence[str] = (),
    seeds: int | None = None,
    seed_list: str | None = None,
    **more: Any,
) -> Asked:
    """What flags say: `grid` and `zipped` read `key=value,value`. `more` are fields of Asked."""
    problems: list[Diagnostic] = []
    grids = [_flag(f"--grid {flag}", flag, problems) for flag in grid]
    zips = [_flag(f"--zip {flag}", flag, problems) for flag in zipped]
    listed: tuple[int, ...] | int | None = seeds
    if seed_list is not None:
        place = _at_flag(f"--seed-list {seed_list}")
        if seeds is not None:
            problems.append(place("bad-flag", "--seeds says how many, --seed-list which: give one of them", "", ""))
        values = _values(seed_list, place, problems)
        listed = _checked_seeds([(value, place) for value in values or ()], place, problems)
    given = tuple(Value(flag, _at_flag(f"--set {flag}")) for flag in sets)
    return _asked(config, given, grids, zips, (listed, _at_flag("--seeds")), problems, **more)


class _Varied(NamedTuple):
    """One setting and its values; `place` is where the setting is named. `values` is None if nothing could be made of them."""

    key: str
    values: tuple[Value, ...] | None
    place: Place


def _flag(name: str, flag: str, problems: list[Diagnostic]) -> _Varied | None:
    place = _at_flag(name)
    key, equals, text = flag.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        option = name.split()[0]
        problems.append(place("bad-flag", f"{option} reads block.key=value,value", "", f"such as {option} model.latent=8,16"))
        return None
    values = _values(text, place, problems)
    return _Varied(key, None if values is None else tuple(Value(flag_text(value), place) for value in values), place)


def _values(text: str, place: Place, problems: list[Diagnostic]) -> tuple[Any, ...] | None:
    """The values of a flag, at whose outer commas YAML itself splits it; None if it cannot be read, which is noted."""
    if len(text) > MOST_LETTERS:
        problems.append(place("too-large", f"longer than {MOST_LETTERS:,} letters", "", "write the values into a file"))
        return None
    try:
        return cast("tuple[Any, ...]", yamlfile.parse_value(f"[{text}]", ""))
    except ConfigError as error:
        problems.extend(
            place(d.rule, d.message, "", "values are separated by commas, as in a list of YAML") for d in error.diagnostics
        )
        return None


def _at_flag(name: str) -> Place:
    name = name if len(name) <= MAX_SOURCE else name[: MAX_SOURCE - 1] + "…"
    return lambda rule, message, label, help: Diagnostic(name, 0, 0, rule, message, label=label, help=help)


def is_sweep(path: Path) -> bool:
    """Whether a file is a sweep's and no config: it names a config, and what varies. Raises ConfigError if it cannot be read."""
    data: Any = yamlfile.read(path).data
    return isinstance(data, dict) and "config" in data and bool({"grid", "zip", "seeds"} & set(cast("dict[str, Any]", data)))


def from_file(path: Path, **more: Any) -> Asked:
    """What a sweep's file says; `more` are fields of Asked that flags say. Raises ConfigError if nothing can be made of it."""
    text = yamlfile.read_text(path)
    document = yamlfile.parse(text, str(path))
    problems = list(document.problems)
    said = cast("dict[str, Any]", document.data)
    for key in said:
        if key not in KEYS:
            place = _at(document, (key,), key=True)
            problems.append(
                place("unknown-key", f"'{key}' is nothing a sweep has", did_you_mean(key, KEYS), "allowed: " + ", ".join(KEYS))
            )
    config = _config_of(document, path.parent, problems)
    sets = tuple(
        Value(f"{key}={flag_text(value)}", _at(document, ("set", key)))
        for key, value in _mapping(document, "set", problems).items()
    )
    blocks: list[list[_Varied | None]] = [
        [
            _Varied(key, _listed(document, (block, key), values, problems), _at(document, (block, key), key=True))
            for key, values in _mapping(document, block, problems).items()
        ]
        for block in ("grid", "zip")
    ]
    seeds = said.get("seeds")
    place = _at(document, ("seeds",))
    if isinstance(seeds, tuple):
        pairs = [(seed, _at(document, ("seeds", i))) for i, seed in enumerate(cast("tuple[Any, ...]", seeds))]
        seeds = _checked_seeds(pairs, place, problems)
    elif seeds is not None and (not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 1):
        problems.append(place("bad-value", "'seeds' is how many, at least 1, or a list of seeds", "", "such as seeds: 5"))
        seeds = None
    words: dict[str, Any] = {}
    for key, kind, what in (
        ("select", str, "the name of a metric"),
        ("threads", int, "a number of cores"),
        ("name", str, "a text"),
    ):
        words[key] = said.get(key)
        sound = isinstance(words[key], kind) and not isinstance(words[key], bool) and words[key] not in (0, "")
        if words[key] is not None and not sound:
            problems.append(_at(document, (key,))("bad-value", f"'{key}' must be {what}", "", ""))
            words[key] = None
    words |= {"only": _evaluators(document, problems), **{key: value for key, value in more.items() if value is not None}}
    return _asked(config, sets, blocks[0], blocks[1], (seeds, place), problems, text=text, **words)


def _at(document: Document, path: Path_, key: bool = False) -> Place:
    marks = document.keys if key and path in document.keys else document.values
    return lambda rule, message, label, help: document.diagnostic(marks[path], rule, message, label, help)


def _config_of(document: Document, folder: Path, problems: list[Diagnostic]) -> Path:
    """The config that is named: beside the sweep's file, or else in the current folder."""
    given = document.data["config"]
    if not isinstance(given, str):
        problems.append(_at(document, ("config",))("bad-value", "'config' is the path of a config", "", ""))
        raise ConfigError(problems)
    beside = folder / Path(given).expanduser()
    return beside if beside.exists() else Path(given).expanduser()


def _mapping(document: Document, block: str, problems: list[Diagnostic]) -> dict[str, Any]:
    value = document.data.get(block)
    if value is None or isinstance(value, dict):
        return cast("dict[str, Any]", value or {})
    what = "a value" if block == "set" else "a list of values"
    problems.append(
        _at(document, (block,))(
            "bad-value",
            f"'{block}' is {what} for each setting",
            "",
            f"such as {block}: {{model.latent: " + ("8}" if block == "set" else "[8, 16]}"),
        )
    )
    return {}


def _listed(document: Document, path: Path_, values: Any, problems: list[Diagnostic]) -> tuple[Value, ...] | None:
    if not isinstance(values, tuple):
        message = f"'{path[1]}' needs a list of values" + (", one of a single value too" if not isinstance(values, dict) else "")
        help = f"settings are written with their block: {path[1]}.key" if isinstance(values, dict) else "such as [8, 16]"
        problems.append(_at(document, path)("bad-value", message, "", help))
        return None
    return tuple(Value(flag_text(value), _at_value(document, path, i)) for i, value in enumerate(cast("tuple[Any, ...]", values)))


def _at_value(document: Document, path: Path_, index: int) -> Place:
    """At a value in a list, or at the setting's name if there is no such setting."""
    value, key = _at(document, (*path, index)), _at(document, path, key=True)
    return lambda rule, *more: (key if rule == "unknown-key" else value)(rule, *more)


def _evaluators(document: Document, problems: list[Diagnostic]) -> tuple[str, ...] | None:
    value = document.data.get("eval")
    if value is None or value is False:
        return None
    if value is True:
        return ()
    names = cast("tuple[Any, ...]", value if isinstance(value, tuple) else (value,))
    if not all(isinstance(name, str) for name in names) or not names:
        problems.append(_at(document, ("eval",))("bad-value", "'eval' is true, or a list of evaluators", "", ""))
        return None
    return tuple(map(str, names))


def _checked_seeds(given: Sequence[tuple[Any, Place]], place: Place, problems: list[Diagnostic]) -> tuple[int, ...] | None:
    found: list[int] = []
    for seed, where in given:
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < MOST_SEED:
            problems.append(where("bad-value", f"a seed is a whole number from 0 to {MOST_SEED - 1:,}, not {seed!r}", "", ""))
        elif seed in found:
            problems.append(where("duplicate", f"seed {seed} is given twice", "", ""))
        else:
            found.append(seed)
    if not given:
        problems.append(place("empty", "there is no seed in this list", "", "such as 1,2,3"))
    return tuple(found) or None


def _asked(
    config: Path,
    sets: tuple[Value, ...],
    grids: Sequence[_Varied | None],
    zips: Sequence[_Varied | None],
    seeds: tuple[tuple[int, ...] | int | None, Place],
    problems: list[Diagnostic],
    **more: Any,
) -> Asked:
    """Holds what varies against each other; what is sound of it becomes axes."""
    grids_sound, zips_sound = ([each for each in some if each is not None] for some in (grids, zips))
    taken: set[str] = set()
    axes: list[Axis] = []
    which, seeds_place = seeds
    for each in (*grids_sound, *zips_sound):
        if each.key in taken:
            problems.append(each.place("duplicate", f"'{each.key}' varies twice", "", "put all its values into one list"))
        taken.add(each.key)
        if each.values == ():
            problems.append(each.place("empty", f"'{each.key}' has no value to take", "", "such as model.latent=8,16"))
        texts = [value.text for value in each.values or ()]
        for twice in sorted({text for text in texts if texts.count(text) > 1}):
            problems.append(each.place("duplicate", f"'{each.key}' has the value {twice} twice", "", ""))
        for other in taken - {each.key}:
            short, long = sorted((each.key, other), key=len)
            if long.startswith(f"{short}."):
                problems.append(each.place("duplicate", f"'{long}' is a part of '{short}', which varies too", "", ""))
    for each in grids_sound:
        if each.key == "seed":
            if which is not None:
                problems.append(each.place("duplicate", "the seed varies by --seeds already", "", "leave one of them out"))
            else:
                pairs = [(yamlfile.parse_value(value.text, ""), value.place) for value in each.values or ()]
                which = _checked_seeds(pairs, each.place, problems) if pairs else None
        elif each.values:
            axes.append(Axis((each.key,), tuple((value,) for value in each.values)))
    lengths = {len(each.values) for each in zips_sound if each.values}
    if len(lengths) > 1:
        counts = ", ".join(f"{each.key} has {len(each.values)}" for each in zips_sound if each.values)
        problems.append(zips_sound[-1].place("zip", f"settings that are zipped need equally many values: {counts}", "", ""))
    elif len(zips) == 1 and zips_sound:
        problems.append(
            zips_sound[0].place("zip", "one setting alone cannot be zipped", "", "zip it with another, or use a grid")
        )
    elif any(each.key == "seed" for each in zips_sound):
        place = next(each.place for each in zips_sound if each.key == "seed")
        problems.append(place("zip", "the seed cannot be zipped", "", "every combination is trained with every seed of --seeds"))
    elif zips_sound and all(each.values for each in zips_sound):
        columns = [cast("tuple[Value, ...]", each.values) for each in zips_sound]
        axes.append(Axis(tuple(each.key for each in zips_sound), tuple(zip(*columns, strict=True))))
    if not grids and not zips and which is None and not problems:
        raise UsageError("nothing varies: a sweep needs --grid, --zip or --seeds", "one run alone: aecli train CONFIG")
    for value in sets:  # what everything else overrides would be heeded by nobody
        key = value.text.partition("=")[0].strip()
        if key in taken or (key == "seed" and isinstance(which, tuple)):
            problems.append(value.place("duplicate", f"'{key}' varies in this sweep", "", "leave one of them out"))
    if more.get("threads") is not None and "train.threads" in taken:
        message = "'train.threads' varies, and --threads says what it is"
        problems.append(Diagnostic("--threads", 0, 0, "duplicate", message, help="leave one of them out"))
    if isinstance(which, int) and which > MOST_SEED:
        problems.append(seeds_place("bad-value", f"there are {MOST_SEED:,} seeds", "", ""))
        which = None
    return Asked(config, sets, tuple(axes), which, problems=tuple(problems), **more)
