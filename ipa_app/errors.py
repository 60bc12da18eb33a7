"""The two ways in which a request ends without pictures and without being a bug."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ipa_app.messages import Message


class UserError(Exception):
    """Something a person can put right.

    The message is one clear sentence that says what to do; the page and the API show it as it is.
    Every other exception is a bug and leaves a traceback in the log.

    Attributes:
        message: the sentence.
        field: name of the request's field that is to blame, where it is a single one; programs know it by this name.
    """

    message: Message
    field: str | None = None

    def __init__(self, said: str | Message, /, **values: object) -> None:
        """Make an error of a sentence.

        Args:
            said: its key, or the sentence itself where it was made before.
            values: what stands in its placeholders.
        """
        self.message = said if isinstance(said, Message) else Message(said, **values)
        super().__init__(self.message)

    @classmethod
    def plain(cls, text: str) -> UserError:
        """Return an error that only programs see, or who types commands: in English, without a key."""
        return cls(Message.plain(text))

    def blaming(self, field: str) -> UserError:
        """Name the field that is to blame."""
        self.field = field
        return self


class Cancelled(Exception):  # noqa: N818 - an outcome somebody asked for, not an error
    """The job was stopped by the person who started it."""

    def __init__(self) -> None:
        super().__init__("Stopped.")


@contextmanager
def blaming(field: str) -> Iterator[None]:
    """Let every `UserError` out of the block name the field that is to blame, unless it names one already."""
    try:
        yield
    except UserError as error:
        error.field = error.field or field
        raise
