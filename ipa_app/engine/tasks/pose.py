"""Pose: the reference says who, a skeleton says how they stand."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from PIL import Image

from ipa_app.engine.ranges import check_range, no_whole_step, range_end, range_start
from ipa_app.engine.tasks.pose_search import cancellable, people_finder
from ipa_app.engine.tasks.task import OwnOptions, Task, TaskInputs, Tools
from ipa_app.errors import UserError, blaming
from ipa_app.messages import Message
from ipa_app.options import option
from ipa_app.pose.detect import PosePicture, drawn_pose_in, pose_image
from ipa_app.pose.detector import PoseOptions
from ipa_app.pose.detectors import DETECTORS, USUAL, DetectorName
from ipa_app.pose.draw import draw_sheet
from ipa_app.pose.fitting import fit_pose, read_body
from ipa_app.pose.sheet import PoseSheet

if TYPE_CHECKING:
    from ipa_app.engine.batch import BatchItem
    from ipa_app.engine.plan import Plan
    from ipa_app.engine.requests import GenerateRequest
    from ipa_app.models.entry import ControlNetEntry, ModelEntry
    from ipa_app.models.families import PipelineTask
    from ipa_app.pose.drawn import DrawnPose


@dataclass(frozen=True, kw_only=True)
class ControlOptions(OwnOptions):
    """The options that only this task has.

    Attributes:
        pose: a drawn skeleton or a photo, mode "RGB", or a skeleton as keypoints.
    """

    pose: Image.Image | PoseSheet | None = option(
        None,
        title="The pose",
        kind="pose",
        doc="a drawn skeleton, a photo of a person, or, with Toybox, a picture of a toy character",
    )
    control_scale: float = option(
        1.0,
        label="Strength of the pose",
        help="0: the pose is ignored. 1: it is followed. Up to 2.",
        step=0.05,
        between=(0, 2),
        doc="strength of the pose, {least:g} to {most:g}",
    )
    control_start: float = range_start("pose")
    control_end: float = range_end("pose", after="control_start")
    pose_hands: bool = option(
        False,
        label="In a photo: fingers, too",
        beside="pose",
        doc="whether to find fingers in a photo, too",
    )
    pose_face: bool = option(
        False,
        label="In a photo: faces, too",
        beside="pose",
        doc="whether to find the points of faces in a photo, too",
    )
    pose_detector: DetectorName = option(
        USUAL.name,
        label="Detector of people in photos",
        help=" ".join(each.help for each in DETECTORS.values() if each is not USUAL),
        shown=tuple(each.title for each in DETECTORS.values()),
        beside="pose",
        doc="what finds people in a photo: "
        + ", or ".join(each.name + " where it is installed" * bool(each.packages) for each in DETECTORS.values()),
    )

    pose_fit: bool = option(
        True,
        label="Fit the pose to the model's body",
        help="For models that know only one body, as Toybox does: limbs keep their directions but get its lengths.",
        doc="whether a skeleton takes the proportions of a model that knows only one body, as Toybox does",
    )

    @property
    def pose_options(self) -> PoseOptions:
        """How people are detected in a photo that sets the pose."""
        return PoseOptions(pose_detector=self.pose_detector, pose_hands=self.pose_hands, pose_face=self.pose_face)


class Pose(Task):
    """Draws the subject of the references in a given pose, by a ControlNet."""

    name = "pose"
    options = ControlOptions
    required = ("pose",)

    def check(self, request: GenerateRequest) -> None:
        """Check that there is a pose."""
        of = Message("strength.pose")
        check_range(request.control_start, request.control_end, of=of, field="control_end")
        if request.pose is None:
            raise UserError("request.no_pose")

    def pipeline(self, plan: Plan) -> PipelineTask:
        """Return the pipeline with the ControlNet."""
        del plan
        return "controlnet"

    def controlnet(self, plan: Plan) -> ControlNetEntry:
        """Return the model's ControlNet for poses.

        Raises:
            UserError: the model has none that can be used, and why.
        """
        return plan.entry.controlnet("pose")

    def check_plan(self, plan: Plan) -> None:
        """Check that the model has a ControlNet for poses, and that the pose counts in at least one step."""
        self.controlnet(plan)
        steps, start, end = plan.drawn_steps, plan.request.control_start, plan.request.control_end
        # The same condition as in diffusers' ControlNet pipelines.
        if not any(i / steps >= start and (i + 1) / steps <= end for i in range(steps)):
            raise no_whole_step(Message("counted.pose"), start=start, end=end, steps=steps, field="control_end")

    def batch_key(self, plan: Plan) -> Hashable:
        """Return how strongly and when the pose counts."""
        return plan.request.control_scale, plan.request.control_start, plan.request.control_end

    def look(self, plan: Plan) -> DrawnPose | None:
        """Return the skeleton drawn in the pose picture; None if people, or a toy, must be found in it."""
        pose = plan.request.pose
        return drawn_pose_in(_in_rgb(pose)) if isinstance(pose, Image.Image) else None

    def may_search(self, plan: Plan) -> bool:
        """Whether the pose is a picture in which people, or a toy, must be found."""
        try:
            return isinstance(plan.request.pose, Image.Image) and plan.seen is None
        except UserError:  # reported when it is prepared
            return False

    def prepare(self, plan: Plan, tools: Tools) -> TaskInputs:
        """Convert the pose, in whatever form, to a picture of a skeleton."""
        with blaming("pose"):
            pose = _pose_picture(plan, tools)
        return TaskInputs(control_image=pose.image, notes=pose.notes)

    def pipeline_inputs(self, plan: Plan, items: Sequence[BatchItem]) -> dict[str, Any]:
        """Return the skeletons, and how strongly and when they count."""
        return {
            "image": [item.control_image for item in items],
            "controlnet_conditioning_scale": plan.request.control_scale,
            "control_guidance_start": plan.request.control_start,
            "control_guidance_end": plan.request.control_end,
        }

    def noted(self, picture: Any) -> Any:
        """Return keypoints in full, in OpenPose's format; a picture as its hash."""
        return picture.to_openpose() if isinstance(picture, PoseSheet) else super().noted(picture)

    def restored(
        self, metadata: Mapping[str, Any], pictures: Mapping[str, Image.Image], *, of: type[GenerateRequest]
    ) -> dict[str, Any]:
        """Return the keypoints, or else the picture; results from before poses were fitted are drawn unfitted."""
        fitted = {} if "pose_fit" in metadata else {"pose_fit": False}
        if isinstance(keypoints := metadata.get("pose"), dict):
            return {"pose": PoseSheet.from_openpose(keypoints), **fitted}
        return {**super().restored(metadata, pictures, of=of), **fitted}


