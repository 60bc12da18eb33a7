"""What the whole process shares."""

from __future__ import annotations

import pytest

from ipa_app.errors import UserError
from ipa_app.runtime import is_on, whole_number


@pytest.mark.parametrize(
    ("text", "expected"), [("1", True), (" True ", True), ("0", False), ("false", False), ("", False)]
)
def test_a_variable_switches_on_and_off(text: str, expected: bool) -> None:
    assert is_on({"IPA_EXACT": text}, "IPA_EXACT") == expected
    assert not is_on({}, "IPA_EXACT")


def test_what_is_neither_is_refused() -> None:
    with pytest.raises(UserError, match="IPA_EXACT is 'yes please'; it must be 1 or 0"):
        is_on({"IPA_EXACT": "yes please"}, "IPA_EXACT")


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", "٣", "9" * 20])
def test_a_limit_that_is_no_number_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(UserError, match="IPA_MOST_WAITING is .*; it must be a whole number of at least 1"):
        whole_number({"IPA_MOST_WAITING": text}, "IPA_MOST_WAITING", 5)
