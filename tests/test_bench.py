"""What `aecli bench` says has the right form and hangs together; how fast it is stands nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fit import dataset, experiment
from process import TINY, aecli, called

from aecli.data.train_batches import RESIDENT_STEPS
from aecli.training.call import advance
from aecli.verbs.bench import matmul_rate, speed_of


def test_the_numbers_hang_together() -> None:
    e = experiment("variant: vae, hidden: [12], latent: 3")
    speed = speed_of(e, dataset(), 0.3)
    assert speed.images_per_s == pytest.approx(16 / speed.step_seconds)
    assert speed.step_spread >= 0 and speed.steps_per_call >= 1 and speed.compile_seconds > 0 and speed.peak_bytes > 1e7
    first, others = 64 * 12, 12 * 6 + 3 * 12 + 12 * 64
    assert speed.flop_per_step == 16 * 2 * (2 * first + 3 * others), "one forward, and back to the weights and all but the image"
    share = speed.flop_per_step / 4 / speed.step_seconds / speed.matmul_flop_per_s
    assert speed.matmul_share == pytest.approx(share), "of one of the four devices"
    assert matmul_rate() > 1e8


def test_a_call_is_no_longer_than_a_chunk_and_the_steps_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aecli.training.pace.adapt", lambda count, seconds: 2 * count)  # as if every call were too short
    before = advance._cache_size()
    speed = speed_of(experiment("variant: vae, hidden: [12], latent: 3"), dataset(), 0.1)
    assert speed.steps_per_call == RESIDENT_STEPS
    assert advance._cache_size() == before, "the program that was compiled for counting is the one that runs"


def test_bench_is_a_verb_that_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    done = aecli("bench", "tiny.yaml", "--seconds", 0.2, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"images_per_s", "step_seconds", "compile_seconds", "flop_per_step", "matmul_share", "peak_bytes"} <= set(
        json.loads(done.stdout)
    )
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]
    shown = called("bench", "tiny.yaml", "--seconds", 0.2, "--set", "data.batch_size=64", cwd=tmp_path)
    assert "images/s" in shown.stdout and "matmul rate" in shown.stdout
    wrong = called("bench", "tiny.yaml", "--set", "model.latent=100", cwd=tmp_path)
    assert wrong.returncode == 2 and "model.latent=100" in wrong.stderr


def test_a_step_in_parts_is_counted_whole(tmp_path: Path) -> None:
    config = TINY.replace("variant: vae, hidden: [16], latent: 3", "variant: autoregressive, width: 32, layers: 1")
    (tmp_path / "tiny.yaml").write_text(config)
    flop = []
    for batch in (64, 256):
        done = aecli("bench", "tiny.yaml", "--seconds", 0.1, "--json", "--set", f"data.batch_size={batch}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        flop.append(json.loads(done.stdout)["flop_per_step"])
    assert flop[1] == pytest.approx(4 * flop[0], rel=0.1), "64 images of digits are trained on at once"
