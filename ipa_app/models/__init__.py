"""Base models: which there are (`catalog`), loading one (`loading`), and who holds the loaded ones (`manager`).

`catalog`, `manager` and `words` import quickly: torch and diffusers are imported by the thread that loads.
"""
