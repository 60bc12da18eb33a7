"""Finding the pose in a picture of one's own: a photo, or a toy character where the chosen model draws such."""

from __future__ import annotations

from typing import Any

from ipa_app.errors import UserError
from ipa_app.imaging.opening import open_image
from ipa_app.ui import texts
from ipa_app.ui.failures import explained
from ipa_app.ui.listeners import PRIVATE
from ipa_app.ui.parts import Parts
from ipa_app.ui.studio import Studio
from ipa_app.ui.uploads import file_path


def connect_pose_finder(parts: Parts, *, studio: Studio) -> None:
    """Let the button bring the pose that is found into the skeleton editor, which takes the picture's place."""

    def find(payload: Any, model: str) -> tuple[str, None]:
        return found_pose(payload, model=model, studio=studio), None

    for tab in parts.tabs:
        if (finder := tab.pose_finder) is not None:
            waiting = {**PRIVATE, "show_progress": "full", "show_progress_on": finder.aside}
            inputs, outputs = [finder.picture, parts.settings.model], [finder.skeleton, finder.picture]
            finder.find.click(find, inputs, outputs, preprocess=False, **waiting)


def found_pose(payload: Any, *, model: str, studio: Studio) -> str:
    """Find the pose in an uploaded picture, as the text of an OpenPose file.

    Args:
        payload: the upload, None where there is none.
        model: name of the chosen model.
        studio: knows who can find poses.

    Raises:
        gr.Error: there is no picture, or no pose in it, and why.
    """
    with explained():
        if payload is None:
            raise UserError(texts.POSE_NO_PHOTO)
        return studio.find_pose(open_image(file_path(payload, field="pose")), model=model).to_json()
