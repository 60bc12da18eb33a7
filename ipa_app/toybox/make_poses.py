"""Write the preset poses of the app from the toy world's own: `python -m ipa_app.toybox.make_poses`."""

from __future__ import annotations

import json

from ipa_app.pose.draw import draw_skeleton
from ipa_app.pose.keypoints import Keypoint
from ipa_app.pose.presets import POSES_FOLDER, preset_file
from ipa_app.pose.skeleton import Skeleton
from ipa_app.toybox.world import POSES, pose_keypoints

CANVAS = 512


def main() -> None:
    """Write an OpenPose file and its drawn picture for every pose the toy world knows."""
    POSES_FOLDER.mkdir(parents=True, exist_ok=True)
    for name in POSES:
        skeleton = Skeleton((tuple(Keypoint(x, y) for x, y in pose_keypoints(name)),))
        path = preset_file(name)
        path.write_text(json.dumps(skeleton.to_openpose(CANVAS, CANVAS), indent=1) + "\n", "utf-8")
        # Drawn from what was written, so that file and picture agree to the pixel.
        written = Skeleton.from_openpose(json.loads(path.read_text("utf-8")))
        draw_skeleton(written, (CANVAS, CANVAS)).save(path.with_suffix(".png"), optimize=True)


if __name__ == "__main__":
    main()
