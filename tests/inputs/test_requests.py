"""Every row of "Requests" in docs/inputs.md: the API as used with curl, and the box for pictures with settings."""

from __future__ import annotations

import base64
import io
import json
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from PIL import Image

from ipa_app.engine.results import Progress
from ipa_app.errors import Cancelled
from ipa_app.imaging.result_files import OutputFormat
from tests.engine.conftest import TIMEOUT_S, noise_picture
from tests.inputs.tables import rows
from tests.noted_files import noted_file
from tests.other_programs import COMFY, FOOOCUS, INFOTEXT, INVOKE, PICTURE, node, png
from tests.sample_requests import sample_request
from tests.ui.page_parts import opened_page
from tests.ui.serving import WatchedEngine
from tests.ui.test_api import PROMISED
from tests.ui.test_giving_up import LONG, sent, submitted, values
from tests.ui.test_restore import drop, result_file

ROWS = rows("Requests")
MARK = {"_type": "gradio.FileData"}
SMALL = {"512": "64", "384": "64"}
UNSAID = "drawn from the words, or freely"
MASK = Image.new("L", noise_picture().size)
MASK.paste(255, (10, 10, 30, 30))

Said = tuple[str, str | None]


class Api:
    """Calls the served app."""

    def __init__(self, url: str, engine: WatchedEngine, *, folder: Path) -> None:
        self.url = f"{url}gradio_api"
        self.engine = engine
        self._folder = folder
        self.uploaded = self._upload(noise_picture())
        transparent = noise_picture().convert("RGBA")
        transparent.putalpha(Image.linear_gradient("L").resize(transparent.size))
        self.transparent = self._upload(transparent)

    def _upload(self, picture: Image.Image) -> str:
        picture.save(self._folder / "a.png")
        files = {"files": ("a.png", (self._folder / "a.png").read_bytes())}
        return httpx.post(f"{self.url}/upload", files=files).json()[0]

    def call(self, name: str, body: str, *, kind: str = "application/json") -> Said:
        """Call an endpoint in the usual two requests; return the outcome and the message."""
        headers = {"content-type": kind} if kind else {}
        began = httpx.post(f"{self.url}/call/{name}", content=body, headers=headers)
        if began.status_code != 200:
            return "refused", began.json()["error"]
        answer = httpx.get(f"{self.url}/call/{name}/{began.json()['event_id']}", timeout=TIMEOUT_S).text
        event, told = re.findall(r"event: (complete|error)\ndata: (.*)", answer)[-1]
        return ("taken", None) if event == "complete" else ("refused", json.loads(told)["error"])

    def refusal(self, path: str, **sent: Any) -> Said:
        """Return the outcome and message of another request."""
        answer = httpx.post(f"{self.url}/{path}", **sent)
        return "taken" if answer.is_success else "refused", answer.json()["error"]

    def mix(self, **given: Any) -> Said:
        return self.call("mix", json.dumps({"data": values(**{"prompt": "a cat", "steps": 1, **given})}))

    def by_names(self, **given: Any) -> Said:
        return self.call("v2/mix", json.dumps(given))

    def variation(self, reference: Any) -> Said:
        given = {**PROMISED["/variation"], "reference": reference, "steps": 1}
        return self.call("variation", json.dumps({"data": list(given.values())}))

    def inpaint(self, **given: Any) -> Said:
        """Fill a hole; return what guided the drawing, and the notes with the picture."""
        pictures = {"image": {"path": self.uploaded}, "mask": {"path": self._upload(MASK)}}
        began = httpx.post(f"{self.url}/call/v2/inpaint", json={**pictures, "steps": 1, "seed": 1, **given})
        answer = httpx.get(f"{self.url}/call/inpaint/{began.json()['event_id']}", timeout=TIMEOUT_S).text
        notes = json.loads(re.findall(r"event: complete\ndata: (.*)", answer)[-1])[1]["notes"]
        return ("drawn to match what is around the mask", " ".join(notes)) if notes else (UNSAID, None)

    def upload_of(self, size: int) -> Said:
        """Begin an upload with `size` as its declared length in bytes."""
        address = httpx.URL(self.url)
        head = "POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data;boundary=x\r\n"
        with socket.create_connection((address.host, address.port or 80)) as connection:
            connection.sendall(f"{head}Content-Length: {size}\r\n\r\n--x\r\n".encode())
            answer = connection.makefile().read()
        return "refused", answer.rsplit("\n", 1)[1]

    def result_of(self, event: str) -> Said:
        return "refused", httpx.get(f"{self.url}/call/mix/{event}").json()["error"]

    def hang_up(self) -> Said:
        before = len(self.engine.jobs)
        event = httpx.post(f"{self.url}/call/mix", json={"data": values(**LONG)}).json()["event_id"]
        hang_up = sent(self.url, f"GET /gradio_api/call/mix/{event}")
        (job,) = submitted(self.engine, before)
        next(each for each in job.events() if isinstance(each, Progress) and each.phase == "denoising")
        hang_up()
        with pytest.raises(Cancelled):
            job.result(TIMEOUT_S)
        return "ends at the next step", None


