"""Poses: skeletons as data, drawing them as OpenPose pictures, detecting them in photos, and the bundled presets."""
