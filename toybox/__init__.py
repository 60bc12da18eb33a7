"""The bundled model: the drawn world it lives in and the recipe that trains it."""
