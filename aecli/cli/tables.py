"""What verbs print for a person: tables and summaries on stdout. Texts from files are never read as markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.measure import Measurement

from aecli.cli.console import Table as _Table
from aecli.cli.console import console as _console
from aecli.cli.console import table as _table
from aecli.data.sources.told import some
from aecli.errors import printable
from aecli.measures.metric import VERSION, Metric, Recorded, verdict, version_of
from aecli.reports.table import number_text
from aecli.runs import labels, numbers, provenance
from aecli.runs.directory import Run, run_facts
from aecli.runs.records import RunFile
from aecli.system.progress import age, peak_bytes, tell

if TYPE_CHECKING:  # which needs jax, and a table does not
    from aecli.verbs.bench import Speed
    from aecli.verbs.data import DataSets
    from aecli.verbs.variants import Variant


def show_run(run: Run) -> None:
    info, facts = run.info(), run_facts(run)
    recorded = run.recorded()
    data, spec = info.data, info.data.spec
    sizes = (("train", data.sizes.train), ("validation", data.sizes.validation), ("test", data.sizes.test))
    lines = [
        ("run", str(run.path)),
        ("state", facts["state"] + (f" ({recorded.reason})" if recorded.reason else "")),
        ("damaged", facts["note"] or ""),
        ("variant", f"{info.variant}, {info.parameters:,} parameters"),
        ("data", f"{data.name} {spec.height}x{spec.width}x{spec.channels}, " + ", ".join(f"{n:,} {split}" for split, n in sizes)),
        ("classes", some(data.class_names)),
        ("length", info.budget.told if info.budget else ""),
        ("step", f"{facts['step']:,}"),
    ]
    told, wrong_labels = labels.look(run)
    note = [("note" if number == 0 else "", line) for number, line in enumerate((told.note or "").splitlines())]
    lines += [("damaged", wrong_labels or ""), ("tags", " ".join(told.tags)), *note]
    lines = [(label, text) for label, text in lines if text]
    if facts["best_step"] is not None and facts["best"] is not None:
        lines.append(("best", f"{facts['best']:.5g} at step {facts['best_step']:,}"))
    git = info.git
    lines += [
        ("from", f"{info.from_run.run}, step {info.from_run.step:,}" if info.from_run else ""),
        ("created", f"{info.created} ({age(info.created)} ago)"),
        ("command", " ".join(info.command)),
        ("devices", ", ".join(info.devices)),
        ("versions", ", ".join(f"{name} {version}" for name, version in info.versions.items() if version)),
        ("git", f"{git.commit[:12]}{', dirty' if git.dirty else ''}" if git else "none"),
        ("code", _code(info)),
        ("data hash", data.fingerprint),
    ]
    for label, folder, endings in (("pictures", "samples", (".png",)), ("numbers", "eval", (".json",))):
        found = sorted(path for path in (run.path / folder).glob("*") if path.suffix in endings and not path.name.startswith("."))
        lines += [(label, str(path) + (_about_numbers(path, info) if folder == "eval" else "")) for path in found]
    console = _console()
    for label, text in lines:
        console.print(f"{label:10s} {printable(text)}", soft_wrap=True)
    rows, damaged = run.last_rows()
    for split in ("train", "validation"):
        if row := rows.get(split):
            text = "  ".join(f"{name} {value:.5g}" for name, value in row.values.items())
            console.print(f"{split:10s} step {row.step:,}: {text}", soft_wrap=True)
    if damaged:
        left_out = "lines cannot be read, and are left out" if damaged > 1 else "line cannot be read, and is left out"
        tell(f"metrics.jsonl: {damaged:,} {left_out}")
    console.print()
    console.print(run.resolved_config().rstrip(), soft_wrap=True)


def _examples(protocol: Mapping[str, Any], n: int) -> str:
    """How many images numbers are of, and which."""
    if "against" in protocol:
        told = f"{protocol['normal']:,} {protocol['split']} examples"
        return f"{told} and {protocol['anomalous']:,} anomalies,{_other(protocol)}"
    return f"{n:,} {protocol['split']} examples{_other(protocol)}"


def _other(protocol: Mapping[str, Any]) -> str:
    """What numbers that are not of the run's own data are of."""
    if "against" in protocol:
        return f" against {protocol['against']} {str(protocol['against_fingerprint'])[:12]}"
    return f" of other data, {protocol['data']} {str(protocol['fingerprint'])[:12]}" if "data" in protocol else ""


