"""Configs: every mistake at once, each at its place, and nothing wrong that passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aecli.config.length import LENGTHS
from aecli.config.load import load, parse
from aecli.config.schema import BUILT_IN, OWN_FILES, Data, Experiment, dump
from aecli.data.sources import tfds
from aecli.errors import ConfigError

pytestmark = pytest.mark.portable

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
GOOD = """\
seed: 1
data: {name: digits, batch_size: 32}
model: {variant: vae, latent: 4, hidden: [16]}
optimizer: {learning_rate: 1e-3}
train: {steps: 5}
"""


def errors(text: str, sets: tuple[str, ...] = ()) -> list[str]:
    """The first line of each diagnostic."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "demo.yaml", sets)
    return [diagnostic.render().splitlines()[0] for diagnostic in caught.value.diagnostics]


def test_five_mistakes_give_five_messages_in_line_order() -> None:
    text = """\
seed: -1
data: {name: digits, batch_size: 12.5}
model: {variant: vae, hiden: [64, 128], beta: true}
train: {steps: 10, checkpoint_evry: 5}
"""
    assert errors(text) == [
        "demo.yaml:1:7: error[bad-value]: 'seed': must be at least 0, not -1",
        "demo.yaml:2:34: error[bad-value]: 'data.batch_size': must be a whole number, not 12.5",
        "demo.yaml:3:23: error[unknown-key]: 'hiden' is not a setting of 'model'",
        "demo.yaml:3:47: error[bad-value]: 'model.beta': must be a number, not true",
        "demo.yaml:4:20: error[unknown-key]: 'checkpoint_evry' is not a setting of 'train'",
    ]


def test_a_message_shows_the_line_a_caret_and_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace("hidden", "hiden"), "demo.yaml")
    assert caught.value.render() == (
        "demo.yaml:3:34: error[unknown-key]: 'hiden' is not a setting of 'model'\n"
        "  3 | model: {variant: vae, latent: 4, hiden: [16]}\n"
        "    |                                  ^^^^^ did you mean 'hidden'?\n"
        "  help: allowed: variant, net, hidden, latent, likelihood, sigma, beta, samples, "
        "samples_from, kl_warmup, free_bits, capacity_nats, capacity_warmup, prior, "
        "pseudo_inputs, components, couplings, conditional, corruption, given"
    )


