"""Compiled programs outlive their process, and what is left of a killed or a full disk is never read."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from process import TINY, environment

from aecli.system import compile_cache
from aecli.system.compile_cache import kept_programs


@pytest.fixture(autouse=True)
def _keep_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_cache, "LEAST_SECONDS", 0.0)


def compile_one(root: Path) -> int:
    """Compiles a program with what is kept; returns how many were read instead."""
    hits: list[str] = []

    def listen(event: str, **_: object) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            hits.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        with kept_programs(root):
            jax.clear_caches()
            assert jax.jit(lambda x: x * 3 + 1)(jnp.float32(2)) == 7
    finally:
        jax.monitoring.unregister_event_listener(listen)
    return len(hits)


def entries(root: Path) -> set[str]:
    return {path.name for path in root.glob("programs/*/*-cache")}


def test_a_program_is_compiled_once_and_read_later(tmp_path: Path) -> None:
    assert compile_one(tmp_path) == 0
    kept = entries(tmp_path)
    assert kept
    assert compile_one(tmp_path) > 0
    assert entries(tmp_path) == kept
    store = next(tmp_path.glob("programs/*"))
    assert stat.S_IMODE(store.stat().st_mode) == 0o700
    assert not list(store.glob("process-*"))


def test_a_part_of_an_entry_is_not_handed_over(tmp_path: Path) -> None:
    with kept_programs(tmp_path):
        own = next(tmp_path.glob("programs/*/process-*"))
        whole = zlib.compress(os.urandom(5000))
        (own / "whole-cache").write_bytes(whole)
        (own / "part-cache").write_bytes(whole[:-7])
        (own / "empty-cache").write_bytes(b"")
    assert entries(tmp_path) == {"whole-cache"}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def of_another(path: Path) -> None:
    path.write_bytes(next(other for other in path.parent.glob("*-cache") if other != path).read_bytes())


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        of_another,
        linked,
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.write_bytes(b""),
        lambda path: path.chmod(0o666),
        lambda path: path.with_name(".seals.json").write_text("[]"),
    ],
)
def test_a_damaged_entry_is_replaced_once_and_silently(
    damage: Callable[[Path], object], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    compile_one(tmp_path)
    with kept_programs(tmp_path):
        own = next(tmp_path.glob("programs/*/process-*"))
        (own / "other-cache").write_bytes(zlib.compress(b"another program"))
    entry = next(path for path in tmp_path.glob("programs/*/*-cache") if "lambda" in path.name)
    damage(entry)
    read = compile_one(tmp_path)
    assert compile_one(tmp_path) > read, "compiled anew the first time, and read the second"
    assert stat.S_IMODE(entry.lstat().st_mode) == 0o600 and not entry.is_symlink()
    assert not [str(each.message) for each in recwarn if "cache" in str(each.message)]


def test_an_entry_that_only_looks_changed_stays(tmp_path: Path) -> None:
    compile_one(tmp_path)
    hits = compile_one(tmp_path)
    for entry in tmp_path.glob("programs/*/*-cache"):
        os.utime(entry, (1e9, 1e9))
    assert compile_one(tmp_path) == hits > 0


def test_the_folder_of_a_killed_process_goes_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    code = f"""
import os, sys
from pathlib import Path
from aecli.system.compile_cache import kept_programs
with kept_programs(Path({str(tmp_path)!r})):
    print("in", flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), 9)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "in\n"
    (folder,) = tmp_path.glob("programs/*/process-*")
    with kept_programs(tmp_path):
        assert folder.exists()
    process.communicate("")
    assert process.returncode == -9 and folder.exists()
    with kept_programs(tmp_path):
        assert not folder.exists()


def test_a_folder_that_others_can_write_into_is_not_read(tmp_path: Path) -> None:
    compile_one(tmp_path)
    next(tmp_path.glob("programs/*")).chmod(0o777)
    assert compile_one(tmp_path) == 0


def test_a_place_that_cannot_be_written_does_without(tmp_path: Path) -> None:
    (tmp_path / "programs").write_text("in the way")
    assert compile_one(tmp_path) == 0


def test_what_a_user_has_set_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "mine"))
    with kept_programs(tmp_path / "ours"):
        pass
    assert not (tmp_path / "ours").exists()


def test_the_longest_unused_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kept_programs(tmp_path):
        own = next(tmp_path.glob("programs/*/process-*"))
        for name in ("new", "older", "oldest"):
            (own / f"{name}-cache").write_bytes(zlib.compress(os.urandom(400)))
    store = next(tmp_path.glob("programs/*"))
    for age, name in enumerate(["new", "older", "oldest"]):
        os.utime(store / f"{name}-cache", (1e9 - age, 1e9 - age))
    monkeypatch.setattr(compile_cache, "LARGEST", 1000)
    with kept_programs(tmp_path):
        pass
    assert entries(tmp_path) == {"new-cache", "older-cache"}


