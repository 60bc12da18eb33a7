"""Reading what the browser or an API client uploaded, before anything has decoded it.

The listeners run with `preprocess=False`: Gradio's own components would open a file first, and fail at an odd one
with messages of their own.
"""

from __future__ import annotations

import base64
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from gradio import route_utils
from gradio.route_utils import GradioMultiPartParser, GradioUploadFile
from gradio.utils import get_upload_folder, is_in_or_equal, is_static_file
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from ipa_app.errors import UserError
from ipa_app.messages import Message, english
from ipa_app.models.units import size_text
from ipa_app.options import wrong_value
from ipa_app.runtime import written_whole

LARGEST_PICTURE = 32 * 10**6
_MOST_SPARED = 256 * 10**6
"""Bytes that uploads leave on the disk for what is made; of a small disk a twentieth."""

_PICTURE = (
    'a picture, which gradio_client sends as handle_file(...), and others as {"path": ...} with the path that an '
    "upload to /gradio_api/upload gives back"
)
_DATA_URL = "a data URL in base64, such as data:image/png;base64,AAAA"
_NO_FILES = 'An upload has files in its fields "files"; curl sends one so: -F files=@my_toy.png, and not without the @.'
_SERVED = "/gradio_api/file="
_MARK = {"_type": "gradio.FileData"}
_NAME_BYTES = 32
"""Of a folder's name: as many as there are in those that Gradio makes of what is in them."""


class _PageUploads(GradioMultiPartParser):
    """Reads uploads as Gradio does, and has each that a page sends lie in a folder of its own.

    Gradio names folders after what is in them, so that all who bring the same picture have the same file, and lose it
    when the first of them deletes what is theirs. Programs, which delete nothing, and send the same file with every
    call, have it once.
    """

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        file = self._current_part.file
        # Every browser says which page sends something, and programs come from none.
        if isinstance(file, GradioUploadFile) and "origin" in self.headers:
            file.sha.update(secrets.token_bytes(_NAME_BYTES))

    async def parse(self) -> FormData:
        form = await super().parse()
        files = form.getlist("files")
        if not files or not all(isinstance(file, GradioUploadFile) for file in files):
            for file in self._files_to_close_on_error:
                file.close()
                Path(file.name).unlink(missing_ok=True)
            raise HTTPException(422, _NO_FILES)
        return form


def keep_uploads_apart() -> None:
    """Have what two pages upload be two files, whatever is in them; and an upload of no files is said to be none."""
    setattr(route_utils, GradioMultiPartParser.__name__, _PageUploads)


def keep_data(data: bytes, *, name: str) -> str:
    """Keep data for one page, in a file that no other has, among the uploads, and return its path.

    Args:
        data: what is in it.
        name: of the file.

    Raises:
        OSError: there is no room for it.
    """
    folder = Path(get_upload_folder()).absolute() / secrets.token_hex(_NAME_BYTES)
    folder.mkdir(parents=True)
    with written_whole(folder / name) as part:
        part.write_bytes(data)
    return str(folder / name)


def input_name(field: str) -> str:
    """Return what an input is called in sentences; those of the API's own names have one in every language."""
    key = f"input.{field}"
    return Message(key) if key in english().sentences else field


def file_path(payload: Any, *, field: str, most: int | None = LARGEST_PICTURE) -> str:
    """Return the uploaded file's path.

    Args:
        payload: what a File or Image component sends, a dict with "path". Gradio has checked that the path lies
            among its uploads.
        field: the input's name for the message.
        most: bytes that it may have; None where somebody else looks at that.

    Raises:
        UserError: several files, no file at all in what was sent, or a larger one.
    """
    if isinstance(payload, list):
        if len(payload) > 1:
            raise UserError("upload.several", name=input_name(field))
        payload = payload[0] if payload else None
    path = payload.get("path") if isinstance(payload, dict) else None
    if not isinstance(path, str):
        raise UserError("upload.not_a_file", name=input_name(field))
    if most is not None and Path(path).stat().st_size > most:
        raise UserError("upload.too_large", name=input_name(field), size=size_text(most))
    return path


