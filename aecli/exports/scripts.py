"""`use.py` of an export: a few lines that use it without aecli."""

from __future__ import annotations

from collections.abc import Sequence

EXAMPLE = "example.npz"
"""Made-up arrays, and what the run made of them: `<function>.<input>` and `<function>.<output>`."""

WEIGHTS = '''\
"""The weights of the model by name. Needs numpy and safetensors."""

from pathlib import Path

from safetensors import safe_open

with safe_open(Path(__file__).parent / "weights.safetensors", framework="numpy") as file:
    facts, weights = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
print(f"run {facts['run']}, step {facts['step']}")
for name, array in weights.items():
    print(name, array.dtype, list(array.shape))
'''

_CALLS = '''\
"""Calls each function of the model on made-up arrays. Needs {needs}."""

from pathlib import Path

import numpy as np
{imports}

here = Path(__file__).parent
example = np.load(here / "example.npz")
for name, inputs, output in {functions}:
{load}
    difference = np.abs(made - example[f"{{name}}.{{output}}"]).max()
    print(f"{{name}} {{output}} {{list(made.shape)}}: {{difference:.2g}} from the run")
'''

STABLEHLO = {
    "needs": "jax, flatbuffers and numpy",
    "imports": "from jax import export",
    "load": """\
    function = export.deserialize(bytearray((here / f"{name}.stablehlo").read_bytes()))
    made = np.asarray(function.call(*(example[f"{name}.{each}"] for each in inputs)))""",
}
ONNX = {
    "needs": "onnxruntime and numpy",
    "imports": "import onnxruntime",
    "load": """\
    session = onnxruntime.InferenceSession(here / f"{name}.onnx", providers=["CPUExecutionProvider"])
    made = session.run(None, {each: example[f"{name}.{each}"] for each in inputs})[0]""",
}


def calls(parts: dict[str, str], functions: Sequence[tuple[str, Sequence[str], str]]) -> str:
    """The script for functions, each its name, those of its inputs and that of its output."""
    rows = "".join(f"    ({name!r}, {list(inputs)!r}, {output!r}),\n" for name, inputs, output in functions)
    return _CALLS.format(functions=f"[\n{rows}]".replace("'", '"'), **parts)
