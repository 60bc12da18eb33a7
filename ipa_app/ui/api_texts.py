"""The API's own documentation: what its endpoints take and give, in English alone."""

from __future__ import annotations

PICTURES = "pictures"
SETTINGS = "settings"
MODELS = "models"
PARAMETERS = {
    "reference": "reference: the picture that serves as prompt",
    "image": "image: the picture to change",
    "mask_invert": "mask_invert: keep the white part of the mask and redraw the rest",
    "mask_grow": "mask_grow: grow the mask, or shrink it below 0; percent of the longer side, -20 to 20",
    "mask_feather": "mask_feather: softness of the mask's edge, always inwards; 0 is hard, 1 as usual, up to 8",
    "area": "area: what the model looks at, masked (that part only, at full resolution) or whole (the whole picture)",
    "mask_padding": "mask_padding: surroundings seen of the masked part, percent of its size, 0 to 200",
    "extend_left": "extend_left: continue the picture there by 0 to 100 percent of its width",
    "extend_right": "extend_right: continue the picture there by 0 to 100 percent of its width",
    "extend_up": "extend_up: continue the picture there by 0 to 100 percent of its height",
    "extend_down": "extend_down: continue the picture there by 0 to 100 percent of its height",
    "mask": "mask: white is redrawn, or the hole in a copy of the picture; not needed where the picture is extended",
    "pose": "pose: a drawn skeleton, a photo of a person, or, with Toybox, a picture of a toy character",
    "adapter": "adapter: base (overall look), fine (more detail) or another name that /models lists for the model",
    "scale": "scale: strength of the picture, 0 to 1.5",
    "pose_hands": "pose_hands: whether to find fingers in a photo, too",
    "pose_face": "pose_face: whether to find the points of faces in a photo, too",
    "pose_detector": "pose_detector: what finds people in a photo: openpose, or dwpose where it is installed",
    "control_scale": "control_scale: strength of the pose, 0 to 2",
    "prompt": "prompt: words",
    "negative_prompt": "negative_prompt: words for what should not be there",
    "count": "count: number of pictures, 1 to 8",
    "seed": "seed: of the first picture, the next ones count up; -1 draws one",
    "steps": "steps: denoising steps, 0 for the model's own number",
    "guidance": "guidance: 1 to 20, 0 for the model's own",
    "width": "width: in pixels, 0 for the model's own",
    "height": "height: in pixels, 0 for the model's own",
    "model": "model: a name from /models",
    "start": "start: when the picture begins to count, as a share of the steps, 0 to 1",
    "end": "end: when it ceases to count; later than start",
    "view": "view: how the picture becomes the square that the model looks at: crop, pad, stretch or tiles (several)",
    "centre_x": "centre_x: where the crop's middle should be, 0 (left) to 1 (right)",
    "centre_y": "centre_y: where the crop's middle should be, 0 (top) to 1 (bottom)",
    "negative_reference": "negative_reference: a picture to stay away from; counts beside a reference only",
    "start_image": "start_image: a picture to start from",
    "strength": "strength: how much of the start picture is drawn anew, up to 1",
    "control_start": "control_start: when the pose begins to count, as a share of the steps, 0 to 1",
    "control_end": "control_end: when it ceases to count; later than control_start",
    "region": "region: where in the new picture the reference counts: everywhere, or left, right, upper or lower half",
    "part": "part: what of the reference counts: all, style or layout; other than all for models that /models says can",
}
DISK_FULL = (
    "The app's disk is full, so the pictures could not be saved: please make room there, "
    "and ask again with seed {seed}, which gives the same pictures."
)
