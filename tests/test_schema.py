"""The JSON Schema of a config says what the program says: what it accepts and, as far as a schema can tell, what it refuses."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cases import CASES
from jsonschema import Draft202012Validator
from process import TINY, called
from pydantic import ValidationError

from aecli import models
from aecli.config import yamlfile
from aecli.config.json_schema import json_schema
from aecli.config.load import parse
from aecli.config.schema import Experiment
from aecli.config.values import as_lists
from aecli.errors import ConfigError

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").glob("**/*.yaml"))
DROPPED = '''"""A variant that was dropped in."""

import jax
from flax import nnx
from pydantic import Field
from aecli.core.model import SingleLoss

class Net(nnx.Module):
    pass

class Mine(SingleLoss):
    width: int = Field(default=3, ge=1, description="of everything")
    anything: object = None

    def build(self, spec, rngs): return Net()
    def loss(self, net, batch, key, step): return {"loss": batch.image.sum((1, 2, 3))}
'''


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(json_schema().schema)


def read(text: str) -> Any:
    return as_lists(yamlfile.parse(text, "config").data)


def refused(config: Any) -> bool:
    return not validator().is_valid(config)


def config(model: str = "variant: vae", data: str = "name: digits", train: str = "steps: 1", rest: str = "") -> str:
    return f"data: {{{data}}}\nmodel: {{{model}}}\ntrain: {{{train}}}\n{rest}\n"


def test_the_schema_is_a_schema_and_always_the_same() -> None:
    made = json_schema()
    Draft202012Validator.check_schema(made.schema)
    assert not made.broken and json.dumps(made.schema) == json.dumps(json_schema().schema)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_config_is_valid_and_says_where_its_schema_is(path: Path) -> None:
    assert not [error.message for error in validator().iter_errors(read(path.read_text()))]
    (place,) = re.findall(r"^# yaml-language-server: \$schema=(\S+)$", path.read_text(), re.MULTILINE)
    assert (path.parent / place).resolve() == ROOT / "configs" / "aecli.schema.json"


VALID = {
    **{case.name: config(case.text) for case in CASES},
    "a setting by its default": config(data="name: digits, path: null, standardize: none, layout: auto"),
    "own files": config(data="name: folder, path: ., background: [0, 10, 255]"),
    "a number for a label": config(data="name: vectors, path: ., label: 3, standardize: zscore"),
    "classes": config(data="name: digits, classes: [0, one]"),
    "a whole number for a real one": config(rest="optimizer: {learning_rate: 1}"),
    "an exponent without a dot": config(rest="optimizer: {learning_rate: 5e-3}"),
    "a fraction to validate": config(data="name: digits, validation: 0.5"),
    "null widths": config("variant: vae, hidden: null"),
    "a null length": config(train="steps: null, epochs: 3"),
    "one augmentation": config(data="name: digits, augment: {name: flip}"),
    "two augmentations": config(data="name: digits, augment: [{name: flip, p: 1}, {name: shift, pixels: 2}]"),
}


@pytest.mark.parametrize("name", VALID)
def test_what_the_program_accepts_the_schema_accepts(name: str) -> None:
    parse(VALID[name], name)
    assert not [error.message for error in validator().iter_errors(read(VALID[name]))]


MISTAKES = {
    "an unknown block": config(rest="modle: {}"),
    "no model": "data: {name: digits}\ntrain: {steps: 1}",
    "a null block": "data:\nmodel: {variant: vae}\ntrain: {steps: 1}",
    "a list for a block": "data: [digits]\nmodel: {variant: vae}\ntrain: {steps: 1}",
    "a text for a seed": config(rest="seed: zero"),
    "a seed below 0": config(rest="seed: -1"),
    "a seed of 33 bits": config(rest="seed: 4294967296"),
    "no variant": config("latent: 3"),
    "an unknown variant": config("variant: vea"),
    "a null variant": config("variant: null"),
    "an unknown setting": config("variant: vae, latnet: 3"),
    "a setting of another variant": config("variant: vae, codes: 3"),
    "a fraction of a latent": config("variant: vae, latent: 2.5"),
    "a boolean latent": config("variant: vae, latent: true"),
    "no latent": config("variant: vae, latent: 0"),
    "a text for a number": config('variant: vae, latent: "3"'),
    "no list of layers": config("variant: vae, hidden: 3"),
    "an empty layer": config("variant: vae, hidden: [0]"),
    "a wrong choice": config("variant: vae, likelihood: bernouli"),
    "a wrong member of a union": config("variant: vae, likelihood: gaussian, sigma: guessed"),
    "a number for a boolean": config("variant: gan, conditional: 1"),
    "YAML 1.1's boolean": config("variant: gan, conditional: yes"),
    "an unknown corruption": config("variant: denoising, corruption: {name: blur}"),
    "a corruption without a name": config("variant: denoising, corruption: {sigma: 1}"),
    "a corruption without its strength": config("variant: denoising, corruption: {name: gaussian}"),
    "a setting of another corruption": config("variant: denoising, corruption: [{name: gaussian, sigma: 1, p: 1}]"),
    "a corruption out of range": config("variant: denoising, corruption: {name: masking, p: 2}"),
    "a text for a corruption": config("variant: denoising, corruption: gaussian"),
    "a codebook too large": config("variant: vq, codes: 65537"),
    "own files without a path": config(data="name: folder"),
    "own files with a null path": config(data="name: npz, path: null"),
    "a label of a folder": config(data="name: folder, path: ., label: kind"),
    "a label of an npz file": config(data="name: npz, path: ., label: kind"),
    "a path of a data set": config(data="name: digits, path: here"),
    "a setting of vectors": config(data="name: digits, standardize: mean"),
    "a background of an array": config(data="name: npz, path: ., background: black"),
    "vectors with a size": config(data="name: vectors, path: ., size: [8, 8]"),
    "three numbers for a size": config(data="name: digits, size: [8, 8, 1]"),
    "one number for a size": config(data="name: digits, size: [8]"),
    "two channels": config(data="name: digits, channels: 2"),
    "no class": config(data="name: digits, classes: []"),
    "a class twice": config(data="name: digits, classes: [1, 1]"),
    "an empty batch": config(data="name: digits, batch_size: 0"),
    "all to validate": config(data="name: digits, validation: 1.5"),
    "a boolean for a label": config(data="name: vectors, path: ., label: true"),
    "an unknown augmentation": config(data="name: digits, augment: {name: rotate}"),
    "no length": config(train="keep: 2"),
    "two lengths": config(train="steps: 1, epochs: 1"),
    "one checkpoint kept": config(train="steps: 1, keep: 1"),
    "a thousand threads and more": config(train="steps: 1, threads: 1025"),
    "no learning rate": config(rest="optimizer: {learning_rate: 0}"),
    "an unknown rule": config(rest="optimizer: {name: adamax}"),
    "a part for parts": config(rest="optimizer: {freeze: encoder}"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_for_both(name: str) -> None:
    with pytest.raises(ConfigError):
        parse(MISTAKES[name], name)
    assert refused(read(MISTAKES[name]))


def test_a_mistake_of_a_chosen_block_is_told_alone() -> None:
    found = list(validator().iter_errors(read(MISTAKES["an unknown setting"])))
    assert [error.message for error in found] == ["Additional properties are not allowed ('latnet' was unexpected)"]
    (found,) = validator().iter_errors(read(MISTAKES["a corruption out of range"]))
    assert found.message == "2 is greater than the maximum of 1" and list(found.path) == ["model", "corruption", "p"]


POOL: list[Any] = [
    None,
    True,
    "word",
    "",
    -1,
    0,
    1,
    2,
    10**7,
    -0.5,
    0.5,
    1.5,
    1e9 + 0.5,
    {},
    {"name": "flip"},
    (),
    (1,),
    (1, 2),
    ("a",),
]


def changes(blocks: Any, rng: random.Random) -> Iterator[Any]:
    """The config with one thing changed: a value, a key less, a key more; each place some times."""
    places: list[tuple[Any, ...]] = []

    def walk(value: Any, path: tuple[Any, ...]) -> None:
        for key in value:
            places.append((*path, key))
            if isinstance(value[key], dict):
                walk(value[key], (*path, key))

    walk(blocks, ())
    for path in places:
        for change in [*rng.sample(POOL, 3), "less", "more"]:
            made = copy.deepcopy(blocks)
            block = made
            for key in path[:-1]:
                block = block[key]
            if change == "less":
                del block[path[-1]]
            elif change == "more":
                block[f"{path[-1]}_"] = 1
            else:
                block[path[-1]] = change
            yield made


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_any_single_change_is_judged_alike(case: Any) -> None:
    """Which settings go together (pydantic's value_error) is the program's alone to tell."""
    rng, judged = random.Random(case.name), {True: 0, False: 0}
    whole = parse(config(case.text, rest="optimizer: {name: sgd}"), case.name).experiment.model_dump()
    for changed in changes(whole, rng):
        try:
            Experiment.model_validate(copy.deepcopy(changed))
        except ValidationError as error:
            kinds = {item["type"] for item in error.errors()}
            accepted = False
            if kinds == {"value_error"}:
                continue
        else:
            kinds, accepted = set(), True
        judged[accepted] += 1
        assert refused(as_lists(changed)) is not accepted, (kinds, changed)
    assert min(judged.values()) > 20


def properties(schema: Any, path: str = "") -> Iterator[tuple[str, Any, bool]]:
    """Each setting of each block with its place, and whether it is required."""
    for key, of in schema.get("properties", {}).items():
        yield f"{path}.{key}", of, key in schema.get("required", ())
    for name, block in schema.get("$defs", {}).items():
        yield from properties(block, name)


def test_every_setting_says_what_it_is_and_its_default() -> None:
    found = list(properties(json_schema().schema))
    assert len(found) > 150
    assert not [place for place, of, _ in found if not of.get("description")]
    told = [place for place, of, required in found if not (required or "default" in of or "by default" in of["description"])]
    assert not told
    closed = json_schema().schema
    assert all(block["additionalProperties"] is False for block in [closed, *closed["$defs"].values()])


def test_a_variant_that_is_dropped_in_is_in_the_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    (tmp_path / "dropped_in.py").write_text(DROPPED)
    (tmp_path / "dropped_broken.py").write_text("LIMIT = 3\n")
    done = called("schema", "-o", "made.json", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "made.json\n" and "dropped_broken.py: there is no Model" in done.stderr
    ours = Draft202012Validator(json.loads((tmp_path / "made.json").read_text()))
    assert ours.is_valid(read(config("variant: dropped_in, width: 3, anything: [1]")))
    assert not ours.is_valid(read(config("variant: dropped_in, width: 0")))
    assert not ours.is_valid(read(config("variant: dropped_broken"))) and ours.is_valid(read(TINY))


def test_the_verb_prints_the_schema_and_tells_where_it_cannot_write(tmp_path: Path) -> None:
    done = called("schema", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "" and json.loads(done.stdout) == json_schema().schema
    done = called("schema", "-o", "nowhere/made.json", cwd=tmp_path)
    assert done.returncode == 7 and "no such file or directory" in done.stderr and "help: check the path" in done.stderr
