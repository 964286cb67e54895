"""The form of what a sweep keeps in its folder; see `runs/records.py`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aecli.runs.records import Count, Finite, Raw, RawPath, Record, RunId, Schema, Sha256, Size


class Cell(Record):
    """One run to be: the flags that make it of the config, `config` the hash of what they make, see `plan.config_hash`, and
    `data` the fingerprint of its data. Cells of one `group` differ in the seed alone. Cells count from 1."""

    cell: Size
    group: Size
    overrides: list[Raw]
    seed: Count
    config: Sha256
    data: str


class Plan(Record):
    """`plan.json`: written once. `config_path` is where the config was; `only`: by which evaluators test is measured, none for
    all that fit, None if it is not; `evaluator` measures the metric that `select` names."""

    schema_: Schema = Field(alias="schema")
    id: str
    created: str
    name: str
    config_path: RawPath
    varied: list[Raw]
    only: list[str] | None
    select: str | None
    evaluator: str | None
    cells: list[Cell]


class Line(Record):
    """A line of `cells.jsonl`: the run that a cell has from here on, none if it is to be begun anew; or that the run was
    `measured` on a split when it was at the step `at`."""

    cell: Size
    run: RunId | None
    measured: Literal["test", "validation"] | None = None
    at: Count | None = None


class Choice(Record):
    """The numbers by which a group was chosen or not: of each of its runs, by id."""

    group: Size
    mean: Finite
    values: dict[str, Finite]


class Selected(Record):
    """`selected.json`: written once, when all cells were trained and measured on validation."""

    schema_: Schema = Field(alias="schema")
    metric: str
    better: Literal["lower", "higher"]
    group: Size
    choices: list[Choice]
    left_out: dict[str, str]
    """Groups that could not be chosen, and why."""
