"""Puts faults into copies of the program, one at a time, and tells which test catches each: whether the suite would notice.

    python tests/find_faults.py [--only TEXT] [--silent] [--quick] [--jobs N]

The tests that a fault names run first, and must pass on the program as it is. Only where none of them catches the fault does the
whole suite run. Which tests execute a function is told by hand, and not by a measured coverage: most of what is here runs while
jit traces it, which happens once for all tests of a process, or in another process, so that a measurement misses the very
tests that catch a fault; and to measure takes longer than all the tests that are named.

Exits 1 where a fault is not caught, 2 where a named test fails without one.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from faults import FAULTS, Fault

ROOT = Path(__file__).parent.parent
COPIED = (
    "aecli",
    "tests",
    "configs",
    "docs",
    "benchmarks",
    "pyproject.toml",
    "requirements.lock",
    "README.md",
    "CHANGELOG.md",
    "Makefile",
    "CONTRIBUTING.md",
)
NAMED_SECONDS, SUITE_SECONDS = 600, 3600
_FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)


class Outcome(NamedTuple):
    """`caught_by`: the test that failed, or None. `note`: what a person should know of it."""

    fault: Fault
    caught_by: str | None
    seconds: float
    note: str = ""


def copy_to(folder: Path, root: Path = ROOT) -> Path:
    """A copy of the program and its tests: nothing is ever changed in the working tree."""
    folder.mkdir()
    for name in COPIED:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        elif source.exists():
            shutil.copy2(source, folder / name)
    return folder


def put_in(fault: Fault, copy: Path) -> None:
    path = copy / fault.path
    text = path.read_text("utf-8")
    if text.count(fault.old) != 1:
        raise SystemExit(f"{fault.name}: its text does not occur once in {fault.path}; see tests/test_faults.py")
    path.write_text(text.replace(fault.old, fault.new), "utf-8")
    for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        stale.unlink()  # of the same size and second as the new text it would pass for its own


def run_tests(copy: Path, tests: Sequence[str], seconds: float) -> tuple[int | None, str | None, str]:
    """pytest up to the first failure: its exit code (None where it took too long), the test that failed, and what was printed."""
    # The copy comes first wherever a test starts a process, and before an installed one.
    env = {**os.environ, "PYTHONPATH": str(copy)}
    # No data and no compiled programs of another copy, which a fault may have made.
    env = {name: value for name, value in env.items() if name not in ("AECLI_TEST_DATA_DIR", "AECLI_DATA_DIR", "AECLI_RUNS_DIR")}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--basetemp", str(copy / "tmp")]
    try:
        done = subprocess.run([*command, *tests], cwd=copy, env=env, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return None, None, ""
    failed = _FAILED.search(done.stdout)
    return done.returncode, failed[1] if failed else None, done.stdout + done.stderr


def check_import(copy: Path) -> None:
    """Raises SystemExit where a process that a test starts would import another aecli than the copy's."""
    command = [sys.executable, "-c", "import aecli; print(aecli.__file__)"]
    done = subprocess.run(command, cwd=copy.parent, env={**os.environ, "PYTHONPATH": str(copy)}, capture_output=True, text=True)
    if not done.stdout.startswith(str(copy)):
        raise SystemExit(f"the tests would import {done.stdout.strip() or done.stderr}, not the copy in {copy}")


def find(fault: Fault, sound: Path, quick: bool) -> Outcome:
    begun = time.monotonic()
    copy = copy_to(Path(tempfile.mkdtemp(dir=sound.parent)) / "copy", sound)
    try:
        put_in(fault, copy)
        stages = [([f"tests/{test}"], NAMED_SECONDS) for test in fault.tests] + ([] if quick else [([], SUITE_SECONDS)])
        notes: list[str] = []
        for tests, limit in stages:
            code, failed, said = run_tests(copy, tests, limit)
            if code is None:
                notes.append(f"{tests[0] if tests else 'the suite'} took more than {limit} s")
            elif code == 1 and failed is not None:
                if not tests and run_tests(sound, [failed], NAMED_SECONDS)[0] != 0:
                    notes.append(f"{failed} fails without the fault too: the rest of the suite was not run")
                    break
                if tests != stages[0][0]:
                    notes.append("not by the first test that is named")
                return Outcome(fault, failed.removeprefix("tests/"), time.monotonic() - begun, "; ".join(notes))
            elif code != 0:
                notes.append(f"pytest ended with {code}: {said.strip().splitlines()[-1][:100] if said.strip() else ''}")
        return Outcome(fault, None, time.monotonic() - begun, "; ".join(notes))
    finally:
        shutil.rmtree(copy.parent, ignore_errors=True)


def line(name: str, silent: str, caught_by: str, seconds: str, note: str = "") -> str:
    return f"{name:<62} {silent:<7} {seconds:>7}  {caught_by}{f'  ({note})' if note else ''}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="faults whose name holds it; may be repeated")
    parser.add_argument("--silent", action="store_true", help="silent faults alone")
    parser.add_argument("--quick", action="store_true", help="the named tests alone, never the whole suite")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="faults at a time (default 2)")
    given = parser.parse_args()
    chosen = [f for f in FAULTS if (f.silent or not given.silent) and (not given.only or any(t in f.name for t in given.only))]
    if not chosen:
        parser.error("no fault has such a name")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="aecli-faults-") as folder:
        sound = copy_to(Path(folder).resolve() / "sound")
        check_import(sound)
        named = sorted({f"tests/{test}" for fault in chosen for test in fault.tests})
        code, failed, said = run_tests(sound, named, SUITE_SECONDS)
        if code != 0:
            print(said, f"{failed or 'the named tests'} must pass before a fault is put in", file=sys.stderr, sep="\n")
            return 2
        print(f"the tests that are named pass without a fault ({time.monotonic() - begun:.0f} s)", flush=True)
        print(line("fault", "silent", "caught by", "seconds"), flush=True)
        outcomes: list[Outcome] = []
        with ThreadPoolExecutor(given.jobs) as pool:
            for outcome in pool.map(lambda fault: find(fault, sound, given.quick), chosen):
                outcomes.append(outcome)
                fault, caught_by = outcome.fault, outcome.caught_by or "NOT CAUGHT"
                silent = "silent" if fault.silent else ""
                print(line(fault.name, silent, caught_by, f"{outcome.seconds:.0f}", outcome.note), flush=True)
    missed = [outcome.fault for outcome in outcomes if outcome.caught_by is None]
    print(f"{len(outcomes) - len(missed)} of {len(outcomes)} faults are caught, in {time.monotonic() - begun:.0f} s")
    for fault in missed:
        print(f"not caught: {fault.name} ({fault.path}, {fault.function}). {fault.why}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
