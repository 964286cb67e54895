"""Programs that XLA compiled, kept for the next process, which starts in half the time.

JAX writes its entries in place and reads whatever is there, so that a kill or a full disk would leave one that is refused for
ever. Each process therefore works on a folder of its own, made of links to the entries, and hands over what it added when it is
done: whole entries, one rename each. The folder is the user's alone, since an entry is code, and for one jaxlib and one kind of
processor. An index keeps a SHA-256 of each entry's name and bytes; one that looks changed since and is not what was handed over
is removed before JAX sees it, which would warn of it in every process and never replace it. `JAX_COMPILATION_CACHE_DIR` and
`JAX_ENABLE_COMPILATION_CACHE` are left as they are where a user has set them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import stat
import tempfile
import threading
import zlib
from collections.abc import Generator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from aecli.system.files import write_json
from aecli.system.reading import Unreadable, read_json

LARGEST = 1 << 30
"""Bytes that are kept for one jaxlib and processor; beyond, what was not used for the longest time goes."""
MOST_ENTRIES = 2_000
"""Of any size: each process links them all."""
LEAST_SECONDS = 0.01
"""Programs that compile faster are not worth a file."""
_PREFIX = "process-"
_SEALS = ".seals.json"
_own: Path | None = None
"""The folder of this process, while it compiles with what is kept."""


class _Seal(NamedTuple):
    """`look`: size, time and number of the file when it was hashed last."""

    sha256: str
    look: str


@contextlib.contextmanager
def kept_programs(root: Path) -> Generator[None]:
    """Compiles with the programs kept under `root`, and keeps new ones there. Where that cannot be, compiles without, as in any
    thread but the main one: it is a setting of jax for all of them."""
    import jax

    global _own
    ours = threading.current_thread() is threading.main_thread()
    if not ours or os.environ.get("JAX_COMPILATION_CACHE_DIR") or os.environ.get("JAX_ENABLE_COMPILATION_CACHE"):
        yield
        return
    try:
        store = _store(root)
        with _locked(store / ".lock"):
            _clear_up(store)
            own, lock = _link(store)
    except OSError:
        yield
        return
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    settings = {
        "jax_compilation_cache_dir": str(own),
        "jax_persistent_cache_min_compile_time_secs": LEAST_SECONDS,
        # XLA's own caches would lie in the folder of this process, and their path would be a part of every entry's key.
        "jax_persistent_cache_enable_xla_caches": "none",
    }
    previous = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    reset_cache()  # JAX takes the folder that was set when it first compiled
    _own = own
    try:
        yield
    finally:
        _own = None
        for name, value in previous.items():
            jax.config.update(name, value)
        reset_cache()
        with contextlib.suppress(OSError), _locked(store / ".lock"):
            _hand_over(own, store)
            _shrink(store)
        shutil.rmtree(own, ignore_errors=True)
        os.close(lock)


def read_kept(name: str) -> bytes | None:
    """What `keep` was given under this name, by this process or another."""
    if _own is None:
        return None
    try:
        return zlib.decompress((_own / f"{name}-cache").read_bytes())
    except (OSError, zlib.error):
        return None


def keep(name: str, data: bytes) -> None:
    """Keeps bytes beside the programs of JAX, for as long. The name says all that they follow from."""
    if _own is not None:
        entry = _own / f"{name}-cache"
        with contextlib.suppress(OSError), entry.open("xb") as file:  # a full disk; a link to what all processes read
            file.write(zlib.compress(data, 1))


def entries_of(function: str) -> set[Path]:
    """JAX's entries of the programs of a jitted function of that name."""
    return set() if _own is None else set(_own.glob(f"jit_{function}-*-cache"))


def is_keeping() -> bool:
    """Whether anything is kept in this process."""
    return _own is not None


def _store(root: Path) -> Path:
    """Made where it is not there. Raises PermissionError for a folder that somebody else could write into."""
    store = root / "programs" / f"jaxlib-{version('jaxlib')}-{_processor()}"
    store.mkdir(parents=True, exist_ok=True, mode=0o700)
    facts = store.stat()
    if facts.st_uid != os.getuid() or facts.st_mode & 0o022:
        raise PermissionError(f"{store} is not private")
    return store


