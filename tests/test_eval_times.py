"""What an evaluation tells of its time."""

from __future__ import annotations

from pathlib import Path

import pytest

from aecli.verbs import eval_times
from aecli.verbs.eval_times import Times, Work, last_time, plan, remember, told


def test_parts_are_timed_by_name_and_go_on_where_they_begin_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0, 5.0, 9.0, 11.0])
    monkeypatch.setattr(eval_times.time, "monotonic", lambda: next(clock))
    begun: list[str] = []
    times = Times(begun.append)
    for part in ("generation", "draws", "generation"):
        times.begin(part)
    times.end()
    assert times.seconds == {"generation": 2 + 4, "draws": 3} and begun == ["generation", "draws", "generation"]
    times.end()
    assert times.seconds == {"generation": 6, "draws": 3}


def test_the_plan_is_what_the_last_time_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AECLI_DATA_DIR", str(tmp_path))
    work = Work("vae", "test", "0123456789abcdef0123", 10_000, 500, 10_000, 100)
    names = ("objective", "reconstruction", "generation")
    assert plan(names, last_time(work)) == (
        "3 evaluators; the first time on this data takes longer than the next ones: plain methods are fitted to it"
    )
    remember(work, {"objective": 0.2, "reconstruction": 1.6, "draws": 9.0, "generation": 4.4})
    remember(work, {"reconstruction": 2.4})
    assert plan(names, last_time(work)) == "3 evaluators, about 16 s the last time; --only reconstruction took about 2"
    assert plan(names[:2], last_time(work)) == "2 evaluators, about 3 s the last time; --only reconstruction took about 2"
    assert plan(("generation",), last_time(work)) is None and not last_time(work._replace(split="validation"))
    assert not last_time(work._replace(n=64)), "of a smaller part"


def test_where_nothing_can_be_written_nothing_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shared").write_text("a file")
    monkeypatch.setenv("AECLI_DATA_DIR", str(tmp_path))
    remember(Work("vae", "test", "0" * 20, 1, 1, 1, 1), {"objective": 1.0})


def test_the_longest_part_is_told_first_and_short_ones_not_at_all() -> None:
    assert told({"objective": 0.4, "draws": 3.2, "generation": 61.0}) == "generation 61 s, draws 3 s"
    assert told({"objective": 0.4}) == ""