BAD = {
    "data: {nme: digits}": "'nme' is not a setting of 'data'",
    "dat: {name: digits}": "'dat' is not a setting of a config",
    "model: {variant: vea}": "there is no variant 'vea'",
    "model: {latent: 3}": "'model' needs a 'variant'",
    "model: vae": "'model': must be a block of settings, not 'vae'",
    "model: {variant: vae, latent: 0}": "'model.latent': must be greater than 0, not 0",
    "model: {variant: vae, latent: 1e3}": "'model.latent': must be a whole number, not 1000.0",
    "model: {variant: vae, latent: '3'}": "'model.latent': must be a whole number, not '3'",
    "model: {variant: vae, hidden: 400}": "'model.hidden': must be a list, in brackets such as [1, 2], not 400",
    "model: {variant: vae, hidden: [400, x]}": "'model.hidden.1': must be a whole number, not 'x'",
    "model: {variant: vae, net: linear, hidden: [3]}": "'model': net: linear has no hidden layers",
    "model: {variant: vae, sigma: -1}": "'model.sigma': must be greater than 0",
    "model: {variant: bottleneck, likelihood: bernoulli, output: sigmoid}": "'model': output is for likelihood: mse",
    "model: {variant: vae, prior: mog, free_bits: 0.1}": "'model': free_bits needs a rate per latent dimension, which prior: mog",
    "model: {variant: autoregressive, net: made, width: 9}": "'model': width, layers and heads are for net",
    "model: {variant: autoregressive, net: pixelcnn, heads: 2}": "'model': heads is for net",
    "model: {variant: autoregressive, net: gmlp, hidden: [9]}": "'model': hidden is for net: made",
    "model: {variant: autoregressive, components: 3}": "'model': components is for likelihood",
    "model: {variant: vq, quantizer: fsq, decay: 0.9}": "'model': commitment, decay and restart_after are for quantizer: vq",
    "model: {variant: vae, prior: vamp, components: 5}": "'model': components is for prior: mog",
    "model: {variant: vae, prior: mog, couplings: 5}": "'model': couplings is for prior: flow",
    "model: {variant: hvae, prior: flow, latent: 1}": "'model': prior: flow moves one half of a code by the other one",
    "model: {variant: vae, samples_from: 5}": "'model': samples_from says when samples above 1 begin",
    "model: {variant: hvae, samples: 2, samples_from: 5, kl_warmup: 6}": "'model': samples above 1 makes one bound",
    "model: {variant: hvae, prior: mog, pseudo_inputs: 5}": "'model': pseudo_inputs is for prior: vamp",
    "model: {variant: autoregressive, dropout: 1.0}": "'model.dropout': must be less than 1.0, not 1.0",
    "model: {variant: hvae, dropout: -0.1}": "'model.dropout': must be at least 0.0, not -0.1",
    "optimizer: {learning_rate: .nan}": "'optimizer.learning_rate'",
    "optimizer: {learning_rate: .inf}": "'optimizer.learning_rate': must be finite, not inf",
    "optimizer: {name: adm}": "'optimizer.name' must be 'adam', 'adamw', 'sgd', 'lion' or 'muon'",
    "optimizer: {weight_decay: 0.1}": "'optimizer': adam has no weight_decay: set name: adamw",
    "optimizer: {ema: 1.5}": "'optimizer.ema': must be less than 1.0, not 1.5",
    "train: {}": "'train': needs exactly one of steps, epochs, flop and minutes",
    "train: {steps: 5, epochs: 5}": "'train': needs exactly one of steps, epochs, flop and minutes",
    "train: {flop: 1e9, minutes: 5}": "'train': needs exactly one of steps, epochs, flop and minutes",
    "train: {flop: 0}": "'train.flop': must be greater than 0.0, not 0",
    "train: {minutes: -1}": "'train.minutes': must be greater than 0.0, not -1",
    "train: {minutes: .nan}": "'train.minutes': must be finite, not nan",
    "train: {flop: .inf}": "'train.flop': must be finite, not inf",
    "train: {steps: true}": "'train.steps': must be a whole number, not true",
    "data: {name: folder}": "'data': name: folder needs a path",
    "data: {name: digits, validation: 1.0}": "'data.validation'",
    "data: {name: digits, size: [8]}": "'data.size' needs 2 values, not 1: two numbers, height and width",
    "data: {name: digits, size: []}": "'data.size' needs 2 values, not 0: two numbers, height and width",
    "data: {name: digits, size: [8, 8, 1]}": "'data.size' takes at most 2 values, not 3: two numbers, height and width",
    "data: {name: folder, path: x, background: [1, 2]}": "'data.background' needs 3 values, not 2: the colour",
    "data: {name: npz, path: x, range: [1]}": "'data.range' needs 2 values, not 1: the value that is black",
    "data: {name: digits, augment: {name: crop}}": "'data.augment': there is no name 'crop'",
    "data: {name: digits, augment: [{name: flip}, {name: shift}]}": "'data.augment.1.pixels' is missing",
    "data: {name: digits, augment: {name: shift, pixels: 0}}": "'data.augment.pixels': must be greater than 0, not 0",
    "data: {name: digits, augment: {name: flip, p: 2}}": "'data.augment.p': must be at most 1.0, not 2",
    "data: {name: digits, classes: []}": "'data.classes': an empty list keeps no image",
    "data: {name: digits, classes: [0, 1, 0]}": "'data.classes': class 0 is there twice",
    "data: {name: digits, classes: 3}": "'data.classes'",
    "data: {name: digits, classes: [-1]}": "'data.classes",
    "data: {name: digits, classes: [true]}": "'data.classes",
    "data: {name: digits, classes: [1.5]}": "'data.classes",
    "data: {name: npz, path: x, labels: none, classes: [0]}": "'data': classes are chosen by their labels",
    "data: {name: vectors, path: x, augment: {name: flip}}": "'data': augment is for images, and these are vectors",
    "seed: 99999999999": "'seed': must be less than 4294967296, not 99999999999",
    "data:": "'data': must be a block of settings, not null",
}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_line_is_told_at_its_line(line: str) -> None:
    block = line.split(":")[0]
    lines = [line if old.startswith(block + ":") else old for old in GOOD.splitlines()]
    if line not in lines:
        lines.append(line)
    told = errors("\n".join(lines))
    number = lines.index(line) + 1
    assert any(t.startswith(f"demo.yaml:{number}:") and BAD[line] in t for t in told), told


