"""The code in CONTRIBUTING.md and docs/add-a-variant.md is run as a newcomer would run it."""

from __future__ import annotations

import gc
import re
import sys
import textwrap
from inspect import signature
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from aecli import models
from aecli.config import variants
from aecli.config.load import parse
from aecli.core.abilities import MeasuresCodes, abilities
from aecli.core.model import SingleLoss
from aecli.distributions import corruptions
from aecli.verbs.check import smoke

PAGES = ("docs/add-a-variant.md", "CONTRIBUTING.md")
VARIANT, OVER_A_SET, CORRUPTION = (
    textwrap.dedent(block)
    for page in PAGES
    for block in re.findall(
        r"^ *```python\n(.*?)^ *```", (Path(__file__).parent.parent / page).read_text(), re.DOTALL | re.MULTILINE
    )
)


def test_the_variant_is_trained_evaluated_and_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    (tmp_path / "plain.py").write_text(VARIANT)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "aecli.models.plain", raising=False)
    config = parse("data: {name: digits, batch_size: 16}\nmodel: {variant: plain}\ntrain: {steps: 1}\n", "plain.yaml")
    assert abilities(variants.load("plain")) == ("samples", "reconstructs", "encodes", "decodes")
    assert "eval, prior, reconstruct" in smoke(config)
    sys.modules.pop("aecli.models.plain", None)


def test_the_sketch_of_an_objective_over_a_set_has_the_signatures_of_the_contract() -> None:
    names: dict[str, Any] = {}
    exec(compile(OVER_A_SET, PAGES[0], "exec"), names)
    for asked, name in ((SingleLoss, "loss"), (MeasuresCodes, "measure_codes")):
        assert list(signature(names[name]).parameters) == list(signature(getattr(asked, name)).parameters)


def test_the_corruption_is_one(data_dir: Path) -> None:
    names = dict(vars(corruptions))
    exec(compile(CORRUPTION, "CONTRIBUTING.md", "exec"), names)
    image = jnp.linspace(0, 1, 16).reshape(1, 4, 4, 1)
    dimming = names["Dimming"]
    assert jnp.array_equal(dimming(name="dimming", by=0.0)(image, jax.random.key(0)), image)
    assert float(dimming(name="dimming", by=0.5)(image, jax.random.key(0)).max()) == 0.5
    del names, dimming
    gc.collect()  # or it is a corruption of the program for the tests that come after
