"""The page of runs: one file, which asks for nothing, and in which nothing of a run is more than text."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measured import DATA, TEXT, measured, number
from PIL import Image
from process import called, environment

from aecli.errors import RunError, StorageError, UsageError
from aecli.reports import charts, embedding, facts, page
from aecli.runs import labels
from aecli.runs.directory import Run
from aecli.runs.records import Number, validated
from aecli.system.arrays import write_arrays
from aecli.verbs.report import report

HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}${{x}} --></style>"
ASKING = {"src", "href", "srcset", "action", "data", "poster", "background"}
"""Attributes that make a browser ask for something."""


class Tags(HTMLParser):
    """What a browser would make of a page: its tags, those that ask for something, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.asked: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.asked += [value or "" for name, value in attrs if name in ASKING]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(path: Path) -> Tags:
    return Tags(path.read_text("utf-8"))


def with_rows(run: Run, n: int = 30, shift: float = 0.0) -> Run:
    for step in range(1, n + 1):
        row = {
            "split": "train",
            "step": step * 10,
            "epoch": step / 10,
            "loss": 5 / step + shift,
            "steps": 10,
            "images_per_s": 320.0,
        }
        run.append_metrics(row)
        if step % 10 == 0:
            run.append_metrics({"split": "validation", "step": step * 10, "epoch": step / 10, "loss": 6 / step + shift})
    return run


def with_picture(run: Run, asked: str = "prior", step: int = 40, size: tuple[int, int] = (40, 30)) -> Path:
    path = run.path / "samples" / f"{asked}-step{step}-seed0-n64.png"
    Image.fromarray(np.random.default_rng(step).integers(0, 256, (*size, 3), np.uint8)).save(path)
    return path


