"""The pages of the documentation that the code tells: a page a variant and an evaluator, settings, exit codes, the verbs' help.

`conf.py` writes them into docs/reference before each build, and none is committed. A variant or an evaluator that is dropped in
has its page without an edit here.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml

if TYPE_CHECKING:  # jax takes seconds to import, and the help of the verbs does without
    from pydantic import BaseModel

    from aecli.evaluation.registry import Evaluator
    from aecli.verbs.variants import Variant

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
REFERENCE = "reference"
"""The folder of what is made, below docs/."""
CONTENTS = ("variants/index", "evaluators/index", "settings", "verbs", "exit-codes")
"""The pages that the contents name, in their order."""
HELP_COLUMNS = 100

Pages = Mapping[str, str]
"""Path below the folder -> Markdown."""


def pages() -> Pages:
    """Every page."""
    return {**of_variants(), **of_evaluators(), "settings.md": of_settings(), "verbs.md": of_verbs(), "exit-codes.md": of_exits()}


def write(made: Pages, folder: Path) -> None:
    """Writes the pages that have changed, so that a build makes no other anew, and removes what is none of them."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.relative_to(folder).as_posix() not in made:
            path.unlink()
    for name, text in made.items():
        path = folder / name
        if not path.is_file() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


# ---------------------------------------------------------------------------------------------------------------- variants


def of_variants() -> Pages:
    """A page a variant, and their list."""
    from aecli.verbs.variants import variants

    sound = variants().sound
    rows = [(f"[{each.name}]({each.name}.md)", prose(each.summary), words(each.abilities)) for each in sound]
    index = [
        "# Variants",
        "What `model.variant` may be.",
        table(("variant", "what it is", "abilities"), rows),
        toctree([each.name for each in sound]),
    ]
    return {"variants/index.md": page(index), **{f"variants/{each.name}.md": of_variant(each) for each in sound}}


def of_variant(variant: Variant) -> str:
    """What the variant's file tells, its settings, what can be done with it, and its configs."""
    from aecli.config import variants as catalog

    cls = catalog.load(variant.name)
    about = catalog.about(cls)
    parts = [f"# {prose(variant.name)}", prose(about.summary), *map(prose, variant.about.splitlines())]
    for title, text in about.parts.items():
        parts += [f"## {prose(title)}", markdown(text)]
    parts += ["## Settings", settings_table(cls)]
    parts += ["## What can be done", f"Abilities: {words(variant.abilities)}."]
    if variant.modes:
        parts.append(table(("`aecli sample --mode`", "what it shows"), of_help(variant.modes)))
    if variant.samplers:
        parts.append(f"`aecli sample --sampler`: {words(variant.samplers)}.")
    measured = [(f"[{name}](../evaluators/{name}.md)", prose(help)) for name, help in variant.evaluators.items()]
    parts.append(table(("`aecli eval --only`", "what it measures"), measured))
    return page([*parts, *of_configs(variant)])


def of_configs(variant: Variant) -> Iterator[str]:
    """Each config that comes with aecli, with what it reached and its pictures."""
    from aecli.config import shipped

    folder = shipped.folder()
    if variant.configs and folder:
        yield "## Configs"
    for name in dict.fromkeys(each.config for each in variant.configs if folder):
        yield f"### {prose(name)}"
        yield code((folder / f"{name}.yaml").read_text(), "yaml") if folder else ""
        rows = [
            (words(f"--set {setting}" for setting in each.set), prose(metric), prose(number))
            for each in variant.configs
            if each.config == name
            for metric, number in each.numbers.items()
        ]
        if rows:
            yield "Reached on the test split: the mean over seeds, their standard deviation and how many they are."
            head = ("changed", "metric", "reached")
            yield table(head, rows) if any(row[0] for row in rows) else table(head[1:], [row[1:] for row in rows])
        for picture in pictures_of(name, shipped.names()):
            yield f"![{prose(picture.stem.replace('_', ' '))}](../../pictures/{picture.name})"


