"""Charts as SVG for a page: they need no script, print, and take their ink from the page, which may be dark."""

from __future__ import annotations

import re
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from aecli.errors import UsageError

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8b6914", "#7f7f7f")
"""Of lines and bars in turn (Okabe & Ito 2008, and two more): apart on white and on black, also for eyes that do not tell red
from green."""
_INK = "#010203"
"""Stands for the colour of the page's text."""
_STYLE: Mapping[str, Any] = {
    "svg.fonttype": "none",  # letters stay letters: searchable, and a tenth of the size
    "text.parse_math": False,  # a name with two dollars is no formula
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "axes.formatter.useoffset": False,
    **{key: _INK for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")},
}
_MOST_POINTS = 400
"""Of a line: more are no wider than a pixel each, and are averaged."""
_SETTLED = 0.05
"""The share of a training after which its values lie within the axis: the first steps of many are far above all others."""
_JUMPS = 0.005
"""The share of the values at each end that may lie beyond it."""
LONGEST = 40
"""Letters of a name in a chart."""


class Series(NamedTuple):
    """A line: `y` at each `x`; the `low`est and the `high`est of several runs there, where it is their mean."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    dashed: bool = False
    colour: int = 0


class Bar(NamedTuple):
    """`error` is a standard error; `own`: of the run itself, in place of a plain method."""

    name: str
    value: float
    error: float | None = None
    own: bool = False


def check_installed() -> None:
    """Raises UsageError if what draws charts or fills in pages is not installed."""
    try:
        import jinja2  # noqa: F401  # pyright: ignore[reportUnusedImport]
        import matplotlib  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise UsageError(f"a report needs {error.name}, which is not installed", "pip install 'aecli[report]'") from None


def lines(title: str, series: Sequence[Series], below: str) -> str:
    """Lines over what `below` names, each with its name unless there is one alone."""
    with _figure(title, 4.6, 2.7) as (figure, axes):
        for each in series:
            x, y, low, high = _thinned(each)
            colour = COLOURS[each.colour % len(COLOURS)]
            axes.plot(x, y, label=_short(each.name), color=colour, linewidth=1.4, linestyle="--" if each.dashed else "-")
            if low is not None:
                axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        _fit(axes, series)
        axes.set_xlabel(below)
        axes.set_title(_short(title), loc="left", fontsize=9)
        if len(series) > 1:
            axes.legend(fontsize=8)
    return figure[0]


def bars(title: str, found: Sequence[Bar], unit: str) -> str:
    """Lying bars one below the other, their values beside them."""
    with _figure(title, 4.6, 0.75 + 0.27 * len(found)) as (figure, axes):
        at = np.arange(len(found))
        values = [bar.value for bar in found]
        axes.barh(
            at,
            values,
            xerr=[bar.error or 0.0 for bar in found],
            color=[COLOURS[0] if bar.own else "#999999" for bar in found],
            error_kw={"ecolor": _INK, "linewidth": 1},
            height=0.7,
            zorder=2,  # before the grid
        )
        axes.set_yticks(at, [_short(bar.name) for bar in found])
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.axvline(0, color=_INK, linewidth=0.8)
        axes.bar_label(axes.containers[-1], [f"{value:.4g}" for value in values], fontsize=8, color=_INK, padding=3)
        axes.margins(x=0.2)
        axes.set_title(_short(title) + (f", {unit}" if unit not in ("1", "") else ""), loc="left", fontsize=9)
    return figure[0]


def steps(title: str, values: Any, below: str, threshold: float | None = None, thresholds_name: str = "") -> str:
    """Values of units [n], largest first, on a logarithmic scale where all are positive and far apart; with a line at a
    `threshold`."""
    found = np.sort(np.asarray(values, np.float64))[::-1]
    with _figure(title, 4.6, 2.4) as (figure, axes):
        axes.step(np.arange(len(found) + 1), [*found, found[-1]], where="post", color=COLOURS[0], linewidth=1.4)
        axes.fill_between(np.arange(len(found) + 1), [*found, found[-1]], step="post", color=COLOURS[0], alpha=0.2, linewidth=0)
        if found[0] > 0 and found[-1] < found[0] / 100:
            axes.set_yscale("symlog", linthresh=max(found[0] * 1e-5, float(np.min(found[found > 0]))))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        if threshold is not None:
            axes.axhline(threshold, color=COLOURS[1], linewidth=1, linestyle="--", label=thresholds_name)
            axes.legend(fontsize=8)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(below)
        axes.set_title(_short(title), loc="left", fontsize=9)
    return figure[0]


def histogram(title: str, values: Any, below: str) -> str:
    """How many values [n] lie in each of 30 intervals."""
    with _figure(title, 4.6, 2.4) as (figure, axes):
        axes.hist(np.asarray(values, np.float64), bins=30, color=COLOURS[0], alpha=0.8)
        axes.set_xlabel(below)
        axes.set_ylabel("units")
        axes.set_title(_short(title), loc="left", fontsize=9)
    return figure[0]


@contextmanager
def _figure(title: str, width: float, height: float) -> Generator[tuple[list[str], Any]]:
    """Axes to draw on, and a list that holds the SVG afterwards."""
    import io

    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    made: list[str] = []
    style: dict[Any, Any] = {**_STYLE, "svg.hashsalt": f"{title} {width} {height}"}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the page's own fonts have it
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield made, figure.add_subplot()
        buffer = io.StringIO()
        nothing = {key: None for key in ("Date", "Creator", "Format", "Type")}
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    made.append(_for_page(buffer.getvalue(), title))


def _for_page(svg: str, title: str) -> str:
    """Without what makes a file of it, as wide as its place, and with ids that no other chart of the page has."""
    from hashlib import sha256
    from html import escape

    svg = svg[svg.index("<svg") :]
    head, _, rest = svg.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None
    rest = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", rest, count=1, flags=re.DOTALL)  # the page has it, once
    rest = re.sub(r"<metadata>.*?</metadata>", "", rest, flags=re.DOTALL).replace(_INK, "currentColor")
    own = sha256(svg.encode()).hexdigest()[:8]
    rest = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>c{own}", rest)
    return f'<svg {box[0]} role="img" aria-label="{escape(title)}" class="chart">{rest}'.replace("xlink:href", "href").strip()


def _thinned(each: Series) -> tuple[Any, Any, Any, Any]:
    """At most so many points that each is about a pixel: means of neighbours, of bands the extremes."""
    count = -(-len(each.x) // _MOST_POINTS)
    starts = np.arange(0, len(each.x), max(1, count))
    if count <= 1:
        return each.x, each.y, each.low, each.high

    def mean(values: Sequence[float]) -> Any:
        return np.add.reduceat(np.asarray(values, np.float64), starts) / np.diff(np.append(starts, len(values)))

    low = None if each.low is None else np.minimum.reduceat(np.asarray(each.low), starts)
    high = None if each.high is None else np.maximum.reduceat(np.asarray(each.high), starts)
    return mean(each.x), mean(each.y), low, high


def _fit(axes: Any, series: Sequence[Series]) -> None:
    """The axis holds all values but those of the first steps and a few that jump, where these lie far outside."""
    late: list[float] = []
    for each in series:
        first = int(len(each.y) * _SETTLED)
        for values in (each.y, each.low, each.high):
            late += [] if values is None else list(values[first:])
    if late:
        low, high = np.quantile(late, [_JUMPS, 1 - _JUMPS])
        room = 0.1 * (high - low) or 0.05 * abs(high) or 1.0
        axes.set_ylim(low - room, high + room)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