@pytest.mark.parametrize("text", ["[1, 2]", "5", "just words"])
def test_a_config_that_is_no_mapping_is_refused(text: str) -> None:
    assert "a config is a mapping" in errors(text)[0]


def test_a_missing_block_is_named() -> None:
    assert any("'train' is missing" in line for line in errors(GOOD.replace("train: {steps: 5}\n", "")))


def test_a_duplicate_key_stands_beside_the_other_mistakes() -> None:
    told = errors(GOOD.replace("seed: 1", "seed: 1\nseed: 2").replace("latent: 4", "latent: x"))
    assert len(told) == 2 and "is given twice" in told[0] and "latent" in told[1]


@pytest.mark.parametrize("path", ['"~\\0"', '"~a\\0b/x"', '"~\\ud800"', '"/tmp/\\ud800"'])
@pytest.mark.parametrize("key", ["path", "manual_dir"])
def test_what_can_be_no_path_is_refused_before_it_is_looked_for(key: str, path: str) -> None:
    name = "npz" if key == "path" else "digits"
    [told] = errors(GOOD, (f"data={{name: {name}, {key}: {path}}}",))
    assert "error[bad-value]" in told and f"data.{key}" in told


HALF = '"\\udcff"'
HALVES = [
    f"model.variant={HALF}",
    f"data.background={HALF}",
    f"data.tier={HALF}",
    f"model.corruption={{name: {HALF}}}",
    f"model={{{HALF}: 1, variant: vae}}",
    f"model.latent={HALF}",
]


@pytest.mark.parametrize("flag", HALVES)
def test_half_a_letter_is_told_like_any_other_mistake(flag: str) -> None:
    """pydantic, which writes UTF-8, has no place for it in a message."""
    assert any("error[bad-value]" in told or "error[unknown-variant]" in told for told in errors(GOOD, (flag,)))


def test_a_path_of_bytes_that_are_no_utf8_is_one() -> None:
    assert Data(name="npz", path="a\udcff.npz").path == "a\udcff.npz"


def test_a_flag_is_no_longer_than_a_config_may_be() -> None:
    """Of a hundred kilobytes, which one argument may have, the parser takes seconds."""
    assert "error[too-large]" in errors(GOOD, ("model.hidden=[" + "1, " * 40_000 + "]",))[0]


def test_of_a_long_flag_the_beginning_is_told() -> None:
    """It stands before each of its mistakes."""
    told = errors(GOOD, ("model={" + ", ".join(f"unknown{i}: 1" for i in range(200)) + "}",))
    assert told[0].startswith("--set model={unknown0: 1, ") and len("".join(told)) < 50_000


def test_set_changes_a_value_and_its_errors_name_the_flag() -> None:
    assert parse(GOOD, "x", ["train.steps=7", "model.beta=0.5"]).experiment.model.beta == 0.5
    assert parse(GOOD, "x", ["optimizer.schedule=cosine"]).experiment.optimizer.schedule == "cosine"
    assert errors(GOOD, ("train.steps=0",)) == [
        "--set train.steps=0: error[bad-value]: 'train.steps': must be greater than 0, not 0"
    ]
    assert errors(GOOD, ("trian.steps=3",))[0].startswith("--set trian.steps=3: error[unknown-key]")
    assert errors(GOOD, ("steps",))[0].startswith("--set steps: error[bad-flag]")
    assert errors(GOOD, ("seed.deep=1",))[0].startswith("--set seed.deep=1: error[unknown-key]")
    assert errors(GOOD, ("model.latent=[1",))[0].startswith("--set model.latent=[1: error[syntax]")


