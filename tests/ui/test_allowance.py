"""How much one address may upload, and how that allowance is restored."""

from __future__ import annotations

import pytest

from ipa_app.errors import UserError
from ipa_app.ui import allowance
from ipa_app.ui.allowance import Allowance, SpentError


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def of_a_thousand(clock: Clock) -> Allowance:
    return Allowance(1000, clock=clock)


def test_what_is_spent_comes_back_within_an_hour(of_a_thousand: Allowance, clock: Clock) -> None:
    of_a_thousand.spend("10.0.0.1", 1000)
    with pytest.raises(SpentError, match="1 kB have been uploaded from your network address within an hour"):
        of_a_thousand.spend("10.0.0.1", 1)
    clock.now = 1800
    of_a_thousand.spend("10.0.0.1", 500)
    with pytest.raises(SpentError):
        of_a_thousand.spend("10.0.0.1", 1)
    clock.now = 1800 + 3600
    of_a_thousand.spend("10.0.0.1", 1000)


def test_what_is_announced_must_be_left_and_is_not_spent(of_a_thousand: Allowance) -> None:
    with pytest.raises(SpentError):
        of_a_thousand.spend("10.0.0.1", 0, ahead=1001)
    of_a_thousand.spend("10.0.0.1", 0, ahead=1000)
    of_a_thousand.spend("10.0.0.1", 1000)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("", "testclient", False),
    ],
)
def test_every_visitor_has_their_own(of_a_thousand: Allowance, one: str, other: str, is_same: bool) -> None:
    of_a_thousand.spend(one, 1000)
    if is_same:
        with pytest.raises(SpentError):
            of_a_thousand.spend(other, 1000)
    else:
        of_a_thousand.spend(other, 1000)


def test_it_does_not_grow_with_the_visitors(of_a_thousand: Allowance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "_MOST_ADDRESSES", 3)
    for number in range(5):
        of_a_thousand.spend(f"10.0.0.{number}", 1000)
    assert len(of_a_thousand._spent) == 3


def test_an_operator_says_how_much() -> None:
    Allowance.from_environment({}).spend("10.0.0.1", 4096 * 10**6)
    with pytest.raises(SpentError):
        Allowance.from_environment({"IPA_UPLOAD_MEGABYTES": "2"}).spend("10.0.0.1", 2 * 10**6 + 1)
    with pytest.raises(UserError, match="IPA_UPLOAD_MEGABYTES is '0'"):
        Allowance.from_environment({"IPA_UPLOAD_MEGABYTES": "0"})
