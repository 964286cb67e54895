"""The file of results: each script has a part of it, between marks, and writes that alone."""

from __future__ import annotations

from pathlib import Path


def put(path: Path, name: str, body: str) -> None:
    """Replaces the part `name`, or appends it where there is none yet."""
    text = path.read_text() if path.exists() else "# Results\n"
    start, end = f"<!-- {name} -->\n", f"<!-- end {name} -->\n"
    part = f"{start}{body.rstrip()}\n{end}"
    before, found, after = text.partition(start)
    path.write_text(before + part + after.partition(end)[2] if found else f"{text}\n{part}")


def rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
