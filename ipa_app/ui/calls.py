"""Calls of public endpoints: checks of their parameters, when they came, and whether the caller still waits.

Gradio checks parameters before an endpoint is reached, and its errors say nothing, or do not name the parameter.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Literal, get_args, get_origin

from ipa_app.errors import UserError
from ipa_app.options import wrong_value
from ipa_app.ui.uploads import embedded_file, is_address, is_data_url, sent_picture

Endpoint = Callable[..., Any]

_ORDER = (
    "/{endpoint} takes, in this order: {names} (or by their names, with defaults, at /gradio_api/call/v2/{endpoint})."
)
_NAMES = "{endpoint} takes {names}."
_NOTHING = "/{endpoint} takes no parameters."
_ADDRESS = "the http or https address of a picture, or the picture itself as a data URL"
_KINDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}


class Picture:
    """The annotation of a parameter that is an uploaded image file; it arrives undecoded."""


def parameters_of(endpoint: Endpoint) -> Mapping[str, inspect.Parameter]:
    """Return an endpoint's parameters by name, in order; each is annotated with its type."""
    return inspect.signature(endpoint).parameters


def pictures_of(endpoint: Endpoint) -> set[str]:
    """Return the names of an endpoint's parameters that are uploaded image files."""
    return {name for name, parameter in parameters_of(endpoint).items() if _is_picture(parameter.annotation)}


def checked_values(endpoint: Endpoint, values: Sequence[Any]) -> list[Any]:
    """Check the positional values of a call. Types and bounds are checked when the request is built.

    Returns:
        The values; pictures in the form that Gradio takes.

    Raises:
        UserError: there are too few or too many values, or one that should be a picture is not.
    """
    parameters = parameters_of(endpoint)
    names = list(parameters)
    if (more := len(values) - len(names)) > 0:
        given = "One value" if more == 1 else f"{more} values"
        raise UserError.plain(f"{given} too many; {parameters_in_words(endpoint)}")
    if len(values) < len(names):
        raise missing_parameter(names[len(values)], endpoint)
    return [
        sent_picture(value, field=name) if _is_picture(parameter.annotation) else value
        for (name, parameter), value in zip(parameters.items(), values, strict=True)
    ]


def checked_named(endpoint: Endpoint, values: Mapping[str, Any]) -> dict[str, Any]:
    """Check the named values of a call, as language models send them, with pictures as URLs.

    Returns:
        The values that are given; None counts as not given.

    Raises:
        UserError: one is unknown, missing, or not of its parameter's type.
    """
    parameters = parameters_of(endpoint)
    given = {name: value for name, value in values.items() if value is not None}
    for name in values:
        if name not in parameters:
            raise unknown_parameter(name, endpoint, by_name=True)
    for name, parameter in parameters.items():
        if name not in given and parameter.default is inspect.Parameter.empty:
            raise missing_parameter(name, endpoint, by_name=True)
    return {name: _checked_named(name, value, parameters[name].annotation) for name, value in given.items()}


def unknown_parameter(name: str, endpoint: Endpoint, *, by_name: bool = False) -> UserError:
    """Return the error that names a parameter which does not exist, and those that do."""
    return UserError.plain(f"There is no parameter {name!r}; {parameters_in_words(endpoint, by_name=by_name)}")


def parameters_in_words(endpoint: Endpoint, *, by_name: bool = False) -> str:
    """Return a sentence that lists the parameters of an endpoint.

    Args:
        endpoint: the endpoint.
        by_name: whether the caller can give parameters by name only, as language models do.
    """
    names = ", ".join(parameters_of(endpoint))
    taken = _NAMES if by_name else _ORDER
    return (taken if names else _NOTHING).format(endpoint=endpoint.__name__, names=names)


def missing_parameter(name: str, endpoint: Endpoint, *, by_name: bool = False) -> UserError:
    """Return the error that names a parameter which has no value."""
    return UserError.plain(f"{name} is missing; {parameters_in_words(endpoint, by_name=by_name)}")


def _checked_named(name: str, value: Any, hint: Any) -> Any:
    if _is_picture(hint):
        return _checked_picture(name, value)
    if not _is_of(value, hint):
        raise wrong_value(name, value, _kind(hint))
    return value


def _checked_picture(name: str, value: Any) -> str:
    """Return a picture's URL with its scheme in lower case, as Gradio's MCP server requires."""
    if not (isinstance(value, str) and (is_address(value) or is_data_url(value))):
        raise wrong_value(name, value, _ADDRESS)
    if is_data_url(value):
        embedded_file(value, field=name)
    scheme, _, rest = value.partition(":")
    return f"{scheme.lower()}:{rest}"


def _is_picture(hint: Any) -> bool:
    """Whether a parameter of this type is an uploaded image file."""
    return hint in (Picture, Picture | None)


def _is_of(value: Any, hint: Any) -> bool:
    """Whether a value is of a parameter's type; bounds are checked when the request is built."""
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if hint in (str, bool):
        return isinstance(value, hint)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and -math.inf < value < math.inf and (hint is float or value % 1 == 0)


def _kind(hint: Any) -> str:
    return " or ".join(get_args(hint)) if get_origin(hint) is Literal else _KINDS[hint]


Awaited = Callable[[], bool]
"""Whether the caller still waits: clients cancel, disconnect, close tabs. The handler may ask at any time."""

_AWAITED: ContextVar[Awaited] = ContextVar("awaited", default=lambda: True)


def awaited() -> Awaited:
    """Return the function that tells whether the caller of the current handler still waits."""
    return _AWAITED.get()


def set_awaited(awaited: Awaited) -> None:
    """Set the function that tells whether the caller of the next handler still waits."""
    _AWAITED.set(awaited)


_ARRIVED: ContextVar[float | None] = ContextVar("arrived", default=None)


def arrived() -> float:
    """Return when the current call reached the app, in seconds of the monotonic clock: its handler may begin later."""
    at = _ARRIVED.get()
    return time.monotonic() if at is None else at


def set_arrived(at: float) -> None:
    """Set when the next handler's call reached the app."""
    _ARRIVED.set(at)
