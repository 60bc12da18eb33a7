"""Requests as JSON and pictures, stored on the disk and restored exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from PIL import Image

from ipa_app.engine.references import Reference
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.series import Part
from ipa_app.errors import UserError
from ipa_app.messages import Message, as_data, from_data
from ipa_app.models.hashing import picture_hash
from ipa_app.pose.keypoints import Details, Keypoint
from ipa_app.pose.sheet import PoseSheet
from ipa_app.pose.skeleton import Skeleton

# All classes that a request consists of. Nothing else is created from what is on the disk.
_CLASSES: Mapping[str, Callable[..., Any]] = {
    each.__name__: each for each in (Part, GenerateRequest, Reference, PoseSheet, Skeleton, Details, Keypoint)
}


def part_as_data(part: Part) -> tuple[Any, dict[str, Image.Image]]:
    """Return a part of an order as JSON data, and its pictures by name, which is the `picture_hash` of each.

    Raises:
        TypeError: it holds something that cannot be part of a request.
    """
    pictures: dict[str, Image.Image] = {}
    return _as_data(part, pictures), pictures


def part_from_data(data: Any, picture: Callable[[str], Image.Image]) -> Part:
    """Restore a part of an order from `part_as_data`.

    Args:
        data: what was on the disk; not trusted.
        picture: returns a picture by its name.

    Raises:
        UserError: it cannot be read, or is no longer allowed.
    """
    try:
        part = _from_data(data, picture)
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError("library.not_readable") from error
    if not isinstance(part, Part) or not isinstance(part.request, GenerateRequest):
        raise UserError("library.not_readable")
    return part


def _as_data(value: Any, pictures: dict[str, Image.Image]) -> Any:
    if isinstance(value, Message):
        return {"message": as_data(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Image.Image):
        name = picture_hash(value)
        pictures[name] = value
        return {"picture": name}
    if type(value).__name__ in _CLASSES:
        names = [each.name for each in fields(value)] if is_dataclass(value) else value._fields
        return {"is": type(value).__name__} | {name: _as_data(getattr(value, name), pictures) for name in names}
    if isinstance(value, tuple):
        return [_as_data(each, pictures) for each in value]
    raise TypeError(f"a request holds no {type(value).__name__}")


def _from_data(data: Any, picture: Callable[[str], Image.Image]) -> Any:
    if isinstance(data, list):
        return tuple(_from_data(each, picture) for each in data)
    if not isinstance(data, dict):
        return data
    if "message" in data:
        return _message(data["message"])
    if "picture" in data:
        return picture(data["picture"])
    values = {name: _from_data(value, picture) for name, value in data.items() if name != "is"}
    return _CLASSES[data["is"]](**values)


def _message(data: Any) -> Message:
    said = from_data(data)
    return said if isinstance(said, Message) else Message.plain(str(said))
