"""Data in the order of its classes, whose end is held out for validation, is told; data in another order is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from process import TINY, called

from aecli.config.schema import Data
from aecli.data import validation_classes
from aecli.data.dataset import open_dataset

RNG = np.random.default_rng(0)
LABELS = np.repeat(np.arange(4), 60)
IMAGES = RNG.integers(0, 256, (240, 8, 8), np.uint8)


def told(**data: Any) -> list[str]:
    lines: list[str] = []
    validation_classes.tell(open_dataset(Data(batch_size=16, **data)), lines.append)
    return lines


def npz(path: Path, order: Any, **more: Any) -> Path:
    np.savez(path, x_train=IMAGES[order], y_train=LABELS[order], **more)
    return path


@pytest.mark.parametrize("tier", ["auto", "stream"])
def test_images_in_the_order_of_their_classes_are_told(tier: str, fresh: Path, tmp_path: Path) -> None:
    test = {"x_test": IMAGES[::2] // 2, "y_test": LABELS[::2]}
    by_class, shuffled = (
        npz(tmp_path / "by_class.npz", slice(None), **test),
        npz(tmp_path / "s.npz", RNG.permutation(240), **test),
    )
    of = {"name": "npz", "validation": 40, "tier": tier}
    (line,) = told(**of, path=str(by_class))
    assert line.startswith("no validation image is of 0, 1, 2, of which train has 180: ")
    assert told(**of, path=str(by_class)) == [line], "as it was kept"
    (line,) = told(**{**of, "validation": 60}, path=str(by_class))
    assert "; no train image is of 3, of which validation has 60: " in line
    assert not told(**of, path=str(shuffled)) and not told(**{**of, "validation": 0}, path=str(by_class))
    own = npz(tmp_path / "own.npz", slice(None), x_val=IMAGES[::3], y_val=LABELS[::3])
    assert not told(**of, path=str(own))


def test_a_table_in_the_order_of_its_classes_is_told(fresh: Path, tmp_path: Path) -> None:
    rows = [f"{a:.3f},{b:.3f},{label}" for (a, b), label in zip(RNG.normal(size=(240, 2)), "a" * 60 + "b" * 180, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["x,y,label", *rows]) + "\n")
    (line,) = told(name="vectors", path=str(tmp_path / "t.csv"), label="label", validation=60)
    assert line.startswith("no validation vector is of a, of which train has")


@pytest.mark.parametrize("validation", [150, 400, 1000])
def test_of_many_classes_all_that_are_lacking_count(validation: int, fresh: Path, tmp_path: Path) -> None:
    """None of them is expected often: of 50 classes three images each, of 150."""
    image, label = RNG.integers(0, 256, (5000, 4, 4), np.uint8), np.repeat(np.arange(50), 100)
    test = {"x_test": image[:50] // 2, "y_test": label[::100]}
    np.savez(tmp_path / "by_class.npz", x_train=image, y_train=label, **test)
    (line,) = told(name="npz", path=str(tmp_path / "by_class.npz"), validation=validation)
    assert "no validation image is of 0, 1, 2" in line
    order = RNG.permutation(5000)
    np.savez(tmp_path / "shuffled.npz", x_train=image[order], y_train=label[order], **test)
    assert not told(name="npz", path=str(tmp_path / "shuffled.npz"), validation=validation)


def test_few_images_of_a_class_may_be_on_one_side_by_chance(fresh: Path, tmp_path: Path) -> None:
    labels = np.where(np.arange(240) == 100, 1, 0)
    np.savez(tmp_path / "rare.npz", x_train=IMAGES, y_train=labels)
    np.savez(tmp_path / "none.npz", x_train=IMAGES)
    for name in ("rare", "none"):
        assert not told(name="npz", path=str(tmp_path / f"{name}.npz"), validation=40)


@pytest.mark.parametrize(
    ("classes", "each", "held_out"), [(2, 500, 30), (100, 100, 50), (1000, 100, 500), (1623, 20, 1000)], ids=str
)
def test_a_part_of_few_classes_is_told_from_one_at_random(classes: int, each: int, held_out: int) -> None:
    """Also where of no class more than half an image is expected."""
    every, rng = np.full(classes, each), np.random.default_rng(0)
    end = np.bincount(np.repeat(np.arange(classes), each)[-held_out:], minlength=classes)
    assert validation_classes._lacks_too_many(end, every)
    for _ in range(200):
        part = rng.multivariate_hypergeometric(every, held_out)
        assert not validation_classes._lacks_too_many(part, every)
        assert not validation_classes._lacks_too_many(every - part, every)


def test_commands_warn_of_it(fresh: Path, tmp_path: Path) -> None:
    npz(tmp_path / "by_class.npz", slice(None))
    (tmp_path / "c.yaml").write_text(TINY.replace("name: digits", "name: npz, path: by_class.npz"))
    for arguments in (["check", "c.yaml", "--data"], ["train", "c.yaml", "--set", "train.steps=1"]):
        done = called(*arguments, "--set", "data.validation=40", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "warning: no validation image is of 0, 1, 2, of which train has" in done.stderr