class Box:
    """Drops files on the page."""

    def __init__(self, page: Any, *, folder: Path) -> None:
        self._page = page
        self._folder = folder

    def drop(self, path: Path | str) -> Said:
        parts, _ = self._page
        update = drop(self._page, path)
        return ("taken" if parts.tasks in update else "refused"), re.sub("<[^>]+>", "", update[parts.restore.note])

    def png(self, **notes: Any) -> Said:
        return self.drop(png(self._folder / "a.png", **notes))

    def own(self, output_format: OutputFormat = "png") -> Said:
        return self.drop(result_file(self._page[1], sample_request("mix", output_format=output_format)))

    def noted(self, output_format: OutputFormat, note: str) -> Said:
        return self.drop(noted_file(self._folder / "a", PICTURE, output_format, {"ip_adapter_studio": note}))

    def damaged(self, output_format: OutputFormat) -> Said:
        PICTURE.save(self._folder / "a", format=output_format, exif=b"Exif\0\0MM\0*\xff\xff\xff\xf0")
        return self.drop(self._folder / "a")

    def silent(self) -> Said:
        PICTURE.save(self._folder / "a.jpg")
        return self.drop(self._folder / "a.jpg")


def data_url(picture: Image.Image) -> str:
    held = io.BytesIO()
    picture.save(held, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"


def sized(notes: Any) -> Any:
    """Return notes with their sizes replaced to fit a picture of 64 x 64."""
    text = notes if isinstance(notes, str) else json.dumps(notes)
    for large, small in SMALL.items():
        text = text.replace(large, small)
    return text


SECOND_PASS = node("KSampler", **{**COMFY["3"]["inputs"], "latent_image": ["2", 0]})
TWO_PASSES = {"1": SECOND_PASS, "2": node("LatentUpscale", samples=["3", 0], width=96, height=96), **COMFY}

CALLS: dict[str, Callable[[Api], Said]] = {
    "Every value of an endpoint, in its order": lambda api: api.mix(),
    "One value too few": lambda api: api.call("mix", json.dumps({"data": values(prompt="a cat")[:-1]})),
    "One value too many": lambda api: api.call("models", '{"data": [1]}'),
    "By their names (`/call/v2/…`): those that differ from the defaults": lambda api: api.by_names(
        prompt="a cat", steps=1
    ),
    "By their names: one that is not a parameter": lambda api: api.by_names(prompt="a cat", cfg=7),
    "By their names: one that is needed is missing": lambda api: api.by_names(steps=1),
    "`null` where there is a default": lambda api: api.mix(seed=None, view=None, negative_prompt=None),
    "`null` where something is needed": lambda api: api.variation(None),
    "Text instead of a number": lambda api: api.mix(steps="many"),
    "A list instead of a number": lambda api: api.mix(scale=[0.6]),
    "NaN or infinity": lambda api: api.mix(scale=float("nan")),
    "A number out of range": lambda api: api.mix(centre_x=3),
    "A word that is not among the choices": lambda api: api.mix(view="half"),
    "A picture as text: a path, an address, a data URL": lambda api: api.variation("data:image/png;base64,AAAA"),
    'A picture as `{"path": …}`, uploaded before': lambda api: api.variation({"path": api.uploaded}),
    'The address of an upload or a result on this server as `{"path": …}`': lambda api: api.variation(
        {"path": f"{api.url}/file={api.uploaded}"}
    ),
    "A path that was not uploaded": lambda api: api.variation({"path": "/etc/hostname", "meta": MARK}),
    "A path of any length that leads nowhere": lambda api: api.variation({"path": "a/" * 3000}),
    'A data URL as `{"path": …}`': lambda api: api.variation({"path": data_url(noise_picture())}),
    "A data URL that is not in base64": lambda api: api.variation({"path": "data:,hello"}),
    "A path whose file has been cleared away": lambda api: api.variation({"path": f"{api.uploaded}.png"}),
    "An address that is not public, or does not exist": lambda api: api.variation({"path": "http://127.0.0.1:1/a.png"}),
    "Two files for one picture": lambda api: api.variation([{"path": api.uploaded}] * 2),
    "A file that is not a picture": lambda api: api.variation({"path": str(not_a_picture(api))}),
    'Something that is not JSON, or has no "data"': lambda api: api.call("models", "prompt=a cat"),
    "JSON without the header that says so, as curl sends it by itself": lambda api: same_of(
        api.call(name, '{"prompt": "a cat"}', kind=kind)
        for name in ("mix", "v2/mix")
        for kind in ("", "application/x-www-form-urlencoded")
    ),
    "An endpoint that does not exist": lambda api: api.call("paint", '{"data": []}'),
    "A number (`fn_index`) that no function has": lambda api: api.refusal(
        "queue/join", json={"data": [], "fn_index": 99999, "session_hash": "a"}
    ),
    "An upload without a file, as curl sends one where the @ is forgotten": lambda api: api.refusal(
        "upload", files={"files": (None, "my_toy.png")}
    ),
    "A result that was fetched before": lambda api: api.result_of("0a1b"),
    "An upload for which the disk has no room": lambda api: api.upload_of(10**15),
    '`speed="fast"` for a model that cannot draw fast': lambda api: api.by_names(prompt="a cat", speed="fast"),
    "JPEG asked for when the picture to change is transparent": lambda api: api.by_names(
        prompt="a cat", start_image={"path": api.transparent}, output_format="jpeg"
    ),
    "Inpainting with no reference, no words and no style": lambda api: api.inpaint(),
    "Inpainting with words alone, or with `surroundings=false`": lambda api: same_of(
        api.inpaint(**given) for given in ({"prompt": "a cat"}, {"surroundings": False})
    ),
    "A call that is cancelled, a connection that is closed, a tab that is closed": lambda api: api.hang_up(),
}
FILES: dict[str, Callable[[Box], Said]] = {
    "A PNG that was made here": lambda box: box.own(),
    "A JPEG or WebP that was made here": lambda box: same_of(box.own(output_format=each) for each in ("jpeg", "webp")),
    "A result whose settings are cut off or not JSON, in any of the three formats": lambda box: same_of(
        box.noted(each, note) for each in get_args(OutputFormat) for note in ('{"task": "mi', "prompt: a cat")
    ),
    "A JPEG or WebP with damaged EXIF data and nothing else": lambda box: same_of(
        box.damaged(each) for each in ("jpeg", "webp")
    ),
    "A picture of AUTOMATIC1111 or Forge": lambda box: box.png(parameters=sized(INFOTEXT)),
    "A picture of ComfyUI": lambda box: box.png(prompt=sized(COMFY)),
    "A picture of ComfyUI that used several samplers": lambda box: box.png(prompt=sized(TWO_PASSES)),
    "A picture of Fooocus": lambda box: box.png(parameters=sized(FOOOCUS)),
    "A picture of InvokeAI": lambda box: box.png(invokeai_metadata=sized(INVOKE)),
    "One with LoRAs, ControlNets, image prompts": lambda box: box.png(
        parameters=f'{sized(INFOTEXT)}, Lora hashes: "ink: 0a", ControlNet 0: "Module: ip-adapter, Weight: 1"'
    ),
    "One with numbers out of range": lambda box: box.png(
        parameters=INFOTEXT.replace("4242", "1102676403634909").replace("24,", "150,")
    ),
    "One that does not say everything": lambda box: box.png(
        invokeai_metadata={"positive_prompt": "a fox", "seed": 7, "width": 64, "height": 64}
    ),
    "A picture without settings": lambda box: box.silent(),
}


def same_of(said: Iterable[Said]) -> Said:
    """Return the one outcome they all share."""
    (same,) = set(said)
    return same


def not_a_picture(api: Api) -> str:
    return httpx.post(f"{api.url}/upload", files={"files": ("a.png", b"text")}).json()[0]


@pytest.fixture(scope="module")
def api(served_app: tuple[str, WatchedEngine], tmp_path_factory: pytest.TempPathFactory) -> Api:
    return Api(*served_app, folder=tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def box(tiny_bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with opened_page(tiny_bundle_dir) as page:
        yield Box(page, folder=tmp_path_factory.mktemp("files"))


def test_every_row_is_tried() -> None:
    assert [*CALLS, *FILES] == list(ROWS)


@pytest.mark.parametrize("given", CALLS)
def test_a_call_becomes_what_the_table_says(given: str, api: Api) -> None:
    assert CALLS[given](api) == (ROWS[given].outcome, ROWS[given].sentence)


@pytest.mark.parametrize("given", FILES)
def test_a_file_with_settings_becomes_what_the_table_says(given: str, box: Box) -> None:
    assert FILES[given](box) == (ROWS[given].outcome, ROWS[given].sentence)