def values(seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(1, 0.1, 50).astype(np.float32)


def stored(value: float | None, better: Any, **more: Any) -> Number:
    kept = number(value, "reconstruction", better)
    return validated(Number, kept._replace(metric=kept.metric._replace(**more)).as_json())


def whole(root: Path, seed: int = 0, **more: Any) -> Run:
    """A run of which there is something of everything."""
    run = measured(
        root,
        {"reconstruction/mse": values(seed)},
        seed=seed,
        more={
            "psnr_db": number(20.0, "reconstruction", "higher"),
            "linear_probe_accuracy": number(0.7, "representation", "higher"),
        },
        **more,
    )
    with_rows(run, shift=seed)
    with_picture(run)
    code = np.random.default_rng(0).normal(0, [1.0, 0.5, 1e-3, 2.0], (60, 4)).astype(np.float32)
    write_arrays(with_picture(run, "map").with_suffix(".npz"), {"code": code, "label": np.zeros(60, np.int32)})
    return run


# One run


def test_a_page_asks_for_nothing_and_runs_nothing(tmp_path: Path) -> None:
    made = report([whole(tmp_path)], tmp_path / "page.html")
    tags = page_of(made.path)
    assert made.path.stat().st_size == made.bytes and not made.failures
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(tags.tags) and not tags.handlers
    assert all(asked.startswith(("data:image/", "#c")) for asked in tags.asked), tags.asked
    assert not re.findall(r"(?:https?:)?//\w+[.\w]*/", re.sub(r"base64,[\w+/=]*", "", made.path.read_text()))
    assert not re.findall(r"url\((?!#c)", made.path.read_text())
    assert "default-src 'none'" in made.path.read_text()


def test_no_two_charts_share_an_id(tmp_path: Path) -> None:
    """What one chart refers to would be drawn in the other."""
    runs = [whole(tmp_path, seed) for seed in (0, 1)]
    ids = re.findall(r'\bid="([^"]*)"', report(runs, tmp_path / "page.html").path.read_text())
    text = (tmp_path / "page.html").read_text()
    assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', text)) <= set(ids)
    drawn: dict[str, set[str]] = {}
    for chart in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        for each in re.findall(r'\bid="([^"]*)"', chart):
            drawn.setdefault(each, set()).add(chart)
    # A chart that stands twice has its ids twice, and they mean the same.
    assert drawn.keys() == set(ids) and all(len(charts) == 1 for charts in drawn.values())


def test_a_page_tells_what_is_known_of_a_run(tmp_path: Path) -> None:
    run = whole(tmp_path, command=["aecli", "train", "my config.yaml"], git={"commit": "c0ffee" * 6 + "abcd", "dirty": True})
    text = page_of(report([run], tmp_path / "page.html").path).text
    said = " ".join(text.split())
    found = json.loads((run.path / "eval" / "test.json").read_text())
    for expected in (
        run.id,
        "completed",
        "'vae' of 7 weights",
        f"{found['mse']['value']:.5g}",
        f"{found['mse']['standard_error']:.2g}",
        DATA["fingerprint"],
        "aecli train 'my config.yaml'",
        "c0ffee" * 6 + "abcd, with uncommitted changes",
        "loss over time",
        "@misc{" + run.id,
    ):
        assert expected in said, expected
    assert "3 of 4 latents are active" in said  # and not the one of 1e-3
    assert run.info().experiment in said


def test_the_seconds_of_a_training_are_those_that_its_rows_tell(tmp_path: Path) -> None:
    run = with_rows(measured(tmp_path, {}))
    clock = facts._clock(run.rows(), 32)
    assert clock is not None and clock[300] == pytest.approx(30 * 10 * 32 / 320.0)
    assert facts._clock(run.rows(), None) is None


@pytest.mark.parametrize(("value", "error", "better", "verdict"), [
    (0.5, 0.1, "lower", "better"), (1.5, 0.1, "lower", "worse"), (0.9, 0.1, "lower", "alike"), (0.9, None, "lower", ""),
    (0.5, 0.1, "higher", "worse"), (1.5, 0.1, "higher", "better"), (1.5, 0.1, None, ""), (None, None, "lower", ""),
])  # fmt: skip
def test_a_number_is_better_where_it_is_more_than_two_errors_apart(
    value: float | None, error: float | None, better: Any, verdict: str
) -> None:
    [row] = facts._rows({"mse": stored(value, better, standard_error=error, baselines={"plain": 1.0})})
    assert row.verdict == verdict


def test_the_best_plain_method_is_named() -> None:
    [row] = facts._rows({"psnr_db": stored(1.0, "higher", baselines={"a": 3.0, "b": 4.0})})
    assert row.plain == "b: 4"


def test_the_newest_picture_of_a_kind_is_shown(tmp_path: Path) -> None:
    run = measured(tmp_path, {})
    with_picture(run, step=10), with_picture(run, step=40), with_picture(run, "complete-left", step=9)
    (run.path / "samples" / "mine.png").write_bytes(b"of somebody's own")
    (run.path / "samples" / "codes-step40-seed0-n1.png").write_bytes(b"cut short")
    found = embedding.pictures(run.path / "samples", ["complete", "prior"])
    assert [(each.asked, each.mode, each.step) for each in found.pictures] == [
        ("complete-left", "complete", 9),
        ("prior", "prior", 40),
    ]
    kept = base64.b64decode(found.pictures[1].uri.partition(",")[2])
    assert kept == (run.path / "samples" / "prior-step40-seed0-n64.png").read_bytes()
    [wrong] = found.wrong
    assert wrong.startswith("codes-step40-seed0-n1.png is no picture")
    assert wrong in page_of(report([run], tmp_path / "page.html").path).text


def test_eight_large_pictures_make_a_page_of_three_megabytes(tmp_path: Path) -> None:
    run = measured(tmp_path, {})
    gray = np.random.default_rng(0).random((60, 80))
    for mode in ("prior", "class", "neighbours", "reconstruct", "denoise", "complete", "interpolate", "traverse"):
        path = with_picture(run, mode)
        smooth = np.asarray(Image.fromarray((255 * gray).astype(np.uint8)).resize((2000, 1500), Image.Resampling.BICUBIC))
        Image.fromarray(smooth).save(path)
        assert path.stat().st_size > 10 * embedding.PLAIN_BYTES / 2
    made = report([run], tmp_path / "page.html")
    assert made.bytes < 3e6 and made.path.read_text().count("made smaller for this page") == 8


def test_text_of_a_run_stays_text(tmp_path: Path) -> None:
    run = whole(tmp_path, command=["aecli", HOSTILE], data={**DATA, "name": "digits", "class_names": [HOSTILE] * 10})
    with labels.changing(run, print) as before:
        labels.write(run, before, note=HOSTILE)
    (run.path / "metrics.jsonl").write_text("")
    for step in (1, 2, 3):
        run.append_metrics({"split": HOSTILE, "step": step, "epoch": 0.0, HOSTILE[:30]: 1.0 * step})
    other = whole(tmp_path, 1)
    for runs in ([run], [run, other]):
        path = report(runs, tmp_path / "page.html").path
        tags, text = page_of(path), path.read_text("utf-8")
        assert "script" not in tags.tags and "<script" not in text and "-->" not in text.removeprefix(page.MARK)
        assert HOSTILE in tags.text  # as it is: nothing in it was computed
    assert text.count("</style>") == 1


def test_letters_that_no_file_can_hold_are_told_as_escapes(tmp_path: Path) -> None:
    run = whole(tmp_path, command=["aecli", "caf\udce9", "\x1b[31m", "名"])
    text = report([run], tmp_path / "page.html").path.read_text("utf-8")
    assert "\\udce9" in text and "\x1b" not in text and "名" in text


def test_what_is_missing_has_the_command_that_makes_it(tmp_path: Path) -> None:
    run = measured(tmp_path, {})
    run.set_state("interrupted")
    text = " ".join(page_of(report([run], tmp_path / "page.html").path).text.split())
    for words in (
        f"train --resume {run.id}",
        f"eval {run.id}",
        f"sample {run.id} --mode prior",
        f"sample {run.id} --mode map --projection tsne",
    ):
        assert f"aecli {words} --runs-dir {tmp_path}" in text, words
    assert "--mode codes" not in text and "--mode class" not in text  # of units and of classes, which this model has not
    with_picture(run, "map"), with_picture(run, "prior-t0.5")
    text = " ".join(page_of(report([run], tmp_path / "page.html").path).text.split())
    assert "--mode prior" not in text and "--mode map --projection tsne" in text and "--mode map --runs-dir" not in text


def test_damage_is_told_and_the_rest_is_there(tmp_path: Path) -> None:
    run = whole(tmp_path)
    (run.path / "metrics.jsonl").write_text("no row\n" + (run.path / "metrics.jsonl").read_text())
    (run.path / "eval" / "test.json").write_text("{}")
    (run.path / "samples" / "map-step40-seed0-n64.npz").write_bytes(b"no archive")
    text = page_of(report([run], tmp_path / "page.html").path).text
    assert "1 lines cannot be read" in text and "are not believed" in text and "npz cannot be read" in text and "loss" in text


# Several runs


def test_several_runs_stand_side_by_side_and_seeds_are_one_group(tmp_path: Path) -> None:
    runs = [whole(tmp_path, seed) for seed in (0, 1)] + [whole(tmp_path, 2, beta=4.0)]
    text = page_of(report(runs, tmp_path / "page.html").path).text
    assert "model.beta 1" in text and "model.beta 4" in text and "model.beta 1 (2 runs)" in text
    assert all(run.id in text for run in runs)
    assert text.count("draws from the model's distribution") >= 4  # side by side, and in each run


def test_the_line_of_a_group_is_the_mean_of_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [with_rows(measured(tmp_path, {}, seed=seed), shift=seed) for seed in (0, 2)]
    drawn: list[Any] = []
    monkeypatch.setattr(page, "lines", lambda title, series, below: drawn.append((title, series)) or "")
    page._curves({"one": runs})
    assert [title for title, _ in drawn] == ["loss, train", "loss, validation"]
    [line] = drawn[0][1]
    assert line.y[0] == pytest.approx(5 + 1) and line.low[0] == 5 and line.high[0] == 7 and line.x[0] == 10


def test_a_run_that_cannot_be_read_has_a_box_and_the_others_are_there(tmp_path: Path) -> None:
    runs = [whole(tmp_path, seed) for seed in (0, 1)]
    (runs[0].path / "run.json").write_text("{")
    made = report(runs, tmp_path / "page.html")
    text = page_of(made.path).text
    assert [what for what, _ in made.failures] == [runs[0].id] and "run.json of run" in text and runs[1].id in text
    with pytest.raises(RunError, match="cannot be read"):
        report(runs[:1], tmp_path / "other.html")
    assert not (tmp_path / "other.html").exists()


def test_numbers_that_do_not_stand_side_by_side_are_refused(tmp_path: Path) -> None:
    runs = [whole(tmp_path), whole(tmp_path, 1, protocol={"samples": 7})]
    with pytest.raises(RunError, match="measured in different ways"):
        report(runs, tmp_path / "page.html")
    assert "†" in report(runs, tmp_path / "page.html", anyway=True).path.read_text()
    assert "mse" in report([runs[0], runs[0]], tmp_path / "page.html").path.read_text()  # given twice, it is one


# Where it is written


def test_a_file_that_is_no_report_is_not_overwritten(tmp_path: Path) -> None:
    run, target = measured(tmp_path, {}), tmp_path / "page.html"
    target.write_text("mine")
    with pytest.raises(StorageError, match="is no report") as caught:
        report([run], target)
    assert target.read_text() == "mine" and "--force" in str(caught.value.help)
    report([run], target, force=True)
    report([run], target)  # over a report
    with pytest.raises(StorageError, match="is a folder"):
        report([run], tmp_path)
    with pytest.raises(StorageError, match="no folder"):
        report([run], tmp_path / "nowhere" / "page.html")


def test_what_is_not_installed_is_told_with_the_command_that_does_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("jinja2", "matplotlib"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(UsageError, match=name) as caught:
                report([measured(tmp_path, {})], tmp_path / "page.html")
            assert "aecli[report]" in str(caught.value.help)


def test_the_verb_prints_where_the_page_is(tmp_path: Path) -> None:
    runs = [whole(tmp_path / "runs", seed) for seed in (0, 1)]
    found = called("report", runs[0].id, "-o", tmp_path / "page.html", "--runs-dir", tmp_path / "runs", cwd=tmp_path)
    assert (found.returncode, found.stdout) == (0, f"{tmp_path / 'page.html'}\n")
    assert called("report", cwd=tmp_path).returncode == 2
    (runs[0].path / "run.json").write_text("{")
    found = called("report", "--where", "id!=x", "-o", tmp_path / "b.html", "--runs-dir", tmp_path / "runs", cwd=tmp_path)
    assert found.returncode == 4 and found.stdout == f"{tmp_path / 'b.html'}\n"
    assert f"{runs[0].id}: error: run.json of run" in found.stderr and "help: restore it" in found.stderr


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium here")
def test_a_browser_shows_it_without_a_word(tmp_path: Path) -> None:
    path = report([whole(tmp_path)], tmp_path / "page.html").path
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += ["--enable-logging=stderr", "--window-size=420,900", f"--screenshot={tmp_path / 'page.png'}", path.as_uri()]
    env = environment(HOME=str(tmp_path))
    said = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200)
    assert "CONSOLE" not in said.stderr and (tmp_path / "page.png").exists(), said.stderr
    with Image.open(tmp_path / "page.png") as shown:
        assert shown.width == 420 and len(set(shown.convert("L").tobytes())) > 20


# Charts


def test_a_chart_shows_each_letter_of_a_name() -> None:
    svg = charts.bars("a $x$ <b>", [charts.Bar("& 名", 1.0, 0.1, own=True), charts.Bar("plain", -2.0)], "dB")
    assert "a $x$ &lt;b&gt;, dB" in svg and "&amp; 名" in svg and "currentColor" in svg and "#010203" not in svg


def test_long_lines_are_thinned_and_keep_their_mean() -> None:
    x = list(range(10_000))
    y = np.random.default_rng(0).random(10_000)
    thin, mean, low, high = charts._thinned(charts.Series("a", x, list(y), list(y - 1), list(y + 1)))
    assert len(thin) == 400 and np.average(mean) == pytest.approx(y.mean()) and (low < mean).all() and (mean < high).all()


@pytest.mark.parametrize("found", [[1.0], [0.0, 0.0], [1e-9, 5.0, 3.0]])
def test_spreads_of_any_size_are_drawn(found: list[float]) -> None:
    assert charts.steps("title", found, "units", 0.01, "active").startswith("<svg")
    assert charts.lines("one", [charts.Series("a", [1, 2], [3.0, 3.0])], "step").startswith("<svg")


def test_own_data_is_called_by_its_folder(tmp_path: Path) -> None:
    run = measured(tmp_path, {}, text=TEXT.replace("path: null", "path: /home/ada/My Photos"))
    assert "of My Photos" in facts._sentence(run.info(), facts._data(run, run.info()), 1, None)
    other = measured(tmp_path, {})
    assert facts._data(other, other.info()) == other.info().data.name
