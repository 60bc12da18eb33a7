"""Recipes to share: how a picture was made, without the picture itself.

A JSON recipe is complete: it has the settings and the input pictures of the result's file, and is read in the same way.
A link has the settings alone, since a URL cannot hold pictures; pictures that come with the app are found again by the
hashes of their pixels.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from ipa_app.engine.metadata import INPUT_KINDS, REFERENCE_NAMES, REGION_NAMES, request_from
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.tasks.task import LARGEST_SIDE
from ipa_app.errors import UserError
from ipa_app.imaging.result_files import NotMadeHereError, read_recipe, read_settings

_LONGEST_CODE = 64_000
_LONGEST_SETTINGS = 2**20
_GREY, _WHITE = (127, 127, 127), (255, 255, 255)


class LinkedRecipe(NamedTuple):
    """The content of a link.

    Attributes:
        request: with stand-ins for missing pictures.
        settings: as recorded.
        missing: the names of the input pictures that are not available here.
    """

    request: GenerateRequest
    settings: Mapping[str, Any]
    missing: tuple[str, ...]


def recipe_json(path: str | Path) -> str:
    """Return the recipe of a result's file as JSON.

    Raises:
        NotMadeHereError: the file is not a result made here.
    """
    return json.dumps(read_recipe(path), allow_nan=False, indent=1)


def recipe_code(path: str | Path) -> str:
    """Return the recipe of a result's file as the code for a link: letters, digits, "-" and "_".

    Raises:
        NotMadeHereError: the file is not a result made here.
    """
    settings = read_settings(path)
    if settings is None:
        raise NotMadeHereError
    text = json.dumps(settings, allow_nan=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode("ascii").rstrip("=")


def read_code(code: str, *, known: Mapping[str, Image.Image]) -> LinkedRecipe:
    """Read a recipe from a link, which is not trusted.

    Args:
        code: as returned by `recipe_code`.
        known: the pictures available here, by the hashes of their pixels.

    Raises:
        UserError: it cannot be read, or holds something that is not allowed.
    """
    settings = _settings_in(code)
    pictures, missing = {}, []
    for name, digest in _noted_pictures(settings):
        if digest not in known:
            missing.append(name)
        pictures[name] = known.get(digest) or _stand_in(settings, INPUT_KINDS[name])
    return LinkedRecipe(request_from(settings, pictures), settings, tuple(missing))


def _settings_in(code: str) -> dict[str, Any]:
    damaged = UserError("recipe.link_damaged")
    if len(code) > _LONGEST_CODE:
        raise damaged
    try:
        unpacking = zlib.decompressobj()
        data = unpacking.decompress(base64.urlsafe_b64decode(code + "=" * (-len(code) % 4)), _LONGEST_SETTINGS)
        settings = json.loads(data) if unpacking.eof else None
    except (ValueError, binascii.Error, zlib.error, RecursionError) as error:
        raise damaged from error
    if not isinstance(settings, dict):
        raise damaged
    return settings


def _noted_pictures(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the names of the input pictures that settings mention, with their hashes."""
    references = settings.get("references")
    noted = [each for each in references if isinstance(each, dict)] if isinstance(references, list) else []
    for name, region, each in zip(REFERENCE_NAMES, REGION_NAMES, noted, strict=False):
        yield name, str(each.get("sha256"))
        if each.get("region_mask") is not None:
            yield region, str(each["region_mask"])
    own = (name for name in INPUT_KINDS if name not in (*REFERENCE_NAMES, *REGION_NAMES))
    yield from ((name, settings[name]) for name in own if isinstance(settings.get(name), str))


def _stand_in(settings: Mapping[str, Any], kind: str) -> Image.Image:
    """Return a stand-in for a missing picture, without which the request would not pass its checks.

    It has the result's shape and half its size. At full size, the result's size would pass for the picture's own.
    """
    sides = (settings.get("width"), settings.get("height"))
    width, height = (side // 2 if isinstance(side, int) and 16 <= side <= LARGEST_SIDE else 64 for side in sides)
    return Image.new("RGB", (width, height), _WHITE if kind == "mask" else _GREY)
