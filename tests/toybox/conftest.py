"""Fixtures of the tests of the bundled model's recipe."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.precision import own_precision


@pytest.fixture(scope="module", autouse=True)
def recipes_precision() -> Iterator[None]:
    """Let the recipe train in the precision that suits the processor."""
    with own_precision():
        yield
