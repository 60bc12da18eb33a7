"""ipa_studio.json: what a model folder says about itself beyond the diffusers layout."""

from __future__ import annotations

from pathlib import Path

from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.folder import read_json

FILE_NAME = "ipa_studio.json"


class StudioFile:
    """The settings in a model folder's ipa_studio.json, read with checks; without the file all are the defaults."""

    def __init__(self, folder: Path) -> None:
        """Read the file of a folder.

        Raises:
            UserError: it is not a JSON object.
        """
        self._path = folder / FILE_NAME
        self._values = read_json(self._path)

    def text(self, key: str, default: str = "") -> str:
        """Give a setting that is text.

        Raises:
            UserError: it is something else.
        """
        value = self._values.get(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, Message("allowed.text"))
        return value

    def whole(self, key: str, default: int) -> int:
        """Give a setting that is a whole number above 0.

        Raises:
            UserError: it is something else.
        """
        value = self._values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise self._wrong(key, value, Message("allowed.above_0"))
        return value

    def number(self, key: str, default: float) -> float:
        """Give a setting that is a number of at least 1.

        Raises:
            UserError: it is something else.
        """
        value = self._values.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 1 <= value < float("inf"):
            raise self._wrong(key, value, Message("allowed.at_least_1"))
        return float(value)

    def _wrong(self, key: str, value: object, wanted: Message) -> UserError:
        return UserError("file.wrong_value", path=self._path, key=key, value=repr(value), allowed=wanted)
