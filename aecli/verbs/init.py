"""What `aecli init` does: a config to begin with, for the data at hand, with every setting explained."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from aecli.config import load, shipped, yamlfile
from aecli.config.commented import commented
from aecli.config.schema import OWN_FILES, Data, unheeded
from aecli.config.values import as_config
from aecli.core.model import Spec
from aecli.data.sources.registry import Peeked, check_name, peek
from aecli.errors import AecliError, SettingError, UsageError, did_you_mean, printable
from aecli.system.files import write_atomic
from aecli.system.progress import say
from aecli.verbs import check

LONGEST_SIDE = 64
"""Pixels of own images, to which larger ones are reduced at first: the networks of the configs are made for such."""
_OF_ITS_DATA = ("name", "path", "classes", "label", "array", "manual_dir", "size", "channels", "validation")
"""Settings of a config's `data` that say which data it is, and are left behind with it."""


class Begun(NamedTuple):
    """`told`: what is known of the config; `wrong`: why the model cannot serve the data as the config stands, if it cannot."""

    path: Path
    told: str
    wrong: AecliError | None = None


def begin(name: str, out: Path | None = None, data: str | None = None) -> Begun:
    """Writes a config like the one of this name that comes with aecli, for `data`: a data set's name, or KIND:PATH of own files.

    Raises UsageError if there is no such config or kind, or the file is there already; DataError if own files cannot be read."""
    source = shipped.file_of(Path(name))
    if source is None:
        known = shipped.names()
        raise UsageError(
            f"no config called '{name}' comes with aecli", did_you_mean(name, known) or f"there are {', '.join(known)}"
        )
    out = Path(f"{source.stem}.yaml") if out is None else out
    if os.path.lexists(out):
        raise UsageError(f"{out} is there already", "give another name with -o, or remove it")
    given = cast("dict[str, Any]", yamlfile.parse(yamlfile.read_text(source), source.stem).data)
    if data is not None:
        given["data"] = _block(data, given["data"], out.parent)
    parsed = load.parse(as_config(given), source.stem, check_name=check_name)
    about = f"Begun from {source.stem}, which comes with aecli. A line that begins with # and a setting has its default."
    write_atomic(
        out, commented(parsed.experiment, given, [f"aecli train {printable(shlex.quote(str(out)))}", "", about]).encode()
    )
    try:
        return Begun(out, check.hold_against_data(load.load(out, check_name=check_name)))
    except AecliError as error:
        return Begun(out, "", error)


def _block(data: str, before: Mapping[str, Any], beside: Path) -> dict[str, Any]:
    """The block `data` for other data, with those settings of the one `before` that are not about its own."""
    kind, colon, path = data.partition(":")
    if colon and kind not in OWN_FILES:
        kind, colon = data, ""  # a version of a data set, as mnist:3.0.1
    if kind in OWN_FILES and not path:
        raise UsageError(f"{kind} needs a path", f"--data {kind}:PATH")
    kept = {key: value for key, value in before.items() if key not in {*_OF_ITS_DATA, *unheeded(kind)}}
    if not colon:
        try:
            check_name(kind)
        except SettingError as error:
            raise UsageError(
                error.message, f"{error.help}; own files: {', '.join(f'{name}:PATH' for name in OWN_FILES)}"
            ) from None
        return {"name": kind, **kept}
    full = os.path.abspath(os.path.expanduser(path))
    try:
        found = peek(Data(name=kind, path=full))
    except AecliError:
        if not os.path.exists(full):
            raise
        found = Peeked(None, {})  # it needs a setting more, which is told once the config is there to take it
    place = path if os.path.isabs(os.path.expanduser(path)) else os.path.relpath(path, beside)
    size = None if found.spec is None or kind == "vectors" else _size(found.spec)
    if "train" in found.sizes:
        kept["batch_size"] = max(
            1, min(kept.get("batch_size", Data.model_fields["batch_size"].default), found.sizes["train"] // 2)
        )
    return {"name": kind, "path": place, **({"size": size} if size else {}), **kept}


def _size(spec: Spec) -> list[int] | None:
    """Height and width to which images are reduced that are larger than the networks are made for."""
    scale = LONGEST_SIDE / max(spec.height, spec.width)
    if scale >= 1:
        return None
    size = [max(1, round(spec.height * scale)), max(1, round(spec.width * scale))]
    say(f"images of {spec.height}x{spec.width} are reduced to {size[0]}x{size[1]}: data.size")
    return size
