"""What a path of the user's, or of a stranger's run, may lead to: a file. What would be waited for, or never ends, is told at
once."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from own_files import opened
from PIL import Image
from process import called

from aecli.config import yamlfile
from aecli.config.schema import Data
from aecli.data.contents import identity
from aecli.data.sources.registry import open_source
from aecli.errors import AecliError, ConfigError, DataError, UsageError
from aecli.evaluation.judges import inception
from aecli.sampling.beside import known_region
from aecli.system.own import open_own

ZEROS = "/dev/zero"


def _device(path: Path) -> None:
    path.symlink_to(ZEROS)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        os.chdir(path.parent)
        made.bind(path.name)


Made = tuple[Callable[[Path], None], str]
"""What makes something that is no file, and what it is called."""


@pytest.fixture(params=[(os.mkfifo, "a FIFO"), (_device, "a device"), (_socket, "a socket")], ids=["fifo", "device", "socket"])
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Made:
    monkeypatch.chdir(tmp_path)
    return request.param


def refused(kind: type[AecliError], what: str, use: Callable[[], object]) -> None:
    with pytest.raises(kind, match=what):
        use()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.safetensors", "x.csv", "x.txt"])
def test_own_data_is_a_file(name: str, made: Made, fresh: Path, tmp_path: Path) -> None:
    make, what = made
    path = tmp_path / name
    make(path)
    source = "npz" if name == "x.npz" else "vectors"
    for tier in ("auto", "stream"):
        refused(DataError, f"{name} is {what}, not a file", lambda tier=tier: opened(source, path, tier=tier))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("rules", [1, 2])
def test_by_whatever_rules(rules: int, made: Made, fresh: Path, tmp_path: Path) -> None:
    make, what = made
    make(tmp_path / "x.npz")
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "images" / "a.png")
    make(tmp_path / "images" / "b.png")
    data = Data(name="npz", path=str(tmp_path / "x.npz"))
    refused(DataError, what, lambda: identity(data, lambda line: None, rules))
    refused(DataError, what, lambda: open_source(data, lambda line: None, rules))
    folder = Data(name="folder", path=str(tmp_path / "images"), test=0.5)
    if rules == 1:  # later ones leave out what is no file

        def everything() -> None:
            source = open_source(folder, lambda line: None, 1)
            for split in ("train", "test"):
                source.read(split, np.arange(1))

        refused(DataError, what, everything)


@pytest.mark.timeout(60)
def test_configs_masks_and_weights_are_files(made: Made, tmp_path: Path) -> None:
    make, what = made
    make(tmp_path / "x")
    refused(ConfigError, f"this is {what}", lambda: yamlfile.read(tmp_path / "x"))
    refused(UsageError, what, lambda: known_region(str(tmp_path / "x"), 4, 4))
    refused(UsageError, "--inception", lambda: inception.load(tmp_path / "x"))


def test_a_link_to_own_data_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"x")
    (tmp_path / "link").symlink_to("there")
    with open_own(tmp_path / "link") as file:
        assert file.read() == b"x"
    with pytest.raises(IsADirectoryError):
        open_own(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_own(tmp_path / "gone")


@pytest.mark.timeout(120)
def test_a_run_whose_data_is_a_pipe_by_now(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "own.npz", image=rng.integers(0, 256, (40, 4, 4), np.uint8))
    (tmp_path / "own.yaml").write_text(
        "data: {name: npz, path: own.npz, batch_size: 8}\nmodel: {variant: bottleneck, latent: 2}\ntrain: {steps: 1}\n"
    )
    assert called("train", "own.yaml", cwd=tmp_path).returncode == 0
    (tmp_path / "own.npz").unlink()
    os.mkfifo(tmp_path / "own.npz")
    ended = called("eval", "last", cwd=tmp_path)
    assert ended.returncode == 3 and "own.npz is a FIFO, not a file" in ended.stderr
    (file,) = tmp_path.glob("runs/*/run.json")
    facts = json.loads(file.read_text())
    facts["data"]["path"] = dict.fromkeys(facts["data"]["path"], ZEROS)
    file.write_text(json.dumps(facts))
    (tmp_path / "own.npz").unlink()
    ended = called("eval", "last", cwd=tmp_path)
    assert ended.returncode == 3 and f"{ZEROS} is a device, not a file" in ended.stderr
