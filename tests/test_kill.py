"""kill -9 at random moments: every run goes on and ends with the arrays of one that was never disturbed.

AECLI_SOAK=1 kills twenty runs that are four times as long; AECLI_KILLS sets how many.
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest
from process import SOAK, TINY, aecli, commits, started, wait_for

from aecli.runs.commits import steps as steps_of

KILLS = int(os.environ.get("AECLI_KILLS", "20" if SOAK else "2"))
STEPS = 4000 if SOAK else 1000
CONFIG = (
    TINY.replace("steps: 40", f"steps: {STEPS}")
    .replace("checkpoint_every: 10", "checkpoint_every: 40")
    .replace("log_every: 10", "log_every: 50")
)


def leaves(run: Path) -> dict[str, str]:
    manifest = json.loads((run / "checkpoints" / f"{STEPS}.commit.json").read_text())
    return {leaf["path"]: leaf["sha256"] for leaf in manifest["leaves"]}


@pytest.mark.timeout(60 + 60 * KILLS)
def test_a_killed_run_resumes_to_the_same_arrays(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    begun = time.monotonic()
    whole = tmp_path / "runs" / aecli("train", "c.yaml", cwd=tmp_path).stdout.strip()
    length = time.monotonic() - begun
    expected, rng = leaves(whole), random.Random(0)
    for number in range(KILLS):
        place = tmp_path / str(number)
        place.mkdir()
        (place / "c.yaml").write_text(CONFIG)
        with started("train", "c.yaml", cwd=place) as process:
            if number % 2:  # while it trains and saves
                wait_for(lambda place=place: commits(place), process)
                time.sleep(rng.uniform(0, 1.0))
            else:  # at any moment, from the first import on
                time.sleep(rng.uniform(0.5, length))
            process.kill()
        runs = sorted((place / "runs").glob("*/run.json")) if (place / "runs").exists() else []
        if not runs:  # killed before there was a run
            assert aecli("train", "c.yaml", cwd=place).returncode == 0
            runs = sorted((place / "runs").glob("*/run.json"))
        else:
            done = aecli("train", "--resume", "last", cwd=place)
            assert done.returncode == 0, done.stderr
        [run] = [path.parent for path in runs]
        assert leaves(run) == expected
        assert steps_of(run / "checkpoints")[-1] == STEPS
        steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines() if '"train"' in line]
        assert steps == list(range(50, STEPS + 1, 50))
        assert not list((run / "checkpoints").glob("*tmp*"))
