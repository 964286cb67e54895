"""Every config in the repository trains, evaluates and samples."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from process import SOAK, aecli, called

from aecli.config.load import load
from aecli.data.decoded import is_kept
from aecli.data.sources import fashion

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("**/*.yaml"))
BLOCKS = {path.relative_to(ROOT): yaml.safe_load(path.read_text()) for path in CONFIGS}
ALIKE = ("superres_fashion", "denoising_photos", "superres_photos")
"""Configs with network and data of another one, whose corruptions `test_corruptions.py` knows."""
DOWNLOADED = {path: blocks["data"]["name"] for path, blocks in BLOCKS.items() if blocks["data"]["name"] in ("mnist", "cifar10")}
"""Configs of images that need a network once."""
VARIANTS = sorted({blocks["model"]["variant"] for blocks in BLOCKS.values()})


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_config_of_a_variant_passes_its_smoke_test(variant: str) -> None:
    """On one device, in one process for all of them. The `published` ones have the code paths of other configs and of the
    cases of `cases.py`, and those in `ALIKE` of other configs: outside of AECLI_SOAK they are held against their data alone, as
    are those that want a GPU always."""
    every = {path: blocks["data"]["name"] for path, blocks in BLOCKS.items() if blocks["model"]["variant"] == variant}
    ours = {path: name for path, name in every.items() if path not in DOWNLOADED}
    here = [path for path, data in ours.items() if data != "fashion_mnist" or fashion.has_files(fashion.DEBIAN)]
    spared = [] if SOAK else [path for path in here if "published" in path.stem or path.stem in ALIKE]
    held = [path for path in here if path.parent.name == "gpu" or path in spared]
    smoked = [path for path in here if path not in held]
    assert smoked or not here
    done = [aecli("check", "--smoke", *smoked, cwd=ROOT)] if smoked else []
    done += [called("check", *held, cwd=ROOT)] if held else []
    assert all(one.returncode == 0 for one in done), "".join(one.stderr for one in done)
    assert [line.split(":")[0] for one in done for line in one.stdout.splitlines()] == [str(path) for path in (*smoked, *held)]
    if len(here) < len(ours):
        pytest.skip("the others need Debian's package dataset-fashion-mnist")


@pytest.mark.parametrize("path", DOWNLOADED, ids=lambda path: path.stem)
def test_a_config_of_images_that_are_not_here_is_checked_and_says_so(path: Path) -> None:
    name = DOWNLOADED[path]
    if is_kept(load(ROOT / path).experiment.data):
        assert aecli("check", "--smoke", path, cwd=ROOT).returncode == 0
        return
    done = called("check", path, cwd=ROOT)
    assert done.returncode == 0 and f"{name}, whose images are not here" in done.stdout, done.stderr
    assert "training downloads them" in done.stderr and f"`aecli data prepare {name}`" in done.stderr
    pytest.skip(f"its smoke test needs the images: aecli data prepare {name}")


def test_the_names_that_other_programs_rely_on_are_there() -> None:
    names = {path.stem for path in CONFIGS}
    assert names >= {"quickstart", "vae_fashion", "bottleneck_linear_fashion", "bottleneck_conv_fashion"}


@pytest.mark.parametrize("name", ["quickstart", "vae_fashion"])
def test_two_steps_can_be_asked_for_from_the_command_line(name: str, tmp_path: Path) -> None:
    flags = ["--set", "data.name=digits", "--set", "data.batch_size=64", "--set", "train.steps=2", "--runs-dir", str(tmp_path)]
    done = called("train", f"configs/{name}.yaml", *flags, cwd=ROOT)
    assert done.returncode == 0, done.stderr
