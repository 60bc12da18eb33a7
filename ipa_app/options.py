"""Options, each declared once: its name, its meaning, its allowed values and its default.

An option is a field of a dataclass. The check, the API and the page all read this declaration:

    @dataclass(frozen=True, kw_only=True)
    class Request:
        seed: int = option(-1, title="The seed", between=(-1, 99))

        def __post_init__(self) -> None:
            check_options(self)
"""

from __future__ import annotations

import functools
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from math import inf
from types import MappingProxyType
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from PIL import Image

from ipa_app.errors import UserError, blaming
from ipa_app.messages import Message

_KEY = "option"
_SHOWN_CHARACTERS = 40
_LARGEST_EXACT = 2**53
"""Larger whole numbers, pages send as other ones than those that were typed."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """The declaration of an option.

    Attributes:
        title: its name in sentences, such as "The seed"; by default its label in quotation marks, or its field's name.
        doc: what it means, in one line for programmers; may contain its own bounds, as in "{least:g} to {most:g}", and
            other options by their API names, as in "{seed}". An option without it is not offered to programs.
        between: the smallest and the largest number allowed; the latter may be infinity, which is itself not allowed.
        excluded: one of these bounds, if it is refused elsewhere, with an error of its own.
        or_zero: whether 0 is allowed too.
        multiple: what a whole number must be divisible by.
        longest: the largest number of characters of a text.
        label: the label of its control on the page; a control without one is laid out by hand.
        help: the explanation under the label, in plain words.
        among: the texts to choose from, if its type does not list them.
        kind: the sort of picture, which determines the size at which it is kept in a result's file.
        shown: the names of its choices on the page, in the same order.
        step: the step of its slider; a number without one is typed.
        low: the lower end of its slider, if not the smallest number allowed.
        initial: the value of its control when the page opens, if not the default.
        beside: the field of the picture that it belongs to; without that picture it has no effect.
        is_rare: whether a result's file notes it only if it differs from the default.
        api: its name in the API; by default the field's name.
        name: the name of the field.
        type: the type of the field. Numbers, text, switches, Literals and picture classes are checked.
        default: the default of the field, MISSING if there is none.
        declared_in: the class that declares it: the dataclass itself or one of its bases.
    """

    title: str = ""
    doc: str = ""
    between: tuple[float, float] = (0, inf)
    excluded: float | None = None
    or_zero: bool = False
    multiple: int = 1
    longest: int = 0
    label: str = ""
    help: str = ""
    among: tuple[str, ...] = ()
    kind: str = "image"
    shown: tuple[str, ...] = ()
    step: float = 0
    low: float | None = None
    initial: Any = None
    beside: str = ""
    is_rare: bool = False
    api: str = ""
    name: str = ""
    type: Any = None
    default: Any = MISSING
    declared_in: type = object

    @property
    def least(self) -> float:
        """The smallest number allowed."""
        return self.between[0]

    @property
    def most(self) -> float:
        """The largest number allowed."""
        return self.between[1]

    @property
    def choices(self) -> tuple[str, ...]:
        """The values to choose from; empty if the option is not a choice."""
        return get_args(self.type) if get_origin(self.type) is Literal else self.among

    @property
    def is_picture(self) -> bool:
        """Whether its values are pictures, which arrive as uploads."""
        return Image.Image in (self.type, *get_args(self.type))

    @property
    def called(self) -> Message:
        """Its name in sentences."""
        return Message.declared(f"option.{self.api}.title", self.title)

    @property
    def documentation(self) -> str:
        """Its meaning, for programmers; begins with its API name."""
        return f"{self.api}: {self.doc.format_map(_Named(least=self.least, most=self.most))}"


class _Named(dict[str, object]):
    """The placeholders of a line for programmers; another option's name stands for itself."""

    def __missing__(self, name: str) -> str:
        return name


def option(default: Any = MISSING, **declared: Any) -> Any:
    """Declare a field of a dataclass as an option.

    Args:
        default: the default of the field; without one, a value is required.
        declared: attributes of `Option`, except the last four, which come from the field itself.

    Returns:
        The field.
    """
    made = Option(default=default, **declared)
    return field(metadata={_KEY: made}) if default is MISSING else field(default=default, metadata={_KEY: made})


