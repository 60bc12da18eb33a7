"""Pictures as people send them and as models want them: opening, cropping, masks, PNG notes. Pillow and numpy only."""
