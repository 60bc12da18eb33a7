"""What the whole process shares."""

from __future__ import annotations

import pytest

from ipa_app.errors import UserError
from ipa_app.runtime import is_on


@pytest.mark.parametrize(
    ("text", "expected"), [("1", True), (" True ", True), ("0", False), ("false", False), ("", False)]
)
def test_a_variable_switches_on_and_off(text: str, expected: bool) -> None:
    assert is_on({"IPA_EXACT": text}, "IPA_EXACT") == expected
    assert not is_on({}, "IPA_EXACT")


def test_what_is_neither_is_refused() -> None:
    with pytest.raises(UserError, match="IPA_EXACT is 'yes please'; it must be 1 or 0"):
        is_on({"IPA_EXACT": "yes please"}, "IPA_EXACT")
