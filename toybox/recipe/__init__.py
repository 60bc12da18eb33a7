"""The stages that train the bundled model, from nothing to a folder that diffusers loads."""
