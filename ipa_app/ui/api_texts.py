"""The API's own documentation: what its endpoints take and give, in English alone."""

from __future__ import annotations

PICTURES = "pictures"
SETTINGS = "settings"
MODELS = "models"
ENDPOINTS = {
    "variation": (
        "Make new pictures that take after a reference picture.\n\n"
        "Returns PNG files, and the settings: every input as used, with `seeds`, one per picture, and `notes`, "
        "sentences on how an input was understood where that may not be what was meant. So do all others."
    ),
    "mix": "Make pictures from words together with a reference picture; without one it is plain text-to-image.",
    "inpaint": (
        "Redraw the white part of a mask; every other pixel of the picture stays as it is.\n\n"
        "With `extend_...` the picture is continued beyond its edges as well; then `mask` may be None."
    ),
    "pose": "Make pictures of the reference's subject in the pose of a skeleton, a photo or (Toybox) a toy picture.",
}
DISK_FULL = (
    "The app's disk is full, so the pictures could not be saved: please make room there, "
    "and ask again with seed {seed}, which gives the same pictures."
)
