"""What the model is asked for in use, drawn at random: words, references for either adapter, skeletons, inpainting.

Whoever is to do what the model does, in fewer steps, has to learn it on what people ask the model for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from PIL import ImageFilter

from ipa_app.adapter.features import encode_image
from ipa_app.adapter.files import load_adapter
from ipa_app.adapter.image_prompt import ImagePromptBatch, ImageTerm
from ipa_app.adapter.ip_adapter import IPAdapter
from toybox import world
from toybox.recipe.adapters import FILES, Kind
from toybox.recipe.cached import Captions, Latents, latents_of
from toybox.recipe.data import ToyData, view_of
from toybox.recipe.denoiser import control_pixels, skeletons_of
from toybox.recipe.images import clip_pixels, pixels
from toybox.recipe.settings import Recipe
from toybox.recipe.tokenizer import encode_captions
from toybox.recipe.towers import load_image_encoder
from toybox.recipe.training import part_of, pick_device

KINDS: tuple[Kind, ...] = ("base", "plus")
WORDS_SHARE, REFERENCE_SHARE = 0.4, 0.25
"""Share that is asked for in words, and with a reference through each adapter; the rest with next to nothing."""
SCENE_SHARE = 0.5
"""Share of the references that come with words for another scene, as in a mix; the others come alone."""
LARGEST_SCALE = 1.5
POSED_SHARE, FILLED_SHARE = 0.25, 0.15
"""Share of all that has a skeleton, and that fills a hole in a picture."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One picture that is asked for.

    Attributes:
        text: the prompt, maybe empty.
        kind: of the adapter; None without a reference.
        scale: how strongly the reference counts.
        picture: row of the split that is the reference, and lends its keypoints or place.
        pose: row whose skeleton is to be followed; None for none.
        filled: row of the picture that has a hole to be filled; None for none.
    """

    text: str
    kind: Kind | None
    scale: float
    picture: int
    pose: int | None
    filled: int | None


def questions(data: ToyData, count: int, *, seed: int) -> list[Question]:
    """As many questions about a split, the same in every run; any stretch of them is mixed as the whole."""
    rng = random.Random(f"{seed}-questions")
    phrases = sorted({word for group, words in world.words().items() if group != "punctuation" for word in words})
    return [_question(rng, data, phrases) for _ in range(count)]


def _question(rng: random.Random, data: ToyData, phrases: Sequence[str]) -> Question:
    picture, u, use = rng.randrange(len(data)), rng.random(), rng.random()
    pose = other = picture ^ 1  # the same subject in another scene
    if u < WORDS_SHARE:
        # The pose that the words name.
        kind, text, pose = None, rng.choice(data.captions[picture]), picture
    elif u < WORDS_SHARE + len(KINDS) * REFERENCE_SHARE:
        kind = KINDS[int((u - WORDS_SHARE) / REFERENCE_SHARE)]
        text = data.scene_captions[other] if rng.random() < SCENE_SHARE else ""
    else:
        # What stands on the other side of guidance: nothing, or the words of a negative prompt.
        kind, text = None, "" if rng.random() < 0.5 else ", ".join(rng.sample(phrases, rng.randint(1, 3)))
    return Question(
        text=text,
        kind=kind,
        scale=rng.uniform(0, LARGEST_SCALE) if kind else 0.0,
        picture=picture,
        pose=pose if use < POSED_SHARE else None,
        filled=rng.randrange(len(data)) if POSED_SHARE <= use < POSED_SHARE + FILLED_SHARE else None,
    )


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the UNet and the ControlNet are given of a batch of questions besides noisy latents and timesteps.

    Attributes:
        hidden: (B, tokens, text_hidden), states of the texts.
        image_prompt: of all rows; rows without a reference have none in it.
        posed: (P,) rows with a skeleton.
        control: (P, 3, H, W) in [0, 1], the skeletons.
    """

    hidden: torch.Tensor
    image_prompt: ImagePromptBatch
    posed: torch.Tensor
    control: torch.Tensor


