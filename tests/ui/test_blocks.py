"""What the page says of itself to the browser and to programs."""

from __future__ import annotations

import httpx

from ipa_app.engine.tasks import TASKS
from tests.engine.conftest import TIMEOUT_S


def test_only_what_programs_can_send_or_get_is_described(app_url: str) -> None:
    config = httpx.get(f"{app_url}config", timeout=TIMEOUT_S).json()
    described = {component["id"] for component in config["components"] if "api_info" in component}
    public = [each for each in config["dependencies"] if each["api_visibility"] == "public"]
    assert described == {block for each in public for block in (*each["inputs"], *each["outputs"])}
    assert len(public) == len(TASKS) + 1


def test_where_no_progress_is_shown_no_component_is_asked_for_what_it_holds(app_url: str) -> None:
    config = httpx.get(f"{app_url}config", timeout=TIMEOUT_S).json()
    hidden = [each for each in config["dependencies"] if each["show_progress"] == "hidden"]
    assert hidden
    assert all(each["show_progress_on"] == [] for each in hidden)
