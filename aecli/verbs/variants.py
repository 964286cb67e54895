"""`aecli variants`: what each model family is, can do, and can be set to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from aecli.config import shipped
from aecli.config import variants as catalog
from aecli.config.commented import told
from aecli.config.shipped import Reached
from aecli.core.abilities import abilities, lacking
from aecli.core.model import Model
from aecli.errors import UsageError, VariantError, did_you_mean
from aecli.evaluation.registry import EVALUATORS, fits
from aecli.sampling import samplers
from aecli.sampling.modes import MODES


class Setting(NamedTuple):
    default: Any
    description: str


class Variant(NamedTuple):
    """`about`: its papers. `configs`: those that come with aecli. `modes`, `samplers` and `evaluators` are those that the
    family's abilities allow, with their help; some need a setting, such as `conditional`, or labelled data too."""

    name: str
    summary: str
    about: str
    abilities: tuple[str, ...]
    modes: Mapping[str, str]
    samplers: tuple[str, ...]
    evaluators: Mapping[str, str]
    settings: Mapping[str, Setting]
    configs: Sequence[Reached]

    def as_json(self) -> dict[str, Any]:
        return {
            "variant": self.name,
            "abilities": list(self.abilities),
            "summary": self.summary,
            "about": self.about,
            "settings": {key: setting.default for key, setting in self.settings.items()},
            "descriptions": {key: setting.description for key, setting in self.settings.items() if setting.description},
            "modes": list(self.modes),
            "samplers": list(self.samplers),
            "evaluators": list(self.evaluators),
            "configs": [each._asdict() for each in self.configs],
        }


class Variants(NamedTuple):
    """The variants that can be used, and what is wrong with the files of the others."""

    sound: list[Variant]
    broken: list[VariantError]


def variants(name: str | None = None) -> Variants:
    """Every variant, or the one of this name. Raises UsageError if there is none of this name, VariantError if its file is
    broken."""
    if name is None:
        loaded = catalog.load_all()
        return Variants([_describe(each, cls) for each, cls in loaded.sound.items()], list(loaded.broken))
    known = catalog.variants()
    if name not in known:
        raise UsageError(f"there is no variant '{name}'", did_you_mean(name, known) or "variants: " + ", ".join(known))
    return Variants([_describe(name, catalog.load(name))], [])


def settings(block: type[BaseModel]) -> Mapping[str, Setting]:
    """What a block of a config may hold, by name; a default that depends on other settings is None."""
    return {key: Setting(_json(field.default), told(field)) for key, field in block.model_fields.items()}


def _describe(name: str, cls: type[Model]) -> Variant:
    about = catalog.about(cls)
    return Variant(
        name,
        about.summary,
        _unwrapped(about.papers),
        abilities(cls),
        {
            name: mode.help
            for name, mode in MODES.items()
            if not lacking(cls, mode.abilities) and ("conditional" in cls.model_fields or not mode.conditional)
        },
        samplers.fits(cls),
        {evaluator: EVALUATORS[evaluator].help for evaluator in fits(cls)},
        settings(cls),
        list(shipped.reached(name)),
    )


def _unwrapped(text: str) -> str:
    """Paragraphs of a docstring, each in one line."""
    return "\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


def _json(value: Any) -> Any:
    if value is PydanticUndefined:
        return None
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    if hasattr(value, "model_dump"):
        return value.model_dump()
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)