def _about_numbers(path: Path, info: RunFile) -> str:
    """What is to be known of the numbers in an `eval/<split>.json` that are not as this version would write them."""
    stored = numbers.read(path.parent, path.stem, info.identity)
    if stored.wrong is not None:
        return f" (not to be believed: {stored.wrong})"
    protocols = [number.protocol for number in stored.numbers.values()]
    version, other = version_of(protocols), _other(protocols[0]) if protocols else ""
    old = f"version {version} of the metrics, now {VERSION}: not to be compared with newer ones; `aecli eval` measures anew"
    told = [*([other.strip()] if other else []), *([] if version in (None, VERSION) else [old])]
    return f" ({'; '.join(told)})" if told else ""


def _code(info: RunFile) -> str:
    """`9e989f2c52a1, unchanged`, or what has changed since the run was trained."""
    if info.code is None:
        return "no hash was kept"
    changed = provenance.code_now(info).changed
    return f"{info.code.hash[:12]}, " + (f"changed since: {', '.join(changed)}" if changed else "unchanged")


def show_metrics(run_id: str, metrics: Mapping[str, Recorded]) -> None:
    """A line a number: its value and standard error, the best baseline beside it, and which of the two is better. A dash
    stands in place of a value that there is not."""
    protocol = next(iter(metrics.values())).protocol
    console = _console()
    n = max(recorded.metric.n for recorded in metrics.values())
    of = f"{_examples(protocol, n)}, binarize {protocol['binarize']}"
    console.print(f"{run_id}  step {protocol['step']:,}  {of}")
    tables = (_metrics(metrics, left_out) for left_out in _LEFT_OUT)
    unbounded = console.options.update(width=1000)
    fitting = (table for table in tables if Measurement.get(console, unbounded, table).maximum <= console.width)
    console.print(next(fitting, _metrics(metrics, _LEFT_OUT[-1])))


_WHO = {"better": "model", "worse": "baseline", "alike": "even"}
_LEAST = ("evaluator", "unit", "better", "of", "baseline")
_ORDER = ("evaluator", "metric", "value", "+-", "unit", "baseline", "of", "better")
_LEFT_OUT: Sequence[frozenset[str]] = [frozenset(_LEAST[:n]) for n in range(len(_LEAST) + 1)]
"""What a table leaves out on a narrower and narrower terminal, so that no number is broken; evaluators then have lines of their
own."""


def _metrics(metrics: Mapping[str, Recorded], left_out: frozenset[str]) -> _Table:
    table, shown = _Table(), [name for name in _ORDER if name not in left_out]
    for name in shown:
        right = name in ("value", "+-", "baseline")
        table.add_column("" if name in ("evaluator", "of") else name, justify="right" if right else "left", overflow="fold")
    last = None
    for name, (metric, evaluator) in metrics.items():
        error = metric.standard_error
        baseline, verdict = _beside(metric)
        cells = {
            "evaluator": evaluator if evaluator != last else "",
            "metric": name,
            "value": number_text(metric.value),
            "+-": "" if error is None else f"{error:.2g}",
            "unit": "" if metric.unit == "1" else metric.unit,
            "baseline": baseline[0],
            "of": baseline[1],
            "better": verdict,
        }
        if last not in (None, evaluator):
            table.add_section()
        if "evaluator" in left_out and evaluator != last:
            table.add_row(f"{evaluator}:", *[""] * (len(shown) - 1))
        table.add_row(*(cells[name] for name in shown))
        last = evaluator
    return table


