"""The list of faults: each can still be put in where it is said to belong, and names tests that there are."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from faults import FAULTS, Fault

ROOT = Path(__file__).parent.parent


def lines_of(tree: ast.AST, names: list[str]) -> tuple[int, int]:
    """The first and the last line of a function or a class, with its decorators."""
    [node] = [
        node
        for node in ast.iter_child_nodes(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == names[0]
    ]
    if len(names) > 1:
        return lines_of(node, names[1:])
    assert node.end_lineno is not None
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]), node.end_lineno


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_can_be_put_in_once_and_leaves_a_program(fault: Fault) -> None:
    text = (ROOT / fault.path).read_text("utf-8")
    assert fault.new != fault.old and text.count(fault.old) == 1
    first, last = lines_of(ast.parse(text), fault.function.split("."))
    assert fault.old in "".join(text.splitlines(keepends=True)[first - 1 : last])
    ast.parse(text.replace(fault.old, fault.new))
    assert fault.why.endswith(".")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_names_tests_that_there_are(fault: Fault) -> None:
    """Whoever removes or renames a test learns here which fault it was there for."""
    assert fault.tests
    for test in fault.tests:
        file, _, function = test.partition("::")
        tree = ast.parse((ROOT / "tests" / file).read_text("utf-8"))
        assert not function or lines_of(tree, [function.partition("[")[0]])


def test_there_are_enough_faults_and_many_of_them_are_silent() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 28
    assert sum(fault.silent for fault in FAULTS) >= 12 and sum(fault.blind for fault in FAULTS) >= 12
