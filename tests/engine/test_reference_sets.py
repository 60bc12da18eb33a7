"""Reference sets as files: nothing is lost, and no other file is mistaken for one."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from ipa_app.engine.reference_sets import ReferenceSet, name_in
from ipa_app.errors import UserError
from tests.sample_requests import EVERYWHERE, differences, sample_request

REFERENCES = EVERYWHERE["references"]


def test_a_set_comes_back_as_it_was() -> None:
    made = ReferenceSet(name="  My \n toys ", references=REFERENCES)
    text = made.to_json()
    again = ReferenceSet.from_json(text.encode())
    assert again.name == name_in(text.encode()) == "My toys"
    before, after = (sample_request("variation", references=each.references) for each in (made, again))
    assert differences(after, before) == []


@pytest.mark.parametrize("name", ["", " ", "a" * 101, "a\0b"])
def test_a_set_needs_a_name(name: str) -> None:
    with pytest.raises(UserError, match="Please give the set a name of up to 100 characters"):
        ReferenceSet(name=name, references=REFERENCES)


def test_a_set_needs_a_picture() -> None:
    with pytest.raises(UserError):
        ReferenceSet(name="a", references=())


@pytest.mark.parametrize(
    "changes",
    [
        {"ip_adapter_studio_references": {}},
        {"ip_adapter_studio_references": [{"weight": 9}]},
        {"ip_adapter_studio_references": [{"weight": 1}] * 5},
        {"pictures": []},
        {"pictures": {"reference_1": "nothing"}},
        {"name": 1},
        {"name": "a" * 1000},
    ],
    ids=str,
)
def test_what_is_no_set_is_refused(changes: dict[str, Any]) -> None:
    content = json.loads(ReferenceSet(name="a", references=REFERENCES[:1]).to_json())
    with pytest.raises(UserError):
        ReferenceSet.from_json(json.dumps({**content, **changes}).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"[" * 10_000, b"\xff\xfe"])
def test_other_files_are_refused_and_have_no_name(data: bytes) -> None:
    with pytest.raises(UserError, match="not a set of pictures"):
        ReferenceSet.from_json(data)
    assert name_in(data) is None


@pytest.mark.parametrize("data", [b"[" + b"[]," * 2_000_000 + b"[]]", b"[" + b"0," * 3_000_000 + b"0]"])
def test_what_would_fill_memory_is_refused_at_once(data: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(UserError, match="not a set of pictures"):
        ReferenceSet.from_json(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**20
