"""Several processes, on one machine or on many, that train one run: how they meet, and what they say to each other.

Process 0 leads. It alone decides what is done next, so that a signal, a patience that ends or an error is heeded by all at the
same step, and the others follow its orders. What they say goes through the store of JAX's coordination service, which process 0
holds; arrays go through collectives (`placement.py`).
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Generator, Mapping
from typing import Any

from aecli.errors import (
    AecliError,
    CheckpointError,
    ConfigError,
    DataError,
    DeviceError,
    DivergedError,
    InterruptedRun,
    RunError,
    StorageError,
    UsageError,
    printable_lines,
    translate,
)
from aecli.system.signals import Terminated
from aecli.system.terminal import stdout_kept

AUTO = "auto"
"""In place of an address: what JAX finds out by itself, of Slurm, of Open MPI, of a pod of TPUs."""
WAIT_SECONDS = 300
"""How long processes wait for all of them to come."""
SILENT_SECONDS = 100
"""A process that was not heard of for so long counts as gone; one whose connection is closed is known to be at once."""
LEAVE_SECONDS = 5
"""How long one that ends by an error waits for the others to hear of it."""
MOST_WORDS = 2_000
"""Letters of what has ended a process that the others are told."""
_LOOK_SECONDS = 1
_ADDRESS = re.compile(r"\A(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):(\d{1,5})\Z")
_KINDS = {
    kind.code: kind for kind in (UsageError, DataError, RunError, CheckpointError, DivergedError, StorageError, DeviceError)
}
_AGAIN = "start all of them again: what is saved goes on with --resume"

Facts = Mapping[str, Any]
Check = Callable[[int, Facts, Facts], None]
"""Of the number of another process, what it computes with, and what process 0 does: raises if that cannot go together."""


class Ended(Exception):
    """Process 0 has ended well: there is nothing left to do."""


class Leader:
    """Process 0, as the others hear it. Without a `client` there are no others, and nothing is said."""

    def __init__(self, client: Any = None, processes: int = 1) -> None:
        self._client, self.processes = client, processes
        self._said = 0
        self._lost = False

    def agree(self, about: str, mine: Callable[[], Facts], check: Check) -> None:
        """Waits until all others are as far, and lets them go on if `check` raises nothing of any."""
        for process in range(1, self.processes):
            while (theirs := _look(self._client, f"aecli/{about}/{process}")) is None:
                self.heard()
            check(process, theirs, mine())
        self.order({"agreed": about})

    def order(self, order: Facts) -> None:
        """Tells the others what to do next. Raises what has ended one of them."""
        self.heard()
        if self._client is not None:
            self._say(order)

    def heard(self) -> int | None:
        """The signal that another process has been sent, if any. Raises what has ended one of them."""
        if self._client is None:
            return None
        with _of_store():
            words = {key.rpartition("/")[2]: json.loads(text) for key, text in self._client.key_value_dir_get("aecli/word/")}
        for process, word in words.items():
            if "code" in word:
                raise _error(word, f"process {process}")
        return next((word["signal"] for word in words.values()), None)

    def blame(self, error: Exception) -> AecliError | None:
        """What lies behind an error of a collective: that another process has ended. None of any other error."""
        if self._client is None or not _is_of_collective(error):
            return None
        self._lost = True
        try:
            self.heard()  # it may have said why
        except AecliError as known:
            return known
        return _gone(error)

    def end(self, error: BaseException | None) -> bool:
        """Tells the others that nothing is left to do, and why; whether all of them have heard it."""
        try:
            self._say(_last_word(error))
            for process in () if self._lost else range(1, self.processes):
                self._client.blocking_key_value_get(f"aecli/left/{process}", 1000 * LEAVE_SECONDS)
        except Exception:  # of the store: one of them does not answer
            return False
        return not self._lost

    def _say(self, order: Facts) -> None:
        with _of_store():
            self._client.key_value_set(f"aecli/order/{self._said}", json.dumps(order))
            if self._said >= 3:  # a step before last has been computed by all, who have read as far
                self._client.key_value_delete(f"aecli/order/{self._said - 3}")
        self._said += 1


class Follower:
    """One of the other processes."""

    def __init__(self, client: Any, process: int) -> None:
        self._client, self.process = client, process
        self._read = 0
        self._passed_on = self._dismissed = False

    def agree(self, about: str, mine: Callable[[], Facts]) -> None:
        """Tells process 0 what this process computes with, and waits for it to go on. Raises as `hear` does."""
        facts = json.dumps(mine())
        with _of_store():
            self._client.key_value_set(f"aecli/{about}/{self.process}", facts)
        self.hear()

    def hear(self, signalled: Callable[[], int | None] = lambda: None) -> Facts:
        """The next order of process 0; a signal that has come to this process meanwhile is passed on to it. Raises Ended when
        process 0 has ended well, and otherwise what has ended it."""
        while True:
            signum = signalled()
            if signum is not None and not self._passed_on:
                self._passed_on = True
                self._word({"signal": signum})
            order = self._look()
            if order is not None and not self._dismissed:
                return order
            if order is not None:
                raise Ended if order["code"] == 0 else _error(order, "process 0")

    def blame(self, error: Exception) -> AecliError | None:
        """What lies behind an error of a collective: that another process has ended. None of any other error."""
        return _gone(error) if _is_of_collective(error) else None

    def end(self, error: BaseException | None) -> bool:
        """Tells process 0 what has ended this process, if it was not process 0; whether that has heard it, and ends too. It may
        wait in a collective for this process, which therefore does not stay for long."""
        try:
            if not self._dismissed:
                self._word(_last_word(error))
            for _ in range(LEAVE_SECONDS // _LOOK_SECONDS):
                if self._dismissed:
                    break
                self._look()
        except DeviceError:  # process 0 has gone
            return False
        return self._dismissed

    def _look(self) -> Facts | None:
        """The next order, if there is one by now. The last one is answered, for process 0 to leave."""
        order = _look(self._client, f"aecli/order/{self._read}")
        if order is not None:
            self._read += 1
            if "code" in order:
                self._dismissed = True
                with _of_store():
                    self._client.key_value_set(f"aecli/left/{self.process}", "{}")
        return order

    def _word(self, word: Facts) -> None:
        with _of_store():
            self._client.key_value_set(f"aecli/word/{self.process}", json.dumps(word), allow_overwrite=True)


@contextlib.contextmanager
def blaming(crew: Leader | Follower) -> Generator[None]:
    """An error of a collective is told as what lies behind it: another process that has ended."""
    try:
        yield
    except Exception as error:
        known = crew.blame(error)
        if known is None:
            raise
        raise known from None


@contextlib.contextmanager
def joined(coordinator: str | None, process: int | None = None, processes: int | None = None) -> Generator[Leader | Follower]:
    """What this process is among those that train a run together: number `process` of `processes`, which meet at an address of
    process 0; a leader without followers where no `coordinator` is given. To be entered before JAX has made its devices, and left
    by what has ended the work, which the others are told; nothing can be printed on stdout meanwhile. Raises UsageError for what
    can be no such group, DeviceError if the processes do not meet; JAX ends the process where it hears of it first, which is told
    in the same way."""
    if coordinator is None:
        yield Leader()
        return
    _check(coordinator, process, processes)
    tell = _tell_aborts()
    with stdout_kept():  # Gloo says on stdout whom it has met
        tell(f"not all {processes or ''} processes came to {coordinator} within {WAIT_SECONDS} s".replace("  ", " "))
        crew = _meet(coordinator, process, processes)
        tell("JAX has ended this process, since process 0 or another one has gone")
        try:
            yield crew
        except BaseException as error:
            _leave(crew.end(error), _last_word(error)["code"])
            raise
        else:
            _leave(crew.end(None), 0)


def _check(coordinator: str, process: int | None, processes: int | None) -> None:
    given = (process is not None, processes is not None)
    if coordinator == AUTO:
        if any(given):
            raise UsageError("--coordinator auto finds --process and --processes by itself", "leave them out")
        return
    found = _ADDRESS.match(coordinator)
    if found is None or not 0 < int(found[2]) < 2**16:
        raise UsageError(f"--coordinator {coordinator} is no HOST:PORT", "name the machine of process 0 and a free port of it")
    if process is None or processes is None:
        raise UsageError("--coordinator HOST:PORT needs --process and --processes", "as in --process 0 --processes 2")
    if not 0 <= process < processes:
        raise UsageError(f"--process {process} of --processes {processes}: they count from 0", f"0 to {processes - 1}")
    try:
        socket.getaddrinfo(found[1].strip("[]"), None)
    except OSError as error:
        raise DeviceError(f"--coordinator {coordinator}: {found[1]} is not known here: {error.strerror}") from None


def _meet(coordinator: str, process: int | None, processes: int | None) -> Leader | Follower:
    import jax
    from jax._src.distributed import global_state  # the store has no other name

    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM, which this program heeds itself
    address = None if coordinator == AUTO else coordinator
    try:
        jax.distributed.initialize(
            address, processes, process, initialization_timeout=WAIT_SECONDS, heartbeat_timeout_seconds=SILENT_SECONDS
        )
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"JAX finds no cluster that this process is a part of: {error}", "name it: --coordinator HOST:PORT"
        ) from None
    except RuntimeError as error:
        text = str(error).splitlines()[0]
        why = "the port is taken, or not allowed" if "RPC server" in text else text
        raise DeviceError(f"the processes cannot meet at {coordinator}: {why}", "choose another port") from None
    mine = int(global_state.process_id)
    return Follower(global_state.client, mine) if mine else Leader(global_state.client, int(global_state.num_processes))


def _leave(heard: bool, code: int) -> None:
    """Leaves the service together with the others. Where one of them has not heard of the end it would be waited for, so this
    process ends without, as soon as it has nothing else to do."""
    import jax

    if heard:
        jax.distributed.shutdown()
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
        return

    def end_at_once() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)

    atexit.register(end_at_once)  # before what JAX has registered


_handlers: list[Any] = []
"""What C calls is not to be freed before the process ends."""


def _tell_aborts() -> Callable[[str], None]:
    """JAX ends a process by abort(), after lines of its own, where it hears that another one has gone: until the service is left,
    such an end is told in a line, that which was given last, and has the exit code of a DeviceError. A handler of Python's would
    run too late, since abort() returns to nobody."""
    lines = [""]

    def ended(signum: int) -> None:
        text = printable_lines(DeviceError(lines[0], _AGAIN).render())
        os.write(2, f"{text}\n".encode(errors="backslashreplace"))
        os._exit(DeviceError.code)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(ended)
    _handlers.append(handler)
    ctypes.CDLL(None).signal(signal.SIGABRT, handler)
    return lambda line: lines.__setitem__(0, line)


def _look(client: Any, key: str) -> Facts | None:
    """What the store has under a name, waited for a moment. Raises DeviceError if the store has gone."""
    try:
        return json.loads(client.blocking_key_value_get(key, 1000 * _LOOK_SECONDS))
    except RuntimeError as error:
        if "DEADLINE_EXCEEDED" in str(error):
            return None
        raise _gone(error) from None


@contextlib.contextmanager
def _of_store() -> Generator[None]:
    try:
        yield
    except RuntimeError as error:
        raise _gone(error) from None


def _gone(error: Exception) -> DeviceError:
    return DeviceError(f"another process has gone, or cannot be reached any more: {str(error).splitlines()[0]}", _AGAIN)


def _is_of_collective(error: Exception) -> bool:
    known = not isinstance(error, AecliError) and type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError", "ValueError")
    return known and re.search(r"\b(gloo|nccl|rccl|mpi|collective|coordination)", str(error), re.IGNORECASE) is not None


def _last_word(error: BaseException | None) -> dict[str, Any]:
    """What has ended a process, for the others."""
    if error is None or isinstance(error, Ended):
        return {"code": 0}
    if isinstance(error, KeyboardInterrupt | Terminated):
        return {"code": 128 + (error.signum if isinstance(error, Terminated) else signal.SIGINT), "message": "interrupted"}
    known = translate(error)
    if known is None:
        return {"code": 1, "message": f"{type(error).__name__}: {error}"[:500]}
    code = 128 + known.signum if isinstance(known, InterruptedRun) else known.code
    message = known.render() if isinstance(known, ConfigError) else known.message
    return {"code": code, "message": message[:MOST_WORDS], "help": known.help}


def _error(word: Facts, who: str) -> AecliError:
    """What has ended another process, as the end of this one."""
    code, message, help = int(word["code"]), f"{who}: {word['message']}", word.get("help")
    return InterruptedRun(code - 128, message, help) if code > 128 else _KINDS.get(code, AecliError)(message, help)
