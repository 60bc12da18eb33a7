"""What becomes of a pose for a model that knows one body, and for one that accepts any."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from ipa_app.engine.plan import make_plan
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.tasks import TASKS
from ipa_app.engine.tasks.task import TaskInputs, Tools
from ipa_app.models.catalog import catalog
from ipa_app.models.entry import ModelEntry
from ipa_app.models.loaded import LoadedModel
from ipa_app.pose.detect import PoseDetector
from ipa_app.pose.draw import draw_sheet
from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.presets import preset_sheets
from ipa_app.pose.sheet import PoseSheet
from ipa_app.pose.skeleton import Skeleton
from tests.drawn_skeletons import SIZE, STANDING, drawn, without

TOYBOX = catalog()["toybox"]
SOMEBODY = PoseSheet(Skeleton((tuple(Keypoint(x / SIZE[0], y / SIZE[1]) for x, y in filter(None, STANDING)),)), *SIZE)


def prepared(pose: Image.Image | PoseSheet, entry: ModelEntry = TOYBOX, **changes: Any) -> TaskInputs:
    tools = Tools(
        model=cast(LoadedModel, None),  # nothing is drawn
        detector=PoseDetector(),
        emit=lambda _: None,
        stop=threading.Event(),
        check_cancelled=lambda: None,
        meanwhile=lambda: None,
    )
    request = GenerateRequest(task="pose", pose=pose, prompt="a toy", **changes)
    return TASKS["pose"].prepare(make_plan(request.with_seed(), entry), tools)


def keys(inputs: TaskInputs) -> list[str]:
    return [note.key for note in inputs.notes]


@pytest.mark.parametrize("as_picture", [False, True])
def test_a_person_is_fitted_to_the_one_body_of_a_model(as_picture: bool) -> None:
    pose = draw_sheet(SOMEBODY, SIZE) if as_picture else SOMEBODY
    fitted = prepared(pose)
    assert "pose.fitted" in keys(fitted)
    for unfitted in (prepared(pose, pose_fit=False), prepared(pose, replace(TOYBOX, body_poses=None))):
        assert keys(unfitted) == []
        assert np.array_equal(unfitted.control_image, draw_sheet(SOMEBODY, (256, 256))) or as_picture
        assert not np.array_equal(unfitted.control_image, fitted.control_image)


def test_that_a_drawing_could_not_be_fitted_is_said_where_it_should_have_been() -> None:
    arm = drawn(without(STANDING, 0, *range(5, 18)))
    given = prepared(arm)
    assert keys(given) == ["pose.not_fitted"]
    for unfitted in (prepared(arm, pose_fit=False), prepared(arm, replace(TOYBOX, body_poses=None))):
        assert keys(unfitted) == []
        assert np.array_equal(unfitted.control_image, given.control_image)


def test_a_pose_of_that_body_is_drawn_as_it_is() -> None:
    for name, sheet in preset_sheets().items():
        for pose in (sheet, draw_sheet(sheet, (512, 512))):
            assert keys(prepared(pose)) == [], name
            given, plain = prepared(pose).control_image, prepared(pose, pose_fit=False).control_image
            assert np.array_equal(given, plain), name