class Asked:
    """Questions about a split with everything that is frozen encoded beforehand."""

    def __init__(
        self,
        asked: Sequence[Question],
        recipe: Recipe,
        data: ToyData,
        folder: Path,
        unet: UNet2DConditionModel,
        *,
        split: str = "train",
    ) -> None:
        """Encode texts, references, skeletons and holes.

        Args:
            asked: the questions.
            recipe: of the model.
            data: what they are about, the training split with its pictures or others in their place.
            folder: of the recipe's results.
            unet: that the adapters are for.
            split: what the latents of the pictures are kept as.
        """
        self._device, self._asked = pick_device(), asked
        captions = Captions(data, folder, "train")
        ids = encode_captions(captions.tokenizer, [[each.text] for each in asked])[:, 0]
        self._hidden, self._empty = captions.cached_states(ids), captions.hidden_states(captions.empty[None])[0]
        self._adapters = {kind: _adapter(kind, folder, unet) for kind in KINDS}
        self._tokens, self._nothing = {}, {}
        for kind, adapter in self._adapters.items():
            pictures = [each.picture for each in asked if each.kind == kind]
            self._tokens[kind], self._nothing[kind] = _tokens(adapter, pictures, recipe, data, folder)
        self._place = _places([each.kind for each in asked])
        self._scales = torch.tensor([each.scale for each in asked])
        self._pictures = skeletons_of(recipe, data, folder, "train")
        self.holes = Holes.of([each.filled for each in asked], recipe, latents_of(data, folder, split))

    def __len__(self) -> int:
        return len(self._asked)

    def is_posed(self, row: int) -> bool:
        """Whether a question has a skeleton."""
        return self._asked[row].pose is not None

    def inputs(self, rows: Sequence[int], *, guided: bool = False) -> Inputs:
        """What the networks are given of some of the questions.

        Args:
            rows: which.
            guided: with the other side of classifier-free guidance before them, as diffusers' pipelines stack both.
        """
        hidden = self._hidden[rows].to(self._device).float()
        posed = [place for place, row in enumerate(rows) if self.is_posed(row)]
        poses = [self._asked[rows[place]].pose for place in posed]
        control = control_pixels(self._pictures, torch.tensor(poses, dtype=torch.long), self._device)
        sides = 2 if guided else 1
        if guided:
            hidden = torch.cat([self._empty.expand_as(hidden), hidden])
            control = torch.cat([control, control])
        return Inputs(
            hidden=hidden,
            image_prompt=self._image_prompt(rows, guided=guided),
            posed=torch.tensor(
                [place + side * len(rows) for side in range(sides) for place in posed],
                dtype=torch.long,
                device=self._device,
            ),
            control=control,
        )

    def noise(self, rows: Sequence[int]) -> torch.Tensor:
        """What the pictures begin from, (B, 4, h, w); the same for a question in every run."""
        shape = (4, *self.holes.mask.shape[-2:])
        return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(row)) for row in rows])

    @torch.no_grad()
    def _image_prompt(self, rows: Sequence[int], *, guided: bool) -> ImagePromptBatch:
        terms: dict[str, list[ImageTerm]] = {}
        for kind, adapter in self._adapters.items():
            places = [place for place, row in enumerate(rows) if self._asked[row].kind == kind]
            if not places:
                continue
            chosen = [rows[place] for place in places]
            tokens = self._tokens[kind][[self._place[row] for row in chosen]].float()
            where, scales = torch.tensor(places), self._scales[chosen]
            if guided:
                tokens = torch.cat([self._nothing[kind].expand_as(tokens), tokens])
                where, scales = torch.cat([where, where + len(rows)]), torch.cat([scales, scales])
            for name, term in _terms(adapter, tokens, where, scales):
                terms.setdefault(name, []).append(term)
        return ImagePromptBatch(terms, num_rows=len(rows) * (2 if guided else 1))


def _terms(
    adapter: IPAdapter, tokens: torch.Tensor, rows: torch.Tensor, scales: torch.Tensor
) -> Iterator[tuple[str, ImageTerm]]:
    scales = scales.to(tokens)[:, None, None]
    for name, pair in zip(adapter.layer_names, adapter.ip_adapter.values(), strict=True):
        key, value = pair.to_k_ip(tokens), scales * pair.to_v_ip(tokens)
        yield name, ImageTerm(rows=rows.to(tokens.device), key=key, value=value, steps=range(1))


def _places(values: Sequence[object]) -> list[int]:
    """The number of each value among its equals before it."""
    counts: dict[object, int] = {}
    places = []
    for value in values:
        places.append(counts.get(value, 0))
        counts[value] = places[-1] + 1
    return places


def _adapter(kind: Kind, folder: Path, unet: UNet2DConditionModel) -> IPAdapter:
    adapter = load_adapter(part_of(folder, "adapters") / FILES[kind], unet)
    return adapter.to(pick_device(), torch.float32).requires_grad_(False).eval()


