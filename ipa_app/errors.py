"""The two ways in which a request can end without pictures when there is no bug."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ipa_app.messages import Message


class UserError(Exception):
    """An error that the user can put right.

    The message is one clear sentence that says what to do; the page and the API show it unchanged.
    Every other exception is a bug and leaves a traceback in the log.

    Attributes:
        message: the sentence.
        field: the API name of the request's field that is to blame, if it is a single one.
    """

    message: Message
    field: str | None = None

    def __init__(self, said: str | Message, /, **values: object) -> None:
        """Make an error from a sentence.

        Args:
            said: the key of the sentence, or a message that was made before.
            values: the values of the sentence's placeholders.
        """
        self.message = said if isinstance(said, Message) else Message(said, **values)
        super().__init__(self.message)

    @classmethod
    def plain(cls, text: str) -> UserError:
        """Return an error that is only seen by programs or at the command line: in English, without a key."""
        return cls(Message.plain(text))

    def blaming(self, field: str) -> UserError:
        """Set the field that is to blame, and return the error."""
        self.field = field
        return self


class Cancelled(Exception):  # noqa: N818 - an outcome somebody asked for, not an error
    """The job was stopped by the person who started it."""

    def __init__(self) -> None:
        super().__init__("Stopped.")


@contextmanager
def blaming(field: str) -> Iterator[None]:
    """Set the field of every `UserError` raised in the block, unless it names one already."""
    try:
        yield
    except UserError as error:
        error.field = error.field or field
        raise
