"""`aecli init`: a config to change, that says what it says with every default written out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import CASES
from PIL import Image
from process import called

from aecli.config import shipped, yamlfile
from aecli.config.commented import WIDTH, commented
from aecli.config.load import load, parse
from aecli.config.schema import Experiment
from aecli.errors import DataError, UsageError
from aecli.verbs.init import begin

DEFAULT = re.compile(r"^(\s*)#(?=\w+:( |$))", re.MULTILINE)
"""Before a setting that has its default."""


def check_says_all(text: str, experiment: Experiment) -> None:
    """That the text is the experiment, as it is and with each default taken at its word, and that it tells of each setting."""
    written = DEFAULT.sub(r"\1", text)
    assert parse(text, "config").experiment == experiment == parse(written, "config").experiment
    named = yamlfile.parse(written, "config").data
    assert set(named) == set(Experiment.model_fields)
    for block in ("model", "optimizer", "train"):
        assert set(named[block]) == set(experiment.model_dump()[block])
    assert all(len(line) <= WIDTH for line in text.splitlines() if line.lstrip().startswith("# "))


@pytest.mark.parametrize("name", shipped.names())
def test_each_config_that_comes_with_aecli_is_the_same_with_every_setting_explained(
    name: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    begun = begin(name)
    assert begun.path == Path(f"{name}.yaml") and begun.wrong is None
    check_says_all(begun.path.read_text(), load(shipped.file_of(Path(name)) or Path()).experiment)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_set_and_what_is_not_stay_what_they_are(case: Any) -> None:
    text = f"data: {{name: digits}}\nmodel: {{{case.text}}}\ntrain: {{minutes: 3}}\n"
    experiment = parse(text, case.name).experiment
    check_says_all(commented(experiment, yamlfile.parse(text, case.name).data), experiment)


@pytest.mark.parametrize("path", ["1e3", "yes", "null", "a: b # c", "'", 'say "hi"', " x", "\N{SNOWMAN}\n", "[1]"])
def test_a_path_is_read_as_it_was_given(path: str) -> None:
    experiment = parse("data: {name: npz, path: here}\nmodel: {variant: vae}\ntrain: {steps: 1}\n", "config").experiment
    given = {"data": {"name": "npz", "path": path}, "model": {"variant": "vae"}, "train": {"steps": 1}}
    assert parse(commented(experiment, given), "config").experiment.data.path == path


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place with photographs in two classes, and vectors."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(random.integers(0, 256, (90, 120, 3), np.uint8)).save(tmp_path / "photos" / name / f"{i}.png")
    np.save(tmp_path / "acts.npy", random.normal(size=(50, 30)).astype(np.float32))
    return tmp_path


def test_own_images_are_found_reduced_and_batched_so_that_it_trains(own: Path) -> None:
    done = called("init", "bottleneck_conv_fashion", "--data", "folder:photos", "-o", "sub/mine.yaml", cwd=own)
    assert done.returncode == 7, "there is no folder sub"
    (own / "sub").mkdir()
    done = called("init", "bottleneck_conv_fashion", "--data", "folder:photos", "-o", "sub/mine.yaml", cwd=own)
    assert (done.returncode, done.stdout) == (0, "sub/mine.yaml\n"), done.stderr
    data = load(own / "sub" / "mine.yaml").experiment.data
    assert (data.name, data.size, data.batch_size, data.validation) == ("folder", (48, 64), 9, 0.1)
    assert data.path == str(own / "photos") and "path: ../photos" in (own / "sub" / "mine.yaml").read_text()
    trained = called("train", "sub/mine.yaml", "--set", "train.epochs=1", cwd=own)
    assert trained.returncode == 0, trained.stderr


def test_what_does_not_fit_is_written_and_told(own: Path) -> None:
    assert begin("quickstart", Path("v.yaml"), "vectors:acts.npy").wrong is None
    assert not re.search(r"\bsize:", (own / "v.yaml").read_text())
    done = called("init", "gan_digits", "--data", "vectors:acts.npy", cwd=own)
    assert done.returncode == 2 and done.stdout == "gan_digits.yaml\n"
    assert re.search(r"gan_digits.yaml:\d+:\d+: error\[unsuitable\]: variant 'gan' serves images", done.stderr)
    assert parse((own / "gan_digits.yaml").read_text(), "config").experiment.model.variant == "gan"


def test_what_needs_a_setting_more_is_written_and_told(own: Path) -> None:
    np.savez(own / "wide.npz", image=np.linspace(0, 7, 20 * 64, dtype=np.float32).reshape(20, 8, 8))
    begun = begin("quickstart", Path("w.yaml"), "npz:wide.npz")
    assert begun.wrong is not None and "data.range" in str(begun.wrong.help)
    text = (own / "w.yaml").read_text()
    assert "  #range: null" in text and "label:" not in text, "what an npz file does not heed is left out"
    (own / "w.yaml").write_text(text.replace("  #range: null", "  range: [0, 7]").replace("batch_size: 64", "batch_size: 9"))
    done = called("check", "w.yaml", cwd=own)
    assert done.returncode == 0, done.stderr


def test_the_name_of_the_file_stays_in_its_comment(own: Path) -> None:
    name = "a\x1b[31m b\u2028model: {}.yaml"
    begun = begin("quickstart", Path(name))
    assert begun.wrong is None and load(Path(name)).experiment.model.variant == "vae"
    done = called("init", "-o", "my own.yaml", cwd=own)
    assert done.stderr.endswith("next: aecli train 'my own.yaml'\n")


def test_settings_of_the_other_data_stay_behind(own: Path) -> None:
    """Which part is held out for a published number, and how it is binarized where data has no pixels, are of that data."""
    begin("vae_published_fashion", Path("a.yaml"), "digits")
    data = load(Path("a.yaml")).experiment.data
    assert (data.name, data.binarize, data.validation) == ("digits", "fixed", 0.1)
    begin("vae_published_fashion", Path("b.yaml"), "vectors:acts.npy")
    assert "binarize" not in (own / "b.yaml").read_text()


def test_nothing_is_overwritten_and_mistakes_write_nothing(own: Path) -> None:
    (own / "quickstart.yaml").write_text("mine\n")
    with pytest.raises(UsageError, match="is there already"):
        begin("quickstart")
    assert (own / "quickstart.yaml").read_text() == "mine\n"
    for arguments, hint in (
        (("vea_fashion", "n.yaml", None), "did you mean 'vae_fashion'?"),
        (("quickstart", "n.yaml", "foldr:photos"), "own files: folder:PATH, pairs:PATH, npz:PATH, vectors:PATH"),
        (("quickstart", "n.yaml", "folder"), "--data folder:PATH"),
    ):
        with pytest.raises(UsageError) as raised:
            begin(arguments[0], Path(arguments[1]), arguments[2])
        assert raised.value.help and hint in raised.value.help
    with pytest.raises(DataError):
        begin("quickstart", Path("n.yaml"), "folder:nowhere")
    assert (
        "there is no data set 'digts': did you mean 'digits'?"
        in called("init", "-o", "n.yaml", "--data", "digts", cwd=own).stderr
    )
    assert not (own / "n.yaml").exists()
