"""How Sphinx builds the documentation: `make docs`. Pages are plain Markdown that reads as well in the repository; what is of
Sphinx alone, as the contents, is added here."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import generate
from docutils import nodes
from latex2mathml.converter import convert

project = "aecli"
copyright = "the authors of aecli, Apache-2.0"
version = release = version_of("aecli")

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nitpicky = True
smartquotes = False  # or two minus signs of a flag become a dash

html_math_renderer = "mathml"
html_theme = "furo"
html_title = "aecli"
html_copy_source = False
html_show_sphinx = False


def _read(app: Any, name: str, source: list[str]) -> None:
    if not name.startswith(generate.REFERENCE):
        source[0] = generate.shown(source[0], generate.DOCS / name)
    if name == "index":
        source[0] = generate.contents(source[0])


def _formula(writer: Any, node: nodes.math | nodes.math_block) -> None:
    """As MathML, which browsers draw without a script and without a network."""
    block = isinstance(node, nodes.math_block)
    made = convert(" ".join(node.astext().split()), display="block" if block else "inline")
    writer.body.append(f"<p>{made}</p>" if block else made)
    raise nodes.SkipNode


def setup(app: Any) -> None:
    app.add_html_math_renderer("mathml", inline_renderers=(_formula, None), block_renderers=(_formula, None))
    generate.write(generate.pages(), generate.DOCS / generate.REFERENCE)
    app.connect("source-read", _read)
