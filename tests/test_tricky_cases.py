"""Every tricky case has a test that says so."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tricky_cases import CASES, LATER

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def shown() -> set[int]:
    """The numbers that tests are marked with, by their sources: what is not collected in this run counts as well."""
    return {number for path in TESTS.rglob("test_*.py") for number in numbers_in(ast.parse(path.read_bytes()))}


def numbers_in(module: ast.Module) -> Iterator[int]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            for decorator in node.decorator_list:
                match decorator:
                    case ast.Call(func=ast.Name(id="tricky"), args=numbers):
                        yield from map(ast.literal_eval, numbers)


def test_every_case_has_a_test(shown: set[int]) -> None:
    assert {number: name for number, name in CASES.items() if number not in shown | LATER.keys()} == {}


def test_nothing_is_put_off_that_has_a_test(shown: set[int]) -> None:
    assert LATER.keys() <= CASES.keys() - shown
