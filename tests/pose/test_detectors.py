"""Detectors: an open set, each of which is known to the page and to programs by its entry alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ipa_app.pose.detectors import DETECTORS
from tests.changed_package import ROOT, copy_package, run_with
from tests.detector_anew import CHINESE, LINE, MODULE


def test_the_documentation_lists_them() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    rows = [re.split(r" *\| *", line.strip("| ")) for line in text.splitlines() if re.match(r'\| `"\w+"` \|', line)]
    assert rows == [
        [
            f'`"{each.name}"`',
            each.title,
            "yes" if each.hands else "no",
            "yes" if each.face else "no",
            ", ".join(f"`{package}`" for package in each.packages) or "nothing",
            each.licence,
        ]
        for each in DETECTORS.values()
    ]


@pytest.mark.slow
def test_a_new_one_is_its_module_its_line_and_its_words_in_chinese(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    package = copy_package(tmp_path)
    (package / "pose" / "middle.py").write_text(MODULE, encoding="utf-8")
    registry = package / "pose" / "detectors.py"
    text = registry.read_text(encoding="utf-8").replace(LINE, f"{LINE}            MIDDLE,\n")
    imports = "from ipa_app.pose.openpose import OPENPOSE\n"
    registry.write_text(text.replace(imports, f"{imports}from ipa_app.pose.middle import MIDDLE\n"), encoding="utf-8")
    words = package / "messages" / "zh.json"
    chinese = json.loads(words.read_text(encoding="utf-8"))
    chinese["option.pose_detector.shown.middle"] = CHINESE["shown"]
    chinese["option.pose_detector.help"] += CHINESE["help"]
    chinese["detector.middle.help"] = CHINESE["help"]
    words.write_text(json.dumps(chinese), encoding="utf-8")
    run_with(package, "detector_anew.py", tiny_bundle_dir, tmp_path / "temporary")
