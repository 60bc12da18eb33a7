"""The API's own documentation: what all of its endpoints give, in English alone. What each does stands with its tab."""

from __future__ import annotations

PICTURES = "pictures"
SETTINGS = "settings"
MODELS = "models"
DISK_FULL = (
    "The app's disk is full, so the pictures could not be saved: please make room there, "
    "and ask again with seed {seed}, which gives the same pictures."
)
