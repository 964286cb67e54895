"""A run of any variant that was cut short ends as if it had not been."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cases import CASES, named
from compiled import DATA, compiled
from fit import experiment, fit, go_on

from aecli.config import variants
from aecli.runs import commits
from aecli.runs.directory import Run

ONLY_ANOTHER_NET = {
    "autoregressive-transformer",
    "bottleneck-conv",
    "bottleneck-linear",
    "denoising-conv",
    "denoising-mlp",
    "sparse-l1-conv",
    "vae-resnet-flow",
    "vae-linear-beta",
}
"""Cases whose state has the form of another's, and which are long to compile."""


TO_CUT = [case for case in CASES if case.name not in ONLY_ANOTHER_NET]


@pytest.mark.parametrize("case", named(TO_CUT, portable=set(variants.variants())))
def test_a_run_cut_anywhere_ends_with_the_same_bits(case: str, tmp_path: Path) -> None:
    """48 images in batches of 20: the six steps cross the end of two passes, after the second and the fourth. The first
    case is cut at every step, the others after a whole pass and before the last step."""
    data, e = DATA, compiled(case).experiment
    whole, _ = fit(tmp_path, e, data)
    assert commits.steps(whole.checkpoints) == [1, 2, 3, 4, 5, 6]
    expected = _digests(whole.checkpoints, 6)
    for last in range(1, 6) if case == CASES[0].text else (2, 5):
        cut = Run(tmp_path / f"cut-{last}")
        shutil.copytree(whole.path, cut.path)
        for later in range(last + 1, 7):
            (cut.checkpoints / f"{later}.commit.json").unlink()
        training = go_on(cut, e, data)
        assert training.resumed_from == last
        assert _digests(cut.checkpoints, 6) == expected
        assert [row.step for row in cut.rows()] == [row.step for row in whole.rows()]


def test_a_run_moved_by_muon_ends_with_the_same_bits(tmp_path: Path) -> None:
    """Its state is of two optimizers, each of a part of the weights."""
    e = experiment(
        "variant: bottleneck, hidden: [16], latent: 3",
        "steps: 6, checkpoint_every: 1, keep: 9",
        "batch_size: 20",
        "name: muon, weight_decay: 0.1, ema: 0.9, schedule: cosine",
    )
    whole, _ = fit(tmp_path, e, DATA)
    cut = Run(tmp_path / "cut")
    shutil.copytree(whole.path, cut.path)
    for later in (4, 5, 6):
        (cut.checkpoints / f"{later}.commit.json").unlink()
    assert go_on(cut, e, DATA).resumed_from == 3
    assert _digests(cut.checkpoints, 6) == _digests(whole.checkpoints, 6)


def _digests(folder: Path, step: int) -> dict[str, str]:
    manifest = json.loads((folder / f"{step}.commit.json").read_text())
    assert commits.steps(folder)[-1] == step
    return {leaf["path"]: leaf["sha256"] for leaf in manifest["leaves"]}
