"""Poses: skeletons as data, drawn as OpenPose pictures, found in photos, and the presets that ship with the app."""
