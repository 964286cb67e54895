"""aecli: train, sample and compare autoencoders and their generative relatives from one YAML file.

From Python, `import aecli` offers what `_PUBLIC` names (`docs/python.md`). It is imported when it is asked for: to import the
package takes no time, and neither jax nor numpy."""

TYPE_CHECKING = False  # for editors; `typing` itself takes longer to import than all of this
if TYPE_CHECKING:
    from aecli.api import Number, Split, TrainedRun, compare, frame, list_runs, load, sweep, train
    from aecli.errors import AecliError

__version__ = "0.1.0"
__all__ = [
    "AecliError",
    "Number",
    "Split",
    "TrainedRun",
    "__version__",
    "compare",
    "frame",
    "list_runs",
    "load",
    "sweep",
    "train",
]

_PUBLIC = {name: "errors" if name == "AecliError" else "api" for name in __all__ if name != "__version__"}
"""Public name -> the module that it is in."""


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'aecli' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"aecli.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
