"""What can go wrong for a user, each kind with its exit code, and how it is written on a terminal.

The first line of each class says what its code means: the documentation lists them. 0 is no error, 1 also a bug of aecli, and a
signal's code is 128 and its number: 129, 130 and 143 for SIGHUP, SIGINT and SIGTERM.
"""

from __future__ import annotations

import difflib
import errno
import functools
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class AecliError(Exception):
    """An evaluator that failed, an export that is not what its run is, or a bug of aecli.

    The base of whatever the user can act on: what and where in the message, the fix in `help`."""

    code: ClassVar[int] = 1

    def __init__(self, message: str, help: str | None = None) -> None:
        super().__init__(message)
        self.message, self.help = message, help

    def render(self) -> str:
        return f"error: {self.message}" + (f"\n  help: {self.help}" if self.help else "")


class UsageError(AecliError):
    """A command that is not one: its verb, a flag, an argument, or two that do not go together."""

    code = 2


class DataError(AecliError):
    """Data that cannot be read, is not what the config says, or has changed since the run was trained."""

    code = 3


class RunError(AecliError):
    """A run that is missing, locked, edited, damaged, or in the wrong state for what is asked."""

    code = 4


class CheckpointError(AecliError):
    """A checkpoint that is damaged, lost, or of another model."""

    code = 5


class DivergedError(AecliError):
    """A training whose loss is no longer finite."""

    code = 6


class StorageError(AecliError):
    """A disk that is full, a path that is not there, or permissions that are missing."""

    code = 7


class DeviceError(AecliError):
    """A device or memory that does not suffice, or a process that trained along and was lost."""

    code = 8


class InterruptedRun(AecliError):
    """A signal that ended the work at the end of a step, with the state saved; the code is 128 and the signal's number."""

    def __init__(self, signum: int, message: str, help: str | None = None) -> None:
        super().__init__(message, help)
        self.signum = signum

    def render(self) -> str:
        return f"{signal.Signals(self.signum).name}: {self.message}" + (f"\n  help: {self.help}" if self.help else "")


MAX_SOURCE = 120
"""Characters of a line that are shown; of a longer one the part around the mistake."""


