"""The example in docs/api.md runs as it stands there."""

from __future__ import annotations

import re
import runpy
import shutil
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"


def test_the_example_of_the_api_runs(
    app_url: str,
    pictures: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    example = found.group(1)
    assert "http://127.0.0.1:7860" in example
    (tmp_path / "example.py").write_text(example.replace("http://127.0.0.1:7860", app_url), encoding="utf-8")
    shutil.copyfile(pictures["plain.png"], tmp_path / "my_toy.png")
    monkeypatch.chdir(tmp_path)
    done = runpy.run_path("example.py")
    assert "[7, 8]" in capsys.readouterr().out
    assert Path(done["pictures"][0]).is_file()
    assert done["settings"]["task"] == "mix"
