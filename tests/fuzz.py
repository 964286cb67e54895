"""Feeds what reads files with changed ones, for as long as it is told, and keeps every input that does harm.

    python tests/fuzz.py [--minutes N] [--only TARGET] [--seed N] [--keep FOLDER]
    python tests/fuzz.py --replay FILE

The targets are those of `fuzz_targets.py`. What comes out of one otherwise than it says there, takes more than its time or
more than MOST_BYTES of memory, or ends the process, is a fault: the input is made smaller as far as that is quickly done, and
kept with the traceback beside it. An input that ends as none did before becomes one of those that are changed further.

Exits 1 where a fault was found.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
KEEP = ROOT / "build" / "fuzz"
MOST_BYTES = 2**30
"""What one input may take beyond what the process had before it: the largest image that is read takes some hundred megabytes."""
HANGING_SECONDS = 120
"""A process that is stuck in code that is not Python's ends itself."""
_MOST_KEPT = 2**16
_MOST_SEEDS = 3000
_FOUND = 10
"""What the process of one target ends with where it found faults; with 1 Python ends where it fails itself."""
_TRIES, _TRYING_SECONDS = 400, 30
"""How many shorter inputs are tried of one that fails, and for how long."""


class TooLong(BaseException):
    """No Exception, so that nobody takes it for an error of a file."""


class TooMuch(BaseException):
    """More memory than an input may take."""


class Fault(NamedTuple):
    """`kind` tells one fault from another, `path` is the input, `text` the traceback."""

    kind: str
    path: Path
    text: str


class Tally(NamedTuple):
    """`inputs` tried in `seconds`; `ends` counts how they ended; `faults` are one of each kind."""

    inputs: int
    seconds: float
    ends: Counter[str]
    faults: list[Fault]

    def line(self, name: str) -> str:
        values = sum(n for end, n in self.ends.items() if end.startswith("value"))
        return (
            f"{name:14} {self.inputs:>9,} inputs {self.inputs / max(self.seconds, 1e-9):>7,.0f} a second"
            f" {len(self.ends):>6,} ways to end {values / max(self.inputs, 1):>5.0%} values {len(self.faults):>4} faults"
        )


def hunt(name: str, target: Any, keep: Path, seed: int, go_on: Callable[[int, float], bool]) -> Tally:
    """Runs a target (`fuzz_targets.Target`) on its seeds and then on changed ones, while `go_on(inputs, seconds)`. Failing inputs
    go to `keep`, one of each kind of failure; the one that is being tried lies there too, in case that it ends the process."""
    from fuzz_targets import kind_of

    keep.mkdir(parents=True, exist_ok=True)
    chance, seeds = Random(f"{name} {seed}"), list(target.seeds)
    waiting, ends, faults = list(seeds), Counter[str](), dict[str, Fault]()
    begun, n, running = time.monotonic(), 0, keep / f"{name}.running"
    while go_on(n, time.monotonic() - begun):
        data = waiting.pop() if waiting else target.mutate(chance.choice(chance.choice((target.seeds, seeds))), chance)
        n += 1
        running.write_bytes(data)
        try:
            end = kind_of(held(target, data))
            if end not in ends and len(data) <= _MOST_KEPT and len(seeds) < _MOST_SEEDS:
                seeds.append(data)
            ends[end] += 1
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            kind = kind_of_fault(error)
            ends[f"fault: {kind}"] += 1
            if kind not in faults:
                least = smaller(target, data, kind)
                text = "".join(traceback.format_exception(error))
                faults[kind] = Fault(kind, kept(keep, name, least, text), text)
    running.unlink(missing_ok=True)
    return Tally(n, time.monotonic() - begun, ends, list(faults.values()))


def held(target: Any, data: bytes) -> str:
    """What a target says of an input. Raises TooLong and TooMuch, and whatever the target raises."""
    before, reset = _memory()
    with _limited(target.seconds):
        how = target.run(data)
    after = _peak(reset)
    if after - before > MOST_BYTES:
        raise TooMuch(f"{(after - before) / 2**20:,.0f} MB")
    return how


@contextlib.contextmanager
def _limited(seconds: float) -> Generator[None]:
    """Of the time of the processor, so that a machine that does other things too finds the same."""

    def stop(*_: Any) -> None:
        raise TooLong(f"more than {seconds} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _memory() -> tuple[int, bool]:
    """The memory of this process, and whether its peak is counted anew from here; where it cannot be, the peak so far."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS:"), True
    except OSError:
        return _peak(False), False


def _peak(reset: bool) -> int:
    if reset:
        return _status("VmHWM:")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.partition(name)[2].split(maxsplit=1)[0])


def kind_of_fault(error: BaseException) -> str:
    """The type of the error and the innermost line of the program or its targets that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if str(ROOT) in frame.filename and ".venv" not in frame.filename]
    if isinstance(error, TooLong):  # is noticed in any line
        return "TooLong"
    at = f" at {os.path.relpath(ours[-1].filename, ROOT)}:{ours[-1].lineno}" if ours else ""
    return f"{type(error).__name__}{at}"


