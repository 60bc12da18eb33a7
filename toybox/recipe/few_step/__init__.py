"""Stages that learn on what people ask for: drawing in four steps, a small autoencoder, inpainting."""
