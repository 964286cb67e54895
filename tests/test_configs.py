"""Every config in the repository trains, evaluates and samples."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import needs_fashion
from process import aecli

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def of(data: str) -> list[Path]:
    return [path.relative_to(ROOT) for path in CONFIGS if f"name: {data}" in path.read_text()]


def smoke(paths: list[Path]) -> None:
    done = aecli("check", "--smoke", *paths, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [str(path) for path in paths]


def test_each_config_on_embedded_data_passes_its_smoke_test() -> None:
    smoke(of("digits") + of("shapes"))


FASHION = of("fashion_mnist")


@needs_fashion
@pytest.mark.parametrize("paths", [FASHION[i : i + 3] for i in range(0, len(FASHION), 3)])
def test_each_config_on_fashion_mnist_passes_its_smoke_test(paths: list[Path]) -> None:
    smoke(paths)


def test_each_config_is_in_one_of_these_tests() -> None:
    assert len(of("digits") + of("shapes") + of("fashion_mnist")) == len(CONFIGS)


def test_the_names_that_other_programs_rely_on_are_there() -> None:
    names = {path.stem for path in CONFIGS}
    assert names >= {"quickstart", "vae_fashion", "bottleneck_linear_fashion", "bottleneck_conv_fashion"}


@pytest.mark.parametrize("name", ["quickstart", "vae_fashion"])
def test_two_steps_can_be_asked_for_from_the_command_line(name: str, tmp_path: Path) -> None:
    flags = ["--set", "data.name=digits", "--set", "data.batch_size=64", "--set", "train.steps=2", "--runs-dir", str(tmp_path)]
    done = aecli("train", f"configs/{name}.yaml", *flags, cwd=ROOT)
    assert done.returncode == 0, done.stderr