def _pose_picture(plan: Plan, tools: Tools) -> PosePicture:
    """Convert a request's pose, in whatever form, to a picture of a skeleton at the drawn size."""
    pose, entry = plan.request.pose, plan.entry
    if pose is None:
        raise RuntimeError("a request for a pose has one")

    fit = partial(fitted_for, entry) if plan.request.pose_fit and entry.body_poses else None
    if isinstance(pose, PoseSheet):
        sheet = pose if fit is None else fit(pose)
        return PosePicture(draw_sheet(sheet, plan.canvas_size), sheet.notes)
    looked_for = plan.request.pose_options
    find = people_finder(tools.detector, looked_for, toy_reader=entry.pose_reader, emit=tools.emit, stop=tools.stop)
    find = cancellable(find, tools.meanwhile)
    return pose_image(
        _in_rgb(pose), plan.canvas_size, find=find, fit=fit, look=lambda _: cast("DrawnPose | None", plan.seen)
    )


def _in_rgb(picture: Image.Image) -> Image.Image:
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def fitted_for(entry: ModelEntry, sheet: PoseSheet) -> PoseSheet:
    """Fit a pose to the one body that a model knows, as `fit_pose` does; for other models it stays as it is."""
    return fit_pose(sheet, read_body(entry.body_poses)) if entry.body_poses else sheet