@torch.no_grad()
def _tokens(
    adapter: IPAdapter, pictures: Sequence[int], recipe: Recipe, data: ToyData, folder: Path
) -> tuple[torch.Tensor, torch.Tensor]:
    """What an adapter makes of pictures, (N, T, text_hidden) float16, and of no picture, (T, text_hidden)."""
    encoder, device = load_image_encoder(folder), pick_device()
    blank = torch.zeros(1, 3, recipe.vision_size, recipe.vision_size)
    nothing = adapter.tokens(encode_image(encoder, blank, adapter.kind).uncond)[0]
    parts = [nothing.half().new_empty(0, *nothing.shape)]
    for rows in torch.tensor(pictures, dtype=torch.long).split(64):
        batch = clip_pixels(pixels(data.images, rows, device), recipe.vision_size)
        parts.append(adapter.tokens(encode_image(encoder, batch, adapter.kind).cond).half())
    return torch.cat(parts), nothing


MARGIN = 4
"""Pixels by which holes reach beyond the figure that they take out, at 256."""


@dataclass(frozen=True)
class Holes:
    """What is drawn of pictures, for a list of questions.

    Attributes:
        mask: (N, 1, h, w) bool, the latents that are drawn; all of them where no picture is filled.
        latents: of the pictures that are filled, by the question's row.
    """

    mask: torch.Tensor
    latents: dict[int, torch.Tensor]

    @classmethod
    @torch.no_grad()
    def of(cls, filled: Sequence[int | None], recipe: Recipe, latents: Latents) -> Holes:
        """Take the pictures that are filled; half of them lose their figure, and the others a part of any shape.

        Args:
            filled: for each question the row of the training picture that it fills, or None.
            recipe: of the model.
            latents: of the pictures.
        """
        device, generator = pick_device(), torch.Generator().manual_seed(recipe.seed)
        mask = torch.ones(len(filled), 1, recipe.latent_size, recipe.latent_size, dtype=torch.bool)
        rows = [row for row, picture in enumerate(filled) if picture is not None]
        pictures = torch.tensor([filled[row] for row in rows], dtype=torch.long)
        encoded = latents.sample(pictures, generator, device)
        for row, picture in zip(rows, pictures.tolist(), strict=True):
            hole = _figure(recipe, picture) if row % 2 else _shape(recipe.size, generator)
            # A cell of the latents is drawn where any pixel of it is.
            mask[row] = F.max_pool2d(hole[None], recipe.size // recipe.latent_size)[0] > 0
        return cls(mask.to(device), dict(zip(rows, encoded, strict=True)))

    def around(
        self,
        rows: Sequence[int],
        drawn: torch.Tensor,
        noise: torch.Tensor,
        scheduler: DDIMScheduler,
        timestep: torch.Tensor,
    ) -> torch.Tensor:
        """Put the picture, as noisy as what is drawn, around the holes, as diffusers' inpainting does after a step.

        Args:
            rows: of the questions.
            drawn: (B, 4, h, w), what has been drawn of them.
            noise: (B, 4, h, w) that they began from.
            scheduler: adds the noise.
            timestep: (1,) that what is drawn stands at; (0,) after the last step.
        """
        drawn = drawn.clone()
        for place, row in enumerate(rows):
            if row in self.latents:
                kept = self.latents[row]
                if len(timestep):
                    kept = scheduler.add_noise(kept, noise[place], timestep)
                drawn[place] = torch.where(self.mask[row], drawn[place], kept)
        return drawn


def _figure(recipe: Recipe, row: int) -> torch.Tensor:
    """A training picture's figure with a margin, (1, size, size), 1 inside."""
    margin = 2 * max(1, MARGIN * recipe.size // 256) + 1
    mask = world.render_mask(view_of(recipe, row), recipe.size)
    return torch.from_numpy(np.asarray(mask.filter(ImageFilter.MaxFilter(margin))) > 127)[None].float()


def _shape(size: int, generator: torch.Generator) -> torch.Tensor:
    """An ellipse, a rectangle or a strip at an edge, of any place and size, (1, size, size), 1 inside."""
    x, y, width, height, sort, side = torch.rand(6, generator=generator).tolist()
    grid = (torch.arange(size) + 0.5) / size
    across, down = ((grid - place).abs() / (0.08 + 0.3 * length) for place, length in ((x, width), (y, height)))
    if sort < 0.55:
        inside = across[None].square() + down[:, None].square() < 1
    elif sort < 0.8:
        inside = torch.maximum(across[None], down[:, None]) < 1
    else:
        strip = grid < 0.08 + 0.4 * width
        inside = torch.rot90(strip.expand(size, size), int(4 * side))
    return inside.float()[None]
