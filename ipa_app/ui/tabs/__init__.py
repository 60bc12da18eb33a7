"""One file per tab: the inputs that only this task has, and its button."""
