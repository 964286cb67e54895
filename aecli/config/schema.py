"""The blocks of a config: what there is to set, with every default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from aecli.config.length import BUDGETS, LENGTHS, epoch_end
from aecli.config.values import called
from aecli.config.variants import parse_model
from aecli.core.frozen import Frozen
from aecli.core.learner import Precision, Recipe
from aecli.core.model import Model
from aecli.core.optimizer import Optimizer
from aecli.distributions.augmentations import Augmentations
from aecli.errors import printable
from aecli.system.reading import is_path

Binarize = Literal["none", "dynamic", "fixed"]
OWN_FILES = {
    "folder": "your image files: data.path, labels from sub-folders, splits from train, val and test",
    "pairs": "your pairs of images: data.path, a folder image of what is made, a folder given of what it is made of",
    "npz": "your NumPy file (.npz or .npy): data.path, arrays image and label, or Keras' and MedMNIST's",
    "vectors": "your vectors, such as activations (.npy, .npz, .safetensors, .csv): data.path, [n, d] numbers",
}
"""Values of `data.name` that read files of the user's from `data.path`, and what they read."""
BUILT_IN = ("digits", "photos", "shapes")
"""Data sets that come with aecli."""
Tier = Literal["auto", "device", "memmap", "stream"]
HEEDED: Mapping[str, tuple[str, ...]] = {
    "folder": ("path", "labels", "splits", "background", "range"),
    "pairs": ("path", "labels", "splits", "background", "range"),
    "npz": ("path", "labels", "range", "layout", "dtype"),
    "vectors": ("path", "labels", "array", "standardize"),
}
"""The settings of `data` that are for own files, by the name that heeds them."""
OF_TFDS = ("background",)
"""Those among them that TFDS data sets heed too, whose images are encoded files."""
FOLDERS = ("folder", "pairs")
"""Names of data whose path is a folder of image files."""
_LABEL = (
    ("label",),
    "names a feature of a TFDS data set, or an array or column of vectors; whether the labels of a folder or an npz file are read"
    " is told by data.labels",
)
_ORIGINALS = (("manual_dir",), "is for a data set of TFDS that is made from files you have downloaded")
UNUSED: Mapping[str, tuple[tuple[tuple[str, ...], str], ...]] = {
    "folder": (_LABEL, _ORIGINALS),
    "pairs": (_LABEL, _ORIGINALS, (("binarize",), "is for images alone, and these are pairs")),
    "npz": (_LABEL, _ORIGINALS),
    "vectors": (_ORIGINALS, (("size", "channels", "binarize", "augment"), "is for images, and these are vectors")),
    **dict.fromkeys(BUILT_IN, (_ORIGINALS,)),
}
"""Settings that data of such a name has no use for, and what one of them is for."""
Standardize = Literal["none", "mean", "zscore"]
Tracker = Literal["tensorboard", "wandb", "mlflow"]
_ANY_STEPS = 10**6


Level = Annotated[int, Field(ge=0, le=255)]


