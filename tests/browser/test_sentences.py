"""Sentences as the program says them, put into Chinese by the page's own script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import Progress
from ipa_app.errors import UserError
from ipa_app.models.amounts import size_text
from ipa_app.models.meter import Meter
from ipa_app.ui import texts
from ipa_app.ui.language.switch import dictionary, phrases
from ipa_app.ui.status import progress_line

pytestmark = pytest.mark.browser

SCRIPT = Path(texts.__file__).parent / "language" / "matching.js"
Translate = Callable[[str], Any]


@pytest.fixture(scope="module")
def translate(chromium: Any) -> Iterator[Translate]:
    """The script's own function, from an English text to its Chinese one or None."""
    page = chromium.new_page()
    script = f"props => {{ {SCRIPT.read_text(encoding='utf-8')}; window.translated = translated; }}"
    page.evaluate(script, {"dictionary": dictionary(), "phrases": phrases()})
    yield lambda text: page.evaluate("text => translated(text)", text)
    page.close()


def refusal(make: Callable[..., object], **values: object) -> str:
    with pytest.raises(UserError) as refused:
        make(**values)
    return str(refused.value)


def test_errors(translate: Translate) -> None:
    seed = refusal(GenerateRequest, task="mix", prompt="a", seed=-5)
    assert translate(seed) == "种子是 -5，应为 -1 到 4294967295 之间的整数。"
    width = refusal(GenerateRequest, task="mix", prompt="a", width=13)
    assert translate(width) == "宽度是 13，应为 0 或 8 到 2048 之间的 8 的倍数。"
    guidance = refusal(GenerateRequest, task="mix", prompt="a", guidance_scale=99.0)
    assert translate(guidance) == "引导强度是 99.0，应为 0 或 1 到 20 之间的数。"
    area = refusal(GenerateRequest, task="mix", prompt="a", area="sky")
    assert translate(area) == "模型看到的部分是 'sky'，应为 masked 或 whole。"
    start = refusal(GenerateRequest, task="mix", prompt="a", start=0.5, end=0.5)
    assert translate(start) == "图片的作用从步数的 0.5 处开始、到 0.5 处结束：结束必须晚于开始。"
    end = refusal(GenerateRequest, task="mix", prompt="a", control_end=3)
    assert translate(end) == "姿势的作用的结束是 3，应为 0 到 1 之间的数。"
    prompt = refusal(GenerateRequest, task="mix", prompt="a" * 2001)
    assert translate(prompt) == "文字有 2001 个字符，最多只能有 2000 个。"
    assert "蒙版" in translate("There is no mask: please paint over the part that should change (white = repaint).")
    assert translate("a.safetensors is incomplete: image_proj.norm.weight is missing.") == (
        "a.safetensors 不完整：缺少 image_proj.norm.weight。"
    )
    assert translate(texts.NOT_A_FILE.format(field="keypoints")) == "关键点文件必须是图片文件。"


@pytest.mark.parametrize("typed", ["<b>Stop</b>", "The prompt", "$& {shown} \\", "text; it must be text"])
def test_what_somebody_typed_stays_as_it_is(translate: Translate, typed: str) -> None:
    sentence = refusal(GenerateRequest, task="mix", prompt="a", scale=typed)
    assert translate(sentence) == f"图片的强度是 {typed!r}，应为 0 到 1.5 之间的数。"
    unknown = f"There is no model {typed!r}; there is toybox, sd15."
    assert translate(unknown) == f"没有名为 {typed!r} 的模型，有的是 toybox, sd15。"


def test_progress(translate: Translate) -> None:
    def line(progress: Progress) -> str:
        return progress_line(progress).partition("<span>")[2].partition("</span>")[0]

    expected = {
        Progress(phase="queued", message="next in line"): "正在排队：下一个就是你",
        Progress(phase="queued", message="3 requests before"): "正在排队：前面还有 3 个请求",
        Progress(phase="loading", message="loading Toybox: read the UNet"): "正在载入 Toybox：已读取 UNet",
        Progress(phase="encoding", message="looking at the pictures"): "正在看图",
        Progress(phase="denoising", message="drawing"): "正在绘制",
        Progress(phase="denoising", message="picture 2 of 4"): "正在绘制：第 2 张，共 4 张",
        Progress(phase="denoising", message="strength 0.25 (2 of 5)"): "正在绘制：强度 0.25（第 2 张，共 5 张）",
        Progress(
            phase="decoding", message="Fine-grained (2 of 2), developing the picture"
        ): "精细（第 2 张，共 2 张），正在显影",
        Progress(phase="denoising", message="my toys (3 of 3)"): "正在绘制：my toys（第 3 张，共 3 张）",
        Progress(phase="loading", message="reading the adapter toys"): "正在读取适配器 toys",
    }
    assert {progress: translate(line(progress)) for progress in expected} == expected


def test_adapters(translate: Translate) -> None:
    assert translate("Base — overall look") == "基础 — 整体观感"
    assert translate("Face (fine-grained)") is None, "a name alone may be anybody's"
    needed = "a.bin needs an image encoder with layers of width 1664 (OpenCLIP ViT-bigG/14), but this model's is 24."
    assert translate(needed) == "a.bin 需要层宽为 1664（OpenCLIP ViT-bigG/14）的图像编码器，而这个模型的是 24。"
    foreign = "a.bin is a ControlNet and no IP-Adapter: please use an IP-Adapter file."
    assert translate(foreign) == "a.bin 是 ControlNet，不是 IP-Adapter：请用 IP-Adapter 文件。"
    named = "IPA_ADAPTERS names toys, which holds no .safetensors, .sft or .bin file."
    assert translate(named) == "IPA_ADAPTERS 里的 toys 里没有 .safetensors、.sft 或 .bin 文件。"
    both = texts.BOTH_DONE.format(series="Base", series2="my toys", seed=7)
    assert translate(both) == "滑块左边是基础，右边是my toys，种子都是 7。"


def test_downloads(translate: Translate) -> None:
    now = [0.0]
    meter = Meter(6_100_000_000, done=900_000_000, clock=lambda: now[0])
    assert translate(f"Stable Diffusion 1.5: downloading: {meter.text()}") == (
        "Stable Diffusion 1.5：正在下载：900 MB / 6.1 GB"
    )
    now[0] = 10.0
    meter.add(200_000_000)
    assert translate(meter.text()) == "1.1 / 6.1 GB，每秒 20 MB，还剩 4 分钟"
    assert translate("Stable Diffusion 1.5: downloading 18%") == "Stable Diffusion 1.5：正在下载 18%"
    assert translate("me/it could not be downloaded: the Hub has a problem (error 503): please try again later.") == (
        "me/it 无法下载：Hub 出了问题（错误 503）：请稍后再试。"
    )
    assert translate(texts.OFFER_SIZE_TEXT.format(size=size_text(6.1e9))).startswith("6.1 GB，只需一次")


def test_what_is_done(translate: Translate) -> None:
    many = texts.DONE_MANY.format(count=5, seconds=2.04)
    assert translate(many) == "5 张图，用时 2.0 秒。"
    strip = f"{texts.STRIP_DONE.format(seed=7)} {many}"
    assert translate(strip) == "强度从 0 到 1，种子都是 7。5 张图，用时 2.0 秒。"


@pytest.mark.parametrize("text", ["", "a cat of mine", "drawing of a cat", "It must be text.", "is" * 5000])
def test_other_texts_are_left_alone(translate: Translate, text: str) -> None:
    assert translate(text) is None
