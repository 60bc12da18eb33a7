"""The whole app on a simulated ZeroGPU: `python -m tests.ui.zero_gpu_rehearsal MODEL_FOLDER`, printing JSON.

The package `spaces` in its ZeroGPU mode (its fake CUDA, its tensors packed to disk, its forked process and queues),
Gradio and the app are real. The service that lends GPUs and the GPU are simulated: "cuda" is main memory.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import Progress
from ipa_app.errors import Cancelled

LENT = {"idle": True, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "allowed"}
USED_UP = {"left": 3, "wait": "PT1H2M3S"}


class Lender(BaseHTTPRequestHandler):
    """A fake of the service that lends GPUs; notes the requests it gets."""

    asked: list[tuple[str, dict[str, str]]] = []
    is_used_up = False

    def do_POST(self) -> None:  # noqa: N802 - the base class calls it so
        """Answer as the client in `spaces` expects."""
        url = urlsplit(self.path)
        values = {name: each[0] for name, each in parse_qs(url.query).items()}
        self.asked.append((url.path, values))
        refused = url.path == "/schedule" and self.is_used_up
        body = json.dumps({"/schedule": USED_UP if refused else LENT}.get(url.path, {})).encode()
        self.send_response(429 if refused else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def play_zero_gpu() -> None:
    """Set this process up as one on ZeroGPU. Call it before anything imports torch."""
    lender = ThreadingHTTPServer(("127.0.0.1", 0), Lender)
    threading.Thread(target=lender.serve_forever, daemon=True).start()
    os.environ |= {
        "SPACES_ZERO_GPU": "true",
        "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{lender.server_port}",
        "ZEROGPU_PROC_SELF_CGROUP_PATH": str(Path(os.environ["GRADIO_TEMP_DIR"]) / "cgroup"),
        "ZEROGPU_OFFLOAD_DIR": str(Path(os.environ["GRADIO_TEMP_DIR"]) / "tensors"),
    }
    Path(os.environ["ZEROGPU_PROC_SELF_CGROUP_PATH"]).write_text("0::/here\n", encoding="utf-8")
    import gradio  # noqa: F401 - spaces wants it whole
    import spaces.zero.torch

    spaces.zero.torch.init = lambda _: None
    spaces.zero.torch.size = lambda: 0
    spaces.zero.torch.move = bring_back


def bring_back(callback: Any = None) -> None:
    """Simulate the GPU's memory: read the packed tensors from disk into main memory, and make models use the CPU."""
    import gc

    import torch
    from spaces.zero.torch.patching import tensor_packs

    from ipa_app.models.loaded import LoadedModel

    for pack in tensor_packs:
        data, offset = bytearray(Path(pack.path()).read_bytes()), 0
        for tensor, size, aligned in [*(each for batch in pack.batches for each in batch), *pack.big_tensors]:
            raw = torch.frombuffer(data, dtype=torch.uint8, count=size, offset=offset).clone()
            whole = torch.tensor([], dtype=tensor.dtype).set_(raw.untyped_storage(), 0, tensor.shape, tensor.stride())
            for fake in pack.fakes[tensor]:
                fake.data = whole
            offset += aligned
    for thing in gc.get_objects():
        if type(thing) is LoadedModel:
            vars(thing)["device"] = torch.device("cpu")


def main(folder: Path) -> dict[str, Any]:
    """Open the page, draw, stop, run out of GPU time, and return what happened."""
    play_zero_gpu()
    from gradio_client import Client

    from ipa_app.models.catalog import entry_from_folder
    from ipa_app.ui.page import build_page
    from ipa_app.ui.studio import Studio
    from ipa_app.ui.zero_gpu import build_engine

    engine = build_engine({"toybox": entry_from_folder(folder, name="toybox")}, device=None)
    device = str(engine.manager.get("toybox").device)
    page = build_page(Studio(engine=engine, manager=engine.manager)).queue()
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", ssr_mode=False)
    client = Client(url, verbose=False, headers={"x-ip-token": "a.e30.c"})
    told: dict[str, Any] = {"device": device, "parent": os.getpid()}
    asked = {"prompt": "a cat", "seed": 5, "steps": 3, "count": 2}
    pictures, told["settings"] = client.predict(api_name="/mix", **asked)
    told["pictures"] = pictures
    told["again"] = client.predict(api_name="/mix", **asked)[0]
    told["stopped_after"] = stop_one(engine)
    told["after_stop"] = client.predict(api_name="/mix", **asked)[0]
    Lender.is_used_up = True
    told["used_up"] = _error(client, **asked)
    told["asked"] = Lender.asked
    return told


def stop_one(engine: Engine) -> int:
    """Stop a long request at its first step; return the step at which it stopped."""
    job = engine.submit(GenerateRequest(task="mix", prompt="a cat", steps=100, count=8))
    last = 0
    with contextlib.suppress(Cancelled):
        for event in job.events():
            if isinstance(event, Progress) and event.phase == "denoising":
                last = event.step
                job.cancel()
    return last


def _error(client: Any, **values: Any) -> str:
    try:
        client.predict(api_name="/mix", **values)
    except Exception as error:  # noqa: BLE001 - what comes is what is looked at
        return str(error)
    return ""


if __name__ == "__main__":
    outcome = main(Path(sys.argv[1]))
    print(json.dumps(outcome), flush=True)
    # The forked process would outlive this one and keep its output open.
    for process in multiprocessing.active_children():
        process.kill()
    os._exit(0)
