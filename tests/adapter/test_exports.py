"""The package's exports are imported on first use."""

from __future__ import annotations

import pytest

import ipa_app.adapter


@pytest.mark.parametrize("name", ipa_app.adapter.__all__)
def test_each_name_is_the_thing_that_it_names(name: str) -> None:
    assert getattr(ipa_app.adapter, name).__name__ == name


def test_other_names_are_none_of_it() -> None:
    with pytest.raises(AttributeError, match=r"^module 'ipa_app\.adapter' has no attribute 'anything'$"):
        _ = ipa_app.adapter.anything
