"""Checking single values of a request. Each gives the value back, or says what is wrong in one sentence."""

from __future__ import annotations

import numbers
from collections.abc import Collection, Sequence
from typing import cast

from PIL import Image

from ipa_app.errors import UserError

_SHOWN_CHARACTERS = 40


def checked_number(name: str, value: object, *, least: float, most: float, or_zero: bool = False) -> float:
    """Check a finite number.

    Args:
        name: of the field, as people know it.
        value: what came.
        least: smallest value allowed.
        most: largest value allowed.
        or_zero: 0 is allowed too.

    Raises:
        UserError: it is not a number, not finite or out of range.
    """
    allowed = f"{'0 or ' if or_zero else ''}a number from {least:g} to {most:g}"
    number = _real(value)
    # Neither NaN nor infinity is within any range.
    if number is None or not (least <= number <= most or (or_zero and number == 0)):
        raise wrong_value(name, value, allowed)
    return float(number)


def checked_whole(name: str, value: object, *, least: int, most: int, or_zero: bool = False, multiple: int = 1) -> int:
    """Check a whole number; 4.0 is one too, as sliders send it.

    Args:
        name: of the field, as people know it.
        value: what came.
        least: smallest value allowed.
        most: largest value allowed.
        or_zero: 0 is allowed too.
        multiple: what it must be divisible by.

    Raises:
        UserError: it is not a whole number, out of range or not divisible.
    """
    kind = f"a multiple of {multiple}" if multiple > 1 else "a whole number"
    allowed = f"{'0 or ' if or_zero else ''}{kind} from {least} to {most}"
    number = _real(value)
    if number is None or not (least <= number <= most or (or_zero and number == 0)) or number % multiple:
        raise wrong_value(name, value, allowed)
    return int(number)


def checked_text(name: str, value: object, *, longest: int) -> str:
    """Check a text.

    Raises:
        UserError: it is not text, too long, or holds something that is not a character.
    """
    if not isinstance(value, str):
        raise wrong_value(name, value, "text")
    if len(value) > longest:
        raise UserError(f"{name} is {len(value)} characters long; it must have at most {longest}.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise wrong_value(name, value, "text without broken characters") from None
    return value


def checked_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """Check that a value is one of a few.

    Raises:
        UserError: it is none of them.
    """
    if not isinstance(value, str) or value not in choices:
        raise wrong_value(name, value, " or ".join(choices))
    return value


def checked_switch(name: str, value: object) -> bool:
    """Check something that is on or off.

    Raises:
        UserError: it is neither.
    """
    if not isinstance(value, bool):
        raise wrong_value(name, value, "true or false")
    return value


def checked_image(name: str, value: object) -> Image.Image:
    """Check an opened picture.

    Raises:
        UserError: it is none.
    """
    if not isinstance(value, Image.Image):
        raise wrong_value(name, value, "a picture")
    return value


def check_part(part: str, *, title: str, presets: Collection[str]) -> None:
    """Check that a model can take a part of a picture alone.

    Args:
        part: "all", which every model can take, or the name of a preset.
        title: of the model.
        presets: the names of those it has.

    Raises:
        UserError: it cannot.
    """
    if part != "all" and part not in presets:
        raise UserError(
            f"The model {title} cannot tell a picture's {part} from the rest: please let all of the picture count, or "
            "choose a model that can, such as Stable Diffusion XL."
        )


def _real(value: object) -> float | None:
    """Give a real number of any kind, numpy's too, as it is, and None for anything else."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    return cast(float, value)


def wrong_value(name: str, value: object, allowed: str) -> UserError:
    """Make the error that says what a value is and what it must be."""
    # Python refuses to write out the longest whole numbers.
    is_huge = isinstance(value, int) and abs(value) > 10**_SHOWN_CHARACTERS
    shown = "a huge number" if is_huge else repr(value)
    if len(shown) > _SHOWN_CHARACTERS:
        shown = shown[:_SHOWN_CHARACTERS] + "…"
    return UserError(f"{name} is {shown}; it must be {allowed}.")
