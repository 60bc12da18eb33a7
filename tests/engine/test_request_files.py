"""Requests survive the disk unchanged, and nothing else is read from there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ipa_app.engine.request_files import part_as_data, part_from_data
from ipa_app.engine.series import Part
from ipa_app.engine.tasks import TASKS
from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.pose.keypoints import Details, Keypoint
from ipa_app.pose.sheet import PoseSheet
from ipa_app.pose.skeleton import Skeleton
from tests.sample_requests import differences, sample_request


def there_and_back(part: Part) -> Part:
    data, pictures = part_as_data(part)
    return part_from_data(json.loads(json.dumps(data)), pictures.__getitem__)


@pytest.mark.parametrize("task", TASKS)
def test_a_request_of_any_task_comes_back_whole(task: str) -> None:
    notes = (Message("mask.turned"), Message("model.unknown", name="'a'", names="toybox"), Message.plain("Plain."))
    part = Part(title=Message("series.strength", scale="0.25"), request=sample_request(task, notes=notes))
    back = there_and_back(part)
    assert differences(part.request, back.request) == []
    assert (back.title, getattr(back.title, "key", None)) == (part.title, "series.strength")
    assert [note.key for note in back.request.notes] == [note.key for note in notes]


def test_keypoints_come_back_to_the_last_digit() -> None:
    person = tuple(Keypoint(1 / (3 + index), 2 / (7 + index)) if index % 3 else None for index in range(18))
    hand = tuple(Keypoint(1 / (5 + index), 1 / 3) for index in range(21))
    sheet = PoseSheet(
        Skeleton((person,), (Details(left_hand=hand),)), 333, 500, notes=(Message("pose.brought_closer"),)
    )
    back = there_and_back(Part(title="", request=sample_request("pose", pose=sheet))).request.pose
    assert isinstance(back, PoseSheet)
    assert (back, back.notes) == (sheet, sheet.notes)


@pytest.mark.parametrize(
    "data",
    [
        None,
        3,
        [],
        {},
        {"is": "Popen", "args": "true"},
        {"is": "Reference"},
        {"is": "Part", "title": "", "request": 3},
        {"is": "Part", "title": "", "request": {"is": "GenerateRequest", "unknown": 3}},
        {"message": {"key": "no.such", "values": {}}},
        {"picture": "../../secret"},
    ],
)
def test_anything_else_is_refused_in_one_sentence(data: Any) -> None:
    with pytest.raises(UserError) as refused:
        part_from_data(data, {}.__getitem__)
    assert str(refused.value) == "What was saved of this request can no longer be read: please make the request again."


def test_a_value_that_is_not_allowed_is_refused_in_its_own_sentence() -> None:
    data, pictures = part_as_data(Part(title="", request=sample_request("mix")))
    data["request"]["steps"] = 1000
    with pytest.raises(UserError, match="The number of steps is 1000"):
        part_from_data(data, pictures.__getitem__)
