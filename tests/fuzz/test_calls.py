"""What programs call the API with, in both of its forms: JSON of any type in any place, or what is no JSON at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import strategies as st

from ipa_app.engine.plan import make_plan
from ipa_app.engine.tasks import TASKS
from ipa_app.models.catalog import entry_from_folder
from ipa_app.options import Option
from ipa_app.ui.api import parameters
from ipa_app.ui.form import build_request
from tests.engine.conftest import TIMEOUT_S, noise_picture
from tests.fuzz.hostile import anything, examples, holds, numbers, spoilt, texts
from tests.inputs.test_requests import Api
from tests.ui.serving import WatchedEngine
from tests.ui.test_giving_up import values


@pytest.fixture(scope="module")
def uploaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("uploaded") / "a.png"
    noise_picture().save(path)
    return path


def value_of(option: Option, upload: Path) -> st.SearchStrategy[Any]:
    """A value as it is meant, or at the edge of what is allowed, or anything at all."""
    meant: list[st.SearchStrategy[Any]] = [st.just(option.default)]
    if option.is_picture:
        meant = [st.just({"path": str(upload)})]
    elif option.choices:
        meant.append(st.sampled_from(option.choices))
    elif option.type in (int, float):
        meant += [st.sampled_from([option.least, option.most, option.least - 1, option.most + 1]), numbers()]
    elif option.type is str:
        meant.append(texts(40))
    return st.one_of(*meant, *meant, anything(4))


@st.composite
def calls(draw: st.DrawFn, upload: Path) -> tuple[str, dict[str, Any]]:
    """An endpoint and what it is sent, by name."""
    task = draw(st.sampled_from(sorted(TASKS)))
    given = parameters(task)
    changed = draw(st.lists(st.sampled_from(sorted(given)), max_size=4))
    needed = {name for name in TASKS[task].required if name in given}
    return task, {name: draw(value_of(given[name], upload)) for name in {*changed, *needed}}


@examples(120)
def test_values(count: int, tiny_bundle_dir: Path, uploaded: Path) -> None:
    entry = entry_from_folder(tiny_bundle_dir, name="toybox")

    def plan(call: tuple[str, dict[str, Any]]) -> None:
        make_plan(build_request(*call).with_seed(), entry)

    holds(plan, calls(uploaded), count=count)


@pytest.fixture(scope="module")
def api(served_app: tuple[str, WatchedEngine], tmp_path_factory: pytest.TempPathFactory) -> Api:
    return Api(*served_app, folder=tmp_path_factory.mktemp("files"))


BODIES = [json.dumps({"data": values(prompt="a cat", steps=1)}).encode(), b'{"prompt": "a cat", "steps": 1}']


@examples(40)
def test_calls(count: int, api: Api, uploaded: Path) -> None:
    """The server answers whatever it is sent, and goes on answering."""

    def call(sent: tuple[str, bytes]) -> None:
        name, body = sent
        is_json = {"content-type": "application/json"}
        began = httpx.post(f"{api.url}/call/{name}", content=body, headers=is_json, timeout=TIMEOUT_S)
        if began.status_code == 200:
            event = began.json()["event_id"]
            answer = httpx.get(f"{api.url}/call/{name.removeprefix('v2/')}/{event}", timeout=TIMEOUT_S).text
            assert "event: complete" in answer or "event: error" in answer
            assert '"error": null' not in answer
        else:
            assert began.status_code in (400, 404, 422)
            assert began.json()["error"]

    def as_body(called: tuple[str, dict[str, Any]]) -> tuple[str, bytes]:
        return f"v2/{called[0]}", json.dumps({"steps": 1, "count": 1, **called[1]}).encode()

    bodies = st.tuples(st.sampled_from(["mix", "v2/mix", "models"]), spoilt(BODIES))
    holds(call, st.one_of(bodies, calls(uploaded).map(as_body)), count=count)
