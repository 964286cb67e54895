"""What the documentation is told by the code: every variant, evaluator, verb and exit code has its place, also one that is
dropped in, and no text breaks a page. The pages are made here and not built: `make docs` does that."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import generate
import pytest
from markdown_it import MarkdownIt
from test_docs import VERBS
from test_schema import DROPPED

from aecli import errors, models
from aecli.config import shipped
from aecli.config import variants as catalog
from aecli.evaluation.evaluators import anomalies
from aecli.evaluation.registry import EVALUATORS, SCORES
from aecli.system.signals import SIGNALS

DOCS = Path(__file__).parent.parent / "docs"
OBJECTIVE, WRONG = "Objective", "What goes wrong"
NASTY = r'''"""A variant | of `a|b` with <script>alert(1)</script>, *stars and [a link](x), {eval}`1`, $5, # no heading.

# No heading either.
% No comment.

Objective
---------
$$\ell = |x|$$ and `<b>` and <img src=x onerror=1> and {eval-rst}`x`.

```{include} /etc/passwd
left open $$
"""'''


@pytest.fixture(scope="module")
def made() -> generate.Pages:
    return generate.pages()


def tokens(text: str) -> list[Any]:
    """Those of a page as Sphinx's reader has them, but for formulas and directives."""
    return MarkdownIt("commonmark").enable("table").parse(text)


def headings(text: str) -> list[str]:
    every = tokens(text)
    return [every[i + 1].content for i, token in enumerate(every) if token.type == "heading_open"]


def test_every_variant_has_a_page_with_all_of_it(made: generate.Pages) -> None:
    for name, cls in catalog.load_all().sound.items():
        text = made[f"variants/{name}.md"]
        assert f"({name}.md)" in made["variants/index.md"]
        assert {"Settings", "What can be done", *catalog.about(cls).parts} <= set(headings(text)), name
        assert all(f"| `{setting}` |" in text for setting in cls.model_fields)
        for config in {each.config for each in shipped.reached(name)}:
            assert (DOCS.parent / "configs" / f"{config}.yaml").read_text().strip() in text


def test_a_variant_tells_what_it_minimizes_and_which_metric_shows_what_goes_wrong() -> None:
    known = {metric for each in EVALUATORS.values() for metric in each.metrics}
    told = {name: catalog.about(cls).parts for name, cls in catalog.load_all().sound.items()}
    described = {name: parts for name, parts in told.items() if parts}
    assert len(described) >= 8, "one that tells nothing is no error"
    for name, parts in described.items():
        assert list(parts) == [OBJECTIVE, WRONG], name
        assert "$" in parts[OBJECTIVE] and len(re.findall(r"^- ", parts[WRONG], re.MULTILINE)) >= 3
        metrics = {word for item in re.findall(r"`([^`]+)`", parts[WRONG]) for word in (item, item.replace("(...)", "(*"))}
        assert len(metrics & known) >= 3, (name, metrics)


def test_every_evaluator_has_a_page_that_tells_of_every_metric(made: generate.Pages) -> None:
    for name, evaluator in EVALUATORS.items():
        text = made[f"evaluators/{name}.md"]
        assert f"({name}.md)" in made["evaluators/index.md"] and "Metrics" in headings(text)
        told = generate.metrics_told(text)
        assert all(any(generate.covers(metric, each) for each in told) for metric in evaluator.metrics), name
        declared = evaluator.metrics or ("loss",)
        assert not [each for each in told if not any(generate.covers(metric, each) for metric in declared)], name
    told = set(generate.metrics_told(made["evaluators/anomalies.md"]))
    assert told == {metric for each in SCORES.values() for metric in each.metrics}
    assert generate.docstring(anomalies) in made["evaluators/anomalies.md"]


def test_an_evaluator_without_a_word_lists_its_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "docstring", lambda module: "")
    assert "It also measures `code_usage`, `code_perplexity`." in generate.of_evaluator("codebook", EVALUATORS["codebook"])


def test_every_verb_has_its_help(made: generate.Pages) -> None:
    assert set(headings(made["verbs.md"])) >= {f"aecli {name}" for name in VERBS} | {"aecli"}
    assert "Usage: aecli data prepare [OPTIONS]" in made["verbs.md"] and "--importance-samples" in made["verbs.md"]


def test_every_exit_code_is_told(made: generate.Pages) -> None:
    found = {int(code) for code in re.findall(r"^\| (\d+)", made["exit-codes.md"], re.MULTILINE)}
    classes = [each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, errors.AecliError)]
    assert found == {0, *(each.code for each in classes), *(128 + number for number in SIGNALS)}
    assert all(generate.first_line(each) for each in classes)


def test_the_settings_of_every_block_are_told(made: generate.Pages) -> None:
    text = made["settings.md"]
    for row in (
        "| `seed` | `0` |",
        "| `name` | needed |",
        "| `clip_norm` | `null` |",
        "| `patience` |",
        "{name: shift, pixels: ...",
    ):
        assert row in text
    assert "`{name: gaussian, sigma: ...}`" in text and "`{name: flip, p: 0.5}`" in text


def test_a_variant_that_is_dropped_in_has_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "dropped_site_quick.yaml").write_text("# aecli train it\nmodel: {variant: dropped_site}\n")
    numbers = {"mse": "0.5 ± 0.1 (3)"}
    rows = [{"config": "dropped_site_quick", "set": ["model.width=4"], "numbers": numbers}]
    (configs / "numbers.json").write_text(json.dumps(rows))
    (tmp_path / "dropped_site.py").write_text(DROPPED)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    monkeypatch.setattr(shipped, "folder", lambda: configs)
    made = generate.of_variants()
    text = made["variants/dropped_site.md"]
    assert "[dropped_site](dropped_site.md)" in made["variants/index.md"] and "\ndropped_site\n" in made["variants/index.md"]
    assert headings(text) == ["dropped\\_site", "Settings", "What can be done", "Configs", "dropped\\_site\\_quick"]
    assert "A variant that was dropped in." in text and "| `width` | `3` | of everything |" in text
    assert "# aecli train it" in text and "| `--set model.width=4` | mse | 0.5 ± 0.1 (3) |" in text


