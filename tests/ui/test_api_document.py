"""The example in docs/api.md runs as printed, and its ranges of numbers are those the API accepts."""

from __future__ import annotations

import re
import runpy
import shutil
from pathlib import Path

import pytest

from ipa_app.engine.tasks import TASKS
from ipa_app.options import Option
from ipa_app.ui.api import parameters

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


def allowed(option: Option) -> str:
    least, most = (f"{bound:g}" if option.type is float else str(bound) for bound in option.between)
    if option.excluded is not None:
        return f"above {least} to {most}" if option.excluded == option.least else f"{least} to below {most}"
    told = f"{least} to {most}" if option.multiple == 1 else f"multiples of {option.multiple} from {least} to {most}"
    return f"0, or {told}" if option.or_zero else told


@pytest.mark.parametrize("task", TASKS)
def test_every_number_of_the_api_is_documented_with_its_range(task: str) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    own_row = next(line for line in text.splitlines() if line.startswith(f"| `/{task}` |"))
    rows = own_row + text.split("The four that make pictures share these:")[1].split("\n\n")[1]
    told = {
        name: said
        for names, said in re.findall(r"((?:`\w+=[^`]*`(?:, )?)+) \(([^)]*)\)", rows)
        for name in re.findall(r"`(\w+)=", names)
    }
    numbers = {name: each for name, each in parameters(task).items() if each.type in (int, float)}
    assert {name: told.get(name) for name in numbers} == {name: allowed(each) for name, each in numbers.items()}
