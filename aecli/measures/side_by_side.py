"""Pieces of work side by side, a thread each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

from threadpoolctl import threadpool_info, threadpool_limits

T = TypeVar("T")
R = TypeVar("R")


class SideBySide:
    """As many threads as NumPy's products of matrices have, each of which computes its products alone. The threads of BLAS
    itself meet at the end of every product and wait by spinning: beside other work two of them take many times as long as one.

    What is added up in the order of the pieces does not depend on how many threads there are."""

    def __enter__(self) -> SideBySide:
        pools = [int(pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas"]
        self._limits = threadpool_limits(1)
        self._threads = ThreadPoolExecutor(max(pools, default=1))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._limits.restore_original_limits()

    def map(self, function: Callable[[T], R], pieces: Iterable[T]) -> list[R]:
        """`function` of each piece, in their order. Raises what it raises."""
        return list(self._threads.map(function, pieces))
