"""Finding the pose in an uploaded picture: a stick figure, a photo, or a toy if the chosen model draws toys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from ipa_app.engine.results import Progress
from ipa_app.engine.tasks.pose import fitted_for
from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.pose.detector import PoseOptions
from ipa_app.pose.sheet import PoseSheet
from ipa_app.ui.calls import awaited
from ipa_app.ui.controls import AT_ONCE, IN_TURN
from ipa_app.ui.form import checked_values, open_upload
from ipa_app.ui.parts import Parts
from ipa_app.ui.results import Turn
from ipa_app.ui.running import Runner, Update
from ipa_app.ui.status import progress_line, status_line
from ipa_app.ui.studio import Studio

# Empties the box, unless another picture has been chosen meanwhile.
_WITHOUT_SEARCHED = "(picture, searched) => picture?.path === searched ? null : picture"


@dataclass(frozen=True, kw_only=True)
class PoseFinder:
    """The button that finds the pose in the picture, and where the pose goes.

    `options` holds the inputs for how people are found, and whether they are fitted to the model's body, by the
    request's field. The hidden `searched` holds the file of the picture in which a pose was found.
    """

    find: gr.Button
    options: dict[str, Any]
    picture: gr.Image
    skeleton: gr.HTML
    searched: gr.Textbox


def connect_pose_finder(finder: PoseFinder, parts: Parts, runner: Runner) -> None:
    """Connect the button: the pose goes into the skeleton editor, which replaces the picture."""
    inputs = {"picture": finder.picture, "model": parts.settings.model, "turn": runner.results.turn, **finder.options}
    outputs = [*runner.outputs, finder.skeleton, finder.searched]
    handler = find_pose(finder, runner=runner)
    done = finder.find.click(handler, inputs_kwargs=inputs, outputs=outputs, preprocess=False, **IN_TURN)
    runner.connect_failure(done.failure)
    done.success(None, [finder.picture, finder.searched], finder.picture, js=_WITHOUT_SEARCHED, **AT_ONCE)


def find_pose(finder: PoseFinder, *, runner: Runner) -> Callable[..., Iterator[Update]]:
    """Return the handler of the button. Progress is shown where that of results is, and Stop stops it."""

    def find(*, picture: Any, model: str, turn: Turn | None = None, **sent: object) -> Iterator[Update]:
        look = partial(_look, finder, runner, picture=picture, model=model, sent=sent)
        yield from runner.in_turn(turn, look)

    return find


def _look(
    finder: PoseFinder, runner: Runner, turn: Turn, *, picture: Any, model: str, sent: Mapping[str, object]
) -> Iterator[Update]:
    """Look for the pose.

    Args:
        finder: where the pose goes.
        runner: knows the studio, and shows the progress.
        turn: the page's turn.
        picture: the upload; None if there is none.
        model: the name of the chosen model.
        sent: the values of the finder's options, as the form sends them.

    Raises:
        UserError: there is no picture, or no pose in it, and why.
        Cancelled: it was stopped.
    """
    if picture is None:
        raise UserError("pose.no_photo")
    yield {**runner.started(), finder.searched: ""}
    said = checked_values("pose", sent, names=("pose_detector", "pose_hands", "pose_face", "pose_fit"))
    fit = fit_for(runner.studio, pose_fit=said["pose_fit"], model=model)
    wanted = PoseOptions(
        pose_detector=said["pose_detector"], pose_hands=said["pose_hands"], pose_face=said["pose_face"]
    )
    photo = open_upload(picture, field="pose")
    search = runner.studio.find_pose(photo.image, model=model, options=wanted)
    runner.began(turn, search)
    with runner.studio.following(search, awaited=awaited(), newest=True) as events:
        for event in events:
            if isinstance(event, Progress):
                yield {runner.results.status: progress_line(event)}
            elif isinstance(event, PoseSheet):
                found, searched = fit(event), {finder.searched: picture["path"]}
                status = status_line(found_text(event), *photo.notes, *found.notes, kind="done")
                yield {**runner.finished(status), finder.skeleton: found.to_json(), **searched}


def fit_for(studio: Studio, *, pose_fit: Any, model: str) -> Callable[[PoseSheet], PoseSheet]:
    """Return the function that fits a pose to the chosen model's body, if that is switched on."""
    return partial(fitted_for, studio.entry(model)) if pose_fit else lambda sheet: sheet


def found_text(sheet: PoseSheet) -> Message:
    """Return a message that says how many people were found, and what to do with them."""
    return Message("pose.found", count=len(sheet.skeleton.people))
