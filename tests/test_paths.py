"""Where a path in a config leads: beside the config, then the current folder; of a flag, the current folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from process import called

from aecli.config import load as module
from aecli.config.load import Config, load
from aecli.errors import ConfigError, DataError

TEXT = "data: {name: npz, path: PATH}\nmodel: {variant: bottleneck}\ntrain: {steps: 1}\n"


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, list[str]]:
    """The folder of a config, the current folder, and what is said."""
    said: list[str] = []
    monkeypatch.setattr(module, "say", said.append)
    folders = tmp_path / "configs", tmp_path / "here"
    for folder in folders:
        folder.mkdir()
    monkeypatch.chdir(folders[1])
    return *folders, said


def config(folder: Path, path: str = "own.npz", *sets: str, text: str = TEXT) -> Config:
    (folder / "c.yaml").write_text(text.replace("PATH", path))
    return load(folder / "c.yaml", sets)


def test_beside_the_config_comes_before_the_current_folder(two: tuple[Path, Path, list[str]]) -> None:
    beside, here, said = two
    (here / "own.npz").touch()
    assert config(beside).experiment.data.path == str(here / "own.npz") and not said
    (beside / "own.npz").touch()
    assert config(beside).experiment.data.path == str(beside / "own.npz")
    assert str(beside / "own.npz") in said[0] and str(here / "own.npz") in said[0]
    (here / "own.npz").unlink()
    (here / "own.npz").symlink_to(beside / "own.npz")
    assert config(beside).experiment.data.path == str(beside / "own.npz") and len(said) == 1, "it is one file"


def test_the_resolved_config_holds_the_absolute_path(two: tuple[Path, Path, list[str]]) -> None:
    beside, _, _ = two
    (beside / "own.npz").touch()
    found = config(beside)
    assert f"path: {beside / 'own.npz'}" in found.resolved() and found.given("path") == "own.npz"


def test_a_flag_means_the_current_folder(two: tuple[Path, Path, list[str]]) -> None:
    beside, here, _ = two
    (beside / "own.npz").touch()
    (here / "other.npz").touch()
    found = config(beside, "own.npz", "data.path=other.npz")
    assert found.experiment.data.path == str(here / "other.npz") and found.given("path") == "other.npz"
    with pytest.raises(DataError) as caught:
        config(beside, "own.npz", "data.path=own.npz")
    assert str(here / "own.npz") in str(caught.value) and str(beside) not in str(caught.value)
    assert caught.value.help == "a path of a flag is looked for in the current folder"
    with pytest.raises(DataError):
        config(beside, "own.npz", "data={name: npz, path: own.npz}")


def test_where_nothing_is_both_places_are_told(two: tuple[Path, Path, list[str]]) -> None:
    beside, here, _ = two
    with pytest.raises(DataError) as caught:
        config(beside)
    assert str(beside / "own.npz") in str(caught.value) and str(here / "own.npz") in str(caught.value)
    with pytest.raises(DataError, match="empty"):
        config(beside, "''")
    with pytest.raises(ConfigError):
        config(beside, "own.npz", "data.batch=3")


def test_the_home_is_expanded_and_nothing_else(two: tuple[Path, Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    beside, here, _ = two
    monkeypatch.setenv("HOME", str(here))
    (here / "own.npz").touch()
    (beside / "$HOME").touch()
    assert config(beside, "~/own.npz").experiment.data.path == str(here / "own.npz")
    assert config(beside, "x", "data.path=~/own.npz").experiment.data.path == str(here / "own.npz")
    assert config(beside, "$HOME").experiment.data.path == str(beside / "$HOME")
    assert config(beside, "~/gone.npz").experiment.data.path == str(here / "gone.npz"), "its reader says that it is not there"


def test_a_folder_of_original_files_is_found_in_the_same_way(two: tuple[Path, Path, list[str]]) -> None:
    beside, here, said = two
    text = TEXT.replace("name: npz, path: PATH", "name: fashion_mnist, manual_dir: PATH")
    (beside / "originals").mkdir()
    assert config(beside, "originals", text=text).experiment.data.manual_dir == str(beside / "originals")
    assert config(beside, "gone", text=text).experiment.data.manual_dir == str(beside / "gone"), "it may be prepared already"
    assert str(beside / "gone") in said[0] and str(here / "gone") in said[0]


def test_check_finds_the_data_beside_the_config(tmp_path: Path) -> None:
    import numpy as np

    (tmp_path / "project").mkdir()
    (tmp_path / "elsewhere").mkdir()
    np.savez(tmp_path / "project" / "own.npz", image=np.full((9, 4, 4), 200, np.uint8))
    (tmp_path / "project" / "c.yaml").write_text(TEXT.replace("PATH", "own.npz").replace("npz}", "npz, batch_size: 2}"))
    done = called("check", tmp_path / "project" / "c.yaml", cwd=tmp_path / "elsewhere")
    assert done.returncode == 0, done.stderr
    (tmp_path / "project" / "own.npz").unlink()
    done = called("check", tmp_path / "project" / "c.yaml", cwd=tmp_path / "elsewhere")
    assert done.returncode == 3
    assert all(str(tmp_path / folder / "own.npz") in done.stderr for folder in ("project", "elsewhere"))
