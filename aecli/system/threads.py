"""How many threads the products of a CPU are spread over. It decides in which order sums are added, and so the last bits of every
number: what is to be equal to the bit is computed on the same number of threads, whatever the machine has."""

from __future__ import annotations

import os

from aecli.errors import UsageError
from aecli.system.backend import has_started
from aecli.system.progress import warn

_BLAS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_NPROC = "NPROC"
"""What XLA takes the number of its threads from, where it is set."""
_running: int | None = None


def available() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use(threads: int | None) -> int:
    """Starts JAX on so many threads, by default one for each core that the process may use, and returns how many it runs on; what
    NumPy and scikit-learn compute is held to the same number where it is given. A process has one number, that of the first
    call. Raises UsageError if JAX runs on another already."""
    global _running
    if _running is None:
        _running = _start(threads)
    if threads is not None:
        if _running != threads:
            raise UsageError(
                f"train.threads is {threads}, and JAX computes on {_running} in this process already",
                "do it in a process of its own, such as the command line's",
            )
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads)
    return _running


def running() -> int:
    """The number that JAX runs on, as far as this process has decided it."""
    return available() if _running is None else _running


def _start(threads: int | None) -> int:
    from aecli.system.placement import local_devices

    default = int(given) if (given := os.environ.get(_NPROC, "")).isdecimal() and int(given) else available()
    if has_started():  # by the program that aecli is a part of
        return default
    if threads is None:
        local_devices()
        return default
    if threads > available():
        warn(f"train.threads is {threads}, and {available()} may run at once here: the same bits, more slowly")
    os.environ |= dict.fromkeys((_NPROC, *_BLAS), str(threads))
    try:
        local_devices()
    finally:  # a process that this one starts decides for itself
        os.environ.pop(_NPROC)
        if given:
            os.environ[_NPROC] = given
    return threads