def printable(text: str) -> str:
    """Text from a file, a name or an argument in one line, with whatever could move the cursor, colour the terminal or turn the
    order of letters around as an escape of JSON, so that JSON stays JSON."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " if c == "\t" else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"


def printable_lines(text: str) -> str:
    """The same of a text of several lines, which stay."""
    return "\n".join(map(printable, text.split("\n")))


class Diagnostic(NamedTuple):
    """One mistake in a config. `line` and `column` count from 1; line 0 means that it stands in no file (a flag)."""

    file: str
    line: int
    column: int
    rule: str
    message: str
    source: str = ""
    width: int = 1
    label: str = ""
    help: str = ""

    def render(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        lines = [printable(f"{where}: error[{self.rule}]: {self.message}")]
        if self.line and self.source.strip():
            number = f"{self.line:3d}"
            start = max(0, self.column - 1 - MAX_SOURCE // 2) if len(self.source) > MAX_SOURCE else 0
            source, column = self.source[start : start + MAX_SOURCE], self.column - start
            caret = " " * (column - 1) + "^" * max(1, min(self.width, len(source) - column + 1))
            lines.append(f"{number} | {printable(source)}")
            lines.append(f"{' ' * len(number)} | {caret}" + (f" {self.label}" if self.label else ""))
        elif self.label:
            lines[0] += f": {printable(self.label)}"
        if self.help:
            lines.append(printable(f"  help: {self.help}"))
        return "\n".join(lines)


MAX_SHOWN = 100
"""Mistakes of a config that are written out: nobody reads more, and a terminal takes its time."""


class ConfigError(AecliError):
    """Mistakes in a config, all of them at once.

    They are in line order; of many the first are told, and how many more there are."""

    code = 2

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics: Sequence[Diagnostic] = sorted(diagnostics, key=lambda d: (d.line == 0, d.line, d.column))
        more = len(self.diagnostics) - MAX_SHOWN
        self._more = [f"and {more:,} more"] if more > 0 else []
        super().__init__("; ".join([*(d.message for d in self.diagnostics[:MAX_SHOWN]), *self._more]))

    def render(self) -> str:
        n = len(self.diagnostics)
        count = [f"{n:,} errors"] if n > 1 else []
        return "\n".join([*(d.render() for d in self.diagnostics[:MAX_SHOWN]), *self._more, *count])


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that may be meant, None when none is close."""
    return next(iter(difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean 'hidden'?`, or nothing when no known word is close."""
    close = closest(word, known)
    return "" if close is None else f"did you mean '{close}'?"


class VariantError(AecliError):
    """A file of aecli/models/ that breaks a rule of the contract, or whose code raises an error.

    It is its author's to mend, so no bug of aecli. `module` is the file's, `line` counts from 1; 0 means that no line is at
    fault."""

    code = 2

    def __init__(self, module: str, line: int, message: str, rule: str, help: str | None = None) -> None:
        self.file, self.line, self.rule = module.replace(".", "/") + ".py", line, rule
        super().__init__(printable(f"{self.file}:{line}: {message}" if line else f"{self.file}: {message}"), help)

    def render(self) -> str:
        return f"error: {self.message}\n  rule: {self.rule}" + (f"\n  help: {self.help}" if self.help else "")

    def line_of_text(self) -> str:
        """All but the help in one line, for lists."""
        return f"error: {self.message} (rule: {self.rule})"


_STORAGE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space"),
    errno.EFBIG: "free some space, or raise the limit of a file's size: ulimit -f",
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "check the permissions"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files: ulimit -n 4096"),
    **dict.fromkeys((errno.EIO, errno.ESTALE), "look after the disk or its connection: it fails"),
}
"""What helps against what the system refuses."""
_PATHS = {errno.ENOTDIR, errno.ENOENT, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG}
_GPU_IS_FULL = (
    "Out of memory while trying to allocate",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "DNN library initialization failed",  # cuDNN asks for memory when it starts
)
"""How XLA says that a GPU has no memory left."""
_OTHERS_ON_A_GPU = (
    "; nvidia-smi tells what else holds the GPU's memory, and XLA_CLIENT_MEM_FRACTION=0.95 lets a process have more than the"
    " three quarters that it may take by default"
)
_MODELS = "aecli.models."
_TRACEBACK = "mend the file, or report it if it came with aecli; the same with --debug shows the traceback"


def translate(error: BaseException) -> AecliError | None:
    """The user's view of an error that a library or a variant raised, or None if it is a bug of aecli."""
    if isinstance(error, AecliError):
        return error
    if isinstance(error, OSError) and error.errno in _STORAGE:
        where = f": {error.filename}" if error.filename else ""
        return StorageError(f"{(error.strerror or str(error)).lower()}{where}", _STORAGE[error.errno])
    if isinstance(error, OSError) and error.errno in _PATHS and error.filename:
        what = f"{(error.strerror or str(error)).lower()}: {os.fsdecode(error.filename)}"
        return StorageError(what, "check the path, and AECLI_DATA_DIR and --runs-dir if it is below one of them")
    text = str(error)
    of_a_gpu = any(words in text for words in _GPU_IS_FULL)
    if (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or "RESOURCE_EXHAUSTED" in text
        or "Out of memory" in text
        or of_a_gpu
    ):
        return DeviceError(
            f"out of memory: {text.splitlines()[0] if text else 'the host'}",
            "lower data.batch_size or the size of the network, or set data.tier: memmap" + (_OTHERS_ON_A_GPU if of_a_gpu else ""),
        )
    return blame_variant(error)


def blame_variant(error: BaseException, loading: str = "") -> VariantError | None:
    """The same error as one of the variant's file that it came through, whose module is being imported where `loading` names it;
    None if it came through none. core and models know nothing of this room, so the traceback says where it was, and a breach of
    the contract its own rule."""
    import traceback  # which the command does not need to start

    kinds = {kind.__name__ for kind in type(error).__mro__}
    if not isinstance(error, Exception) or kinds & {"JaxRuntimeError", "XlaRuntimeError"}:
        return None  # what goes wrong in the device is not in the file, wherever it was called
    frames = [
        (str(frame.f_globals.get("__name__", "")), line, frame.f_code.co_name)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    through = [frame for frame in frames if frame[0].startswith(_MODELS)]
    inside = [frame for frame in frames if frame[0].startswith("aecli.")]
    text = str(error).strip().splitlines()
    if "ContractError" in kinds:
        module, line = through[-1][:2] if through else (getattr(error, "module", ""), 0)
        return VariantError(module, line, text[0], getattr(error, "rule", ""), getattr(error, "help", None)) if module else None
    if not through and not loading:
        return None
    module, line, where = through[-1] if through else (loading, getattr(error, "lineno", None) or 0, "<module>")
    message = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    if through and inside[-1] != through[-1]:
        message += f" (in {inside[-1][0].replace('.', '/')}.py:{inside[-1][1]})"
    if where == "<module>":
        return VariantError(module, line, message, "a file of aecli/models/ can be imported", _TRACEBACK)
    return VariantError(
        module,
        line,
        message,
        "what aecli/core/model.py and aecli/core/abilities.py ask of a method can be traced by jit",
        _TRACEBACK,
    )


class SettingError(AecliError):
    """A setting that is well-formed and yet cannot work with the data or the model at hand.

    `path` leads to it."""

    code = 2

    def __init__(self, path: tuple[str, ...], rule: str, message: str, label: str = "", help: str = "") -> None:
        super().__init__(f"{'.'.join(path)}: {message}" + (f": {label}" if label else ""), help or None)
        self.path, self.rule, self.text, self.label, self.hint = path, rule, message, label, help


def told(function: Callable[P, T]) -> Callable[P, T]:
    """Errors of a public function are told as the command line tells them: whatever raised them becomes an AecliError, with the
    position and the fix in a note of the exception. A bug stays what it is."""

    @functools.wraps(function)
    def wrapped(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return function(*arguments, **options)
        except Exception as error:
            known = translate(error)
            if known is None:
                raise
            lines = printable_lines(known.render()).split("\n")
            note = "\n".join(lines[1:] if lines[0] == f"error: {known}" else lines)
            if note and note not in getattr(known, "__notes__", ()):
                known.add_note(note)
            if known is error:
                raise
            raise known from error

    return wrapped