def test_a_flag_for_a_length_takes_the_place_of_any_other() -> None:
    for said in LENGTHS:
        text = GOOD.replace("steps: 5", f"{said}: 5")
        for flag in LENGTHS:
            train = parse(text, "x", [f"train.{flag}=7"]).experiment.train
            assert {name: getattr(train, name) for name in LENGTHS} == {**dict.fromkeys(LENGTHS), flag: 7}
        assert parse(text, "x", ["train.epochs=null", "train.steps=7"]).experiment.train.steps == 7
    assert errors(GOOD, ("train.epochs=2", "train.steps=7"))


def test_a_budget_is_no_length_until_it_is_turned_into_steps() -> None:
    experiment = parse(GOOD.replace("steps: 5", "minutes: 5"), "x").experiment
    with pytest.raises(TypeError, match=r"train\.minutes"):
        experiment.steps(100)
    assert experiment.without_budget().steps(100) > 0 and experiment.of_steps(7).steps(100) == 7


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_valid_and_survives_being_written_out(path: Path) -> None:
    config = load(path)
    assert parse(config.resolved(), "resolved").experiment == config.experiment
    assert parse(dump(config.experiment), "again").experiment == config.experiment


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_says_its_command_its_time_and_what_to_expect(path: Path) -> None:
    head = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    assert f"aecli train configs/{path.name}" in head
    if path.stem.startswith(("mnist_", "cifar10_")):
        assert "Not run here" in head and "test " not in head.replace("test images", ""), "nobody has measured a number"
        return
    if "docs/numbers.md" not in head:  # where what was measured stands, with its time
        assert ("min" in head or " s" in head) and "test" in head


@pytest.mark.parametrize(
    ("corruption", "wanted"),
    [
        ("{name: gaussian}", "sigma: a number from 0 on"),
        ("[{name: masking}]", "p: a number from 0 to 1"),
    ],
)
def test_of_a_setting_that_is_missing_it_is_told_what_it_is_to_be(corruption: str, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace("model: {", f"model: {{corruption: {corruption}, "), "demo.yaml")
    assert f"help: {wanted}" in caught.value.render()


def test_an_experiment_is_hashable() -> None:
    first, second = parse(GOOD, "a").experiment, parse(GOOD, "b").experiment
    assert hash(first.model) == hash(second.model) and first == second


def test_epochs_cover_every_image() -> None:
    experiment: Experiment = parse(GOOD.replace("steps: 5", "epochs: 3"), "x").experiment
    assert experiment.steps(100) == 10  # 300 images in batches of 32


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_mutation_of_a_config_escapes_as_another_error(data: st.DataObject) -> None:
    text = list(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(text) - 1))
        text[position] = data.draw(st.sampled_from(["", " ", "\n", "0", "-", "x", ":", "{", "}", "[", "]", ",", "#", "&", "é"]))
    try:
        parse("".join(text), "mutated.yaml")
    except ConfigError as error:
        assert error.render()


def test_a_mistake_in_one_of_several_corruptions_is_found_where_it_is() -> None:
    text = """\
data: {name: digits}
model:
  variant: denoising
  corruption:
    - {name: gausian, sigma: 0.2}
    - {name: block, sise: 2}
    - {p: 0.5}
    - {name: masking, p: 3}
train: {steps: 1}
"""
    with pytest.raises(ConfigError) as caught:
        parse(text, "c.yaml")
    found = [(d.line, d.column, d.message, d.label) for d in caught.value.diagnostics]
    assert found == [
        (5, 14, "'model.corruption.0': there is no name 'gausian'", "did you mean 'gaussian'?"),
        (6, 7, "'model.corruption.1.size' is missing", ""),
        (6, 21, "'sise' is not a setting of 'model.corruption.1'", "did you mean 'size'?"),
        (7, 7, "'model.corruption.2' needs a 'name'", ""),
        (8, 26, "'model.corruption.3.p': must be at most 1.0, not 3", ""),
    ]


