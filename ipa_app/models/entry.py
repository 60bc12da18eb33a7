"""What the catalogue knows of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from ipa_app.adapter.kinds import KINDS
from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.families import PipelineTask, Presets
from ipa_app.models.styles import Style
from ipa_app.models.vocabulary import Dictionary

_HARMLESS = {".safetensors", ".json", ".txt", ".onnx"}
_PICKLES = {".pth"}
_WORD = re.compile(r"\w+")
_POSSESSIVE = re.compile(r"['’]s\b")
TINY_VAE_FOLDER = "vae_tiny"
"""Where a small autoencoder for live pictures and previews lies in a model's folder."""
SECRET_MARK = "~"
"""Between the name of an adapter that a visitor brings and what makes it a key that nobody can guess."""


@dataclass(frozen=True, kw_only=True)
class HubPart:
    """Files of one repository on the Hugging Face Hub.

    Attributes:
        repo: "owner/name".
        revision: the commit they are taken from.
        files: their paths in the repository, to where they belong in the model's folder. Only formats that cannot run
            code when they are read.
        pickles: whether PyTorch's pickles may be among them: only where their reader refuses code.
    """

    repo: str
    revision: str
    files: Mapping[str, str]
    pickles: bool = False

    def __post_init__(self) -> None:
        """Let nothing in that could run code or lie outside the folder."""
        allowed = _HARMLESS | _PICKLES if self.pickles else _HARMLESS
        for path in (*self.files, *self.files.values()):
            if PurePosixPath(path).suffix not in allowed or path.startswith("/") or ".." in PurePosixPath(path).parts:
                raise ValueError(f"{self.repo}: {path} must not be downloaded")


