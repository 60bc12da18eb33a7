"""Check the app on a GPU in parts of a few minutes, the most informative first: correct pictures, then speed.

    python -m bench.gpu [PART ...] [--json FILE]
    python -m bench.gpu --table FILE
    python -m bench.gpu --device cpu --tiny --json FILE

The parts, in this order: `tests`, `sd15`, `sdxl`, `memory`, `speed`, `compiled` (see `gpu_parts`). Each runs in its own
process and is ended when it takes too long; its results until then are already in the file, and the next part starts.
Models are built here with random weights of the published shapes. That takes 5 GB of disk for SD 1.5 and 13 GB for
SDXL, in memory if the machine has a RAM disk of that size. It needs the packages of requirements-dev.txt, except its
browser and linters (the part `tests` is run by pytest), and no network. The last command rehearses all of it on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from bench.gpu_parts import PARTS, Run
from bench.timing import table as rows_table
from bench.timing import write_json

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "gpu"
_RAM_DISK = Path("/dev/shm")
_ROOM = 30 * 10**9


class Record:
    """The file of results, valid after every change."""

    def __init__(self, path: Path) -> None:
        """Continue a file, or create it."""
        self._path = path

    def read(self) -> dict[str, Any]:
        """Return the results so far."""
        return json.loads(self._path.read_text("utf-8")) if self._path.is_file() else {"machine": {}, "parts": {}}

    def machine(self, known: dict[str, Any]) -> None:
        """Record the machine that measures."""
        write_json(self._path, self.read() | {"machine": known})

    def begin(self, part: str) -> None:
        """Discard an earlier run's results of a part."""
        content = self.read()
        content["parts"][part] = {}
        write_json(self._path, content)

    def note(self, part: str, **found: Any) -> None:
        """Add results of a part."""
        content = self.read()
        content["parts"][part] |= found
        write_json(self._path, content)


def machine(device: str) -> dict[str, Any]:
    """Return a description of the machine that measures."""
    known: dict[str, Any] = {"device": device, "cores": os.cpu_count()}
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        known |= {"device": properties.name, "memory_gb": round(properties.total_memory / 1e9, 1)}
        known["cuda"] = torch.version.cuda
    return known | {"versions": {name: version(name) for name in ("torch", "diffusers", "transformers")}}


def carry_out(part: str, record: Record, options: argparse.Namespace) -> bool:
    """Run a part in its own process, within its time limit.

    Returns:
        Whether it finished and found nothing wrong.
    """
    limit = options.limit or PARTS[part].limit_s
    record.begin(part)
    print(f"== {part}: {PARTS[part].what} (at most {limit} s)", flush=True)
    command = [sys.executable, "-m", "bench.gpu", "--inside", part, "--json", str(options.json)]
    command += ["--device", options.device, "--folder", str(options.folder), *(["--tiny"] if options.tiny else [])]
    since = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"HF_HUB_OFFLINE": "1"}, start_new_session=True)
    try:
        code = process.wait(limit)
        ended = "to the end" if code == 0 else f"with an error (exit code {code})"
    except subprocess.TimeoutExpired:
        ended = f"not within {limit} s"
    finally:
        _end(process)
    record.note(part, ended=ended, took_s=round(time.monotonic() - since, 1))
    found = record.read()["parts"][part]
    print(json.dumps(found, indent=1), flush=True)
    return ended == "to the end" and found.get("right", True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a part with all processes that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def report(content: dict[str, Any]) -> str:
    """Format a file of results as Markdown: how each part ended, then the tables of those that measured speed."""
    lines = ["| Part | Ended | Took | Right |", "|---|---|---|---|"]
    for name, found in content["parts"].items():
        right = {True: "yes", False: "no"}.get(found.get("right"), "")
        lines.append(f"| {name} | {found.get('ended', '')} | {found.get('took_s', 0):.0f} s | {right} |")
    tables = [rows_table(found["rows"]) for found in content["parts"].values() if found.get("rows")]
    return "\n\n".join(["\n".join(lines), *tables])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts, or print a run's results; exit with an error if a part did not finish or found a fault."""
    options = _options(arguments)
    if options.table:
        print(report(json.loads(options.table.read_text("utf-8"))))
        return
    record = Record(options.json)
    if options.inside:
        part = options.inside
        run = Run(options.folder, device=options.device, tiny=options.tiny, note=lambda **f: record.note(part, **f))
        PARTS[part].run(run)
        return
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("There is no GPU here; --device cpu --tiny rehearses everything.")
    record.machine(machine(options.device))
    with _models_in(options.folder) as folder:
        options.folder = folder
        right = [carry_out(part, record, options) for part in options.part or PARTS]
    print(report(record.read()))
    if not all(right):
        raise SystemExit("Some parts did not finish, or found something wrong.")


@contextmanager
def _models_in(folder: Path | None) -> Iterator[Path]:
    """Yield the folder to build models in: the named one, which is kept, or else a temporary one."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="gpu-", dir=_roomy()) as made:
        yield Path(made)


def _roomy() -> Path | None:
    """Return a RAM disk that has room for all weights; None, for the usual temporary folder, if there is none."""
    return _RAM_DISK if _RAM_DISK.is_dir() and shutil.disk_usage(_RAM_DISK).free > _ROOM else None


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="*", choices=[[], *PARTS], help="parts to run; by default all")
    parser.add_argument("--json", type=Path, help="file of results; one begun earlier is continued")
    parser.add_argument("--folder", type=Path, help="where models are built and kept; by default a temporary folder")
    parser.add_argument("--limit", type=int, help="seconds for each part, instead of its own limit")
    parser.add_argument("--device", default="cuda", help="a torch device")
    parser.add_argument("--tiny", action="store_true", help="narrow models and small pictures, for a rehearsal")
    parser.add_argument("--table", type=Path, metavar="JSON", help="measure nothing, print the results in this file")
    parser.add_argument("--inside", choices=list(PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.json is None and options.table is None:
        has_card = options.device.startswith("cuda") and torch.cuda.is_available()
        name = torch.cuda.get_device_name(options.device) if has_card else options.device
        options.json = RESULTS / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}.json"
    elif options.json is not None:
        options.json = options.json.resolve()
    return options


if __name__ == "__main__":
    main()
