"""`aecli sample`: draws from a trained model, or shows test images beside what it makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from aecli.core.model import Model, Spec
from aecli.data.dataset import Dataset
from aecli.errors import UsageError
from aecli.runs.data import open_run_data
from aecli.runs.directory import Run
from aecli.runs.trained import Trained, load, spec_of, stored_experiment
from aecli.sampling import pictures, samplers
from aecli.sampling.given import Drawn, Given
from aecli.sampling.limits import check_room
from aecli.sampling.modes import MODES, check_drawn, check_mode
from aecli.sampling.request import DEFAULT, SampleRequest
from aecli.system.arrays import write_arrays
from aecli.system.progress import say, warn
from aecli.training.writers import add_picture

_OPTIONS = ("temperature", "region", "path", "projection")
"""The fields of a request that only some modes heed."""


def sample(
    run: Run, request: SampleRequest = DEFAULT, checkpoint: str = "best", data_path: str | None = None
) -> tuple[Path, Path]:
    """Draws from the `best` or the `last` checkpoint of a run, whose data lies at `data_path` if that is given; see `sample_run`.
    Raises UsageError, before anything is loaded, if the request contradicts itself, asks for what the model cannot do or does
    not fit into memory, and DataError if it needs images, and they are not those that the run was trained on."""
    check_request(request)
    spec = spec_of(run)
    check_ability(stored_experiment(run).model, request, spec)
    mode = MODES[request.mode]
    check_room(request.n or mode.n, mode.images(spec), spec)
    trained = load(run, checkpoint, warn)
    return sample_run(run, trained, lambda: open_run_data(run, trained.experiment.data, say, data_path), request)


def sample_run(
    run: Run, trained: Trained, open_data: Callable[[], Dataset], request: SampleRequest = DEFAULT
) -> tuple[Path, Path]:
    """Writes a labelled PNG grid and the arrays as npz into the run's `samples/`, the grid also for the run's trackers; returns
    the two paths. `open_data` is called if images are needed, once. The request is one that `check_request` and `check_ability`
    let pass."""
    mode = MODES[request.mode]
    n = request.n or mode.n
    data, fitted = cache(open_data), None
    if request.sampler is not None:
        fitted = samplers.fitted_of(run, trained, request.sampler, request.components, lambda: data().train, say)
    drawn = mode.show(Given(trained, data, n, request, fitted))
    stem = "-".join([*_words(request), f"step{trained.step}", f"seed{request.seed}", f"n{n}"])
    written = _write(run.path / "samples", stem, drawn)
    add_picture(run, trained.experiment.train.trackers, request.mode, drawn.picture, trained.step, warn)
    return written


def check_request(request: SampleRequest) -> None:
    """Raises UsageError if an option is given that the mode does not heed."""
    drawing = [name for name, mode in MODES.items() if mode.draws]
    if request.sampler is not None and request.mode in MODES and request.mode not in drawing:
        raise UsageError(f"--sampler draws new images: it is for --mode {', '.join(drawing)}")
    samplers.check_components(request.sampler, request.components)
    heeded = MODES[request.mode].options if request.mode in MODES else _OPTIONS  # an unknown mode has an error of its own
    for option in _given(request):
        if option not in heeded:
            users = [name for name, mode in MODES.items() if option in mode.options]
            raise UsageError(f"--{option} is for --mode {', '.join(users)}")


def check_ability(model: Model, request: SampleRequest, spec: Spec) -> None:
    """Raises UsageError if the model, one of such data, cannot serve the request."""
    if request.sampler is not None:
        check_drawn(model, request.mode, request.sampler, spec)
    else:
        check_mode(model, request.mode, spec.kind)


def _given(request: SampleRequest) -> Iterator[str]:
    """The options of modes that differ from their defaults."""
    return (option for option in _OPTIONS if getattr(request, option) != getattr(DEFAULT, option))


def _words(request: SampleRequest) -> list[str]:
    """What the files' name says of the request, beside step, seed and number."""
    words = [request.mode]
    if request.sampler is not None:
        words.append(f"{request.sampler}{request.components or ''}")
    texts = {"temperature": f"t{request.temperature:g}", "region": Path(request.region).stem}
    texts |= {"path": request.path, "projection": request.projection}
    return words + [texts[option] for option in _given(request)]


def _write(folder: Path, stem: str, drawn: Drawn) -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    picture, arrays = folder / f"{stem}.png", folder / f"{stem}.npz"
    pictures.save(picture, drawn.picture)
    write_arrays(arrays, drawn.arrays)
    return picture, arrays