def pictures_of(config: str, configs: Iterable[str]) -> list[Path]:
    """The pictures whose names begin with that of a config, and with no longer one."""
    found = sorted((DOCS / "pictures").glob(f"{config}_*.png"))
    longer = [f"{other}_" for other in configs if other.startswith(f"{config}_")]
    return [path for path in found if not path.name.startswith(tuple(longer))]


# -------------------------------------------------------------------------------------------------------------- evaluators


def of_evaluators() -> Pages:
    """A page an evaluator, one of the scores of anomalies, and their list."""
    from aecli.evaluation.evaluators import anomalies
    from aecli.evaluation.registry import EVALUATORS, SCORES

    rows = [(f"[{name}]({name}.md)", needs(each), prose(each.help)) for name, each in EVALUATORS.items()]
    scores = [(f"`{name}`", needs(each), prose(each.help)) for name, each in SCORES.items()]
    asked = ("ability that it needs", "what it measures")
    index = [
        "# Evaluators",
        "What `aecli eval RUN` measures, as far as a model has the abilities for it.",
        table(("evaluator", *asked), rows),
        "With `--against other.yaml`, scores by which [anomalies](anomalies.md) are told from held-out images, in their place:",
        table(("score", *asked), scores),
        toctree([*EVALUATORS, "anomalies"]),
    ]
    told = ["# anomalies", docstring(anomalies), "## Scores", table(("score", *asked), scores)]
    made = {f"evaluators/{name}.md": of_evaluator(name, each) for name, each in EVALUATORS.items()}
    return {"evaluators/index.md": page(index), **made, "evaluators/anomalies.md": page(told)}


def of_evaluator(name: str, evaluator: Evaluator) -> str:
    """What its file tells, and which models it is for."""
    from aecli.config.variants import load_all
    from aecli.evaluation.registry import fits

    told = docstring(inspect.getmodule(evaluator.measure))
    parts = [f"# {prose(name)}", told or prose(evaluator.help)]
    untold = [metric for metric in evaluator.metrics if not any(covers(metric, each) for each in metrics_told(told))]
    if untold:
        parts.append(f"It also measures {words(untold)}.")
    known = [f"[{variant}](../variants/{variant}.md)" for variant, cls in load_all().sound.items() if name in fits(cls)]
    kinds = " and ".join(f"{kind}s" for kind in evaluator.kinds)
    able = f" with the ability {needs(evaluator)}" if evaluator.abilities else ""
    parts += ["## When it is measured", f"Of {kinds}, for models{able}: {', '.join(known)}."]
    if evaluator.quick:
        parts.append("It is cheap enough for the validations of a training, too.")
    return page([*parts, code(f"aecli eval RUN --only {name}", "sh")])


def needs(evaluator: Evaluator) -> str:
    """The abilities of which a model needs one."""
    return " or ".join(f"`{ability}`" for ability in evaluator.abilities) or "none"


METRIC = re.compile(r"^- ((?:`[^`\n]+`(?:, )?)+) \(([^,()]+)(?:, (lower|higher))?\): ", re.MULTILINE)
"""How the text of an evaluator's file tells of a metric: names, unit, and the direction that is better, where one is."""


def metrics_told(text: str) -> dict[str, tuple[str, str | None]]:
    """Name -> unit and better, of the metrics that a text tells of."""
    return {
        name: (unit, better or None) for names, unit, better in METRIC.findall(text) for name in re.findall(r"`([^`]+)`", names)
    }


def covers(declared: str, name: str) -> bool:
    from aecli.evaluation import registry

    return registry.covers(declared, name)


# ------------------------------------------------------------------------------------------------ settings, verbs, exit codes


