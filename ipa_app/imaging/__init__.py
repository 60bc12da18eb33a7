"""Pictures as people send them and as models want them: opening, cropping, masks, PNG notes. No model libraries."""
