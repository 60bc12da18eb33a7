"""The catalogue's data on a model and on its adapters and ControlNets."""

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
"""The subfolder of a model's folder with a small autoencoder for fast live pictures and previews."""
SECRET_MARK = "~"
"""Separates the name of an uploaded adapter from the part that makes its key impossible to guess."""


@dataclass(frozen=True, kw_only=True)
class HubPart:
    """Files of one repository on the Hugging Face Hub.

    Attributes:
        repo: "owner/name".
        revision: the commit they are taken from.
        files: paths in the repository, mapped to paths in the model's folder. Only formats that cannot run code when
            they are read.
        pickles: whether PyTorch's pickles may be among them: only if their reader refuses code.
    """

    repo: str
    revision: str
    files: Mapping[str, str]
    pickles: bool = False

    def __post_init__(self) -> None:
        """Refuse files that could run code or lie outside the folder."""
        allowed = _HARMLESS | _PICKLES if self.pickles else _HARMLESS
        for path in (*self.files, *self.files.values()):
            if PurePosixPath(path).suffix not in allowed or path.startswith("/") or ".." in PurePosixPath(path).parts:
                raise ValueError(f"{self.repo}: {path} must not be downloaded")


@dataclass(frozen=True, kw_only=True)
class HubFiles:
    """Something whose files are downloaded from the Hub.

    Attributes:
        title: its name for users.
        parts: what has to be downloaded.
    """

    title: str
    parts: tuple[HubPart, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AdapterEntry:
    """An adapter that a model can draw with.

    Attributes:
        name: what requests, and later results, call it.
        title: its name for users.
        about: what it takes from a picture, in a few words; may be empty.
        file: its weights.
        kind: the name of its kind, in `adapter.kinds.KINDS`.
        is_private: whether only the visitor who uploaded it may see it, who requests it by a secret key.
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
        purpose: what it follows, as messages name it.
        marks: what words in the names of published ones begin with; earlier marks take precedence. These are regular
            expressions for names in lower case with _ between the words.
        others: the same for ControlNets with a similar purpose that is not supported here.
        pipeline_task: the pipeline that draws with one.
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
"""By the names that tasks use. A ControlNet is of the first kind one of whose marks is in its name."""


@dataclass(frozen=True, kw_only=True)
class ControlNetEntry:
    """A ControlNet that a model can draw with.

    Attributes:
        name: what requests call it.
        title: its name for users.
        kind: the name of its kind, in `CONTROLNET_KINDS`; empty if it is unknown.
        path: its folder or file.
    """

    name: str
    title: str
    kind: str
    path: Path

    @property
    def pipeline_task(self) -> PipelineTask:
        """The pipeline that draws with it."""
        return CONTROLNET_KINDS[self.kind].pipeline_task if self.kind else "controlnet"


@dataclass(frozen=True, kw_only=True)
class FastWay:
    """How a model draws in a few steps: with a LoRA distilled for that.

    Attributes:
        lora: its weights, a .safetensors file.
        steps: default number of denoising steps.
        guidance_scale: classifier-free guidance; 1, which most are made for, means none.
        scheduler: class name in diffusers.
        scheduler_config: settings that differ from those of the model's own scheduler.
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
    """A base model: where its weights are and how it is best used.

    Attributes:
        name: what requests call it.
        title: its name for users.
        about: one or two sentences on what it draws.
        location: its folder, in diffusers layout, or its checkpoint file.
        adapters: those that it can draw with, by what requests call them; "base" and "fine" are its usual ones.
        left_out: for each adapter file that cannot be used with it, one sentence on why.
        image_encoder: folder of the CLIP image encoder; None if the model has none.
        controlnets: those that it can draw with, by what requests call them; the first of a kind has the kind's name.
        controlnets_left_out: for each one that cannot be used with it, one sentence on why, by what it would be called.
        pose_reader: weights of a network that reads the poses of what the model itself draws, if it has one.
        body_poses: keypoints of poses of the one body that it has learned, if it knows no other.
        width: native width in pixels, used where a request says 0.
        height: native height in pixels.
        steps: default number of denoising steps.
        guidance_scale: default classifier-free guidance; 1 means none.
        guidance_start: when guidance begins by default, as a share of the steps.
        guidance_end: when it ends by default.
        negative_prompt: used if a request has none.
        surroundings_prompt: the prompt for inpainting when only the surroundings are given to go by.
        licence: of the weights.
        scheduler: the scheduler in a word, for users.
        fast: how it draws in a few steps; None if it has no such way.
        fast_left_out: why the configured fast way cannot be used, in one sentence.
        live: whether it draws so quickly that live mode is on at the start; a fast way makes drafts for it.
        presets: which parts of a picture can be used alone, as layers and their shares; empty if it is all or nothing.
        words: every word the model knows, by group; empty if it knows ordinary English.
        dictionaries: these words in other languages, by language tag.
        styles: the prompt styles that can be requested, by name.
        parts: what has to be downloaded before the folder is complete; empty for a model that is already here.
        download_bytes: size of all parts, if none of them is here yet.
        gpu_memory_gb: GPU memory in which it runs comfortably, in GB; 0 if users need not be told.
        memory_gb: main memory that it needs without a GPU, in GB; 0 if users need not be told.
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
        """The smallest and the largest side, in pixels, at which this model still draws sensibly."""
        return min(self.width, self.height) // 2, max(self.width, self.height) * 2

    @property
    def listed_adapters(self) -> Mapping[str, AdapterEntry]:
        """The adapters that everybody may see."""
        return {name: adapter for name, adapter in self.adapters.items() if not adapter.is_private}

    def in_own_words(self, text: str) -> str:
        """Return a text translated into words that the model knows, as far as its dictionaries have them."""
        for dictionary in self.dictionaries.values():
            text = dictionary.translated(text)
        return text

    def unknown_words(self, text: str) -> list[str]:
        """Return the words of a text, in any language, that the model does not know; see `unknown_words`."""
        return unknown_words(self.in_own_words(text), self.words)

    def find_adapter(self, name: str) -> AdapterEntry | None:
        """Return an adapter by its name in requests, its file's name, or the usual name of its kind, if any."""
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
            UserError: it has no such way, or why the configured one cannot be used.
        """
        if self.fast is None:
            raise UserError(self.fast_left_out or Message("fast.none", title=self.title))
        return self.fast

    def find_controlnet(self, kind: str) -> ControlNetEntry | None:
        """Return the first ControlNet of a kind, a name in `CONTROLNET_KINDS`; None if the model has none."""
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
    """Return the error for an adapter whose file is gone."""
    return UserError("model.adapter_gone", name=name)


def unknown_words(prompt: str, words: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the words of a prompt that the model does not know.

    Args:
        prompt: as typed.
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