def test_no_docstring_breaks_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dropped_nasty.py").write_text("r" + NASTY + DROPPED[DROPPED.index("\n") :])
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    made = generate.of_variants()
    text = made["variants/dropped_nasty.md"]
    assert headings(text) == ["dropped\\_nasty", OBJECTIVE, "Settings", "What can be done"]
    every = tokens(text)
    every += [child for token in every for child in token.children or ()]
    assert not [token for token in every if token.type.startswith("html")]
    assert not [token for token in every if token.type == "fence" and "{" in token.info]
    assert not re.search(r"(?<!\\)\{[\w-]+(?<!\\)\}`", text), "no role"
    assert not re.search(r"^%", text, re.MULTILINE), "no comment"
    assert r"A variant \| of `a\|b` with" in made["variants/index.md"], "a cell of the table ends where it should"


def test_what_means_something_in_markdown_is_escaped_and_code_is_not() -> None:
    assert generate.prose("a_b *c* `d_e` <f> $g$ [h]") == r"a\_b \*c\* `d_e` \<f\> \$g\$ \[h\]"
    assert generate.prose("- no list\n1. none either") == "\\- no list\n1\\. none either"
    assert generate.cell("a | b\nc") == r"a \| b c"
    assert generate.code("```\na\n```", "text").startswith("````text\n")
    assert generate.markdown("$a < b$ `<c>` <d>") == "$a < b$ `<c>` &lt;d>"
    assert generate.markdown("```{note}\nx") == "```\nx\n```"
    assert generate.markdown("$$x") == "$$x\n$$"


def test_help_and_exit_codes_need_no_jax() -> None:
    code = "import sys, generate; generate.of_verbs(); generate.of_exits(); sys.exit('jax' in sys.modules)"
    path = f"{DOCS}:{DOCS.parent}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": path}, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_picture_is_of_the_longest_config_that_it_is_named_after() -> None:
    names = (*shipped.names(), "vae")
    assert {path.name for path in generate.pictures_of("vae_fashion", names)} >= {"vae_fashion_prior.png"}
    assert generate.pictures_of("vae", names) == []


def test_only_what_has_changed_is_written_and_what_is_gone_is_removed(tmp_path: Path) -> None:
    generate.write({"a.md": "a", "b/c.md": "c"}, tmp_path)
    before = (tmp_path / "a.md").stat().st_mtime_ns
    generate.write({"a.md": "a", "d.md": "d"}, tmp_path)
    assert (tmp_path / "a.md").stat().st_mtime_ns == before and not (tmp_path / "b" / "c.md").exists()
    assert (tmp_path / "d.md").read_text() == "d"


def test_the_contents_name_every_page(made: generate.Pages) -> None:
    text = generate.contents((DOCS / "index.md").read_text())
    named = {
        name for tree in re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.DOTALL | re.MULTILINE) for name in tree.split("\n")
    }
    assert {path.stem for path in DOCS.glob("*.md")} - {"index"} <= named
    assert {f"{generate.REFERENCE}/{name}" for name in generate.CONTENTS} <= named
    assert all(f"{name}.md" in made for name in generate.CONTENTS)


def test_a_page_by_hand_leads_to_pages_of_the_site_alone() -> None:
    text = "[a](sweep.md#x), [b](../CONTRIBUTING.md), [c](https://x.org), ![d](pictures/vae_fashion_prior.png), [e](#here)"
    shown = generate.shown(text, DOCS / "report.md")
    assert shown == text.replace("[b](../CONTRIBUTING.md)", "b (`CONTRIBUTING.md`)")