def _as_text(value: Any) -> Any:
    """A number that names a column, as a text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _no_boolean(value: Any) -> Any:
    """Refuses `true` where it would pass for 1, to which Python has it equal."""
    if isinstance(value, bool):
        raise PydanticCustomError("number_type", "Input should be a number, not a boolean")
    return value


def unheeded(name: str) -> frozenset[str]:
    """The settings of `data` that are not for data of this name."""
    of_others = {setting for settings in HEEDED.values() for setting in settings} - set(HEEDED.get(name, OF_TFDS))
    return frozenset(of_others.union(*(settings for settings, _ in UNUSED.get(name, ()))))


class Data(Frozen):
    """Which images, and how they reach the model.

    `binarize`: `dynamic` draws each pixel from Bernoulli(intensity) anew each time, in evaluation too; `fixed` does so in
    training and evaluates on one frozen draw, the published protocol (NumPy seed 777, validation before test).
    """

    name: str = Field(
        description=f"{', '.join(BUILT_IN)}, fashion_mnist, any TFDS name, or {' and '.join(OWN_FILES)} with a path"
    )
    path: str | None = Field(default=None, description="the folder or the file")
    labels: Literal["auto", "folders", "none"] = Field(
        default="auto",
        description="auto refuses what is not plain; folders: the first sub-folder is the label, whatever else lies about; none:"
        " without labels. Of a TFDS data set, and of vectors with several, data.label names the one that is meant",
    )
    splits: Literal["folders", "none"] = Field(
        default="folders", description="whether sub-folders called train, val or test are splits"
    )
    background: Annotated[int, Field(ge=0, le=255)] | str | tuple[Level, Level, Level] = Field(
        default="white", description="the colour behind transparent pixels: a name, a gray level, or red, green, blue"
    )
    range: tuple[float, float] | None = Field(
        default=None, description="the value that is black and the one that is white, where the type does not say so"
    )
    layout: Literal["auto", "gray", "channels_last", "channels_first"] = Field(
        default="auto", description="the axes of an array: [n, H, W], [n, H, W, C] or [n, C, H, W]"
    )
    classes: tuple[Annotated[int, Field(ge=0)] | str, ...] | None = Field(
        default=None,
        json_schema_extra={"minItems": 1, "uniqueItems": True},
        description="which classes alone are kept, of every split, by their names (or numbers, where no name is one); they stay"
        " numbered and named as they are among all",
    )
    label: Annotated[str | None, BeforeValidator(_as_text, json_schema_input_type=str | int | None)] = Field(
        default=None,
        description="which is the label: of a TFDS data set a feature (/ leads into nested ones), of vectors an array or column",
    )
    dtype: Literal["uint8", "float32"] = Field(
        default="uint8", description="what arrays of images are kept in: rounded to 8 bit, or not"
    )
    array: str | None = Field(default=None, description="which array of a file of vectors is meant, where it holds several")
    standardize: Standardize = Field(
        default="none", description="vectors less their mean over train (mean), and over their standard deviation (zscore)"
    )
    batch_size: PositiveInt = Field(default=128, description="examples per step of training, over all devices")
    validation: Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="the last part of train that is held out: a number of images or a fraction"
    )
    test: float = Field(default=0.1, gt=0, lt=1, description="the fraction held out where the source has no test split")
    binarize: Binarize = Field(
        default="none",
        description="none keeps intensities; dynamic draws each pixel anew each time; fixed evaluates on one frozen draw",
    )
    augment: Augmentations = Field(
        default=(), description="of training batches alone, before binarize: flip(p), shift(pixels, fill), one or a list"
    )
    size: tuple[PositiveInt, PositiveInt] | None = Field(default=None, description="two numbers, height and width, to resize to")
    channels: Annotated[Literal[1, 3] | None, BeforeValidator(_no_boolean)] = Field(
        default=None, description="convert to gray (1) or colour (3)"
    )
    manual_dir: str | None = Field(default=None, description="a folder with the original files of a TFDS data set")
    tier: Tier = Field(default="auto", description="where decoded images live; auto chooses by size")

    @property
    def called(self) -> str:
        """What messages call the data: the user's own file or folder by its name, other data by that of the data set."""
        return called(self.name, self.path)

    @model_validator(mode="after")
    def _path_where_needed(self) -> Data:
        if self.name in OWN_FILES and self.path is None:
            raise ValueError(f"name: {self.name} needs a path")
        for setting in dict.fromkeys(setting for heeded in HEEDED.values() for setting in heeded):
            if self.changed(setting) and setting not in HEEDED.get(self.name, OF_TFDS):
                users = [name for name, heeded in HEEDED.items() if setting in heeded]
                places = [f"name: {name}" for name in users] + ["TFDS data sets"] * (setting in OF_TFDS)
                where = " and ".join(filter(None, [", ".join(places[:-1]), places[-1]]))
                instead = "; the label of a TFDS data set is named by data.label" if setting == "labels" else ""
                raise ValueError(f"{setting} is for {where}{instead}")
        if self.classes is not None and self.labels == "none":
            raise ValueError("classes are chosen by their labels: leave out labels: none")
        if self.labels == "folders" and self.name not in FOLDERS:
            raise ValueError(f"labels: folders is for {' and '.join(f'name: {name}' for name in FOLDERS)}")
        for settings, what in UNUSED.get(self.name, ()):
            if unused := [setting for setting in settings if self.changed(setting)]:
                raise ValueError(f"{' and '.join(unused)} {what if len(unused) == 1 else what.replace('is', 'are', 1)}")
        if self.dtype == "float32" and self.changed("size", "channels", "binarize"):
            raise ValueError("dtype: float32 keeps images as they are: leave out size, channels and binarize")
        return self

    @field_validator("path", "manual_dir")
    @classmethod
    def _can_be_a_path(cls, value: str | None) -> str | None:
        if value is not None and not is_path(value):
            raise ValueError("no path holds such letters (a null byte, or half a letter)")
        return value

    @field_validator("classes")
    @classmethod
    def _some_classes(cls, value: tuple[int | str, ...] | None) -> tuple[int | str, ...] | None:
        if value is not None and not value:
            raise ValueError("an empty list keeps no image: name a class, or leave it out for all")
        if value is not None and (repeated := [printable(str(one)) for one in value if value.count(one) > 1]):
            raise ValueError(f"class {repeated[0]} is there twice")
        return value

    @field_validator("range")
    @classmethod
    def _black_below_white(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError("the value that is black must be below the one that is white")
        return value

    @field_validator("background")
    @classmethod
    def _known_colour(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "white":
            from PIL import ImageColor

            try:
                ImageColor.getrgb(value)
            except ValueError:
                shown = printable(value)  # pydantic takes no half letters in messages
                raise ValueError(f"there is no colour '{shown}': a name such as white, '#204080', or levels 0 to 255") from None
        return value


class Train(Frozen):
    """How long, and what is kept on the way.

    One of `steps`, `epochs`, `flop` and `minutes` is the length. The last two are turned into steps once, when the run starts,
    and it keeps these. `monitor` names the validation metric, lower being better, that decides which checkpoint is the best and,
    with `patience`, when to stop.
    """

    steps: PositiveInt | None = Field(default=None, description="length of the run in steps")
    epochs: PositiveInt | None = Field(default=None, description="length of the run in passes over the train split")
    flop: PositiveFloat | None = Field(
        default=None, description="operations of products and convolutions in all, as `aecli bench` counts those of a step"
    )
    minutes: PositiveFloat | None = Field(
        default=None, description="of training and validation at the speed that is measured when the run starts"
    )
    eval_every: PositiveInt = Field(default=1, description="epochs between evaluations on the validation split")
    log_every: PositiveInt = Field(default=100, description="steps between rows of training metrics")
    checkpoint_every: PositiveInt | None = Field(
        default=None, description="steps between checkpoints; by default each evaluation"
    )
    keep: int = Field(default=2, ge=2, description="how many of the newest checkpoints stay, beside the best")
    monitor: str = Field(
        default="loss", description="the validation metric, lower being better, that decides which checkpoint is the best"
    )
    patience: PositiveInt | None = Field(default=None, description="evaluations without a better monitor before stopping")
    precision: Precision = Field(
        "float32",
        description="what networks compute in; weights and losses stay float32. tf32: float32 whose products round their factors"
        " to 10 bits while it trains, on a GPU that can",
    )
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None,
        description="that products are spread over on a CPU, which decides the order of sums and so the last bits; by default a"
        " thread for each core",
    )

    trackers: tuple[Tracker, ...] = Field(
        default=(),
        json_schema_extra={"uniqueItems": True},
        description="what else shows the rows of training and the pictures, from files in the run: [tensorboard], wandb, mlflow",
    )

    @field_validator("trackers")
    @classmethod
    def _each_once(cls, value: tuple[Tracker, ...]) -> tuple[Tracker, ...]:
        if repeated := [name for name in value if value.count(name) > 1]:
            raise ValueError(f"{repeated[0]} is there twice")
        return value

    @model_validator(mode="after")
    def _one_length(self) -> Train:
        if sum(getattr(self, length) is not None for length in LENGTHS) != 1:
            raise ValueError(f"needs exactly one of {', '.join(LENGTHS[:-1])} and {LENGTHS[-1]}")
        return self

    @property
    def budget(self) -> str | None:
        """Which setting is to be turned into steps; None where the length is known."""
        return next((name for name in BUDGETS if getattr(self, name) is not None), None)


class Experiment(Frozen):
    """A whole config."""

    seed: int = Field(default=0, ge=0, lt=2**32, description="of the weights, the order of images and all noise")
    data: Data = Field(description="which images, and how they reach the model")
    model: Annotated[SerializeAsAny[Model], BeforeValidator(parse_model)] = Field(description="the variant and its settings")
    optimizer: Optimizer = Field(default=Optimizer(), description="which rule moves the weights, and how far")
    train: Train = Field(description="how long, and what is kept on the way")

    @field_serializer("model")
    def _with_variant(self, model: Model) -> dict[str, Any]:
        return {"variant": model.variant, **model.model_dump()}

    def steps(self, train_size: int) -> int:
        """The length of the run, for a train split of so many images. Raises TypeError for a budget: what follows from the
        length is asked for when that has been turned into steps."""
        train = self.train
        if train.budget is not None:
            raise TypeError(f"train.{train.budget} has not been turned into steps")
        return train.steps if train.steps is not None else epoch_end(cast(int, train.epochs), train_size, self.data.batch_size)

    def of_steps(self, steps: int) -> Experiment:
        """The same with another length."""
        length = {**dict.fromkeys(LENGTHS), "steps": steps}
        return self.model_copy(update={"train": self.train.model_copy(update=length)})

    def without_budget(self) -> Experiment:
        """The same for what does not depend on the length: of any, where it is a budget."""
        return self if self.train.budget is None else self.of_steps(_ANY_STEPS)

    def recipe(self, train_size: int) -> Recipe:
        return Recipe(self.optimizer, self.steps(train_size), self.train.precision)


def dump(experiment: Experiment) -> str:
    return to_yaml(experiment.model_dump())


def to_yaml(blocks: Mapping[str, Any]) -> str:
    return yaml.safe_dump(plain(blocks), sort_keys=False, default_flow_style=None, width=120)


def plain(value: Any) -> Any:
    """Tuples as lists, for YAML."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in cast("dict[str, Any]", value).items()}
    if isinstance(value, (tuple, list)):
        return [plain(v) for v in cast("tuple[Any, ...]", value)]
    return value
