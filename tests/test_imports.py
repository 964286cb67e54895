"""Every module can be the first of the package that is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from process import environment

ROOT = Path(__file__).parent.parent
FILES = [path.relative_to(ROOT).with_suffix("") for path in sorted((ROOT / "aecli").rglob("*.py"))]
MODULES = [".".join(path.parts).removesuffix(".__init__") for path in FILES]
IMPORT_EACH = """
import importlib, json, sys, traceback
found = {}
for name in sys.argv[1:]:
    # Without tensorflow_datasets too, which takes each data set's name only once.
    for loaded in [loaded for loaded in sys.modules if loaded.split(".")[0] in ("aecli", "tensorflow_datasets")]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except Exception:
        found[name] = traceback.format_exc()
print(json.dumps(found))
"""

pytestmark = pytest.mark.portable


@pytest.fixture(scope="module")
def errors() -> dict[str, str]:
    """What was raised, of the modules that could not be imported. In one process, since jax takes seconds."""
    command = [sys.executable, "-W", "error::SyntaxWarning", "-c", IMPORT_EACH, *MODULES]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_can_be_imported(errors: dict[str, str], name: str) -> None:
    assert name not in errors, errors[name]
