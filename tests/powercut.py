"""A disk that loses power: what was done to a folder, in order, and what of it may be left when it stops anywhere.

The model is that of POSIX. What a file holds survives once the file is synced, a name once its folder is; whatever was done since
may be there or not, each file and each folder by itself. A folder's names change in order, and a rename at once.
"""

from __future__ import annotations

import contextlib
import os
import random
import stat
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

CALLS = ("fsync", "fdatasync", "replace", "rename", "unlink", "remove", "rmdir", "mkdir", "link", "truncate", "ftruncate")
KINDS = ("least", "all", "names", "mixed")
"""What is left: what was synced; everything; every name, and of the contents what was synced; a part, drawn by lot."""
_TICK_NS = 50_000_000
"""A file that was changed so lately may be changed again and bear the same time."""


class Event(NamedTuple):
    """`names`: a folder's names by now; `data`: a file's bytes; `sync`: of a file or a folder; `told`: a word to the tests."""

    kind: str
    node: int = 0
    value: Any = None


class Recorder:
    """Looks at a folder before and after each call that changes the disk: what libraries do past Python is seen at the next one,
    as not synced."""

    def __init__(self, root: Path) -> None:
        self.root, self.events = root, list[Event]()
        self._nodes: dict[tuple[int, int], int] = {}
        self._seen: dict[int, tuple[int, int]] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._data: dict[int, bytes] = {}
        self._next, self._lock = 0, threading.RLock()
        self._look()
        self.events += [Event("sync", node) for node in (*self._names, *self._data)]
        self.began = len(self.events)

    def tell(self, word: str, value: Any = None) -> None:
        with self._lock:
            self._look()
            self.events.append(Event("told", value=(word, value)))

    @contextlib.contextmanager
    def recording(self) -> Generator[None]:
        with contextlib.ExitStack() as stack:
            for name in CALLS:
                stack.enter_context(mock.patch.object(os, name, self._noted(name, getattr(os, name))))
            yield
        self._look()

    def _noted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self._look()
                result = call(*args, **kwargs)
                if name in ("fsync", "fdatasync"):
                    facts = os.fstat(args[0] if isinstance(args[0], int) else args[0].fileno())
                    node = self._nodes.get((facts.st_dev, facts.st_ino))
                    if node is not None:
                        self.events.append(Event("sync", node))
                else:
                    self._look()
                return result

        return noted

    def _look(self) -> None:
        """Notes what has changed: what new files hold before their names, and each folder's names at once."""
        found: dict[int, dict[str, int]] = {}
        data: dict[int, bytes] = {}
        nodes: dict[tuple[int, int], int] = {}
        with contextlib.suppress(FileNotFoundError):  # a thread of a library has removed it: the next look sees the rest
            self._walk(self.root, found, data, nodes)
            for node, content in data.items():
                if self._data.get(node) != content:
                    self.events.append(Event("data", node, content))
            for node in reversed(found):  # the inner folders first
                if self._names.get(node) != found[node]:
                    self.events.append(Event("names", node, dict(found[node])))
            self._names, self._data, self._nodes = found, data, nodes

    def _walk(self, path: Path, found: dict[int, dict[str, int]], data: dict[int, bytes], nodes: dict[Any, int]) -> int:
        facts = os.lstat(path)
        key = (facts.st_dev, facts.st_ino)
        node = self._nodes.get(key)
        if node is None or (node in self._names) != stat.S_ISDIR(facts.st_mode):  # the number of a removed file, used again
            self._next += 1
            node = self._next
        nodes[key] = node
        if stat.S_ISDIR(facts.st_mode):
            found[node] = {}
            for name in sorted(os.listdir(path)):
                found[node][name] = self._walk(path / name, found, data, nodes)
            return node
        seen = (facts.st_size, facts.st_mtime_ns)
        old = self._data.get(node)
        fresh = time.time_ns() - facts.st_mtime_ns < _TICK_NS
        data[node] = path.read_bytes() if old is None or fresh or self._seen.get(node) != seen else old
        self._seen[node] = seen
        return node


class Disk:
    """The disk after some events. A history is what a file or folder held since it was synced, and then."""

    def __init__(self) -> None:
        self.root = 0
        self._names: dict[int, list[dict[str, int]]] = {}
        self._data: dict[int, list[bytes]] = {}
        self.told: list[tuple[str, Any]] = []

    def apply(self, event: Event) -> None:
        kind, node, value = event
        if kind == "told":
            self.told.append(value)
        elif kind == "sync":
            history = self._names.get(node) or self._data.get(node)
            if history:
                del history[:-1]
        elif kind == "names":
            self._names.setdefault(node, [{}]).append(value)
        else:
            self._data.setdefault(node, [b""]).append(value)

    def write(self, root: int, target: Path, kind: str, lot: random.Random) -> None:
        """Makes what may be left, below `target`."""
        target.mkdir()
        for name, node in self._left(self._names, root, kind == "least", kind, lot, {}).items():
            path = target / name
            if node in self._names:
                self.write(node, path, kind, lot)
            else:
                path.write_bytes(self._left(self._data, node, kind in ("least", "names"), kind, lot, b""))

    @staticmethod
    def _left(histories: dict[int, list[Any]], node: int, synced: bool, kind: str, lot: random.Random, nothing: Any) -> Any:
        history = histories.get(node) or [nothing]
        return history[0] if synced else lot.choice(history) if kind == "mixed" else history[-1]
