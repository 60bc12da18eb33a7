"""The stages that train the bundled model, from scratch to a folder that diffusers loads."""