def smaller(target: Any, data: bytes, kind: str) -> bytes:
    """A shorter input that fails in the same way, as far as leaving pieces out makes one."""
    tries, size, give_up = 0, len(data) // 2, time.monotonic() + _TRYING_SECONDS
    while size and tries < _TRIES and not kind.startswith("Too"):
        at = 0
        while at < len(data) and tries < _TRIES and time.monotonic() < give_up:
            less, tries = data[:at] + data[at + size :], tries + 1
            try:
                held(target, less)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if kind_of_fault(error) == kind:
                    data = less
                    continue
            at += size
        size //= 2
    return data


def kept(keep: Path, name: str, data: bytes, text: str) -> Path:
    """Writes an input, and its traceback beside it. The target stands in the name."""
    path = keep / f"{name}-{hashlib.sha256(data).hexdigest()[:10]}"
    path.write_bytes(data)
    path.with_name(f"{path.name}.txt").write_text(text, errors="backslashreplace")
    return path


def replay(path: Path, target: Any) -> int:
    """Runs a target on one kept input, and tells how it ends: 1 where it still fails."""
    try:
        print(held(target, path.read_bytes()).encode("ascii", "backslashreplace").decode())
        return 0
    except BaseException:
        traceback.print_exc()
        return 1


def told(fault: Fault) -> str:
    return f"  {fault.kind}\n    python tests/fuzz.py --replay {fault.path}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3, help="in all (default 3)")
    parser.add_argument("--only", action="append", default=[], metavar="TARGET", help="may be repeated")
    parser.add_argument("--seed", type=int, default=None, help="by default another one each time, which is told")
    parser.add_argument("--keep", type=Path, default=KEEP, metavar="FOLDER", help=f"for failing inputs (default {KEEP})")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one kept input alone")
    parser.add_argument("--in-place", type=Path, help=argparse.SUPPRESS)  # of a process that this one starts
    given = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from fuzz_targets import prepare, targets

    if given.in_place is not None:
        return _hunt_in(given.in_place, given)
    with tempfile.TemporaryDirectory(prefix="aecli-fuzz-") as folder:
        os.environ["AECLI_DATA_DIR"] = str(Path(folder) / "data")
        place = Path(folder) / "place"
        prepare(place)
        shutil.copytree(place, Path(folder) / "copy")
        every = targets(Path(folder) / "copy")
        if unknown := set(given.only) - set(every):
            parser.error(f"there is no target {unknown.pop()}: {', '.join(every)}")
        if given.replay is not None:
            return replay(given.replay, every[given.replay.name.rpartition("-")[0]])
        seed = int.from_bytes(os.urandom(3)) if given.seed is None else given.seed
        names = given.only or list(every)
        print(f"seed {seed}, {60 * given.minutes / len(names):.0f} s for each of {len(names)} targets", flush=True)
        return max([_in_processes(name, place, given, seed, 60 * given.minutes / len(names)) for name in names])


def _in_processes(name: str, place: Path, given: argparse.Namespace, seed: int, seconds: float) -> int:
    """Hunts in a process of its own; where an input ends that, it is kept, and another process goes on."""
    give_up, worst = time.monotonic() + seconds, 0
    while (left := give_up - time.monotonic()) > 0:
        options = ["--only", name, "--minutes", str(left / 60), "--seed", str(seed), "--keep", str(given.keep)]
        with tempfile.TemporaryFile() as said:  # what targets say of files, libraries written in C too
            done = subprocess.run([sys.executable, __file__, *options, "--in-place", str(place)], stderr=said)
            said.seek(max(0, os.fstat(said.fileno()).st_size - 10_000))
            text = said.read().decode(errors="backslashreplace")
        if done.returncode in (0, _FOUND):
            return max(worst, int(done.returncode == _FOUND))
        running = given.keep / f"{name}.running"
        if not running.exists():  # it never began
            print(text, file=sys.stderr)
            return 2
        kind = f"the process ended with {done.returncode}"
        print(told(Fault(kind, kept(given.keep, name, running.read_bytes(), text), text)), flush=True)
        worst, seed = 1, seed + 1
    return worst


def _hunt_in(place: Path, given: argparse.Namespace) -> int:
    """What the process of one target does."""
    from fuzz_targets import targets

    [name] = given.only
    with tempfile.TemporaryDirectory(prefix="aecli-fuzz-") as folder:
        shutil.copytree(place, Path(folder) / "place")
        target = targets(Path(folder) / "place")[name]

        def go_on(_: int, seconds: float) -> bool:
            faulthandler.dump_traceback_later(HANGING_SECONDS, exit=True)
            return seconds < 60 * given.minutes

        tally = hunt(name, target, given.keep, given.seed, go_on)
        faulthandler.cancel_dump_traceback_later()
    print(tally.line(name), *map(told, tally.faults), sep="\n", flush=True)
    return _FOUND if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