def _processor() -> str:
    """Programs use every instruction that the processor has: a home that several machines share holds some for each kind."""
    try:
        text = Path("/proc/cpuinfo").read_text()
        facts = next(line for line in text.splitlines() if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        facts = platform.processor()
    return hashlib.sha256(f"{platform.machine()} {facts}".encode()).hexdigest()[:12]


def _link(store: Path) -> tuple[Path, int]:
    """A folder with a link to every entry, and the lock that says that its process lives."""
    own = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=store))
    lock = os.open(own / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    seals = _read_seals(store)
    sound: dict[str, _Seal] = {}
    for entry in store.glob("*-cache"):
        with contextlib.suppress(OSError):  # of an entry that cannot be read, linked or removed: the others serve all the same
            seal = _checked(entry, seals.get(entry.name))
            if seal is None:
                entry.unlink()
            else:
                os.link(entry, own / entry.name)
                sound[entry.name] = seal
    if sound != seals:
        with contextlib.suppress(OSError):  # a full disk
            write_json(store / _SEALS, sound)
    return own, lock


def _read_seals(store: Path) -> dict[str, _Seal]:
    """The index; empty if it cannot be read, and every entry is then made anew."""
    try:
        return {str(name): _Seal(*map(str, seal)) for name, seal in read_json(store / _SEALS).items()}
    except (OSError, Unreadable, AttributeError, TypeError):
        return {}


def _checked(entry: Path, seal: _Seal | None) -> _Seal | None:
    """The seal of an entry as it is now; None if it is not the one that was handed over, or others could have written it. Its
    bytes are hashed only where it looks changed: to hash all of them would take longer than most starts."""
    facts = entry.lstat()
    if seal is None or not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o022:
        return None
    if _look(facts) == seal.look:
        return seal
    if _sha256(entry.name, entry.read_bytes()) != seal.sha256:
        return None
    os.utime(entry, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # to be checked is not to be used, which decides what goes first
    return _Seal(seal.sha256, _look(facts))


def _look(facts: os.stat_result) -> str:
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ino}"


def _sha256(name: str, data: bytes) -> str:
    """Of the name too, which is the key: another program's bytes under it are none of its own."""
    return hashlib.sha256(name.encode() + b"\0" + data).hexdigest()


def _hand_over(own: Path, store: Path) -> None:
    seals = _read_seals(store)
    added: dict[str, _Seal] = {}
    for entry in own.glob("*-cache"):
        facts = entry.stat()
        if facts.st_nlink > 1 or entry.name in seals or not _is_whole(data := entry.read_bytes()):
            continue
        entry.chmod(0o600)
        os.replace(entry, store / entry.name)
        added[entry.name] = _Seal(_sha256(entry.name, data), _look(facts))
    if added:
        write_json(store / _SEALS, {**seals, **added})


def _is_whole(data: bytes) -> bool:
    """Whether an entry can be unpacked: JAX packs with zstd where there is a module for it, and with zlib otherwise."""
    with contextlib.suppress(zlib.error):
        zlib.decompress(data)
        return True
    for module in ("compression.zstd", "zstandard"):
        with contextlib.suppress(Exception):
            import_module(module).decompress(data)
            return True
    return False


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _clear_up(store: Path) -> None:
    """Removes the folders of processes that were killed."""
    for folder in store.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            handle = os.open(folder / ".lock", os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its process lives
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)


def _shrink(store: Path) -> None:
    def used(entry: Path) -> float:
        facts = entry.stat()
        return max(facts.st_atime, facts.st_mtime)

    entries = sorted(store.glob("*-cache"), key=used, reverse=True)
    total = 0
    for number, entry in enumerate(entries):
        total += entry.stat().st_size
        if total > LARGEST or number >= MOST_ENTRIES:
            entry.unlink(missing_ok=True)
