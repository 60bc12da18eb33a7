"""Stages: drawing in four steps what the model draws in twenty, and a small autoencoder for drafts and previews."""