VERBS = """
import json, os, sys
import jax
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if event.endswith("cache_hits") else None)
from aecli.cli.app import app
for arguments in json.loads(sys.argv[1]):
    os.environ["AECLI_DATA_DIR"] = os.path.abspath(f"data/{arguments[0]}")
    hits.clear()
    app(arguments, standalone_mode=False)
    print("read", len(hits))
    jax.clear_caches()
"""


def verbs(*calls: list[str], cwd: Path, **env: str) -> list[tuple[list[str], int]]:
    """Of each verb, called in one process after each other, the lines of its stdout and how many programs it read; none finds
    what another has compiled. Silently: what XLA or JAX might say of one would be on stderr."""
    command = [sys.executable, "-c", VERBS, json.dumps(calls)]
    done = subprocess.run(command, cwd=cwd, env=environment(**env), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and "cache" not in done.stderr, done.stderr
    parts: list[tuple[list[str], int]] = []
    lines: list[str] = []
    for line in done.stdout.splitlines():
        if line.startswith("read "):
            parts.append((lines, int(line.split()[1])))
            lines = []
        else:
            lines.append(line)
    assert len(parts) == len(calls)
    return parts


def test_a_second_run_reads_what_the_first_has_compiled_and_ends_with_its_bits(tmp_path: Path) -> None:
    """Compiled as for a user, all optimizations on."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    hits, ends = [], []
    for _ in range(2):
        [([name], read)] = verbs(["train", "tiny.yaml"], cwd=tmp_path, XLA_FLAGS="")
        leaves = json.loads((tmp_path / "runs" / name / "checkpoints" / "40.commit.json").read_text())["leaves"]
        rows = [json.loads(line) for line in (tmp_path / "runs" / name / "metrics.jsonl").read_text().splitlines()]
        hits.append(read)
        ends.append((leaves, [{k: v for k, v in row.items() if k not in ("images_per_s", "seconds")} for row in rows]))
    assert any("advance" in name for name in entries(tmp_path / "data" / "train"))
    assert hits[0] == 0 and hits[1] >= 2, "the first state and the steps"
    assert ends[0] == ends[1]


def test_every_verb_that_compiles_reads_what_it_compiled_before(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    calls = [["check", "--smoke", "tiny.yaml"], ["sample", "last", "-n", "4"], ["eval", "last", "--only", "objective"]]
    calls.append(["encode", "last", "--split", "test", "-o", "codes.npz", "--force"])
    _, *first = verbs(["train", "tiny.yaml"], *calls, cwd=tmp_path)
    second = verbs(*calls, cwd=tmp_path)
    for [name, *_], (_, before), (_, after) in zip(calls, first, second, strict=True):
        assert after > before, f"{name}: what the first kept and did not read"


def test_an_entry_that_cannot_be_used_does_not_spoil_the_others(tmp_path: Path) -> None:
    with kept_programs(tmp_path):
        own = next(tmp_path.glob("programs/*/process-*"))
        for name in ("one", "two"):
            (own / f"{name}-cache").write_bytes(zlib.compress(os.urandom(400)))
    store = next(tmp_path.glob("programs/*"))
    (store / "one-cache").unlink()
    (store / "one-cache").mkdir()
    with kept_programs(tmp_path):
        own = next(tmp_path.glob("programs/*/process-*"))
        assert {path.name for path in own.glob("*-cache")} == {"two-cache"}


def test_of_too_many_entries_those_go_that_were_not_used_for_the_longest_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kept_programs(tmp_path):
        own = next(tmp_path.glob("programs/*/process-*"))
        for name in ("oldest", "newest", "old", "new"):
            (own / f"{name}-cache").write_bytes(zlib.compress(os.urandom(400)))
    for age, name in enumerate(("newest", "new", "old", "oldest")):
        os.utime(next(tmp_path.glob(f"programs/*/{name}-cache")), (1e9 - age,) * 2)
    assert len(entries(tmp_path)) == 4
    monkeypatch.setattr(compile_cache, "MOST_ENTRIES", 2)
    with kept_programs(tmp_path):
        pass
    assert entries(tmp_path) == {"newest-cache", "new-cache"}


def test_what_is_kept_beside_programs_is_read_by_other_processes_and_never_written_over(tmp_path: Path) -> None:
    assert compile_cache.read_kept("fact") is None
    with kept_programs(tmp_path):
        compile_cache.keep("fact", b"one")
        compile_cache.keep("fact", b"two")
        assert compile_cache.read_kept("fact") == b"one"
    with kept_programs(tmp_path):
        compile_cache.keep("fact", b"three")
        assert compile_cache.read_kept("fact") == b"one"
        assert compile_cache.read_kept("other fact") is None
