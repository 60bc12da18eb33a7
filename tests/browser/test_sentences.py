"""Sentences of the program, translated into Chinese by the page's own script."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipa_app.adapter.kinds import KINDS
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import Progress
from ipa_app.errors import UserError
from ipa_app.messages import Message, languages
from ipa_app.models.units import Meter, size_text
from ipa_app.pose.body import joint_title
from ipa_app.ui.language import switch
from ipa_app.ui.language.markup import attribute, known, said
from ipa_app.ui.status import progress_line
from ipa_app.ui.uploads import file_path

pytestmark = pytest.mark.browser

SCRIPT = Path(switch.__file__).with_name("speak.js")
ADDRESS = "http://page.test/"
EMPTY = '<!doctype html><div id="language"><select></select></div><main></main>'
Say = Callable[..., Any]


@pytest.fixture(scope="module")
def page(chromium: Any) -> Iterator[Any]:
    """A page with only the language choice, set to Chinese."""
    page = chromium.new_page(locale="zh-CN")
    page.route(f"{ADDRESS}**", lambda route: route.fulfill(body=EMPTY, content_type="text/html"))
    page.goto(ADDRESS)
    script = f"props => {{ const element = document.querySelector('#language'); {SCRIPT.read_text(encoding='utf-8')} }}"
    page.evaluate(script, {"setup": switch.setup(languages(), known=[])})
    assert page.input_value("select") == "zh"
    yield page
    page.close()


@pytest.fixture(scope="module")
def say(page: Any) -> Say:
    """Return a function that puts messages into the page and returns the text shown."""

    def shown(*messages: str) -> str:
        return in_page(page, said(*messages))

    return shown


def in_page(page: Any, content: str) -> str:
    put = "async html => { const main = document.querySelector('main'); main.innerHTML = html; await null; }"
    page.evaluate(put, content)
    return page.inner_text("main")


def refusal(make: Callable[..., object], **values: object) -> Message:
    with pytest.raises(UserError) as refused:
        make(**values)
    return refused.value.message


def test_errors(say: Say) -> None:
    seed = refusal(GenerateRequest, task="mix", prompt="a", seed=-5)
    assert say(seed) == "种子是 -5，应为 -1 到 4294967295 之间的整数。"
    width = refusal(GenerateRequest, task="mix", prompt="a", width=13)
    assert say(width) == "宽度是 13，应为 0 或 8 的倍数。"
    guidance = refusal(GenerateRequest, task="mix", prompt="a", guidance_scale=99.0)
    assert say(guidance) == "引导强度是 99.0，应为 0 或 1 到 20 之间的数。"
    area = refusal(GenerateRequest, task="mix", prompt="a", area="sky")
    assert say(area) == "模型看到的部分是 'sky'，应为 masked 或 whole。"
    start = refusal(GenerateRequest, task="mix", prompt="a", start=0.5, end=0.5)
    assert say(start) == "图片的作用从步数的 0.5 处开始、到 0.5 处结束：结束必须晚于开始。"
    end = refusal(GenerateRequest, task="mix", prompt="a", control_end=3)
    assert say(end) == "姿势作用的结束是 3，应为 0 到 1 之间的数。"
    prompt = refusal(GenerateRequest, task="mix", prompt="a" * 2001)
    assert say(prompt) == "文字有 2001 个字符，最多只能有 2000 个。"
    assert "蒙版" in say(Message("request.no_mask"))
    missing = Message("adapter.missing_key", file="a.safetensors", key="image_proj.norm.weight")
    assert say(missing) == "a.safetensors 不完整：缺少 image_proj.norm.weight。"
    assert say(refusal(file_path, payload=None, field="keypoints")) == "关键点文件必须是图片文件。"


@pytest.mark.parametrize("typed", ["<b>Stop</b>", "The prompt", "$& {value} \\", "text; it must be text"])
def test_what_somebody_typed_stays_as_it_is(say: Say, typed: str) -> None:
    sentence = refusal(GenerateRequest, task="mix", prompt="a", scale=typed)
    assert say(sentence) == f"图片的强度是 {typed!r}，应为 0 到 1.5 之间的数。"
    unknown = Message("model.unknown", name=repr(typed), names="toybox, sd15")
    assert say(unknown) == f"没有名为 {typed!r} 的模型，有的是 toybox, sd15。"


def test_progress(page: Any) -> None:
    title = KINDS["plus"].title
    strength = Message("series.strength", scale="0.25")
    loading = Message("doing.loading", title="Toybox", doing=Message("doing.read_part", part=Message("part.unet")))
    decoding = {"series": title, "number": 2, "total": 2, "doing": Message("doing.decoding")}
    expected = {
        Progress(phase="queued", message=Message("doing.next_in_line")): "正在排队：下一个就是你",
        Progress(phase="queued", message=Message("doing.requests_before", count=3)): "正在排队：前面还有 3 个请求",
        Progress(phase="loading", message=loading): "正在载入 Toybox：已读取 UNet",
        Progress(phase="encoding", message=Message("doing.looking_at_pictures")): "正在看图",
        Progress(phase="denoising", message=Message("doing.drawing")): "正在绘制",
        Progress(phase="denoising", message=Message("doing.picture", number=2, total=4)): "正在绘制：第 2 张，共 4 张",
        Progress(
            phase="denoising", message=Message("doing.of_series", series=strength, number=2, total=5)
        ): "正在绘制：强度 0.25（第 2 张，共 5 张）",
        Progress(
            phase="decoding", message=Message("doing.of_series_and", **decoding)
        ): "精细（第 2 张，共 2 张），正在显影",
        Progress(
            phase="denoising", message=Message("doing.of_series", series="my toys", number=3, total=3)
        ): "正在绘制：my toys（第 3 张，共 3 张）",
        Progress(phase="loading", message=Message("doing.reading_adapter", title="toys")): "正在读取适配器 toys",
    }
    assert {progress: in_page(page, progress_line(progress)) for progress in expected} == expected


def test_adapters(say: Say) -> None:
    base = KINDS["base"]
    assert say(Message("adapter.choice", title=base.title, about=base.about)) == "基础 — 整体观感"
    assert say("Base") == "Base", "a name may be anybody's"
    width = Message("adapter.width_of", width=1664, network="OpenCLIP ViT-bigG/14")
    values = {
        "features": KINDS["plus"].features.described,
        "wanted": width,
        "given": Message("adapter.width", width=24),
    }
    needed = Message("adapter.other_encoder", adapter="a.bin", **values)
    assert say(needed) == "a.bin 需要层宽为 1664（OpenCLIP ViT-bigG/14）的图像编码器，而这个模型的是 24。"
    foreign = Message("adapter.other_sort", file="a.bin", sort=Message("content.controlnet"))
    assert say(foreign) == "a.bin 是一个 ControlNet，不是 IP-Adapter：请用 IP-Adapter 文件。"
    trouble = Message("adapters.trouble.holds_none")
    named = Message("adapters.named", variable="IPA_ADAPTERS", path="toys", trouble=trouble)
    assert say(named) == "IPA_ADAPTERS 里的 toys 里没有 .safetensors、.sft 或 .bin 文件。"
    both = Message("series.both_done", series=base.title, other="my toys", seed=7)
    assert say(both) == "滑块左边是基础，右边是my toys，种子都是 7。"


def test_downloads(say: Say) -> None:
    now = [0.0]
    meter = Meter(6_100_000_000, done=900_000_000, clock=lambda: now[0])
    line = Message("model.state.downloading_now", title="Stable Diffusion 1.5", doing=meter.text())
    assert say(line) == "Stable Diffusion 1.5：正在下载：900 MB / 6.1 GB"
    now[0] = 10.0
    meter.add(200_000_000)
    assert say(meter.text()) == "1.1 / 6.1 GB，每秒 20 MB，还剩 4 分钟"
    share = Message("model.state.downloading_share", title="Stable Diffusion 1.5", percent="18")
    assert say(share) == "Stable Diffusion 1.5：正在下载 18%"
    failed = Message("download.failed", repo="me/it", reason=Message("download.why.hub_problem", status=503))
    assert say(failed) == "me/it 无法下载：Hub 出了问题（错误 503）：请稍后再试。"
    assert say(Message("page.offer.size_text", size=size_text(6.1e9))).startswith("6.1 GB，只需一次")


def test_what_is_done(say: Say) -> None:
    many = Message("result.done", count=5, seconds="2.0")
    assert say(many) == "5 张图，用时 2.0 秒。"
    assert say(Message("series.strip_done", seed=7), many) == "强度从 0 到 1，种子都是 7。5 张图，用时 2.0 秒。"
    assert say(Message("result.done", count=1, seconds="2.0")) == "一张图，用时 2.0 秒。"


def test_lists(say: Say) -> None:
    joints = Message("joints.and", joints=[joint_title("nose"), joint_title("neck")], last=joint_title("left ear"))
    assert say(joints) == "鼻子、脖子和左耳"


def test_attributes_and_marks(page: Any) -> None:
    in_page(page, f"<i{attribute('title', Message('page.stop'), 'Stop')}></i>{said(Message('page.nothing_yet'))}")
    assert page.get_attribute("i", "title") == "停止Stop"
    assert page.inner_text("main strong") == "生成"


def test_texts_of_components_are_looked_up_whole(page: Any) -> None:
    assert in_page(page, "<label> Stop </label>") == "停止"
    assert in_page(page, "<label>Stop it</label>") == "Stop it"
    assert in_page(page, "<label>seed 7</label>") == "seed 7"
    assert in_page(page, f"<label>seed 7</label>{known([Message('result.seed', seed=7)])}") == "种子 7"
    in_page(page, '<input aria-label="range slider for Steps"><input aria-label="range slider for a cat">')
    labels = [each.get_attribute("aria-label") for each in page.query_selector_all("main input")]
    assert labels == ["滑块：步数", "滑块：a cat"]


def test_what_gradio_itself_says_when_something_goes_wrong(page: Any) -> None:
    lost = "Connection to the server was lost. Attempting reconnection..."
    assert in_page(page, "Connection Lost") == "连接已断开"
    assert in_page(page, lost) == "与服务器的连接已断开，正在重新连接……"
    assert in_page(page, "This application is currently busy. Please try again. ") == "现在很忙，请再试一次。"
    assert in_page(page, "Connection errored out. ") == "连接出错。"
    wrong = "Invalid file type: notes.txt. Only .png, .jpg allowed."
    assert in_page(page, wrong) == "文件类型不对：notes.txt。只能用 .png, .jpg。"
    several = "Invalid file types: a.txt, b.txt. Only image/* allowed."
    assert in_page(page, several) == "这些文件的类型不对：a.txt, b.txt。只能用 image/*。"
    large = 'File(s) exceed the maximum allowed size of 20 MB: "toys.png"'
    assert in_page(page, large) == '文件超过了允许的最大大小 20 MB："toys.png"'


@pytest.mark.parametrize("text", ["", "a cat of mine", "drawing of a cat", "It must be text.", "is" * 5000])
def test_other_texts_are_left_alone(page: Any, text: str) -> None:
    assert in_page(page, f"<span>{html.escape(text)}</span>") == text


def test_in_english_everything_is_as_it_was(page: Any) -> None:
    content = f"{said(Message('page.nothing_yet'))}<label>Stop</label><i{attribute('title', Message('page.stop'))}></i>"
    in_page(page, content)
    assert "Stop" not in page.inner_html("main label")
    page.select_option("select", "en")
    assert page.inner_text("main label") == "Stop"
    assert "<strong>Generate</strong>" in page.inner_html("main span")
    assert page.get_attribute("main i", "title") == "Stop"
    assert page.get_attribute("html", "lang") == "en"
    page.select_option("select", "zh")
    assert page.inner_text("main label") == "停止"
    assert page.get_attribute("html", "lang") == "zh-CN"
