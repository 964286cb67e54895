"""What `make numbers` keeps of trained recipes, and what it makes of them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cells
import look
import number_tables
import numpy as np
import pictures
import pytest
import recipes
import yaml
from cells import TABLES, Published, Recipe
from process import TINY

from aecli.evaluation.registry import EVALUATORS, SCORES, covers
from aecli.handle import Number
from aecli.measures.metric import VERSION

ROOT = Path(__file__).parent.parent
PICTURE = re.compile(r"pictures/(\w+\.png)")


def cell(value: float, **more: float) -> dict[str, Any]:
    def number(value: float) -> dict[str, Any]:
        protocol = {"version": VERSION, "calibrated_on": 1000, "shift_standard_error_nats": 0.05}
        return {"value": value, "baselines": {"PCA": 0.5}, "protocol": protocol}

    numbers = {"nll_nats": number(value), **{name.replace("_of_", "@"): number(each) for name, each in more.items()}}
    return {"numbers": numbers, "minutes": 2.0, "machine": "2 x a processor", "flop": 1e9}


NLL = Recipe("any", 3, ["likelihood"], ["nll_nats"], samples=5000, published=Published("nll_nats", "90.50", "test", "a paper"))


def test_the_documents_are_what_the_kept_cells_make(tmp_path: Path) -> None:
    names = ("docs/numbers.md", "configs/numbers.json", "docs/uses.md", "README.md")
    for folder in ("docs", "configs"):
        (tmp_path / folder).mkdir()
    for name in names:
        shutil.copy(ROOT / name, tmp_path / name)
    number_tables.write(tmp_path)
    for name in names:
        assert (ROOT / name).read_text() == (tmp_path / name).read_text(), f"{name}: make numbers ARGS=--write"


def test_every_config_is_a_recipe_and_asks_for_what_its_evaluators_measure() -> None:
    made = cells.recipes()
    assert len({recipe.name for recipe in made}) == len(made)
    assert sorted(recipe.config for recipe in made if not recipe.set) == sorted(
        path.stem for path in (ROOT / "configs").glob("*.yaml")
    )
    for recipe in made:
        declared = [name for evaluator in recipe.evaluators for name in EVALUATORS[evaluator].metrics]
        scores = [name for score in SCORES.values() for name in score.metrics]
        for way in recipe.ways:
            known = scores if way.name.startswith("against") else declared if not way.name else TABLES[cells.GENERATORS].columns
            names = [metric.removesuffix(f" ({way.name})") for metric in recipe.asked_of(way)]
            assert names and all(any(covers(name, metric) for name in known) for metric in names), (recipe.config, way.name)
        assert recipe.published is None or recipe.published.metric in recipe.metrics


def test_every_use_is_a_number_of_a_recipe_beside_its_baselines() -> None:
    kept = number_tables.everything()
    for use in yaml.safe_load((cells.CELLS / "uses.yaml").read_text()):
        recipe, seeds = kept[use["config"]]
        assert use["metric"] in recipe.metrics, use
        if number_tables.of(use["metric"], seeds):
            assert set(use["beside"]) <= set(number_tables.baselines(use["metric"], seeds)), use


def test_every_likelihood_that_is_carried_over_has_the_error_of_that() -> None:
    kept = [cell["numbers"] for _, seeds in number_tables.everything().values() for cell in seeds.values()]
    found = [number["protocol"] for numbers in kept for name, number in numbers.items() if name.startswith("nll_nats@")]
    assert found and all(protocol["shift_standard_error_nats"] > 0 for protocol in found)


def test_a_table_over_configs_has_plain_methods_and_the_spread_of_each() -> None:
    asked = TABLES["representations"].columns
    recipe = Recipe("quickstart", 2, ["representation"], [], tables=("representations",))
    number = {"value": 0.5, "baselines": {"raw pixels": 0.25}, "protocol": {"version": VERSION, "feature_count": 16}}
    kept = {seed: {"numbers": {name: {**number, "value": value} for name in asked}} for seed, value in enumerate((0.5, 0.75))}
    text = number_tables.across("representations", {"quickstart": (recipe, kept), "other": (NLL, {})})
    raw, mine = text.splitlines()[-2:]
    assert raw == "| digits | raw pixels | 0.25 | 0.25 | 0.25 |  |"
    assert mine == "| digits | `quickstart` | 0.625 \u00b1 0.2 (2) | 0.625 \u00b1 0.2 (2) | 0.625 \u00b1 0.2 (2) | 16 |"


@pytest.mark.parametrize(("values", "said"), [
    ((227.0,), "227 (1)"), ((226.95, 227.05), "227.00 \u00b1 0.07 (2)"), ((0.5, 0.75), "0.625 \u00b1 0.2 (2)"),
    ((1.00001, 1.00003), "1.00002 \u00b1 0.00001 (2)"), ((123456.0, 123966.0), "123711 \u00b1 400 (2)"),
    ((0.0, 0.0), "0 \u00b1 0 (2)"), ((0.3, 0.1 + 0.2), "0.3 \u00b1 0 (2)"), ((1e-5, 3e-5), "0.00002 \u00b1 0.00001 (2)"),
    ((-2.0, -2.5), "-2.25 \u00b1 0.4 (2)"),
])  # fmt: skip
def test_a_mean_has_at_least_the_decimals_of_its_deviation(values: tuple[float, ...], said: str) -> None:
    assert number_tables.shown(values) == said


def test_a_likelihood_of_few_samples_is_shifted_by_what_many_changed() -> None:
    kept = {0: cell(91.0, nll_nats_of_5000=90.5), 1: cell(92.0), 2: cell(93.0)}
    found = number_tables.summary(NLL._replace(config="quickstart"), "nll_nats", kept)
    assert found is not None and list(found.values) == [90.5, 91.5, 92.5] and "5,000" in found.note
    assert "-0.500 \u00b1 0.050" in found.note
    other = {0: cell(91.0), 2: cell(93.0, nll_nats_of_5000=92.0)}
    shifted = number_tables.summary(NLL._replace(config="quickstart"), "nll_nats", other)
    assert shifted is not None and list(shifted.values) == [90.0, 92.0], "whichever seed it was"
    alone = number_tables.summary(NLL._replace(config="quickstart"), "nll_nats", {1: cell(92.0)})
    assert alone is not None and list(alone.values) == [92.0] and alone.text == ("92", "", "1")


def test_bits_are_of_so_many_levels_and_numbers_of_changed_code_are_told() -> None:
    bits = {
        "value": 0.4,
        "baselines": {},
        "protocol": {"version": VERSION, "levels": 4, "given": "label", "given_image": "outline 0.25"},
    }
    recipe = Recipe("autoregressive_class_fashion", 1, ["likelihood"], ["bits_per_dim"])
    kept = {3: {**cell(1.0), "versions": {}, "numbers": {"bits_per_dim": bits}}}
    (row,) = number_tables.rows(recipe, kept)
    assert row[1] == "bits_per_dim (4 levels, given the label, given the outline 0.25)"
    assert "had changed" not in number_tables.document({recipe.config: (recipe, kept)})
    bits["protocol"]["code"] = "changed since training"
    assert "by seeds: `autoregressive_class_fashion` (3)" in number_tables.document({recipe.config: (recipe, kept)})


def test_what_plain_methods_reach_by_another_metric_stands_beside_a_use(monkeypatch: pytest.MonkeyPatch) -> None:
    use = {"use": "tell", "config": "one", "metric": "nll_nats", "beside": ["PCA"]}
    use |= {"elsewhere": [{"called": "nearest", "config": "other", "metric": "knn", "plain": "raw pixels"}]}
    monkeypatch.setattr(number_tables.yaml, "safe_load", lambda text: [use])
    other = {0: {"numbers": {"knn": {"value": 0.5, "baselines": {"raw pixels": 0.25}, "protocol": {}}}}}
    one = NLL._replace(samples=None)
    table = number_tables.uses({"one": (one, {0: cell(91.0)}), "other": (one, other)})
    assert "| tell | `any` | nll_nats | 91 (1) | PCA 0.5, nearest 0.25, published 90.50 |" in table
    assert "nearest" not in number_tables.uses({"one": (one, {}), "other": (one, {})}), "of what is not measured"


def test_many_samples_are_drawn_for_some_images_and_shift_the_number_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "CALIBRATED", 3)
    few = np.array([90.0, 92.0, 94.0, 100.0])
    (tmp_path / "eval").mkdir()
    np.savez(tmp_path / "eval" / "test-values.npz", **{"likelihood/nll_nats": few})
    kept = Number(
        94.0, 2.1, 4, "nats", "lower", {"independent pixels": 400.0}, {"version": VERSION, "samples": 500}, "likelihood"
    )

    class Trained:
        def data(self, split: str) -> tuple[Any, Any]:
            return np.arange(4), np.arange(4)

        def numbers(self, split: str) -> dict[str, Number]:
            return {"nll_nats": kept}

        def score(self, images: Any, labels: Any, samples: int) -> Any:
            assert list(images) == list(labels) == [0, 1, 2] and samples == 5000
            return few[:3] - [0.1, 0.2, 0.3]

    monkeypatch.setattr(recipes.aecli, "load", lambda run: Trained())
    found = json.loads(json.dumps(recipes.likelihood(tmp_path, 5000)))
    assert found["value"] == pytest.approx(93.8) and found["baselines"] == kept.baselines and found["evaluator"] == "likelihood"
    assert found["protocol"]["samples"] == 5000 and found["protocol"]["calibrated_on"] == 3
    assert found["protocol"]["shift_standard_error_nats"] == pytest.approx(0.1 / 3**0.5)


def test_what_is_measured_of_one_seed_is_of_one_whose_run_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = NLL._replace(config="quickstart", evaluators=["likelihood", "generation"], tables=["generators"])
    folder, root = tmp_path / "kept", tmp_path / "runs"
    (folder / recipe.name).mkdir(parents=True)
    for seed in range(3):
        facts = {**cell(91.0), "settings": recipe.settings(), "run": f"run-{seed}"}
        (folder / recipe.name / f"{seed}.json").write_text(json.dumps(facts))
    measured: list[str] = []

    def many(run: Path, samples: int) -> dict[str, Any]:
        measured.append(run.name)
        return cell(90.0)["numbers"]["nll_nats"] | {"samples": samples}

    monkeypatch.setattr(recipes, "likelihood", many)
    monkeypatch.setattr(recipes, "drawing", lambda run: cell(2.0)["numbers"]["nll_nats"])
    recipes.extend(recipe, root, folder)
    assert not measured, "no run is here"
    for seed in (1, 2, 0):
        (root / f"run-{seed}").mkdir(parents=True)
        recipes.extend(recipe, root, folder)
    has = [sorted(name for name in each["numbers"] if "@" in name) for each in cells.cells(recipe, folder).values()]
    assert measured == ["run-1"] and has == [[], ["nll_nats@5000", "seconds@1000"], []]


def test_a_row_has_the_mean_the_deviation_and_what_is_published() -> None:
    (row,) = number_tables.rows(NLL._replace(config="quickstart", samples=None), {0: cell(1.0), 1: cell(3.0)})
    assert (
        row[2:5] == ["2.0", "1.4", "2"]
        and row[5] == "PCA 0.5"
        and "90.50 (a paper; test)" in row[6]
        and row[7:] == ["2 (2 x a processor)", "1.0e+09"]
    )
    quick = NLL._replace(config="quickstart")
    assert number_tables.rows(quick, {}) == [] and "## Not measured yet\n\n`quickstart` (nll_nats)." in number_tables.document(
        {"quickstart": (quick, {})}
    )


def test_finished_seeds_are_kept_and_a_changed_config_is_trained_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "CONFIGS", tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    folder, root = tmp_path / "kept", tmp_path / "runs"
    recipe = Recipe("tiny", 1, ["reconstruction"], ["mse"])
    recipes.train(recipe, 1, 1, root, folder)
    (first,) = cells.cells(recipe, folder).values()
    assert first["numbers"]["mse"]["value"] > 0 and first["steps"] == 40 and first["versions"]["jax"]
    recipes.train(recipe, 2, 1, root, folder)
    kept = cells.cells(recipe, folder)
    assert kept[0] == first and set(kept) == {0, 1} and kept[1]["numbers"] != first["numbers"]
    assert cells.missing(recipe, 3, folder) == [2]
    # A cell that was lost is read off its run, which is not trained again.
    (folder / "tiny" / "0.json").unlink()
    recipes.train(recipe, 2, 1, root, folder)
    assert cells.cells(recipe, folder)[0]["run"] == first["run"] and len(list(root.glob("*/run.json"))) == 2
    # What was measured by older metrics is measured again, not trained.
    path = folder / "tiny" / "0.json"
    path.write_text(path.read_text().replace(f'"version": {VERSION}', f'"version": {VERSION - 1}'))
    assert cells.missing(recipe, 2, folder) == [0]
    recipes.train(recipe, 2, 1, root, folder)
    assert cells.cells(recipe, folder)[0]["run"] == first["run"] and len(list(root.glob("*/run.json"))) == 2
    (tmp_path / "tiny.yaml").write_text("# A comment changes nothing.\n" + TINY)
    assert cells.missing(recipe, 2, folder) == []
    (tmp_path / "tiny.yaml").write_text(TINY.replace("latent: 3", "latent: 4"))
    assert cells.missing(recipe, 2, folder) == [0, 1]


def test_a_setting_makes_a_recipe_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "CONFIGS", tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    folder, root = tmp_path / "kept", tmp_path / "runs"
    plain, wider = (Recipe("tiny", 1, ["reconstruction"], ["mse"], more) for more in ({}, {"model.latent": 4}))
    assert (plain.name, wider.name) == ("tiny", "tiny_latent4") and plain.settings() != wider.settings()
    for recipe in (plain, wider):
        recipes.train(recipe, 1, 1, root, folder)
    (one,), (other,) = (cells.cells(recipe, folder).values() for recipe in (plain, wider))
    assert one["run"] != other["run"] and (one["set"], other["set"]) == ({}, {"model.latent": 4})
    assert yaml.safe_load((root / other["run"] / "config.resolved.yaml").read_text())["model"]["latent"] == 4
    assert [row[0] for row in number_tables.rows(wider, {0: other})] == ["tiny_latent4"]


def test_draws_through_samplers_are_measured_and_stand_in_a_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "CONFIGS", tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY.replace("variant: vae", "variant: bottleneck"))
    folder, root = tmp_path / "kept", tmp_path / "runs"
    recipe = Recipe("tiny", 1, ["reconstruction"], ["mse"], tables=("generators",), samplers=("gaussian", "gmm2"))
    recipes.train(recipe, 1, 1, root, folder)
    (cell,) = cells.cells(recipe, folder).values()
    values = [cell["numbers"][f"frechet_distance ({sampler})"]["value"] for sampler in recipe.samplers]
    assert values[0] != values[1] and "frechet_distance" not in cell["numbers"] and cells.missing(recipe, 1, folder) == []
    lines = number_tables.across("generators", {"tiny": (recipe, cells.cells(recipe, folder))}).splitlines()
    assert [line.split(" | ")[1] for line in lines[-3:]] == ["train images", "`tiny`, gaussian", "`tiny`, gmm2"]
    assert f"{values[1]:.5g} (1)" in lines[-1]
    monkeypatch.setattr(pictures, "cells", lambda recipe: cells.cells(recipe, folder))
    run = pictures.run_of(recipe, root)
    assert run is not None and run.name == cell["run"] and pictures.run_of(recipe, tmp_path) is None
    made = [{"recipe": "tiny", "label": label, "options": f"--sampler {label}"} for label in ("gaussian", "gmm")]
    low, high = (pictures.sheet(made[:n], {"tiny": run}).size for n in (1, 2))
    assert low[0] == high[0] and high[1] > low[1] and pictures.sampled(run, "--mode reconstruct -n 2").parent == run / "samples"


def test_every_picture_of_the_documents_is_drawn_from_a_recipe() -> None:
    facts = yaml.safe_load((cells.CELLS / "pictures.yaml").read_text())
    names = {recipe.name for recipe in cells.recipes()}
    assert {line["recipe"] for each in facts for line in each.get("sheet", [each])} <= names
    drawn = {path.name for path in (ROOT / "docs" / "pictures").iterdir()}
    known = (*(each["picture"] for each in facts), *look.PICTURES)
    assert drawn <= {f"{name}.png" for name in known}, "nobody could draw it again"
    shown = {name for text in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")) for name in PICTURE.findall(text.read_text())}
    assert shown == drawn


def test_a_run_that_is_not_done_is_no_cell(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "eval").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    (run / "state.json").write_text(json.dumps({"state": "interrupted"}))
    recipe = Recipe("quickstart", 1, ["reconstruction"], ["mse"])
    assert cells.keep(recipe, run, tmp_path / "kept") is None
    (run / "eval" / "test.json").write_text(json.dumps({"mse": {"value": 1.0, "protocol": {"version": VERSION}}}))
    assert cells.keep(recipe, run, tmp_path / "kept") is None
    (run / "state.json").write_text(json.dumps({"state": "completed"}))
    (run / "eval" / "test.json").write_text(json.dumps({"psnr_db": {"value": 1.0, "protocol": {"version": VERSION}}}))
    assert cells.keep(recipe, run, tmp_path / "kept") is None and not (tmp_path / "kept").exists()