def _beside(metric: Metric) -> tuple[tuple[str, str], str]:
    """The value and the name of the best baseline, and who is better; nobody where there is no error to tell by."""
    best = metric.best_baseline()
    if best is None:
        return ("", ""), ""
    name, value = best
    return (number_text(value), name), _WHO.get(verdict(metric) or "", "")


def cost(seconds: float) -> str:
    """`38 s, peak memory 1.2 GB`."""
    return f"{seconds:.0f} s, peak memory {peak_bytes() / 1e9:.1f} GB"


def show_speed(name: str, speed: Speed) -> None:
    rows = [
        (f"{speed.kind}s/s", f"{speed.images_per_s:,.0f}"),
        ("step", f"{speed.step_seconds * 1e3:.3g} ms, quartiles {speed.step_spread:.0%} apart"),
        ("steps per call", f"{speed.steps_per_call:,}"),
        ("compilation", f"{speed.compile_seconds:.1f} s"),
        ("FLOP per step", f"{speed.flop_per_step:.3g}"),
        ("matmul rate", f"{speed.matmul_flop_per_s / 1e9:,.0f} GFLOP/s"),
        ("share of it", f"{speed.matmul_share:.0%}"),
        ("peak memory", f"{speed.peak_bytes / 1e9:.2f} GB"),
        ("data", speed.tier),
        ("devices", speed.devices),
    ]
    console = _console()
    console.print(name, soft_wrap=True)
    for label, text in rows:
        console.print(f"{label:14s}  {text}", soft_wrap=True)


def show_variants(variants: Sequence[Variant]) -> None:
    """What there is to choose from."""
    table = _table("variant", "abilities", "what it is")
    for variant in variants:
        table.add_row(variant.name, ", ".join(variant.abilities), variant.summary)
    console = _console()
    console.print(table)
    hint = "aecli variants NAME tells its papers, its settings, what it is measured by, and what its configs reached"
    console.print(hint, soft_wrap=True)


def show_variant(variant: Variant) -> None:
    """All about one."""
    console = _console()
    console.print(f"{variant.name}\n\n{variant.summary}")
    for paragraph in variant.about.splitlines():
        console.print(paragraph)
    console.print(f"\nabilities: {', '.join(variant.abilities)}")
    table = _table("setting", "default", "what it is")
    for key, setting in variant.settings.items():
        table.add_row(key, _value(setting.default), setting.description)
    console.print()
    console.print(table)
    for title, what, rows in (
        ("aecli sample --mode", "what it shows", variant.modes),
        ("aecli eval --only", "what it measures", variant.evaluators),
    ):
        table = _table(title, what)
        for name, text in rows.items():
            table.add_row(name, text)
        console.print()
        console.print(table)
    if variant.samplers:
        console.print()
        console.print(f"aecli sample --sampler {', '.join(variant.samplers)}", soft_wrap=True)
    if variant.configs:
        table = _table("aecli train", "metric", "reached on test")
        for each in variant.configs:
            called = [each.config, *(f"--set {setting}" for setting in each.set)]
            for metric, number in (each.numbers or {"": ""}).items():
                table.add_row(" ".join(called), metric, number)
                called = []
        console.print()
        console.print(table)
        console.print("of several seeds the mean \u00b1 their standard deviation (how many)", soft_wrap=True)


def show_facts(facts: Mapping[str, Any]) -> None:
    """A line each, of those that there are."""
    width = max(map(len, facts))
    console = _console()
    for name, value in facts.items():
        if value not in (None, ""):
            console.print(f"{name:{width}s}  {printable(str(value))}", soft_wrap=True)


def show_data(data: DataSets) -> None:
    table = _table("name", "state", "what it is")
    for row in data.sets:
        table.add_row(*row)
    console = _console()
    console.print(table)
    console.print(
        f"kept in {data.root} (set AECLI_DATA_DIR to change); {data.names} TFDS names in all, --all lists them", soft_wrap=True
    )


def _value(value: Any) -> str:
    """As YAML writes it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_value, cast('list[Any]', value)))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
