"""Base models: the list of them (`catalog`), loading one (`loading`), and holding the loaded ones (`manager`).

`catalog`, `manager` and `vocabulary` import quickly: PyTorch and diffusers are imported by the thread that loads.
"""