@functools.cache
def options(cls: type) -> Mapping[str, Option]:
    """Return the options of a dataclass by field name, in the order of declaration."""
    hints = get_type_hints(cls)
    declared = {item.name: item.metadata[_KEY] for item in fields(cls) if _KEY in item.metadata}
    return MappingProxyType(
        {
            name: replace(
                option,
                name=name,
                type=hints[name],
                declared_in=_declaring(cls, name),
                title=option.title or (f"“{option.label}”" if option.label else name),
                api=option.api or name,
            )
            for name, option in declared.items()
        }
    )


def _declaring(cls: type, name: str) -> type:
    return next(each for each in cls.__mro__ if name in vars(each).get("__annotations__", {}))


def check_options(instance: Any) -> None:
    """Check every option of a frozen dataclass in its `__post_init__`, and store the checked values (4 for 4.0).

    Raises:
        UserError: a value is not allowed; the error names the field, the value and what is allowed.
    """
    for name, declared in options(type(instance)).items():
        object.__setattr__(instance, name, check(declared, getattr(instance, name)))


def check(option: Option, value: object) -> Any:
    """Check the value of an option.

    Returns:
        The value, of the option's type: 4.0, as sliders send it, becomes 4 for a whole number.

    Raises:
        UserError: the value is not allowed; the option is to blame.
    """
    with blaming(option.api):
        return _checked(option, value)


def _checked(option: Option, value: object) -> Any:
    if option.type is bool:
        return _switch(option, value)
    if option.type in (int, float):
        return _number(option, value)
    if option.type == int | None:
        return None if value is None else _number(replace(option, type=int), value)
    if option.choices:
        return _choice(option, value)
    if option.type is str:
        return _text(option, value)
    return _picture(option, value) if option.is_picture else value


def _number(option: Option, value: object) -> float:
    number = _real(value)
    # NaN is within no range; infinity could be, and is refused below.
    is_within = number is not None and (option.least <= number <= option.most or (option.or_zero and number == 0))
    is_whole = option.type is int
    if number is None or number == inf or not is_within or (is_whole and number % option.multiple):
        raise wrong_value(option.called, value, _allowed_numbers(option, is_within=is_within))
    return int(number) if is_whole else float(number)


def _allowed_numbers(option: Option, *, is_within: bool) -> Message:
    kind = Message("allowed.number") if option.type is float else Message("allowed.whole_number")
    if option.multiple > 1:
        kind = Message("allowed.multiple", multiple=option.multiple)
        if is_within:  # the bounds are not what is wrong, and a model's own may be narrower
            return Message("allowed.zero_or", kind=kind) if option.or_zero else kind
    # Whole numbers without exponents, however large.
    least, most = (f"{bound:g}" if option.type is float else str(bound) for bound in option.between)
    if option.most == inf:
        return Message("allowed.at_least", kind=kind, least=least)
    key = "allowed.zero_or_between" if option.or_zero else "allowed.between"
    return Message(key, kind=kind, least=least, most=most)


def _text(option: Option, value: object) -> str:
    if not isinstance(value, str):
        raise wrong_value(option.called, value, Message("allowed.text"))
    if len(value) > option.longest:
        raise UserError("option.too_long", name=option.called, length=len(value), longest=option.longest)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise wrong_value(option.called, value, Message("allowed.whole_text")) from None
    return value


def _choice(option: Option, value: object) -> str:
    if not isinstance(value, str) or value not in option.choices:
        raise wrong_value(option.called, value, one_of(option.choices))
    return value


def _switch(option: Option, value: object) -> bool:
    if not isinstance(value, bool):
        raise wrong_value(option.called, value, Message("allowed.switch"))
    return value


def _picture(option: Option, value: object) -> object:
    if not isinstance(value, get_args(option.type) or option.type):
        raise wrong_value(option.called, value, Message("allowed.picture"))
    return value


def _real(value: object) -> float | None:
    """Return a real number of any kind, including numpy's, unchanged; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    return cast(float, value)


def one_of(choices: Sequence[str]) -> Message:
    """Return a message that lists the allowed values."""
    *others, last = choices
    told: str = last
    for choice in reversed(others):
        told = Message("allowed.or", first=choice, rest=told)
    return Message("allowed.one_of", choices=told)


def wrong_value(name: str, value: object, allowed: str) -> UserError:
    """Return the error that says what a value is and what it must be."""
    is_huge = isinstance(value, int) and abs(value) > _LARGEST_EXACT
    shown = Message("option.huge_number") if is_huge else repr(value)
    if len(shown) > _SHOWN_CHARACTERS:
        shown = shown[:_SHOWN_CHARACTERS] + "…"
    return UserError("option.wrong_value", name=name, value=shown, allowed=allowed)
