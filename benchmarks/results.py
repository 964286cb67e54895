"""The file of results: each script has a part of it, between marks, and writes that alone; and how its numbers look."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median


def put(path: Path, name: str, body: str) -> None:
    """Replaces the part `name`, or appends it where there is none yet."""
    text = path.read_text() if path.exists() else "# Results\n"
    start, end = f"<!-- {name} -->\n", f"<!-- end {name} -->\n"
    part = f"{start}{body.rstrip()}\n{end}"
    before, found, after = text.partition(start)
    path.write_text(before + part + after.partition(end)[2] if found else f"{text}\n{part}")


def spread(values: Sequence[float]) -> str:
    """The median, and the least and the most where there are several."""
    return f"{median(values):.2f}" + (f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else "")