@dataclass(frozen=True, kw_only=True)
class HubFiles:
    """Something whose files are downloaded from the Hub.

    Attributes:
        title: what people call it.
        parts: what has to be downloaded.
    """

    title: str
    parts: tuple[HubPart, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AdapterEntry:
    """An adapter that a model can draw with.

    Attributes:
        name: what requests call it, and results after it.
        title: what people call it.
        about: what it takes of a picture, in a few words; may be empty.
        file: its weights.
        kind: the name of its kind, in `adapter.kinds.KINDS`.
        is_private: whether nobody is told of it but the visitor who brought it, who asks for it by a key of its own.
    """

    name: str
    title: str
    about: str = ""
    file: Path
    kind: str
    is_private: bool = False


@dataclass(frozen=True, kw_only=True)
class ControlNetKind:
    """What a ControlNet is for.

    Attributes:
        purpose: what it goes by, in sentences.
        marks: what words in the names of published ones begin with; one of the first before the others. These are
            regular expressions for names in lower case with _ between the words.
        others: the same of names of such as are for something alike that is not drawn by here.
        pipeline_task: which pipeline draws with one.
    """

    purpose: str
    marks: tuple[str, ...]
    others: tuple[str, ...] = ()
    pipeline_task: PipelineTask = "controlnet"


CONTROLNET_KINDS: Mapping[str, ControlNetKind] = MappingProxyType(
    {
        "pose": ControlNetKind(purpose="poses", marks=("(?:open|dw)_?pose", "pose"), others=("animal", "dense")),
        "canny": ControlNetKind(purpose="edges", marks=("canny",)),
        "depth": ControlNetKind(purpose="depth", marks=("depth",)),
        "scribble": ControlNetKind(purpose="scribbles", marks=("scribble|sketch",)),
        "lineart": ControlNetKind(purpose="line art", marks=("line_?art",)),
        "softedge": ControlNetKind(purpose="soft edges", marks=("soft_?edge|hed",)),
        "mlsd": ControlNetKind(purpose="straight lines", marks=("mlsd",)),
        "normal": ControlNetKind(purpose="surface normals", marks=("normal",)),
        "seg": ControlNetKind(purpose="segmentation", marks=("seg",)),
        "shuffle": ControlNetKind(purpose="shuffled content", marks=("shuffle",)),
        "ip2p": ControlNetKind(purpose="instructions", marks=("ip2p",)),
        "inpaint": ControlNetKind(purpose="inpainting", marks=("inpaint",), pipeline_task="controlnet_inpaint"),
        "tile": ControlNetKind(purpose="fine detail", marks=("tile",)),
        "brightness": ControlNetKind(purpose="brightness", marks=("brightness",)),
        "blur": ControlNetKind(purpose="blurred pictures", marks=("blur",)),
        "recolor": ControlNetKind(purpose="colouring", marks=("recolor",)),
        "qr": ControlNetKind(purpose="QR codes", marks=("qr",)),
    }
)
"""By what tasks ask for. The first of whose marks a name has is its kind."""


@dataclass(frozen=True, kw_only=True)
class ControlNetEntry:
    """A ControlNet that a model can draw with.

    Attributes:
        name: what requests call it.
        title: what people call it.
        kind: the name of its kind, in `CONTROLNET_KINDS`; empty where it cannot be told.
        path: its folder or file.
    """

    name: str
    title: str
    kind: str
    path: Path

    @property
    def pipeline_task(self) -> PipelineTask:
        """Which pipeline draws with it."""
        return CONTROLNET_KINDS[self.kind].pipeline_task if self.kind else "controlnet"


@dataclass(frozen=True, kw_only=True)
class FastWay:
    """How a model draws in a few steps: with a LoRA that was distilled for that.

    Attributes:
        lora: its weights, a .safetensors file.
        steps: default number of denoising steps.
        guidance_scale: classifier-free guidance; 1, as most are made for, means none.
        scheduler: class name in diffusers.
        scheduler_config: what differs in that from the model's own scheduler.
        licence: of the LoRA.
    """

    lora: Path
    steps: int
    guidance_scale: float = 1.0
    scheduler: str
    scheduler_config: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelEntry(HubFiles):
    """A base model: where its weights are and how it likes to be used.

    Attributes:
        name: what requests call it.
        title: what people call it.
        about: one or two sentences on what it draws.
        location: its folder, in diffusers layout, or its checkpoint file.
        adapters: those that it can draw with, by what requests call them; "base" and "fine" are its usual ones.
        left_out: of every adapter file that cannot be used with it why, in one sentence.
        image_encoder: folder of the CLIP image encoder, None when the model has none.
        controlnets: those that it can draw with, by what requests call them; the first of a kind is called as the kind.
        controlnets_left_out: of every one that cannot be used with it why, in one sentence, by what it would be called.
        pose_reader: weights of a network that reads the poses of what the model itself draws, where it brings one.
        body_poses: keypoints of poses of the one body that it has learned, where it knows no other.
        width: native width in pixels, used where a request says 0.
        height: native height in pixels.
        steps: default number of denoising steps.
        guidance_scale: default classifier-free guidance, 1 means none.
        guidance_start: when guidance begins by default, as a share of the steps.
        guidance_end: when it ends by default.
        negative_prompt: used where a request has none.
        surroundings_prompt: the prompt of an inpainting that goes by what is around it alone, as nothing else is given.
        licence: of the weights.
        scheduler: the scheduler in a word, for people.
        fast: how it draws in a few steps; None where it has no such way.
        fast_left_out: why the one that it was to have cannot be used, in one sentence.
        live: whether a picture is there so soon that live mode is on at the start; a fast way gives drafts for it.
        presets: what of a picture can be taken alone, as layers and their shares; empty when it is all or nothing.
        words: every word the model knows by group; empty when it knows ordinary English.
        dictionaries: what these are in other languages, by the tags of the languages.
        styles: prompt styles that can be asked for, by name.
        parts: what has to be downloaded before the folder can be put together; empty for a model that simply is there.
        download_bytes: size of all parts, where nothing of them is there yet.
        gpu_memory_gb: graphics memory that it runs in comfortably, in GB; 0 where nobody needs to be told.
        memory_gb: ordinary memory that it needs without a graphics card, in GB; 0 where nobody needs to be told.
    """

    name: str
    about: str = ""
    location: Path
    adapters: Mapping[str, AdapterEntry] = field(default_factory=dict)
    left_out: tuple[Message, ...] = ()
    image_encoder: Path | None = None
    controlnets: Mapping[str, ControlNetEntry] = field(default_factory=dict)
    controlnets_left_out: Mapping[str, Message] = field(default_factory=dict)
    pose_reader: Path | None = None
    body_poses: Path | None = None
    width: int = 512
    height: int = 512
    steps: int = 25
    guidance_scale: float = 7.0
    guidance_start: float = 0.0
    guidance_end: float = 1.0
    negative_prompt: str = ""
    surroundings_prompt: str = ""
    licence: str = ""
    scheduler: str = ""
    fast: FastWay | None = None
    fast_left_out: Message | None = None
    live: bool = False
    presets: Presets = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    dictionaries: Mapping[str, Dictionary] = field(default_factory=dict)
    styles: Mapping[str, Style] = field(default_factory=dict)
    download_bytes: int = 0
    gpu_memory_gb: int = 0
    memory_gb: int = 0

    @property
    def side_limits(self) -> tuple[int, int]:
        """The smallest and the largest side in pixels at which this model still draws sensibly."""
        return min(self.width, self.height) // 2, max(self.width, self.height) * 2

    @property
    def listed_adapters(self) -> Mapping[str, AdapterEntry]:
        """The adapters that everybody may be told of."""
        return {name: adapter for name, adapter in self.adapters.items() if not adapter.is_private}

    def in_own_words(self, text: str) -> str:
        """Return a text in the words that the model knows, as far as it has a dictionary of those in it."""
        for dictionary in self.dictionaries.values():
            text = dictionary.translated(text)
        return text

    def unknown_words(self, text: str) -> list[str]:
        """Return the words of a text that the model does not know, in any language, as `unknown_words` does."""
        return unknown_words(self.in_own_words(text), self.words)

    def find_adapter(self, name: str) -> AdapterEntry | None:
        """Return an adapter by what requests call it, by its file's name, or as the usual one of a kind, if any."""
        by_file = (each for each in self.listed_adapters.values() if each.file.stem == name)
        of_kind = (each for each in self.listed_adapters.values() if KINDS[each.kind].usual == name)
        return self.adapters.get(name) or next(by_file, None) or next(of_kind, None)

    def adapter(self, name: str) -> AdapterEntry:
        """Return an adapter as `find_adapter` does.

        Raises:
            UserError: the model has none of this name.
        """
        found = self.find_adapter(name)
        if found is None and SECRET_MARK in name:
            raise adapter_gone(name.partition(SECRET_MARK)[0])
        if found is None:
            has = ", ".join(self.listed_adapters) or "none"
            raise UserError("model.no_such_adapter", title=self.title, adapter=repr(name), adapters=has)
        return found

    def fast_way(self) -> FastWay:
        """Return how the model draws in a few steps.

        Raises:
            UserError: it has no such way, or why the one that it was to have cannot be used.
        """
        if self.fast is None:
            raise UserError(self.fast_left_out or Message("fast.none", title=self.title))
        return self.fast

    def find_controlnet(self, kind: str) -> ControlNetEntry | None:
        """Return the first ControlNet of a kind, a name in `CONTROLNET_KINDS`; None where the model has none."""
        return next((each for each in self.controlnets.values() if each.kind == kind), None)

    def controlnet(self, kind: str) -> ControlNetEntry:
        """Return the first ControlNet of a kind.

        Args:
            kind: a name in `CONTROLNET_KINDS`.

        Raises:
            UserError: the model has none, or why the one that it has cannot be used.
        """
        if found := self.find_controlnet(kind):
            return found
        if kind in self.controlnets_left_out:
            raise UserError(self.controlnets_left_out[kind])
        purpose = Message.declared(f"controlnet.{kind}.purpose", CONTROLNET_KINDS[kind].purpose)
        raise UserError("model.no_controlnet", title=self.title, purpose=purpose)


def adapter_gone(name: str) -> UserError:
    """Return an error that says that an adapter's file is no longer there."""
    return UserError("model.adapter_gone", name=name)


def unknown_words(prompt: str, words: Mapping[str, Sequence[str]]) -> list[str]:
    """Find the words of a prompt that the model does not know.

    Args:
        prompt: what the person typed.
        words: the model's vocabulary by group, as in its words.json; an empty one means that the model knows
            everything.

    Returns:
        The unknown words in lower case, each once, in the order of the prompt.
    """
    known = {part for group in words.values() for entry in group for part in _WORD.findall(entry.lower())}
    if not known:
        return []
    typed = _WORD.findall(_POSSESSIVE.sub("", prompt.lower()))
    return list(dict.fromkeys(word for word in typed if word not in known))