def of_settings() -> str:
    """The blocks of a config beside the model's, with corruptions and augmentations."""
    from aecli.config.schema import Experiment
    from aecli.distributions.augmentations import Augmentation
    from aecli.distributions.corruptions import Corruption

    parts = [
        "# Settings",
        "Of a config: what each is, and what it is where it is left out. `aecli init` writes a config with all of them as"
        " comments, `aecli check --print` every value of one. Those of `model` are on the page of each"
        " [variant](variants/index.md).",
        settings_table(Experiment, ("seed",)),
    ]
    for name in ("data", "optimizer", "train"):
        field = Experiment.model_fields[name]
        parts += [f"## {name}", f"{prose(sentence(field.description or ''))}.", settings_table(block_of(field.annotation))]
    for title, union, where in (
        ("Corruptions", Corruption, "`corruption` and `given` of a model: one, or a list that is applied in its order."),
        ("Augmentations", Augmentation, "`data.augment`: one, or a list that is applied in its order."),
    ):
        parts += [f"## {title}", f"Of {where}"]
        rows = [(f"`{written(block)}`", prose(first_line(block))) for block in get_args(get_args(union)[0])]
        parts.append(table(("block", "what it does"), rows))
    return page(parts)


def block_of(annotation: Any) -> type[BaseModel]:
    return annotation


def written(block: type[BaseModel]) -> str:
    """A block of one line, `{name: gaussian, sigma: ...}`, with what has a default."""
    from aecli.verbs.variants import settings

    (name,) = get_args(block.model_fields["name"].annotation)
    rest = [
        f"{key}: {'...' if block.model_fields[key].is_required() else flow(setting.default)}"
        for key, setting in settings(block).items()
        if key != "name"
    ]
    return f"{{{', '.join([f'name: {name}', *rest])}}}"


def of_verbs() -> str:
    """The help of every verb, as the command prints it. Imports no jax."""
    parts = ["# Verbs", "What `aecli VERB --help` prints."]
    for name, help in help_of_verbs():
        parts += [f"## aecli {name}" if name else "## aecli", code(help, "text")]
    return page(parts)


def help_of_verbs() -> Iterator[tuple[str, str]]:
    """Each verb, those of `data` by both words, with its help; the command's own first."""
    import typer

    from aecli.cli.app import app

    def walk(command: Any, name: str, parent: Any) -> Iterator[tuple[str, str]]:
        context = typer.Context(command, info_name=name or "aecli", parent=parent, terminal_width=HELP_COLUMNS)
        yield context.command_path.removeprefix("aecli").strip(), command.get_help(context)
        for inner, each in getattr(command, "commands", {}).items():
            yield from walk(each, inner, context)

    return walk(typer.main.get_command(app), "", None)


def of_exits() -> str:
    """Every exit code, by the errors that have it."""
    from aecli import errors
    from aecli.system.signals import SIGNALS

    codes: dict[int, list[str]] = {0: ["It is done."]}
    for cls in vars(errors).values():
        if not (inspect.isclass(cls) and issubclass(cls, errors.AecliError)):
            continue
        told = first_line(cls)
        for code_ in (128 + number for number in SIGNALS) if cls is errors.InterruptedRun else (cls.code,):
            codes.setdefault(code_, []).append(told)
    named = {128 + number: f" ({number.name})" for number in SIGNALS}
    rows = [(f"{number}{named.get(number, '')}", prose(" ".join(codes[number]))) for number in sorted(codes)]
    return page(
        [
            "# Exit codes",
            "What the command ends with, and what `aecli.errors` raises in Python, where the code is `error.code`. Messages go"
            " to stderr, with the fix; `--debug` shows tracebacks.",
            table(("code", "what it means"), rows),
        ]
    )


# ------------------------------------------------------------------------------------------------------------------ Markdown


