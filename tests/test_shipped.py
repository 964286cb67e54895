"""The configs that come with aecli: found by name from anywhere, in a checkout as in a wheel."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest
import yaml
from process import called

import aecli
from aecli.config import shipped, yamlfile
from aecli.config.load import load
from aecli.errors import ConfigError

CONFIGS = Path(__file__).parent.parent / "configs"


def test_their_names_are_those_of_the_files() -> None:
    assert shipped.names() == tuple(sorted(path.stem for path in CONFIGS.glob("*.yaml"))) and "quickstart" in shipped.names()


@pytest.mark.parametrize("name", ["quickstart", "quickstart.yaml", "configs/quickstart.yaml"])
def test_one_is_found_by_its_name_from_anywhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(Path(name)).experiment == load(CONFIGS / "quickstart.yaml").experiment
    assert called("check", name, cwd=tmp_path).returncode == 0
    done = called("sweep", name, "--grid", "model.beta=1,2", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_file_of_ones_own_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").write_text((CONFIGS / "gan_digits.yaml").read_text())
    assert load(Path("quickstart")).experiment.model.variant == "gan"
    assert load(Path("quickstart.yaml")).experiment.model.variant == "vae"
    (tmp_path / "quickstart.yaml").mkdir()
    with pytest.raises(ConfigError, match="a folder"):
        load(Path("quickstart.yaml"))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("quikstart", "did you mean 'quickstart'?"),
        ("nothing/at/all", "that comes with aecli"),
        ("elsewhere/quickstart.yaml", "quickstart"),
    ],
)
def test_a_name_that_none_has_is_told(name: str, told: str, tmp_path: Path) -> None:
    done = called("check", name, cwd=tmp_path)
    assert done.returncode == 2 and f"{name}: error[no-such-file]" in done.stderr and told in done.stderr


def test_they_are_found_where_a_wheel_puts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "aecli"
    package.mkdir(parents=True)
    monkeypatch.setattr(shipped, "_PACKAGE", package)
    assert shipped.folder() is None and shipped.names() == () and shipped.file_of(Path("quickstart")) is None
    with pytest.raises(ConfigError) as caught:
        yamlfile.read_text(tmp_path / "quickstart")
    assert caught.value.diagnostics[0].rule == "no-such-file"
    shutil.copytree(CONFIGS, package / "configs")
    assert shipped.folder() == package / "configs" and "vae_fashion" in shipped.names()
    monkeypatch.undo()
    assert shipped.folder() == Path(aecli.__file__).resolve().parent.parent / "configs"


def test_the_citation_is_of_this_version_and_licence() -> None:
    root = CONFIGS.parent
    told = yaml.safe_load((root / "CITATION.cff").read_text())
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert (told["title"], told["version"], told["license"]) == (project["name"], aecli.__version__, project["license"])
    assert project["version"] == aecli.__version__
    assert {"cff-version", "message", "authors"} <= set(told)
