"""Which runs are meant, and what is told of them: facts, settings and numbers by name, in order, as a table, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from damage import HOSTILE
from made_runs import edit, made, measured
from process import called

import aecli
from aecli.cli.run_tables import show_runs
from aecli.config.names import variants
from aecli.errors import UsageError
from aecli.runs import directory, query
from aecli.runs.directory import Run
from aecli.verbs.labels import tag
from aecli.verbs.runs import list_runs

NOISY = "psnr_db (gaussian 0.25)"


@pytest.fixture
def three(tmp_path: Path) -> tuple[Run, Run, Run]:
    """Of the last, nothing is measured."""
    first = made(tmp_path / "runs", "alpha", beta=1.0, seed=0, threads=2)
    second = made(tmp_path / "runs", "beta", beta=4, seed=1)
    third = made(tmp_path / "runs", "gamma", variant="gan", beta="x", seed=2)
    measured(first, {"nll_nats": 30.5, NOISY: 22.0, "kid": None})
    measured(first, {"mse": 0.5}, "validation")
    measured(second, {"nll_nats": 9.0})
    second.set_state("completed", step=40, seconds=3.5)
    return first, second, third


def chosen(runs: tuple[Run, ...], *where: str) -> str:
    """The first letters of the runs that are selected, oldest first."""
    return "".join(run.id[0] for run in reversed(query.select(runs[0].path.parent, where)))


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ([], "abg"),
        (["model.beta=4"], "b"),
        (["model.beta==4.0"], "b"),
        (["model.beta=1"], "a"),
        (["model.beta=true"], ""),
        (["model.beta=x"], "g"),
        (["model.beta!=4"], "ag"),
        (["model.beta>=1"], "ab"),
        (["model.beta > 1"], "b"),
        (["model.beta<2"], "a"),
        (["model.beta<=1e0"], "a"),
        (["model.hidden=[16]"], "abg"),
        (["data.path=null"], "abg"),
        (["train.epochs=null", "train.steps=40"], "abg"),
        (["seed>0", "variant=vae"], "b"),
        (["state=completed"], "b"),
        (["seconds>3"], "b"),
        (["seconds=null"], "ag"),
        (["threads=2"], "a"),
        (["name=beta"], "b"),
        (["created>2001", "created<3000", "created<3000-01-01"], "abg"),
        (["nll_nats<20"], "b"),
        (["nll_nats!=9"], "a"),
        (["test.nll_nats=9"], "b"),
        (["kid=null"], "a"),
        (["validation.mse=0.5"], "a"),
        ([f"{NOISY}>20"], "a"),
        (["data.name=digits"], "abg"),
        (["best=null"], "abg"),
        (["note=*x"], ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_conditions_choose(three: tuple[Run, ...], where: list[str], expected: str) -> None:
    assert chosen(three, *where) == expected


def test_a_tag_may_be_given_as_yaml_has_it(three: tuple[Run, ...]) -> None:
    root = three[0].path.parent
    tag(three[1], ["paper", "4"], [], print)
    for where in ("tags=paper", 'tags="paper"', "tags=4"):
        assert chosen(three, where) == "b"
    assert chosen(three, 'tags!="paper"') == "ag" and chosen(three, "tags=pap") == ""
    assert [each.id for each in aecli.list_runs({"tags": "paper"}, runs_dir=root)] == [three[1].id]


@pytest.mark.parametrize("text", ["", "variant", "=4", "<", " = 4", "!x"])
def test_what_is_no_condition_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="a condition is key=value"):
        query.select(tmp_path, [text])


def test_a_key_that_no_run_knows_is_refused_and_one_that_some_know_is_not(three: tuple[Run, ...]) -> None:
    root = three[0].path.parent
    for ask in ({"where": ["model.betta=4"]}, {"columns": ["model.betta"]}, {"sort": "-model.betta"}):
        with pytest.raises(UsageError, match=r"no run knows 'model\.betta'") as caught:
            list_runs(root, **ask)
        assert caught.value.help == "did you mean 'model.beta'?"
    with pytest.raises(UsageError, match="no run knows") as caught:
        query.select(root, ["nll_nat<3"])
    assert caught.value.help == "did you mean 'nll_nats'?"
    assert query.select(root / "none", ["model.betta=4"]) == [], "where there are no runs nobody knows better"


def test_settings_are_flat_and_read_as_the_config_is(tmp_path: Path) -> None:
    run = made(tmp_path)
    (run.path / "config.resolved.yaml").write_text("seed: 010\nmodel: {a: 1e-3, b: no, c: [1, {d: 2}], e: .inf, f: {}}\n")
    assert query.settings(run) == {"seed": 10, "model.a": 0.001, "model.b": "no", "model.c": [1, {"d": 2}], "model.e": "inf"}


def test_a_run_that_cannot_be_read_disturbs_no_list(three: tuple[Run, ...]) -> None:
    first, second, third = three
    root = first.path.parent
    whole = made(root, "delta", beta=3)
    (first.path / "config.resolved.yaml").write_text("[" * 50_000)
    (second.path / "run.json").write_text("{")
    (third.path / "eval").rmdir()
    (third.path / "eval").symlink_to(first.path / "eval")
    listing = list_runs(root, columns=["model.beta", "nll_nats", "state"], sort="nll_nats")
    told = {row["id"]: (row["model.beta"], row["nll_nats"], row["state"]) for row in listing.rows}
    assert told.pop(whole.id) == (3, None, "created")
    assert told == {
        first.id: (None, 30.5, "created"),
        second.id: (None, None, "unreadable"),
        third.id: (None, None, "unreadable"),
    }
    assert set(listing.damage) == {first.id, second.id, third.id}


def test_numbers_that_somebody_edited_are_not_told(three: tuple[Run, ...]) -> None:
    first, second, _ = three
    path = first.path / "eval" / "test.json"
    path.write_text(path.read_text().replace("30.5", "3.05"))
    measured(second, {"mse": 1.0}, "validation")
    (second.path / "eval" / ".validation.seal.json").unlink()
    listing = list_runs(first.path.parent, columns=["nll_nats"])
    assert {row["id"]: row["nll_nats"] for row in listing.rows}[first.id] is None
    assert list(listing.damage) == [first.id] and "eval/test.json is not believed" in listing.damage[first.id]


@pytest.mark.parametrize(("sort", "expected"), [("nll_nats", "bag"), ("-nll_nats", "abg"), ("name", "abg"), ("-name", "gba")])
def test_order_is_by_a_key_and_what_has_none_is_last(three: tuple[Run, ...], sort: str, expected: str) -> None:
    listing = list_runs(three[0].path.parent, sort=sort)
    assert "".join(row["id"][0] for row in listing.rows) == expected


def test_numbers_stand_before_texts(three: tuple[Run, ...]) -> None:
    root = three[0].path.parent
    order = ["".join(row["id"][0] for row in list_runs(root, sort=sort).rows) for sort in ("model.beta", "-model.beta")]
    assert order == ["abg", "bag"]
    assert len(list_runs(root, sort="model.beta", limit=2).rows) == 2


def test_formats_tell_the_same(three: tuple[Run, ...]) -> None:
    root = three[0].path.parent.parent
    ask = ("runs", "--columns", f"model.beta,nll_nats,{NOISY}", "--columns", "model.hidden", "--sort", "-nll_nats")
    facts = json.loads(called(*ask, "--format", "json", cwd=root).stdout)
    assert facts == json.loads(called(*ask, "--json", cwd=root).stdout)
    assert list(facts[0]) == ["id", "model.beta", "nll_nats", NOISY, "model.hidden"] and facts[0]["nll_nats"] == 30.5
    lines = list(csv.reader(io.StringIO(called(*ask, "--format", "csv", cwd=root).stdout)))
    assert lines[0] == list(facts[0])
    for line, fact in zip(lines[1:], facts, strict=True):
        assert [json.loads(text) if text[:1] in "[0123456789" and text else text or None for text in line[1:]] == [
            *fact.values()
        ][1:]
    table = called(*ask, cwd=root).stdout
    assert [line.split()[0] for line in table.splitlines()[3:-1]] == [fact["id"] for fact in facts]
    assert called(*ask, "--format", "xml", cwd=root).returncode == 2
    assert called(*ask, "--format", "csv", "--json", cwd=root).returncode == 2


@pytest.mark.parametrize("columns", ["1", "40", "60", "80", "200"])
def test_no_id_is_folded_and_what_is_left_out_is_told(
    three: tuple[Run, ...], columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = three[0].path.parent
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", columns)
    show_runs(list_runs(root), root, usual=True)
    out, err = capsys.readouterr()
    assert all(run.id in out.split() for run in three)
    assert all(word in out.split() for word in ("digits", "vae", "gan", "completed", "40")) or "left out" in err
    assert all(len(line) <= max(40, int(columns)) for line in out.splitlines())
    show_runs(list_runs(root, columns=["model.beta", "nll_nats", "created"]), root, usual=False)
    out, err = capsys.readouterr()
    assert all(text in out.split() for text in ("30.5", "9", "x", "model.beta", *(run.id for run in three))) and err == ""


def test_hostile_texts_are_text_in_every_format(tmp_path: Path) -> None:
    run = made(tmp_path / "runs", variant="gan")
    edit(run, "run.json", name=HOSTILE.replace("\ud800", ""), created=HOSTILE.replace("\ud800", ""))
    for form in ("table", "csv", "json"):
        done = called("runs", "--columns", "name,created", "--format", form, cwd=tmp_path)
        assert done.returncode == 0 and all(line.isprintable() for line in done.stdout.split("\n"))
    done = called("runs", "--where", f"{HOSTILE}={HOSTILE}", "--sort", HOSTILE, cwd=tmp_path)
    assert done.returncode == 2 and all(line.isprintable() for line in done.stderr.split("\n"))


def test_no_text_is_a_formula_of_a_spreadsheet(tmp_path: Path) -> None:
    run = made(tmp_path / "runs", parameters=5)
    edit(run, "run.json", name="=1+1")
    done = called("runs", "--columns", "name,parameters", "--format", "csv", cwd=tmp_path)
    assert list(csv.reader(io.StringIO(done.stdout)))[1] == [run.id, "'=1+1", "5"]


def test_a_variant_that_there_is_not_is_refused(tmp_path: Path) -> None:
    made(tmp_path / "runs", variant="mine")
    done = called("runs", "--variant", "vea", cwd=tmp_path)
    assert done.returncode == 2 and "did you mean 'vae'?" in done.stderr
    assert "vae" in variants() and "no such runs" in called("runs", "--variant", "vae", cwd=tmp_path).stderr
    assert "mine" in called("runs", "--variant", "mine", cwd=tmp_path).stdout, "of a variant whose file has gone"


def test_where_there_are_no_runs_it_says_how_to_make_one(tmp_path: Path) -> None:
    done = called("runs", cwd=tmp_path)
    assert (
        done.returncode == 0
        and done.stdout == ""
        and "there are no runs in runs yet" in done.stderr
        and "aecli train" in done.stderr
    )
    assert json.loads(called("runs", "--json", cwd=tmp_path).stdout) == []


def test_nothing_is_read_that_is_not_asked_for(three: tuple[Run, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: Any) -> Any:
        raise AssertionError("read")

    monkeypatch.setattr(query.numbers, "read", never)
    monkeypatch.setattr(query.yamlfile, "parse_quickly", never)
    assert len(list_runs(three[0].path.parent, where=["state=created"]).rows) == 2


def test_a_list_imports_neither_jax_nor_numpy(three: tuple[Run, ...]) -> None:
    root = three[0].path.parent.parent
    code = (
        "import sys; sys.argv = ['aecli', 'runs', '--columns', 'model.beta,nll_nats', '--variant', 'vae']\n"
        "from aecli.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: print({'jax', 'numpy', 'rich.console', 'flax'} & set(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, env=dict(os.environ), timeout=60
    )
    assert done.returncode == 0 and "30.5" in done.stdout and done.stderr.strip() == "set()", done.stderr


def test_runs_of_older_versions_are_told_too(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parent / "old_runs" / "runs", tmp_path / "runs")
    keys = "seed,threads,seconds,tags,note,model.latent,mse"
    rows = list_runs(tmp_path / "runs", columns=keys.split(",")).rows
    assert len(rows) == len(directory.every(tmp_path / "runs")) and all(row["model.latent"] and row["mse"] for row in rows)
