"""The bundled model: the drawn world it is trained on, and the recipe that trains it."""
