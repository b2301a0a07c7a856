"""Variables that are true or false."""

from __future__ import annotations

import pytest

from buildkit_session.errors import InputError
from buildkit_session.request.environment import is_on, read_boolean


@pytest.mark.parametrize(("value", "default", "expected"), [("1", False, True), ("0", True, False), ("x", True, True)])
def test_variables_that_are_neither_true_nor_false_are_not_set(value: str, default: bool, expected: bool) -> None:
    assert is_on({"V": value}, "V", default=default) is expected
    assert is_on({}, "V", default=default) is default


def test_some_must_be_one_of_both() -> None:
    assert [read_boolean({"V": value}, "V") for value in ("true", "0")] == [True, False]
    assert read_boolean({}, "V") is None
    with pytest.raises(InputError, match="invalid V 'x' in the environment"):
        read_boolean({"V": "x"}, "V")