def page(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def docstring(module: Any) -> str:
    """The text at the top of a file, as Markdown."""
    return markdown(inspect.cleandoc(getattr(module, "__doc__", None) or ""))


def first_line(of: Any) -> str:
    """The first paragraph of a docstring, in one line."""
    return " ".join((inspect.getdoc(of) or "").split("\n\n")[0].split())


def settings_table(block: type[BaseModel], only: Iterable[str] | None = None) -> str:
    """The settings of a block, or some of them. A default that depends on other settings is null."""
    from aecli.verbs.variants import settings

    rows = [
        (f"`{key}`", "needed" if block.model_fields[key].is_required() else f"`{flow(each.default)}`", prose(each.description))
        for key, each in settings(block).items()
        if only is None or key in only
    ]
    return table(("setting", "default", "what it is"), rows) if rows else "It has none."


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def flow(value: Any) -> str:
    """As YAML writes it in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return text.removesuffix("...\n").strip()


def of_help(helps: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(f"`{name}`", prose(help)) for name, help in helps.items()]


def words(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A row is one line, and no cell ends early."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(cell(each) for each in line)} |" for line in lines)


def cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


def code(text: str, language: str) -> str:
    """A block that no text inside ends."""
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


_CODE = r"(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`)"
CODE = re.compile(_CODE, re.DOTALL)
CODE_OR_MATH = re.compile(rf"^```.*?^```$|{_CODE}|\$\$.*?\$\$|\$[^$]+\$", re.DOTALL | re.MULTILINE)


def prose(text: str) -> str:
    """Plain text of a docstring or a help, whose backticks hold code: whatever else means something in Markdown is shown."""
    text = outside(CODE, text, lambda rest: re.sub(r"([\\`*_{}\[\]<>#|~$&!])", r"\\\1", rest))
    return re.sub(r"^( *)([-+=%:(])|^( *\d+)([.)])(?= )", r"\1\3\\\2\4", text, flags=re.MULTILINE)


def markdown(text: str) -> str:
    """Markdown of a docstring, with formulas between dollars, that cannot break what comes after it or run anything: what it
    leaves open is closed, its HTML is shown, directives and roles are code and texts, and a comment or a target is none."""
    lines = text.splitlines()
    fences = [line for line in lines if re.match(r" *(```|:::)", line)]
    closing = ["```"] if len([fence for fence in fences if "```" in fence]) % 2 else []
    text = re.sub(r"^( *(?:`{3,}|:{3,})) *\{[^}\n]*\}", r"\1", "\n".join([*lines, *closing]), flags=re.MULTILINE)
    if text.count("$$") % 2:
        text += "\n$$"
    text = outside(CODE_OR_MATH, text, lambda rest: rest.replace("<", "&lt;"))
    text = re.sub(r"\{([\w:.-]+)\}(?=`)", r"\\{\1\\}", text)
    return re.sub(r"^(%|#|\(\S+\)=$|:::)", r"\\\1", text, flags=re.MULTILINE)


def outside(pattern: re.Pattern[str], text: str, change: Callable[[str], str]) -> str:
    """The text with everything changed that the pattern does not match."""
    made, end = "", 0
    for found in pattern.finditer(text):
        made, end = made + change(text[end : found.start()]) + found.group(), found.end()
    return made + change(text[end:])


# ------------------------------------------------------------------------------------------------------- pages by hand


LINK = re.compile(r"\[(?P<label>[^\]\n]+)\]\((?![a-z]+:|#)(?P<target>[^)#\s]+)(?:#[^)\s]*)?\)")
"""A link, or a picture, within the repository."""


def contents(index: str) -> str:
    """The hand-written first page with the contents that the side of every page shows: of each heading the pages that are linked
    below it, in their order, and at the end what is made."""
    trees: list[str] = []
    for heading, text in re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", index, re.MULTILINE | re.DOTALL):
        targets = [found["target"] for found in LINK.finditer(text)]
        trees.append(toctree([target.removesuffix(".md") for target in targets if target.endswith(".md")], heading))
    made = toctree([f"{REFERENCE}/{name}" for name in CONTENTS], "Reference", hidden=False)
    return page([index, *trees, made])


def toctree(names: Iterable[str], caption: str | None = None, hidden: bool = True) -> str:
    options = [":hidden:" if hidden else ":maxdepth: 1", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["```{toctree}", *options, "", *names, "```"])


def shown(text: str, page: Path) -> str:
    """A page written by hand whose links lead to pages of the site: what lies outside of docs/ is named in their place."""

    def relinked(found: re.Match[str]) -> str:
        path = Path(os.path.normpath(page.parent / found["target"]))
        return found.group() if path.is_relative_to(DOCS) else f"{found['label']} (`{path.relative_to(ROOT).as_posix()}`)"

    return LINK.sub(relinked, text)


if __name__ == "__main__":
    write(pages(), Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / REFERENCE)
