"""Drawing on local Ray Serve replicas: the pictures, and what happens when a replica ends.

Ray is not among the tests' requirements: `pip install -r requirements-cluster.txt`.
"""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import yaml

from ipa_app.engine.board import Report
from ipa_app.engine.engine import Engine
from ipa_app.engine.job import Job
from ipa_app.engine.remote import Refusal
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import Progress
from ipa_app.errors import Cancelled, UserError
from ipa_app.messages import Message
from ipa_app.models.catalog import catalog, entry_from_folder
from ipa_app.models.manager import ModelManager
from ipa_app.ui.operations import operator_routes
from ipa_app.ui.zero_gpu import build_engine
from tests.adapter_files import write_adapter
from tests.engine.conftest import TIMEOUT_S, drawing, pixels, reference
from tests.tiny_models import random_adapter_tensors, tiny_bundle, tiny_unet
from tests.waiting import until

# Detected without an import, because importing Ray reads the environment.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray: requirements-cluster.txt"),
]

WISH = {"task": "mix", "prompt": "a cat", "model": "toybox"}
LONG = {**WISH, "steps": 100, "count": 4, "seed": 5}
# Long enough to see who draws it before it is done; replicas report once a second.
LONGER = {**LONG, "count": 8}
ENDLESS = {**LONGER, "width": 128, "height": 128}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two tiny models, in folders named as in the catalogue."""
    folder = tmp_path_factory.mktemp("models")
    return {name: tiny_bundle(folder / name, seed=seed) for seed, name in enumerate(("toybox", "other"))}


@pytest.fixture(scope="module")
def cluster(bundles: dict[str, Path]) -> Iterator[Engine]:
    with running_cluster(bundles, IPA_REPLICAS="2", IPA_STUCK_SECONDS="20") as engine:
        yield engine


@contextmanager
def running_cluster(bundles: dict[str, Path], **settings: str) -> Iterator[Engine]:
    """Yield an engine on replicas with a loaded model; on exit, no process may be left."""
    with pytest.MonkeyPatch.context() as patch:
        settings |= {
            "IPA_CLUSTER": "local",
            "IPA_MODELS": os.pathsep.join(map(str, bundles.values())),
            "IPA_HUB_MODELS": "",
            "IPA_DEVICE": "cpu",
            "IPA_EXACT": "1",
        }
        for name, value in settings.items():
            patch.setenv(name, value)
        others = psutil.Process().children(recursive=True)
        engine = build_engine(catalog(), device="cpu")
        begun: list[psutil.Process] = []
        try:
            engine.manager.start("toybox")
            ready(engine, replicas=int(settings["IPA_REPLICAS"]))
            begun = psutil.Process().children(recursive=True)
            yield engine
        finally:
            begun = list({*begun, *psutil.Process().children(recursive=True)} - {*others})
            engine.close()
            _, left = psutil.wait_procs(begun, timeout=60)
            for process in left:
                process.kill()
    assert not left


@pytest.fixture(scope="module")
def here(bundles: dict[str, Path]) -> Iterator[Engine]:
    """An engine that draws the same in this process."""
    engine = Engine(ModelManager({name: entry_from_folder(each, name=name) for name, each in bundles.items()}, "cpu"))
    yield engine
    engine.close()


def ready(engine: Engine, *, model: str = "toybox", replicas: int = 2) -> None:
    until(lambda: sum(each.states[model].phase == "ready" for each in living(engine)) >= replicas)


def living(engine: Engine) -> list[Report]:
    """Return the reports of replicas whose process exists; the board learns a little later that one has ended."""
    return [each for each in engine.device.reports() if psutil.pid_exists(pid_of(each))]


def ready_models(report: Report) -> list[str]:
    return [name for name, state in report.states.items() if state.phase == "ready"]


def pid_of(report: Report) -> int:
    return int(report.place.split()[-1])


def begun(engine: Engine, wish: GenerateRequest) -> tuple[Job, psutil.Process]:
    """Return a request that is being drawn, and the process of the replica that draws it; nothing else is drawn.

    The process is found by its CPU time, as the reports of replicas may still be about earlier requests.
    """
    until(lambda: not any(each.drawing for each in living(engine)))
    job = drawing(engine.submit(wish))
    since = {process: process.cpu_times().user for process in map(psutil.Process, map(pid_of, living(engine)))}

    def taken(process: psutil.Process) -> float:
        return process.cpu_times().user - since[process]

    until(lambda: max(map(taken, since)) > 0.3)
    return job, max(since, key=taken)


def told(job: Job) -> list[str]:
    return [str(event.message) for event in job.events() if isinstance(event, Progress)]


def test_pictures_are_the_same_as_in_one_process_and_progress_streams(cluster: Engine, here: Engine) -> None:
    # Progress is sent five times in two seconds, and must arrive more than ten times.
    wish = GenerateRequest(**LONGER, references=(reference(2),), scale=0.8, width=128, height=128)
    *progress, result = cluster.submit(wish, previews=True).events()
    expected = here.submit(wish).result(TIMEOUT_S)
    assert pixels(result) == pixels(expected)
    assert result.settings == expected.settings
    assert result.notes == expected.notes
    steps = [each.step for each in progress if each.phase == "denoising"]
    assert steps == sorted(steps)
    assert len(set(steps)) > 10
    assert [each for each in progress if each.preview is not None]


def test_both_replicas_draw_at_once(cluster: Engine) -> None:
    jobs = [drawing(cluster.submit(GenerateRequest(**ENDLESS))) for _ in range(2)]
    until(lambda: [each.drawing for each in cluster.device.reports()] == [1, 1])
    for job in jobs:
        job.cancel()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness of their own there")
def test_what_draws_on_a_processor_lets_the_front_go_first(cluster: Engine) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    for replica in living(cluster):
        threads = psutil.Process(pid_of(replica)).threads()
        assert max(os.getpriority(os.PRIO_PROCESS, each.id) for each in threads) > own


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_an_adapter_that_a_visitor_brings_travels_with_the_request(
    cluster: Engine, here: Engine, tmp_path: Path, scale: float
) -> None:
    file = write_adapter(tmp_path / "toys.safetensors", random_adapter_tensors(tiny_unet(), kind="full"))
    drawn = []
    for engine in (cluster, here):
        key = engine.manager.adapters.add(file, entry=engine.manager.entry("toybox"))
        wish = GenerateRequest(**WISH, steps=3, seed=1, references=(reference(2),), scale=scale, adapter=key)
        drawn.append(engine.submit(wish).result(TIMEOUT_S))
    assert pixels(drawn[0]) == pixels(drawn[1])
    assert drawn[0].settings == drawn[1].settings
    assert drawn[0].settings["adapter"] == "toys"


def test_an_adapter_that_is_gone_before_it_travels_is_said(cluster: Engine, tmp_path: Path) -> None:
    file = write_adapter(tmp_path / "short.safetensors", random_adapter_tensors(tiny_unet(), kind="full"))
    key = cluster.manager.adapters.add(file, entry=cluster.manager.entry("toybox"))
    wish = GenerateRequest(**WISH, references=(reference(2),), adapter=key)
    blockers = [drawing(cluster.submit(GenerateRequest(**LONG))) for _ in range(2)]
    job = cluster.submit(wish)
    file.unlink()
    for blocker in blockers:
        blocker.cancel()
    with pytest.raises(UserError) as raised:
        job.result(TIMEOUT_S)
    assert raised.value.message.key == "model.adapter_gone"


def test_stopping_ends_its_own_request_and_no_other(cluster: Engine) -> None:
    stopped, other = (drawing(cluster.submit(GenerateRequest(**LONG))) for _ in range(2))
    stopped.cancel()
    with pytest.raises(Cancelled):
        stopped.result(TIMEOUT_S)
    assert other.result(TIMEOUT_S).images
    until(lambda: not any(each.drawing for each in cluster.device.reports()))


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def test_requests_that_are_stopped_at_any_moment_leave_nothing_stuck(cluster: Engine, count: int) -> None:
    chance = random.Random(0)
    for _ in range(count):
        job = cluster.submit(GenerateRequest(**WISH, steps=20))
        for _, _ in zip(range(chance.randrange(8)), job.events(), strict=False):
            pass
        job.cancel()
    drawn = [cluster.submit(GenerateRequest(**WISH, steps=2)) for _ in range(4)]
    assert all(job.result(TIMEOUT_S).images for job in drawn)


def test_a_model_is_drawn_with_where_it_is_in_memory(cluster: Engine) -> None:
    wish = GenerateRequest(**{**WISH, "model": "other"}, steps=2)
    cluster.submit(wish).result(TIMEOUT_S)
    ready(cluster, model="other", replicas=1)
    ready(cluster, replicas=1)
    for _ in range(4):
        cluster.submit(wish).result(TIMEOUT_S)
        cluster.submit(GenerateRequest(**WISH, steps=2)).result(TIMEOUT_S)
    until(lambda: sorted(map(ready_models, living(cluster))) == [["other"], ["toybox"]])
    assert cluster.manager.state("other").phase == cluster.manager.state("toybox").phase == "ready"


def test_a_replica_that_is_killed_loses_nothing_and_its_visitor_is_told(cluster: Engine, here: Engine) -> None:
    job, drawer = begun(cluster, GenerateRequest(**LONGER))
    drawer.kill()
    result = job.result(TIMEOUT_S)
    assert "the process that was drawing this stopped; drawing it again" in told(job)
    assert [note.key for note in result.notes] == ["cluster.drawn_anew"]
    assert pixels(result) == pixels(here.submit(GenerateRequest(**LONGER)).result(TIMEOUT_S))
    until(lambda: len(living(cluster)) >= 2)


class Scripted:
    """A stand-in for a Serve handle, whose calls end in the given ways, in order."""

    def __init__(self, *ends: object) -> None:
        self.ends, self.draw = list(ends), self

    def options(self, **_: object) -> Scripted:
        return self

    def remote(self, *_: object, **__: object) -> Scripted:
        return self

    def __iter__(self) -> Iterator[object]:
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        yield end

    def cancel(self) -> None:
        pass


def test_however_ray_says_that_a_replica_has_ended_it_is_drawn_anew(cluster: Engine) -> None:
    from ray import exceptions  # pyright: ignore[reportMissingImports]

    from ipa_app.engine.cluster import ClusterDraw

    refusal = Refusal(Message("engine.closing"))
    for lost in (exceptions.RayActorError(), exceptions.NodeDiedError("gone"), exceptions.OutOfMemoryError("full")):
        draw = ClusterDraw(cluster.manager, Scripted(lost, refusal), patience=TIMEOUT_S)  # pyright: ignore[reportArgumentType]
        events = [each for each in draw(GenerateRequest(**WISH), adapter=None, previews=False) if each is not None]
        assert events[-1] == refusal
        assert "doing.drawn_anew" in [each.message.key for each in events[:-1]]


def test_a_replica_that_is_stuck_is_ended(cluster: Engine, here: Engine) -> None:
    job, stuck = begun(cluster, GenerateRequest(**LONGER))
    stuck.send_signal(signal.SIGSTOP)
    assert pixels(job.result(TIMEOUT_S)) == pixels(here.submit(GenerateRequest(**LONGER)).result(TIMEOUT_S))
    psutil.wait_procs([stuck], timeout=TIMEOUT_S)
    assert not stuck.is_running()


def test_what_ends_replica_after_replica_is_given_up(cluster: Engine) -> None:
    job, _ = begun(cluster, GenerateRequest(**ENDLESS))
    killed: set[int] = set()
    while not job.done:
        for pid in [pid_of(each) for each in living(cluster) if each.drawing]:
            if pid not in killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
    with pytest.raises(UserError, match="Three processes stopped while drawing this"):
        job.result(0)
    assert len(killed) == 3
    assert cluster.submit(GenerateRequest(**WISH, steps=2)).result(TIMEOUT_S).images


def test_an_operator_sees_every_replica(cluster: Engine) -> None:
    ready(cluster, replicas=1)
    healthz, metrics = (route.endpoint(None) for route in operator_routes(cluster, model="toybox"))
    assert healthz.status_code == 200
    first, *lines = healthz.body.decode().splitlines()
    assert first == "This process can draw."
    assert any("toybox ready" in line for line in lines)
    for report in cluster.device.reports():
        assert report.replica in healthz.body.decode()
        assert f'ipa_replica_drawing{{replica="{report.replica}"}}' in metrics.body.decode()


def test_serve_takes_the_configuration_that_there_is_to_copy(cluster: Engine) -> None:
    from ray.serve.schema import ServeDeploySchema  # pyright: ignore[reportMissingImports]

    from ipa_app.engine.replica import APPLICATION, build

    path = Path(__file__).parents[2] / "deploy" / "serve.yaml"
    (application,) = ServeDeploySchema(**yaml.safe_load(path.read_text(encoding="utf-8"))).applications
    assert application.name == APPLICATION
    assert application.import_path == f"{build.__module__}:{build.__name__}"
    (deployment,) = application.deployments
    assert build({})._bound_deployment.name == deployment.name


def test_nothing_listens_to_the_network(cluster: Engine) -> None:
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    places = {
        each.laddr.ip
        for process in processes
        for each in process.net_connections("inet")
        if each.status == psutil.CONN_LISTEN
    }
    assert places
    assert {place.removeprefix("::ffff:") for place in places} <= {"127.0.0.1", "::1"}
