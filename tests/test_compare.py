"""Runs side by side: which are a group, which numbers may stand beside each other, what is said of them and in which form."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt
from measured import DATA, TEXT, measured, number
from process import called, environment
from rich.cells import cell_len

import aecli
from aecli.errors import RunError, UsageError, printable
from aecli.reports import member as reading
from aecli.reports import protocols, table
from aecli.reports.paired import FIRST, NO_SPREAD, NOT_SHOWN, ONE_SEED, SECOND, VARIED
from aecli.reports.table import FORMATS, Block, Line, Notes
from aecli.runs import directory
from aecli.runs.directory import Run
from aecli.verbs.compare import compare

CONFIG = """\
seed: 0
data: {name: digits, batch_size: 32}
model: {variant: vae, hidden: [8], latent: 3, likelihood: gaussian}
optimizer: {learning_rate: 1e-3}
train: {steps: 4, checkpoint_every: 4, log_every: 4}
"""


def values(shift: float = 0.0, seed: int = 0, n: int = 50) -> Any:
    return (np.random.default_rng(seed).normal(1, 0.1, n) + shift).astype(np.float32)


def seeds(root: Path, n: int = 3, shift: float = 0.0, start: int = 0, **more: Any) -> list[Run]:
    return [
        measured(root, {"reconstruction/mse": values(shift, 10 * seed + int(shift))}, seed=seed, **more)
        for seed in range(start, start + n)
    ]


def names(found: Any) -> list[str]:
    return [group.name for group in found.groups]


# What `aecli eval` writes


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Two seeds; of the second no likelihood has been measured."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "c.yaml").write_text(CONFIG)
    ids: list[str] = []
    for seed, only in ((0, "objective,reconstruction,likelihood,representation"), (1, "objective,reconstruction,representation")):
        ids.append(called("train", "c.yaml", "--set", f"seed={seed}", cwd=folder).stdout.strip())
        done = called("eval", ids[-1], "--only", only, "--importance-samples", "7", cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder, ids


def test_values_of_images_belong_to_the_metrics_whose_mean_they_are(trained: tuple[Path, list[str]]) -> None:
    folder, ids = trained
    member = reading.read(directory.find(folder / "runs", ids[0]), "test")
    keys = [(each.evaluator, name) for name, each in member.numbers.items()]
    kept = reading.values(member, "test", keys, print)
    for key, array in kept.items():
        assert array.mean() == pytest.approx(member.numbers[key.partition("/")[2]].value, rel=1e-5)
    pooled = {name for evaluator, name in keys if f"{evaluator}/{name}" not in kept}
    assert pooled == {"psnr_db", "explained_variance", "active_units", "inactive_fraction"}, "which are of the set of all images"


def test_what_is_missing_is_made_by_the_command_that_is_told(trained: tuple[Path, list[str]]) -> None:
    folder, ids = trained
    before = json.loads(called("compare", *ids, "--format", "json", cwd=folder).stdout)
    (missing,) = before["missing"]
    assert missing["run"] == ids[1] and "nll_nats" in missing["metrics"] and missing["certain"]
    assert missing["command"] in called("compare", *ids, cwd=folder).stdout
    done = called(*shlex.split(missing["command"])[1:], cwd=folder)
    assert done.returncode == 0, done.stderr
    after = json.loads(called("compare", *ids, "--format", "json", cwd=folder).stdout)
    assert not after["missing"] and not after["conflicts"], "measured with as many samples as the other"
    (group,) = after["groups"]
    nll = next(metric for metric in after["metrics"] if metric["name"] == "nll_nats")["groups"][0]
    assert group["seeds"] == [0, 1] and nll["seeds"] == 2
    assert nll["mean"] == pytest.approx(np.mean(list(nll["by_run"].values())))
    assert nll["sd_over_seeds"] == pytest.approx(np.std(list(nll["by_run"].values()), ddof=1))


def test_neither_jax_nor_without_intervals_scipy_is_imported(tmp_path: Path) -> None:
    seeds(tmp_path / "runs", beta=1.0), seeds(tmp_path / "runs", beta=4.0)
    script = (
        "import sys; from aecli.cli.app import main; sys.argv = ['aecli', *sys.argv[1:]]\ntry: main()\nexcept SystemExit: pass\n"
    )
    script += "print(sorted({'jax', 'scipy', 'flax'} & set(sys.modules)))"
    for flag, heavy in (("--no-intervals", "[]"), ("--intervals", "['scipy']")):
        command = [sys.executable, "-c", script, "compare", "--where", "variant=vae", flag]
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
        assert "reconstruction" in done.stdout and done.stdout.splitlines()[-1] == heavy, done


# Groups


def test_runs_that_differ_in_the_seed_alone_are_a_group(tmp_path: Path) -> None:
    one, other = seeds(tmp_path, beta=1.0), seeds(tmp_path, 2, beta=4.0)
    found = compare([one[0], other[0], *one[1:], other[1]])
    assert names(found) == ["model.beta 1", "model.beta 4"]
    assert [[member.run for member in group.members] for group in found.groups] == [one, other]
    assert found.settings == {"model.beta": ("1", "4")}
    assert set(compare([one[0], other[0]], all_settings=True).settings) == {
        *("data.name", "data.path", "data.batch_size", "data.tier", "model.variant", "model.latent", "model.beta", "train.steps")
    }


def test_each_group_has_both_its_spreads(tmp_path: Path) -> None:
    runs = seeds(tmp_path, 3)
    arrays = np.stack([values(seed=10 * seed) for seed in range(3)]).astype(np.float64)
    (cell,) = compare(runs).metrics[0].cells
    expected = arrays.mean(), arrays.mean(1).std(ddof=1), 3, arrays.mean(0).std(ddof=1) / 50**0.5
    assert cell.spread == pytest.approx(expected, rel=1e-5)
    others = [run for beta in (2.0, 3.0) for run in seeds(tmp_path, 2, beta, beta=beta)]
    cells = compare([*runs, *others]).metrics[0].cells
    assert cells[0].spread == cell.spread and all(each.spread and each.spread.standard_error for each in cells), "also of many"
    (cell,) = compare(runs, intervals=False).metrics[0].cells
    assert cell.spread is not None and cell.spread.standard_error is None, "it is not read from the values of images"


def test_where_the_data_lies_makes_no_group(tmp_path: Path) -> None:
    moved = TEXT.replace("path: null", "path: /elsewhere").replace("tier: auto", "tier: stream")
    found = compare([*seeds(tmp_path, 1), *seeds(tmp_path, 1, start=1, text=moved)])
    assert len(found.groups) == 1 and not found.settings


def test_groups_that_differ_in_much_are_called_as_their_runs(tmp_path: Path) -> None:
    wide = TEXT.replace("model: {{", "model: {{a: 1, b: 2, c: 3, ")
    runs = [*seeds(tmp_path, 1, name="plain"), *seeds(tmp_path, 1, name="wide", text=wide)]
    assert names(compare(runs)) == ["plain", "wide"]
    runs += seeds(tmp_path, 1, name="wide", latent=5)
    assert names(compare(runs)) == ["plain", runs[1].id, runs[2].id]
    assert names(compare(runs[:1])) == ["plain"]


def test_one_seed_counts_once(tmp_path: Path) -> None:
    """Or a spread over seeds would be of fewer than it says."""
    runs = seeds(tmp_path, 2)
    without = measured(tmp_path, {}, seed=5)
    again = measured(tmp_path, {"reconstruction/mse": values(seed=99)}, seed=5)
    found = compare([*runs, runs[0], without, again])
    (cell,) = found.metrics[0].cells
    assert cell.spread is not None and cell.spread.n == 3 and again.id in cell.by_run
    assert any(f"{runs[0].id} is given twice" in note for note in found.notes)
    assert any(f"{without.id} is left out: {again.id} has the same" in note for note in found.notes)


def test_by_a_setting_other_settings_may_differ_and_are_told(tmp_path: Path) -> None:
    runs = [*seeds(tmp_path, 1, latent=2), *seeds(tmp_path, 1, latent=8), *seeds(tmp_path, 2, beta=4.0)]
    assert len(compare(runs).groups) == 3
    found = compare(runs, by="model.beta")
    assert names(found) == ["model.beta 1", "model.beta 4"] and found.groups[0].varied == ("model.latent",)
    assert found.settings["model.latent"] == ("2, 8", "4")
    assert any("'model.beta 1' differ in model.latent too" in note and "not over seeds alone" in note for note in found.notes)
    with pytest.raises(UsageError, match="no run has such a setting") as caught:
        compare(runs, by="model.betas")
    assert caught.value.help == "did you mean 'model.beta'?"


def test_runs_of_one_seed_are_one_seed_whatever_else_differs(tmp_path: Path) -> None:
    runs = [r for beta in (1.0, 4.0) for latent in (2, 8) for r in seeds(tmp_path, 1, beta * 3, beta=beta, latent=latent)]
    judged = compare(runs, by="model.beta").metrics[0].found[0]
    assert judged is not None and judged.verdict == ONE_SEED and judged.difference.over == "images"


# Which numbers may stand side by side

DIFFERING = {
    "version": 1,
    "split": "validation",
    "binarize": "dynamic",
    "samples": 9,
    "draws": 9,
    "features": "abc",
    "batch": 9,
    "bound": "exact",
    "levels": 256,
    "fingerprint": "e" * 64,
    "corruption": [{"sigma": 0.5}],
}
ALIKE = {"step": 7, "seed": 9, "choice": 3.0, "units": 99, "target": 0.2, "classifier_accuracy": 0.9}


@pytest.mark.parametrize("key", DIFFERING)
def test_numbers_of_differing_protocols_are_refused_or_marked(tmp_path: Path, key: str) -> None:
    root = tmp_path / "runs"
    one, other = seeds(root, 2), seeds(root, 2, beta=4.0, protocol={key: DIFFERING[key]})
    ids = [run.id for run in (*one, *other)]
    done = called("compare", *ids, cwd=tmp_path)
    assert done.returncode == 4 and not done.stdout
    value = protocols.deciding(reading.read(other[0], "test").numbers["mse"])[key]
    assert f"{key} of mse" in done.stderr and value[:12] in done.stderr and ids[3] in done.stderr
    assert "--anyway" in done.stderr
    shown = called("compare", *ids, "--anyway", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    line = next(line for line in shown.stdout.splitlines() if "mse" in line)
    assert line.count("†") == 2 and f"† measured by differing protocols: {key}" in shown.stdout
    told = json.loads(called("compare", *ids, "--anyway", "--format", "json", cwd=tmp_path).stdout)
    assert all(cell["differing_protocols"] for cell in told["metrics"][0]["groups"])
    assert [conflict["key"] for conflict in told["conflicts"]] == [key]


def test_seeds_of_one_group_are_held_to_it_too(tmp_path: Path) -> None:
    runs = [*seeds(tmp_path, 1), *seeds(tmp_path, 1, start=1, protocol={"samples": 9})]
    with pytest.raises(RunError, match=r"samples of mse: none .*; 9 "):
        compare(runs)


def test_a_number_of_one_metric_that_is_not_shown_is_in_nobodys_way(tmp_path: Path) -> None:
    def more(samples: int) -> dict[str, Any]:
        return {"nll_nats": number(1.0, "likelihood", protocol={"samples": samples})}

    runs = [*seeds(tmp_path, 1, more=more(5)), *seeds(tmp_path, 1, start=1, more=more(6))]
    with pytest.raises(RunError, match="samples of nll_nats"):
        compare(runs)
    assert len(compare(runs, metrics=["mse"]).metrics) == 1
    with pytest.raises(RunError, match="samples of nll_nats"):
        compare(runs, metrics=["mse"], pareto=["nll_nats", "parameters"])


@pytest.mark.parametrize("key", ALIKE)
def test_what_is_the_run_s_own_is_no_difference(tmp_path: Path, key: str) -> None:
    runs = [*seeds(tmp_path, 2), *seeds(tmp_path, 2, beta=4.0, protocol={key: ALIKE[key]})]
    assert not compare(runs).conflicts


def test_units_and_numbers_of_images_are_part_of_it(tmp_path: Path) -> None:
    def run(n: int, unit: str, seed: int) -> Run:
        found = number(1.0, "likelihood", n=n)
        return measured(tmp_path, {}, seed=seed, more={"nll_nats": found._replace(metric=found.metric._replace(unit=unit))})

    with pytest.raises(RunError, match=r"unit of nll_nats: nats .*; nats, of a density on the values"):
        compare([run(50, "nats", 0), run(50, "nats, of a density on the values", 1)])
    with pytest.raises(RunError, match=r"images of nll_nats: 50 .*; 49 "):
        compare([run(50, "nats", 2), run(49, "nats", 3)])


def test_changed_code_is_marked(tmp_path: Path) -> None:
    code = {"code": "changed since training, now abc"}
    found = compare([*seeds(tmp_path, 2), *seeds(tmp_path, 2, beta=4.0, protocol=code)])
    assert [cell.marks for cell in found.metrics[0].cells] == ["", "‡"]
    assert "‡ measured with other code than the run was trained with" in str(found)


def test_runs_on_other_data_are_refused_with_numbers_and_without(tmp_path: Path) -> None:
    elsewhere = {**DATA, "fingerprint": "e" * 64}
    one = measured(tmp_path, {"reconstruction/mse": values()})
    for other in (measured(tmp_path, {"reconstruction/mse": values()}, data=elsewhere), measured(tmp_path, {}, data=elsewhere)):
        with pytest.raises(RunError, match=r"fingerprint of .*: ffffffffffff... .*; eeeeeeeeeeee... ") as caught:
            compare([one, other])
        assert caught.value.code == 4 and other.id in caught.value.message
        assert len(compare([one, other], anyway=True).groups) == 2
    found = compare([one, measured(tmp_path, {"reconstruction/mse": values(1)}, data=elsewhere)], anyway=True).metrics[0].found[0]
    assert found is not None and found.difference.over is None, "of other images there are no pairs"


def test_of_many_disagreements_the_first_are_told(tmp_path: Path) -> None:
    numbers = {
        f"run{i}": reading.Number.model_validate({**number(1.0, "x").as_json(), "protocol": {"samples": i}}) for i in range(99)
    }
    (found,) = protocols.conflicts("nll_nats", numbers)
    assert len(found.values) == 99 and str(found).endswith("and 96 more values")
    assert len(protocols.told([found] * 50).splitlines()) < 15


# What is said


def test_who_is_better_is_named_by_the_direction_of_the_metric(tmp_path: Path) -> None:
    def group(beta: float, level: float) -> list[Run]:
        return [
            measured(
                tmp_path,
                {"reconstruction/mse": values(level + 0.01 * seed), "objective/loss": values(level + 0.01 * seed)},
                seed=seed,
                beta=beta,
                more={
                    "ssim": number(level + 0.01 * seed, "reconstruction", "higher"),
                    "l0": number(level + 0.01 * seed, "sparsity", None),
                    "kid": number(level, "generation"),
                    "units": number(3.0, "codebook"),
                },
            )
            for seed in range(3)
        ]

    found = compare([*group(1.0, 1.0), *group(4.0, 2.0)])
    said = {metric.name: metric.found[0] for metric in found.metrics}
    words = {name: (each.verdict, each.better) for name, each in said.items() if each is not None}
    assert words == {
        "mse": (FIRST, "model.beta 1"),
        "ssim": (SECOND, "model.beta 4"),
        "l0": ("differ", None),
        "loss": ("differ", None),  # each model's own objective
        "kid": (NO_SPREAD, None),
        "units": (NOT_SHOWN, None),
    }
    assert any("objective is each model's own" in note and "model.beta" in note for note in found.notes)
    tests = [each for each in said.values() if each is not None and each.difference.p is not None]
    assert len(tests) == 4 and all(each.corrected >= each.difference.p for each in tests)
    assert "Holm for the 4 tests" in str(found)


def test_one_seed_is_undecided_whatever_its_interval_says(tmp_path: Path) -> None:
    runs = [*seeds(tmp_path, 1), *seeds(tmp_path, 3, 5.0, beta=4.0)]
    found = compare(runs)
    judged = found.metrics[0].found[0]
    assert judged is not None and judged.verdict == ONE_SEED and judged.better is None and judged.corrected is None
    assert judged.difference.over == "images" and judged.difference.low is not None and judged.difference.low > 4
    assert "what other seeds would give is not known" in " ".join(str(found).split())


def test_the_objective_of_one_model_is_judged(tmp_path: Path) -> None:
    longer = TEXT.replace("steps: 40", "steps: 80")
    one = [measured(tmp_path, {"objective/loss": values(0.01 * s)}, seed=s) for s in range(3)]
    two = [measured(tmp_path, {"objective/loss": values(1 + 0.01 * s)}, seed=s, text=longer) for s in range(3)]
    judged = compare([*one, *two]).metrics[0].found[0]
    assert judged is not None and judged.better == "train.steps 40"


def test_differences_of_more_than_two_groups_are_made_where_they_are_asked_for(tmp_path: Path) -> None:
    groups = [seeds(tmp_path, 2, float(beta), beta=beta) for beta in (1.0, 2.0, 3.0)]
    runs = [run for group in groups for run in group]
    plain = compare(runs)
    assert not plain.pairs and any("--baseline" in note for note in plain.notes)
    asked = compare(runs, intervals=True)
    assert [tuple(pair) for pair in asked.pairs] == [(0, 1), (0, 2)] and any("held against the first" in n for n in asked.notes)
    based = compare(runs, baseline=groups[2][0])
    assert names(based) == ["model.beta 3", "model.beta 1", "model.beta 2"] and based.baseline == 0
    assert not any("twice" in note for note in based.notes)
    for pair, each in zip(based.pairs, based.metrics[0].found, strict=True):
        means = [based.metrics[0].cells[at].spread for at in pair]
        assert each is not None and None not in means
        assert each.difference.value == pytest.approx(means[1][0] - means[0][0])
    assert not compare(runs[:4], intervals=False).pairs
    text = based.render(width=80)
    assert "model.beta 1 less model.beta 3" in text and "model.beta 2 less model.beta 3" in text


def test_missing_numbers_are_told_and_numbers_that_cannot_be_are_not(tmp_path: Path) -> None:
    nll = {"nll_nats": number(1.0, "likelihood", protocol={"samples": 77})}
    have = seeds(tmp_path, 2, more={**nll, "bits_per_dim": number(0.1, "likelihood", protocol={"samples": 77})})
    partly = measured(tmp_path, {"reconstruction/mse": values(seed=7)}, seed=7, more=nll)
    lacks = seeds(tmp_path, 1, start=8)[0]
    other = measured(
        tmp_path, {}, seed=9, text=TEXT.replace("variant: vae", "variant: gan"), more={"kid": number(1, "generation")}
    )
    found = compare([*have, partly, lacks, other])
    told = {(each.run, each.certain): each for each in found.missing}
    assert told[lacks.id, True].metrics == ("nll_nats", "bits_per_dim"), "which runs of its variant have"
    assert told[lacks.id, False].metrics == told[partly.id, False].metrics == ("kid",)
    assert (partly.id, True) not in told, "it has been measured by all that it can be"
    assert set(told[other.id, False].metrics) == {"mse", "nll_nats", "bits_per_dim"} and (other.id, True) not in told
    command = shlex.split(told[lacks.id, True].command)
    assert command == [
        "aecli",
        "eval",
        lacks.id,
        "--only",
        "likelihood",
        "--importance-samples",
        "77",
        "--runs-dir",
        str(tmp_path),
    ]
    assert "if its variant can be measured so" in str(found)
    cell = next(metric for metric in found.metrics if metric.name == "nll_nats").cells[0]
    assert cell.spread is not None and cell.spread.n == 3 and "[3 of 4 runs]" in found.render(width=200)
    validation = compare([lacks], split="validation")
    assert "--split validation" in validation.missing[0].command and not validation.metrics


def test_many_runs_without_numbers_are_told_in_a_few_lines(tmp_path: Path) -> None:
    runs = [measured(tmp_path, {}, seed=seed) for seed in range(40)]
    found = compare(runs)
    for run in runs:
        run.set_state("interrupted")
    assert len(compare(runs).notes) == 40 and "and 20 more notes" in str(compare(runs))
    assert len(found.missing) == 40 and len(found.render().splitlines()) < 30 and "and 30 more runs" in str(found)


def test_an_unknown_metric_or_split_is_a_mistake_of_the_command(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    ids = [run.id for run in seeds(root, 2)]
    for flags, word in (
        (("--metric", "mes"), "did you mean 'mse'?"),
        (("--metric", ","), "names no metric"),
        (("--metric", "mse", "--split", "validation"), "`aecli eval RUN --split validation --only reconstruction` measures it"),
        (("--metric", "mse,frechet"), "no run has a metric 'frechet'"),
        (("--metric", "nll_nats"), "`aecli eval RUN --only likelihood` measures it"),
        (
            ("--metric", "linear_probe"),
            "did you mean 'linear_probe_accuracy'? `aecli eval RUN --only representation` measures it",
        ),
        (("--pareto", "mse,nll_nats"), "`aecli eval RUN --only likelihood` measures it"),
        (("--split", "train"), "no numbers of a split 'train'"),
        (("--format", "markdown"), "--format markdown"),
        (("--by", "beta"), "no run has such a setting"),
        (("--pareto", "mse"), "two names"),
        (("--pareto", "mse,secnds"), "did you mean 'seconds'?"),
    ):
        done = called("compare", *ids, *flags, cwd=tmp_path)
        assert done.returncode == 2 and word in done.stderr and not done.stdout, done
    assert called("compare", cwd=tmp_path).returncode == 2
    assert called("compare", "--where", "variant=hvae", cwd=tmp_path).returncode == 4


def test_a_name_with_a_comma_is_one_metric(tmp_path: Path) -> None:
    runs = seeds(tmp_path, 2, more={"ssim (block 4, gray)": number(1.0, "denoising"), "l0": number(2.0, "sparsity")})
    assert [metric.name for metric in compare(runs, metrics=["ssim (block 4, gray)"]).metrics] == ["ssim (block 4, gray)"]
    assert [metric.name for metric in compare(runs, metrics=["l0,mse"]).metrics] == ["mse", "l0"]


def test_no_value_has_its_reason_and_is_no_zero(tmp_path: Path) -> None:
    runs = seeds(tmp_path, 2, more={"kid": number(None, "generation", note="the draws are all alike")})
    found = compare(runs)
    kid = found.as_json()["metrics"][1]["groups"][0]
    assert kid["mean"] is None and kid["seeds"] == 0 and kid["note"] == "the draws are all alike"
    assert "no kid of 2 runs: the draws are all alike" in found.notes


def test_values_that_are_not_what_the_number_is_the_mean_of_are_not_paired(tmp_path: Path) -> None:
    """As of an objective to which a term of all codes together is added."""
    for number_ in (0, 1):
        measured(tmp_path, {"objective/loss": values(seed=number_)}, seed=number_)
    runs = directory.every(tmp_path)
    plain = compare(runs, by="seed").metrics[0].found[0]
    assert plain is not None and plain.difference.over == "images"
    for run in runs:
        path = run.path / "eval" / "test.json"
        found = json.loads(path.read_text())
        found["loss"]["value"] += 0.5
        reading.numbers.write(run.path / "eval", "test", run.info().identity, found, {"objective/loss": values()})
    added = compare(runs, by="seed").metrics[0].found[0]
    assert added is not None and added.difference.over is None and added.verdict == ONE_SEED


# Costs


def test_costs_stand_beside_quality_and_are_empty_where_they_are_not_known(tmp_path: Path) -> None:
    known = {"state": {"flop_per_step": 1e6, "seconds": 12.5, "peak_bytes": 3 * 10**9}}
    runs = [*seeds(tmp_path, 2, **known), *seeds(tmp_path, 1, beta=4.0)]
    found = compare(runs)
    costs = {name: [None if cell.spread is None else cell.spread.value for cell in cells] for name, cells in found.costs.items()}
    assert costs == {
        "parameters": [7, 7],
        "seconds": [12.5, None],
        "images": [40 * 32, 40 * 32],
        "flop": [40e6, None],
        "peak_bytes": [3e9, None],
    }
    assert re.search(r"peak memory, GB +3\n", found.render(width=80))


def test_pareto_is_what_no_other_group_beats(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(0, 6, (9, 2))
    runs = [
        measured(
            tmp_path,
            {},
            beta=float(at),
            more={"ssim": number(float(quality), "reconstruction", "higher")},
            state={"seconds": float(seconds)},
        )
        for at, (quality, seconds) in enumerate(points)
    ]
    runs.append(measured(tmp_path, {}, beta=99.0, more={"ssim": number(9.0, "reconstruction", "higher")}))
    found = compare(runs, pareto=["ssim,seconds"]).pareto
    beaten = [any(q >= p[0] and s <= p[1] and (q, s) != tuple(p) for q, s in points) for p in points]
    assert found is not None and found.groups == tuple(at for at, is_beaten in enumerate(beaten) if not is_beaten)
    assert found.left_out == (9,), "of unknown cost"
    assert 1 < len(found.groups) < 9


def test_pareto_needs_a_direction(tmp_path: Path) -> None:
    runs = seeds(tmp_path, 2, more={"l0": number(1.0, "sparsity", None)})
    with pytest.raises(UsageError, match="neither lower nor higher"):
        compare(runs, pareto=["l0", "parameters"])
    more = seeds(tmp_path, 2, beta=2.0, more={"l0": number(3.0, "sparsity", None)})
    for way, best in (("lower", (0,)), ("higher", (1,))):
        found = compare([*runs, *more], pareto=[f"l0:{way}", "parameters"]).pareto
        assert found is not None and found.groups == best and found.by == ("l0", "parameters")
    with pytest.raises(UsageError, match="mse:higher: lower values of it are better"):
        compare(runs, pareto=["mse:higher", "parameters"])


def test_runs_that_differ_in_more_than_the_seed_decide_nothing(tmp_path: Path) -> None:
    runs = [r for beta in (1.0, 4.0) for latent in (2, 8) for r in seeds(tmp_path, 3, beta * 3, beta=beta, latent=latent)]
    judged = compare(runs, by="model.beta").metrics[0].found[0]
    assert judged is not None and judged.verdict == VARIED and judged.better is None
    assert judged.difference.low is not None and judged.difference.low > 0, "or there was nothing to withhold"
    alike = [r for beta in (1.0, 4.0) for latent in (2, 8) for r in seeds(tmp_path, 3, 3.0, beta=beta, latent=latent)]
    judged = compare(alike, by="model.beta").metrics[0].found[0]
    assert judged is not None and judged.verdict == VARIED, "no difference shown would be said of seeds"


def test_runs_that_differ_in_more_than_the_seed_take_part_in_no_correction(tmp_path: Path) -> None:
    one, other = seeds(tmp_path, 3, 1.0, beta=1.0), seeds(tmp_path, 3, 1.1, beta=2.0)
    alone = compare([*one, *other], by="model.beta").metrics[0].found[0]
    varied = [r for latent in (2, 8) for r in seeds(tmp_path, 3, 5.0, beta=4.0, latent=latent)]
    found = compare([*one, *other, *varied], by="model.beta", baseline=one[0]).metrics[0].found
    assert alone is not None and [each and each.corrected for each in found] == [alone.corrected, None]
    assert [each and each.difference.p for each in found] == [alone.corrected, None]


def test_groups_of_another_variant_each_are_called_by_it(tmp_path: Path) -> None:
    other = TEXT.replace("variant: vae", "variant: bottleneck, net: conv, hidden: [8], likelihood: mse, output: sigmoid")
    assert "variant: bottleneck" in other
    runs = [*seeds(tmp_path, 2), *seeds(tmp_path, 2, text=other)]
    assert [group.name for group in compare(runs).groups] == ["model.variant vae", "model.variant bottleneck"]


def test_unequal_budgets_are_told(tmp_path: Path) -> None:
    def notes(*steps: int) -> list[str]:
        root = tmp_path / f"{steps}"
        runs = [r for at, n in enumerate(steps) for r in seeds(root, 2, beta=float(at), state={"step": n})]
        return [note for note in compare(runs).notes if "unequal budgets" in note]

    assert notes(1000, 1010) == []
    [told] = notes(1000, 4500)
    assert "3.2e+04 to 1.44e+05 images seen; train.steps" in told


def test_a_pursuit_of_another_number_of_active_units_is_measured_alike(tmp_path: Path) -> None:
    def run(active: int, beta: float) -> Run:
        omp = number(0.9, "pursuit", "higher", protocol={"active": active, "clipped": False})
        return measured(tmp_path, {}, beta=beta, more={"explained_variance_omp": omp})

    assert not compare([run(3, 1.0), run(14, 2.0)]).conflicts


# Runs that are not as they should be


def test_an_unreadable_run_is_refused_by_name_and_left_out_of_many(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    good, bad = seeds(root, 2), seeds(root, 1, start=7)[0]
    (bad.path / "config.resolved.yaml").write_text("a: [")
    named = called("compare", good[0].id, bad.id, cwd=tmp_path)
    assert named.returncode == 4 and bad.id in named.stderr and not named.stdout
    many = called("compare", "--where", "variant=vae", cwd=tmp_path)
    assert many.returncode == 0 and f"{bad.id} is left out" in " ".join(many.stdout.split()), many
    both = called("compare", bad.id, "--where", f"id={good[0].id}", cwd=tmp_path)
    assert both.returncode == 4 and bad.id in both.stderr, both
    with pytest.raises(RunError, match="no run to compare"):
        compare([bad], skip_unreadable=[bad])
    with pytest.raises(RunError):
        compare(good, baseline=bad, skip_unreadable=good)


@pytest.mark.parametrize("text", ["a: &x [*x]", "[" * 3000, "beta: !!python/object:os.x {}", "\x00", "- 1", "", "a: 1\na.b: 2"])
def test_a_config_that_is_none_is_an_unreadable_run(tmp_path: Path, text: str) -> None:
    (run,) = seeds(tmp_path, 1)
    (run.path / "config.resolved.yaml").write_text(text)
    with pytest.raises(RunError, match=r"config.resolved.yaml"):
        compare([run])


def test_a_config_that_is_another_by_now_is_refused(tmp_path: Path) -> None:
    one, other = seeds(tmp_path, 2)
    path = other.path / "config.resolved.yaml"
    path.write_text(path.read_text().replace("beta: 1.0", "beta: 2.0"))
    with pytest.raises(RunError, match="is not what the run was started with"):
        compare([one, other])


def test_numbers_that_were_edited_are_not_believed(tmp_path: Path) -> None:
    one, other = seeds(tmp_path, 2)
    path = other.path / "eval" / "test.json"
    path.write_text(path.read_text().replace('"value": ', '"value": 1'))
    found = compare([one, other])
    assert any(f"test.json of {other.id} is not believed" in note for note in found.notes)
    assert set(found.metrics[0].cells[0].by_run) == {one.id} and [each.run for each in found.missing] == [other.id]


def test_damaged_values_cost_the_interval_and_not_the_number(tmp_path: Path) -> None:
    one, other = seeds(tmp_path, 2)
    path = other.path / "eval" / "test-values.npz"
    path.write_bytes(path.read_bytes()[:-40])
    found = compare([one, other], by="seed")
    assert any(f"{other.id}: no values of single images" in note for note in found.notes)
    judged = found.metrics[0].found[0]
    assert judged is not None and judged.difference.over is None and all(cell.spread for cell in found.metrics[0].cells)


def test_a_run_that_has_not_ended_is_told(tmp_path: Path) -> None:
    (run,) = seeds(tmp_path, 1)
    run.set_state("interrupted", step=20)
    assert f"{run.id} is interrupted, at step 20" in compare([run]).notes


def test_the_command_names_the_folder_only_where_it_needs_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = measured(tmp_path / "runs", {})
    monkeypatch.chdir(tmp_path)
    (missing,) = aecli.compare([run.path]).missing
    assert missing.command == f"aecli eval {run.id}"
    (missing,) = aecli.compare([run.path.rename(tmp_path / run.id)]).missing
    assert missing.command == f"aecli eval {run.id} --runs-dir {tmp_path}"


def test_numbers_of_a_run_that_has_gone_on_are_told(tmp_path: Path) -> None:
    values_of = {"reconstruction/mse": values()}
    last, best = (
        measured(tmp_path, values_of, seed=seed, state=at) for seed, at in enumerate(({}, {"step": 60, "best_step": 40}))
    )
    assert not any("by now" in note for note in compare([last, best]).notes)
    on = measured(tmp_path, values_of, seed=2, state={"step": 60, "best_step": 60})
    (note,) = (note for note in compare([last, best, on]).notes if "by now" in note)
    assert note.startswith(f"the numbers of {on.id} are of step 40, and it is at step 60")


def test_one_run_and_hundreds(tmp_path: Path) -> None:
    one = compare(seeds(tmp_path, 1))
    assert not one.pairs and "mse" in str(one) and not one.missing
    runs = [measured(tmp_path, {"reconstruction/mse": values(seed=at)}, seed=at % 5, beta=1 + at // 5) for at in range(100)]
    found = compare(runs)
    assert len(found.groups) == 20
    for format in FORMATS:
        assert "model.beta 19" in found.render(format, 80)


def test_numbers_beyond_floats_are_no_numbers(tmp_path: Path) -> None:
    huge = {"kid": number(1.7e308, "generation"), "frechet_distance": number(-1.7e308, "generation")}
    other = {name: each._replace(metric=each.metric._replace(value=-each.metric.value)) for name, each in huge.items()}
    runs = [*seeds(tmp_path, 2, more=huge, state={"flop_per_step": 1.7e308}), *seeds(tmp_path, 2, beta=4.0, more=other)]
    for some in (runs, [runs[0], runs[2]]):
        found = compare(some)
        for format in FORMATS:
            assert "e+308" in found.render(format) or len(some) > 2
        assert found.costs["flop"][0].spread is None and found.metrics[0].found[0] is not None


# Forms


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("two")
    return compare([*seeds(root, 3), *seeds(root, 3, 1.0, beta=4.0)], pareto=["mse", "parameters"])


def test_json_is_what_python_gets(two: Any) -> None:
    assert json.loads(two.render("json")) == two.as_json()
    told = two.as_json()
    documented = set(re.findall(r"`?(\w+)`?", type(two).as_json.__doc__))
    keys = {*told, *told["metrics"][0], *told["metrics"][0]["groups"][0], *told["metrics"][0]["differences"][0]}
    assert keys | set(told["groups"][0]) | set(told["costs"]["seconds"][0]) | set(told["pareto"]) <= documented
    text = (Path(__file__).parent.parent / "docs" / "compare.md").read_text()
    assert not {key for key in keys if key not in text}


def test_csv_is_a_line_a_number_as_exact_as_it_is(two: Any) -> None:
    lines = list(csv.DictReader(io.StringIO(two.render("csv"))))
    mse = [line for line in lines if line["name"] == "mse"]
    for line, cell in zip(mse, two.metrics[0].cells, strict=True):
        assert (
            float(line["value"]),
            float(line["sd_over_seeds"]),
            int(line["seeds"]),
            float(line["se_over_images"]),
        ) == cell.spread
    judged = two.metrics[0].found[0]
    assert not mse[0]["difference"] and mse[1]["against"] == "model.beta 1" and mse[1]["verdict"] == judged.verdict
    assert (float(mse[1]["low"]), float(mse[1]["high"])) == (judged.difference.low, judged.difference.high)
    assert {line["kind"] for line in lines} == {"setting", "metric", "cost"}


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_a_table_fits_the_terminal_and_loses_nothing(two: Any, columns: int) -> None:
    text = two.render("table", columns)
    assert max(map(cell_len, text.splitlines())) <= columns
    for wanted in ("model.beta 1", "mse ↓", "3 runs", "±", "95 % interval", two.metrics[0].found[0].better, "less model.beta 1"):
        assert wanted in text or wanted in " ".join(text.split())
    if columns != 120:
        assert ("difference" in next(line for line in text.splitlines() if "model.beta 1 " in line)) == (columns > 120)


def test_many_groups_in_few_columns_turn_into_lines(tmp_path: Path) -> None:
    runs = [measured(tmp_path, {"reconstruction/mse": values()}, beta=float(at)) for at in range(12)]
    text = compare(runs).render("table", 80)
    assert max(map(cell_len, text.splitlines())) <= 80
    assert (
        sum(line.startswith("model.beta 7 ") for line in text.splitlines()) < sum("mse" in line for line in text.splitlines()) + 4
    )
    assert len(text.splitlines()) < 60


HOSTILE = [
    "\x1b[31mred",
    "\u202egnp.exe",
    "a|b",
    "=cmd()",
    "-1+2",
    "@x",
    "\\input{/etc/passwd}",
    "$x_1^2$ & 50% #{}~",
    "[b]x[/b]",
    "<script>",
    "__x__ *y* `z`",
    "https://x.y",
    "\r\nnew\tline",
    "漢字",
    "\ud800",
    "x" * 500,
]
PAIRS = list(itertools.pairwise([*HOSTILE, HOSTILE[0]]))


def block(one: str, other: str) -> Block:
    return Block(one, (one, other), (Line(other, one, (one, other)), Line(other, other, (other, ""))))


def _read_by(token: Any) -> str:
    """What a reader of the rendered cell sees."""
    return "".join(child.content for child in token.children).strip()


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=range(len(PAIRS)))
def test_hostile_text_stays_text_in_every_form(one: str, other: str) -> None:
    notes = Notes((one,), (other,), (one,))
    made = {
        "table": table.terminal([block(one, other)], notes, 80),
        "md": table.markdown([block(one, other)], notes),
        "latex": table.latex([block(one, other)], notes),
        "csv": table.csv_text(["a", "b"], [[one, other], [1.5, None]]),
    }
    for text in made.values():
        assert all(line.isprintable() for line in text.split("\n"))
    parsed = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(made["md"])
    cells_read = [token for before, token in itertools.pairwise(parsed) if before.type in ("th_open", "td_open")]
    words = [printable(word).strip() for word in ("", "", one, other, other, one, one, other, "", other, other, "")]
    assert [token.content and _read_by(token) for token in cells_read] == words
    for token in parsed:
        assert all(child.type in ("text", "text_special", "code_inline", "softbreak") for child in token.children or [])
    body = re.sub(r"\\\\$|^%.*", "", made["latex"], flags=re.MULTILINE)
    cells = body[body.index("\\midrule") : body.index("\\bottomrule")]
    known = r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|ldots)\{\}|\\[&%$#_{}]|\\emph\{|\$-\$"
    left = re.sub(known, "", cells.replace("\\midrule", "").replace("{}[", ""))
    assert (
        not re.search(r"[\\$%#_^~]", left)
        and body.isascii()
        and body.count("{") - body.count("\\{") == body.count("}") - body.count("\\}")
    )
    assert {line.count("&") for line in re.sub(r"\\&", "", cells).splitlines() if "&" in line} <= {2}
    first, second = list(csv.reader(io.StringIO(made["csv"])))[1:]
    assert not first[0].startswith(("=", "+", "-", "@")) and not first[1].startswith(("=", "+", "-", "@"))
    assert second == ["1.5", ""]


def test_hostile_settings_come_out_as_text_of_the_command(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    texts = [TEXT.replace("batch_size", f"label: {json.dumps(word)}, batch_size") for word in HOSTILE[:2]]
    runs = [measured(root, {"reconstruction/mse": values()}, text=text) for text in texts]
    for format in FORMATS:
        done = called("compare", *[run.id for run in runs], "--format", format, cwd=tmp_path)
        assert done.returncode == 0 and done.stdout, done.stderr
        assert all(line.isprintable() for line in (done.stdout + done.stderr).split("\n"))
        if format == "json":
            assert json.loads(done.stdout)["settings"]["data.label"] == HOSTILE[:2]


def test_a_reader_who_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    seeds(tmp_path / "runs", 3)
    line = (
        f"{shlex.quote(sys.executable)} -m aecli compare --where variant=vae --format json | head -n 1; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["{", "0"] and not done.stderr


def test_letters_that_an_encoding_has_not_are_written_plainly(tmp_path: Path) -> None:
    seeds(tmp_path / "runs", 3)
    command = [sys.executable, "-m", "aecli", "compare", "--where", "variant=vae"]
    env = environment(PYTHONIOENCODING="ascii")
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "+-" in done.stdout and "\\x" not in done.stdout and "\\u" not in done.stdout


def test_runs_that_started_from_other_weights_do_not_differ_in_the_seed_alone(tmp_path: Path) -> None:
    start = {"run": "source", "step": 3, "seal": "0" * 64, "fitted": 1}
    fresh = measured(tmp_path, {"reconstruction/mse": values(seed=0)}, seed=0)
    tuned = measured(tmp_path, {"reconstruction/mse": values(seed=1)}, seed=1, from_run=start)
    found = compare([fresh, tuned])
    assert len(found.groups) == 2
    assert dict(found.settings) == {"from": ("-", "source at step 3")}


def test_from_python(tmp_path: Path) -> None:
    first, second = seeds(tmp_path, 2), seeds(tmp_path, 2, beta=4.0)
    ids = [run.id for run in (*first, *second)]
    found = aecli.compare(ids, runs_dir=tmp_path, baseline=second[0].id)
    assert found.as_json() == compare([*first, *second], baseline=second[0]).as_json()


def test_intervals_over_images_that_are_not_independent_are_over_their_blocks(tmp_path: Path) -> None:
    """Of images that are each there five times the interval is that of a fifth of them, where either run knows the blocks; so is
    the error of the mean of several runs."""
    once, blocks = [values(0.0, 1), values(0.3, 2)], np.tile(np.arange(50, dtype=np.float32), 5)
    of_each = {
        "once": [{"reconstruction/mse": each} for each in once],
        "five": [{"reconstruction/mse": np.tile(each, 5)} for each in once],
    }
    of_each["blocks"] = [{**of_each["five"][0], "reconstruction/blocks": blocks}, of_each["five"][1]]
    found: dict[str, Any] = {}
    for name, sides in of_each.items():
        pair = [measured(tmp_path / name, side, beta=beta) for side, beta in zip(sides, (1.0, 2.0), strict=True)]
        [metric] = compare(pair).as_json()["metrics"]
        found[name] = metric["differences"][0]
    assert (found["blocks"]["low"], found["blocks"]["high"]) == tuple(
        pytest.approx(found["once"][bound], rel=1e-5) for bound in ("low", "high")
    )
    assert found["five"]["high"] - found["five"]["low"] < 0.5 * (found["blocks"]["high"] - found["blocks"]["low"])
    runs = [measured(tmp_path / "several", of_each["blocks"][0], seed=seed) for seed in (0, 1)]
    [metric] = compare(runs).as_json()["metrics"]
    assert metric["groups"][0]["se_over_images"] == pytest.approx(once[0].std(ddof=1) / 50**0.5, rel=1e-5)


# Plain methods


def beside(value: float, plain: dict[str, float], apart: float | None = 0.1) -> Any:
    errors = {} if apart is None else dict.fromkeys(plain, apart)
    return {"mse": number(value, "reconstruction", baselines=plain, difference_errors=errors)}


def test_of_a_plain_method_is_told_whether_all_runs_of_a_group_are_better(tmp_path: Path) -> None:
    runs = [
        measured(tmp_path, {}, seed=seed, beta=beta, more=beside(value, {"PCA": 1.0, "mean": 2.0}))
        for beta, of in ((1.0, (0.5, 0.6)), (2.0, (0.5, 0.9)), (3.0, (0.9, 1.5)))
        for seed, value in enumerate(of)
    ]
    found = compare(runs)
    [plain] = found.plain
    assert (plain.name, plain.method, plain.value, plain.unit, plain.better) == ("mse", "PCA", "1", "1", "lower")
    assert [held and held.text for held in plain.held] == ["yes", "1 yes, 1 even", "1 even, 1 no"]
    text = found.render("table", 200)
    assert re.search(r"mse ↓ +PCA +1 +yes +1 yes, 1 even +1 even, 1 no", text) and text.count("PCA") == 1
    told = [line for line in csv.DictReader(io.StringIO(found.render("csv"))) if line["kind"] == "plain method"]
    assert [(line["group"], line["value"], line["seeds"], line["against"], line["verdict"]) for line in told] == [
        (f"model.beta {beta}", "1.0", "2", "PCA", said)
        for beta, said in ((1, "yes"), (2, "1 yes, 1 even"), (3, "1 even, 1 no"))
    ]  # fmt: skip
    [told] = found.as_json()["plain"]
    assert told["groups"][1] == {"value": 1.0, "better": 1, "alike": 1, "judged": 2, "runs": 2} and told["name"] == "mse"
    text = (Path(__file__).parent.parent / "docs" / "compare.md").read_text()
    columns = found.render("csv").splitlines()[0].split(",")
    assert all(f"`{key}`" in text for key in {**told, **told["groups"][0], **dict.fromkeys(columns)})


def test_runs_that_are_even_with_a_plain_method_are_told_from_those_that_lose(tmp_path: Path) -> None:
    runs = [
        measured(tmp_path, {}, seed=seed, beta=beta, more=beside(value, {"PCA": 1.0}))
        for beta, of in ((1.0, (0.9, 1.1)), (2.0, (0.9, 1.5)), (3.0, (0.5, 0.9)), (4.0, (1.5, 1.6)))
        for seed, value in enumerate(of)
    ]
    found = compare(runs)
    [plain] = found.plain
    assert [held and held.text for held in plain.held] == ["even", "1 even, 1 no", "1 yes, 1 even", "no"]
    [told] = found.as_json()["plain"]
    assert [(each["better"], each["alike"]) for each in told["groups"]] == [(0, 2), (0, 1), (1, 1), (0, 0)]


def test_each_run_is_held_against_its_own_best_plain_method(tmp_path: Path) -> None:
    """Also of a group whose runs have different ones, of which none is left out for a weaker one that all have."""
    more = [{"PCA 4": 0.9, "mean": 2.0}, {"PCA 8": 0.2, "mean": 2.0}, {"PCA 8": 0.2, "mean": 2.0}]
    runs = [
        measured(tmp_path, {}, seed=seed, latent=latent, more=beside(0.5, each))
        for (latent, seed), each in zip(((4, 0), (8, 0), (8, 1)), more, strict=True)
    ]
    found = compare(runs).plain
    assert [(each.method, [held and held.text for held in each.held]) for each in found] == [
        ("PCA 4", ["yes", None]), ("PCA 8", [None, "no"]),
    ]  # fmt: skip
    together = compare(runs, by="model.variant").plain
    assert [(each.method, [held and held.text for held in each.held]) for each in together] == [
        ("PCA 4", ["yes [1 of 3 runs]"]), ("PCA 8", ["no [2 of 3 runs]"]),
    ]  # fmt: skip


def test_what_is_not_known_of_a_plain_method_is_not_said(tmp_path: Path) -> None:
    three = [measured(tmp_path, {}, seed=0, more=beside(0.5, {"PCA": 1.0}, None)), *(
        measured(tmp_path, {}, seed=seed, more={"mse": number(value, "reconstruction")}) for seed, value in ((1, 0.5), (2, None))
    )]  # fmt: skip
    [plain] = compare(three).plain
    assert [held and held.text for held in plain.held] == ["- [1 of 3 runs]"], "no error, no baseline, no value"
    both = [measured(tmp_path, {}, seed=seed, beta=3.0, more=beside(0.5, {"PCA": pca})) for seed, pca in ((0, 1.0), (1, 1.5))]
    other = measured(tmp_path, {}, seed=0, beta=4.0, more=beside(0.5, {"PCA": 2.0}))
    [plain] = compare([*both, other]).plain
    assert plain.value == "1.25 to 2", "measured otherwise"
    nothing = measured(tmp_path, {}, beta=9.0, more={"mse": number(0.5, "reconstruction", None)})
    assert compare([nothing]).plain == () and "Plain methods" not in compare([nothing]).render()
    largest = [measured(tmp_path, {}, seed=seed, beta=7.0, more=beside(0.5, {"PCA": 1.7e308})) for seed in (0, 1)]
    assert compare(largest).plain[0].value == "1.7e+308"
