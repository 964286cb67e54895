"""When something besides training happens in a run, without training one."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from aecli.config.schema import Train
from aecli.training.schedule import Schedule

CASES = [
    Schedule(Train(**more), steps, size, batch)
    for more, steps, (size, batch) in itertools.product(
        [
            {"steps": 1, "log_every": 7},
            {"steps": 1, "log_every": 5, "checkpoint_every": 3},
            {"steps": 1, "eval_every": 2, "checkpoint_every": 8, "log_every": 100},
        ],
        [1, 12, 40],
        [(48, 16), (50, 16), (7, 16), (48, 1)],
    )
]


@pytest.mark.parametrize("schedule", CASES, ids=range(len(CASES)))
def test_every_event_is_a_stop_and_every_stop_an_event(schedule: Schedule) -> None:
    stops, step = [], 0
    while step < schedule.steps:
        step = schedule.next_stop(step)
        stops.append(step)
    events = [
        step for step in range(1, schedule.steps + 1) if schedule.is_log(step) or schedule.is_eval(step) or schedule.is_save(step)
    ]
    assert stops == events and stops[-1] == schedule.steps


@pytest.mark.parametrize("schedule", CASES, ids=range(len(CASES)))
def test_an_evaluation_comes_with_the_first_step_that_completes_its_passes(schedule: Schedule) -> None:
    every, size = schedule.train.eval_every, schedule.size
    for step in range(1, schedule.steps):
        seen, before = step * schedule.batch, (step - 1) * schedule.batch
        assert schedule.is_eval(step) == (seen // (size * every) > before // (size * every)), step
    assert schedule.is_eval(schedule.steps) and not schedule.is_eval(0)


def test_a_checkpoint_follows_each_evaluation_unless_steps_are_given() -> None:
    def saves(**more: Any) -> list[int]:
        schedule = Schedule(Train(steps=10, **more), 10, 32, 8)
        return [step for step in range(1, 11) if schedule.is_save(step)]

    assert saves() == [4, 8, 10] and saves(checkpoint_every=3) == [3, 6, 9, 10] and saves(eval_every=2) == [8, 10]


def test_epochs_count_images() -> None:
    schedule = Schedule(Train(steps=10), 10, 32, 8)
    assert schedule.epoch(0) == 0 and schedule.epoch(6) == 1.5
