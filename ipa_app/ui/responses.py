"""Responses to calls that reach no handler: JSON with a sentence as "error"."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from gradio import route_utils
from gradio.block_function import BlockFunction
from gradio.data_classes import PredictBody
from gradio.route_utils import FnIndexInferError
from starlette.exceptions import HTTPException

from ipa_app.ui.calls import Endpoint, missing_parameter, parameters_in_words, unknown_parameter
from ipa_app.ui.failures import explain, is_disk_full

_BY_PLACE = 'JSON that holds a list of values as "data"'
_NOT_SAID_TO_BE_JSON = (
    "A call must have the header Content-Type: application/json; without it, the body is not read as JSON."
)
# FastAPI's message for a body that is not text, or JSON that Python cannot represent.
_UNREADABLE = "There was an error parsing the body"
_CALL = re.compile(r"/(?:call|run|api)(?P<by_name>/v2)?/(?P<name>[^/]+)/?$")
# Error messages on named parameters by gradio_client, which Gradio itself uses.
_UNKNOWN = re.compile(r"Parameter `(.*)` is not a valid key-word argument")
_MISSING = re.compile(r"No value provided for required argument: (\w+)")

_get_fn = route_utils.get_fn

Handler = Callable[[Request, Any], Any]


class Responses:
    """The handlers of exceptions that are raised before an endpoint is reached."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Take the public endpoints, by name."""
        self._endpoints = endpoints

    @property
    def handlers(self) -> dict[type[Exception], Handler]:
        """The handlers by exception type, as FastAPI expects them."""
        return {
            RequestValidationError: self._not_understood,
            HTTPException: self._refused,
            FnIndexInferError: self._no_endpoint,
            KeyError: self._no_endpoint,
            TypeError: self._wrong_names,
            OSError: self._failed,
            Exception: self._failed,
        }

    def _not_understood(self, request: Request, error: Exception) -> Response:
        """Answer a body that is not JSON, or not of the right shape."""
        call = _CALL.search(request.url.path)
        if call is None:
            return _answer(422, "What was sent does not fit this address.")
        endpoint = self._endpoints.get(call["name"])
        if endpoint is None:
            return self._no_endpoint(request, error)
        if "json" not in request.headers.get("content-type", "").lower():
            return _answer(422, _NOT_SAID_TO_BE_JSON)
        shape = "a JSON object that holds values by their names" if call["by_name"] else _BY_PLACE
        return _answer(422, f"A call must be {shape}; {parameters_in_words(endpoint)}")

    def _refused(self, request: Request, error: HTTPException) -> Response:
        """Answer what Gradio or FastAPI refused; their own "detail" stays, as clients read it."""
        if error.detail == _UNREADABLE:
            return self._not_understood(request, error)
        return JSONResponse({"detail": error.detail, "error": str(error.detail)}, error.status_code, error.headers)

    def _no_endpoint(self, request: Request, error: Exception) -> Response:
        call = _CALL.search(request.url.path)
        if call is None or call["name"] in self._endpoints:
            return self._failed(request, error)
        return _answer(404, f"There is no endpoint {call['name']!r}; the endpoints are {', '.join(self._endpoints)}.")

    def _wrong_names(self, request: Request, error: TypeError) -> Response:
        call = _CALL.search(request.url.path)
        endpoint = self._endpoints.get(call["name"]) if call else None
        if endpoint is not None:
            if unknown := _UNKNOWN.search(str(error)):
                return _answer(422, str(unknown_parameter(unknown[1], endpoint)))
            if missing := _MISSING.search(str(error)):
                return _answer(422, str(missing_parameter(missing[1], endpoint)))
        return self._failed(request, error)

    def _failed(self, request: Request, error: Exception) -> Response:
        status, text = 507 if is_disk_full(error) else 500, explain(error)
        if request.url.path.endswith("/upload"):
            return PlainTextResponse(text, status)  # the page shows the whole body
        return _answer(status, text)


def find_by_name() -> None:
    """Patch Gradio: a path with a public endpoint's name leads there, whatever number is sent; unknown numbers are 404.

    The page calls its own handlers by number, at a path without an endpoint's name.
    """
    setattr(route_utils, _get_fn.__name__, _found)


def _found(blocks: gr.Blocks, api_name: str | None, body: PredictBody) -> BlockFunction:
    functions = blocks.fns.values()
    if any(function.api_name == api_name and function.api_visibility == "public" for function in functions):
        body.fn_index = None
    try:
        return _get_fn(blocks, api_name, body)
    except KeyError:
        raise HTTPException(404, f"There is no function {body.fn_index} to call.") from None


def _answer(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status)
