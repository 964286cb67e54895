"""What is told of work that goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Watch(NamedTuple):
    """`plan(line)` says what is coming; then of each part `begin(part)` and `tell(done, total)`."""

    begin: Callable[[str], None] = lambda name: None
    tell: Callable[[int, int], None] = lambda done, total: None
    plan: Callable[[str], None] = lambda line: None


NOBODY = Watch()
