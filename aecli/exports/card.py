"""The model card of an export, `README.md`: what the model is, on what it was trained, what was measured, and how it is used."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import yaml

from aecli.errors import printable
from aecli.exports.functions import Form
from aecli.runs.records import Number, RunFile

_MARKS = re.compile(r"([\\`*_{}\[\]<>#!|~&:@$^]|(?<=www)\.)", re.IGNORECASE)
"""What could be markup inside a line, a link that nobody marked as one among it; nothing that a user wrote begins a line."""


class Told(NamedTuple):
    """What a card says of a function: the forms that the file has, and how far it was from the run."""

    name: str
    file: str
    inputs: Sequence[Form]
    output: Form
    difference: float


class Card(NamedTuple):
    """`numbers` are those of each split, by name; `notes` say what is not in the export, and why. `arrays` are the weights: name,
    shape, and what is known of each, if anything is."""

    run_id: str
    info: RunFile
    config: str
    format: str
    step: int
    facts: Mapping[str, str]
    numbers: Mapping[str, Mapping[str, Number]]
    functions: Sequence[Told]
    checked: str
    notes: Sequence[str]
    use: str
    arrays: Sequence[tuple[str, Sequence[int], str]] = ()

    def text(self) -> str:
        parts = [self._front(), self._about(), self._data(), self._functions(), self._use(), *self._measured()]
        return "\n\n".join([*parts, f"## Config\n\n{fenced(self.config, 'yaml')}", self._versions()]) + "\n"

    def _front(self) -> str:
        front = {
            "license": "unknown",  # whoever gives the model away knows
            "library_name": {"safetensors": "safetensors", "stablehlo": "jax", "onnx": "onnx"}[self.format],
            "tags": ["aecli", "autoencoder", printable(self.info.variant), self.format],
            "datasets": [printable(self.info.data.name)],
        }
        return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---"

    def _about(self) -> str:
        title = f"# {escaped(self.run_id)}"
        return f"{title}\n\nThe model of a run of aecli: variant {escaped(self.info.variant)}, at step {self.step:,}."

    def _data(self) -> str:
        data, spec = self.info.data, self.info.data.spec
        of = f"vectors of {spec.width:,}" if spec.kind == "vector" else f"images {spec.height}x{spec.width}x{spec.channels}"
        lines = [f"- data: {escaped(data.name)}, {of}, {data.sizes.train:,} to train on, {data.sizes.test:,} to test"]
        lines += [f"- fingerprint: {escaped(data.fingerprint)}"]
        if data.classes and not data.class_names:
            lines.append(f"- labels: 0 to {len(data.classes) - 1}")
        elif data.classes:
            lines.append("- labels: " + ", ".join(f"{number} {escaped(name)}" for number, name in enumerate(data.classes)))
        return "## Data\n\n" + "\n".join(lines)

    def _functions(self) -> str:
        if not self.functions:
            rows = ["| array | shape | what it is |", "|---|---|---|"]
            rows += [f"| `{name}` | {escaped(str(list(shape)))} | {escaped(about)} |" for name, shape, about in self.arrays]
            weights = "The averaged weights, where the run averaged them, else the last, by name."
            return f"## What is here\n\n{weights}\n\n" + "\n".join(rows)
        rows = ["| function | file | takes | gives | from the run |", "|---|---|---|---|---|"]
        for told in self.functions:
            takes = "; ".join(map(_form, told.inputs))
            rows.append(f"| {told.name} | `{told.file}` | {takes} | {_form(told.output)} | {told.difference:.2g} |")
        notes = "".join(f"\n- {escaped(note)}" for note in self.notes)
        table = "\n".join(rows)
        return f"## What is here\n\n{table}\n\nThe last column is the largest difference on {self.checked}.\n{notes}".rstrip()

    def _use(self) -> str:
        return f"## Use\n\n`python use.py` runs without aecli:\n\n{fenced(self.use, 'python')}"

    def _measured(self) -> list[str]:
        parts: list[str] = []
        for split, numbers in self.numbers.items():
            rows = ["| number | value | standard error | unit | n | baselines | protocol |", "|---|---|---|---|---|---|---|"]
            for name, number in numbers.items():
                baselines = ", ".join(f"{key} {value:.5g}" for key, value in number.baselines.items())
                protocol = ", ".join(f"{key} {value}" for key, value in number.protocol.items())
                value = number.note or "none" if number.value is None else f"{number.value:.5g}"
                error = "" if number.standard_error is None else f"{number.standard_error:.2g}"
                cells = (name, value, error, number.unit, f"{number.n:,}", baselines, protocol)
                rows.append(f"| {' | '.join(map(escaped, cells))} |")
            parts.append(f"## Measured on {escaped(split)}\n\n" + "\n".join(rows))
        return parts or ["## Measured\n\nNothing: the run keeps no numbers of this checkpoint."]

    def _versions(self) -> str:
        return "## Versions\n\n" + "\n".join(f"- {escaped(name)}: {escaped(value)}" for name, value in self.facts.items())


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return _MARKS.sub(r"\\\1", printable(text))


def fenced(text: str, language: str) -> str:
    """A block of code whose fence is longer than any within it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _form(form: Form) -> str:
    shape = ", ".join([*(["n"] if form.each else []), *map(str, form.shape)])
    return f"`{form.name}` {form.dtype} \\[{shape}\\], {escaped(form.about)}"