@pytest.mark.parametrize(
    "place, meant", [("latent: 8", "model.latent"), ("epochs: 3", "train.epochs"), ("train: {seed: 3}", "seed")]
)
def test_a_setting_of_another_block_is_told_where_it_is(place: str, meant: str) -> None:
    text = f"data: {{name: digits}}\nmodel: {{variant: vae}}\n{place}\n"
    with pytest.raises(ConfigError) as caught:
        parse(text, "c.yaml")
    labels = [d.label for d in caught.value.diagnostics if "is not a setting" in d.message]
    assert labels == [f"did you mean '{meant}'?"]


def test_one_corruption_needs_no_list() -> None:
    def model(corruption: str) -> object:
        return parse(
            f"data: {{name: digits}}\nmodel: {{variant: denoising, corruption: {corruption}}}\ntrain: {{steps: 1}}\n", "c"
        ).experiment.model

    assert model("{name: masking, p: 0.2}") == model("[{name: masking, p: 0.2}]")


@pytest.mark.parametrize(
    ("model", "widths"),
    [
        ("variant: vae", (400,)),
        ("variant: vae, hidden: null", (400,)),
        ("variant: bottleneck, net: linear", ()),
        ("variant: sparse, net: conv", (32, 64, 128, 128)),
        ("variant: denoising", (32, 64)),
        ("variant: vae, hidden: [7]", (7,)),
    ],
)
def test_widths_that_are_left_out_are_written_out(model: str, widths: tuple[int, ...]) -> None:
    text = f"data: {{name: digits}}\nmodel: {{{model}}}\ntrain: {{steps: 1}}\n"
    config = parse(text, "x.yaml")
    assert config.experiment.model.hidden == widths  # type: ignore[attr-defined]
    assert f"hidden: {list(widths)}" in config.resolved() and parse(config.resolved(), "y").experiment == config.experiment


def test_a_wrong_net_is_told_without_what_follows_from_it() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("data: {name: digits}\nmodel: {variant: vae, net: [1]}\ntrain: {steps: 1}\n", "x.yaml")
    assert [diagnostic.message for diagnostic in caught.value.diagnostics] == [
        "'model.net' must be 'linear', 'mlp', 'gated', 'conv' or 'resnet'"
    ]


def test_the_two_settings_of_labels_name_each_other() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("data: {name: npz, path: x, labels: fine}\nmodel: {variant: bottleneck}\ntrain: {steps: 1}\n", "x.yaml")
    assert "data.label names the one that is meant" in caught.value.render()
    with pytest.raises(ValueError, match=r"labels is for name.* named by data\.label"):
        Data(name="digits", labels="none")
    with pytest.raises(ValueError, match=r"label names a feature .* told by data\.labels"):
        Data(name="npz", path="x", label="fine")


@pytest.mark.parametrize("name", [*OWN_FILES, *BUILT_IN])
def test_original_files_are_for_data_sets_that_are_made_of_them(name: str) -> None:
    assert tuple(sorted(tfds.BUILT_IN)) == BUILT_IN
    with pytest.raises(ValueError, match="manual_dir is for a data set of TFDS"):
        Data(name=name, path="x" if name in OWN_FILES else None, manual_dir="y")


def test_a_setting_is_changed_if_it_differs_from_its_default_however_it_was_given() -> None:
    def model(more: str) -> Any:
        return parse(f"data: {{name: digits}}\nmodel: {{variant: vae{more}}}\ntrain: {{steps: 1}}\n", "x.yaml").experiment.model

    assert not model("").changed("beta", "samples") and not model(", beta: 1.0").changed("beta")
    assert model(", beta: 2.0").changed("samples", "beta")
