"""Pictures as people send them and as models want them: opened, cropped, masked, with notes. No model libraries."""
