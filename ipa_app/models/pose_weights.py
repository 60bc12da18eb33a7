"""The weights of pose detectors, as they lie on the Hugging Face Hub. Data only: nothing is downloaded by this.

Their licences: OpenPose's is for research that is not commercial, DWPose's is Apache-2.0.
"""

from __future__ import annotations

from ipa_app.models.entry import HubFiles, HubPart

_OPENPOSE = ("lllyasviel/Annotators", "982e7edaec38759d914a963c48c4726685de7d96")
_DWPOSE = ("yzd-v/DWPose", "1a7144101628d69ee7a3768d1ee3a094070dc388")


def openpose_weights(*, hands: bool, face: bool) -> HubFiles:
    """Name what controlnet-aux's OpenPose needs: 0.2 GB, and 0.15 GB more each for hands and for faces."""
    names = ["body_pose_model.pth", *["hand_pose_model.pth"] * hands, *["facenet.pth"] * face]
    # They are published as pickles alone; `pose.openpose` has them read as plain weights.
    return _from(_OPENPOSE, names, title="OpenPose", pickles=True)


def dwpose_weights() -> HubFiles:
    """Name what DWPose needs, 0.35 GB: a network that finds people, and one for body, hands and face."""
    return _from(_DWPOSE, ["yolox_l.onnx", "dw-ll_ucoco_384.onnx"], title="DWPose")


def _from(source: tuple[str, str], names: list[str], *, title: str, pickles: bool = False) -> HubFiles:
    repo, revision = source
    part = HubPart(repo=repo, revision=revision, files={name: name for name in names}, pickles=pickles)
    return HubFiles(title=title, parts=(part,))
