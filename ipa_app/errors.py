"""The two ways in which a request ends without pictures and without being a bug."""

from __future__ import annotations


class UserError(Exception):
    """Something a person can put right.

    The message is one clear sentence that says what to do; the page and the API show it as it is.
    Every other exception is a bug and leaves a traceback in the log.
    """


class Cancelled(Exception):  # noqa: N818 - an outcome somebody asked for, not an error
    """The job was stopped by the person who started it."""

    def __init__(self) -> None:
        super().__init__("Stopped.")