def sent_picture(payload: Any, *, field: str) -> dict[str, Any] | None:
    """Return what a program sent as a picture in the form that Gradio takes: its mark may have been left out.

    Raises:
        UserError: it is nothing of the kind, and how a picture is sent.
    """
    if payload is None or payload == []:
        return None
    given = payload[0] if isinstance(payload, list) and len(payload) == 1 else payload
    if isinstance(given, list):
        raise UserError("upload.several", name=input_name(field))
    if not isinstance(given, dict) or not isinstance(given.get("path"), str):
        raise wrong_value(field, given, _PICTURE)
    # What else files are described by is Gradio's own to say, and nothing here reads it.
    name = {"orig_name": given["orig_name"]} if isinstance(given.get("orig_name"), str) else {}
    return {"path": given["path"], **name, "meta": _MARK}


def is_address(path: str) -> bool:
    """Whether this is a web address, which is fetched."""
    return path[:8].lower().startswith(("http://", "https://"))


def served_file(address: str) -> str | None:
    """Return the path that is in an address as this app gives them of its files; None where there is no such file here.

    By whatever name the app was called there: who knows the path could have sent that.
    """
    try:
        path = unquote(urlsplit(address).path.partition(_SERVED)[2])
    except ValueError:  # no address
        return None
    return path if path and _is_known(path) and _is_file(path) else None


def served_address(path: str) -> str:
    """Return an address that `served_file` finds a file by; of no use elsewhere."""
    return f"http://localhost{_SERVED}{quote(path)}"


def is_data_url(path: str) -> bool:
    """Whether this says itself what is in the file."""
    return path[:5].lower() == "data:"


def embedded_file(url: str, *, field: str) -> bytes:
    """Return what a data URL says that is in the file.

    Args:
        url: as `is_data_url` knows it.
        field: the input's name for the message.

    Raises:
        UserError: it is not written in base64.
    """
    head, _, data = url.partition(",")
    try:
        if not head.endswith(";base64"):
            raise ValueError("not base64")
        return base64.b64decode("".join(unquote(data).split()), validate=True)
    except ValueError:
        raise wrong_value(field, url, _DATA_URL).blaming(field) from None


def painted_files(sent: Any, *, field: str) -> dict[str, Any] | None:
    """Return the files of what a painting area sent, as `imaging.masks` takes them; None where nothing was painted.

    Args:
        sent: by gr.ImageEditor, which sends files as long as nobody listens to its strokes.
        field: the input's name for the message.

    Raises:
        UserError: as for `file_path`.
    """
    layers = [file_path(layer, field=field) for layer in (sent or {}).get("layers") or ()]
    return {"background": file_path(sent["background"], field=field), "layers": layers} if layers else None


def check_room(size: int) -> None:
    """Make sure that there is room for an upload, and some besides: a disk that is full is full for everybody.

    Args:
        size: of what is still to come, in bytes.

    Raises:
        OSError: there is not, as if it had been tried.
    """
    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    disk = shutil.disk_usage(folder)
    if disk.free < size + min(_MOST_SPARED, disk.total // 20):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def check_files(value: Any, *, field: str) -> None:
    """Make sure that all files in what was sent are there, and were uploaded.

    Args:
        value: of one input, of any content.
        field: the input's name for the message.

    Raises:
        UserError: one is not; or the page has it from long ago, and it has been cleared away.
    """
    for path in paths_in(value):
        if not _is_known(path):
            raise UserError("upload.not_uploaded", name=input_name(field)).blaming(field)
        if not _is_file(path):
            raise UserError("upload.gone", name=input_name(field)).blaming(field)


def paths_in(value: Any) -> Iterator[str]:
    """Yield the paths and addresses of all files in what was sent."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from paths_in(item)
    elif isinstance(value, dict):
        # With Gradio's mark or without it: that is how a file is sent, and `file_path` takes it.
        if isinstance(value.get("path"), str):
            yield value["path"]
        for item in value.values():
            yield from paths_in(item)


def _is_known(path: str) -> bool:
    """Whether a path leads to where uploads and the app's own files lie."""
    try:
        return is_in_or_equal(path, get_upload_folder()) or is_static_file(path)
    except (OSError, ValueError):  # too long for a name, or with characters that none can have
        return False


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False
