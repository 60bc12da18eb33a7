"""Sizes and budgets of the recipe."""

from __future__ import annotations

from dataclasses import dataclass, replace

LEAST_BATCH = 4
"""Fewest samples in an optimiser step, however small the budget."""


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """How long and how fast one stage trains.

    Attributes:
        samples: training samples to see; the stage ends there.
        batch_size: samples per optimiser step.
        lr: peak learning rate; warmed up, then decayed along a cosine to a twentieth.
        minutes: time limit of one run, after which the stage stops unfinished and says so; None for no limit.
    """

    samples: int
    batch_size: int
    lr: float
    minutes: float | None = None

    def scaled(self, budget: float) -> StageSettings:
        """Return the settings with scaled samples: below 1 by smaller batches, above 1 by more steps."""
        batch_size = min(self.batch_size, max(LEAST_BATCH, round(self.batch_size * budget)))
        return replace(self, batch_size=batch_size, samples=max(batch_size, round(self.samples * budget)))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One complete configuration of the recipe; by default that of the shipped model.

    Attributes:
        size: width and height of the pictures in pixels, a multiple of 8.
        subjects: number of training subjects; each is seen in two scenes.
        heldout_subjects: subjects whose combination of attributes never occurs in training.
        free_subjects: further training subjects, whose limbs point anywhere, for skeletons that no caption describes.
        captions_per_picture: differently worded captions kept per picture.
        vision_size: side of the image encoder's input in pixels.
        vae_channels: of the autoencoder's levels; each level after the first halves the size of the latents.
        controlnet_channels: of the ControlNet's layers that embed skeletons, one more for each halving.
        other_view_share: share of the adapters' pairs whose reference shows the same subject in another scene; the
            others are picture = target, as in the paper. Another view teaches "this subject, elsewhere" instead of
            "copy this picture".
        trajectories: number of pictures, and of filled holes, whose denoising trajectory is kept for the student.
        lora_rank: rank of the student's LoRA.
        tiny_vae_examples: number of latents that the small autoencoder learns from.
    """

    name: str
    size: int = 256
    subjects: int = 20_000
    heldout_subjects: int = 512
    free_subjects: int = 4_000
    captions_per_picture: int = 8
    seed: int = 2024

    text_tokens: int = 48
    text_hidden: int = 128
    text_layers: int = 4
    vision_size: int = 128
    vision_patch: int = 16
    vision_hidden: int = 160
    vision_layers: int = 4
    projection_dim: int = 128
    vae_channels: tuple[int, ...] = (32, 32, 64, 128)
    unet_channels: tuple[int, ...] = (32, 96, 160)
    unet_heads: int = 4
    controlnet_channels: tuple[int, ...] = (16, 16, 32, 64)
    other_view_share: float = 0.6
    trajectories: int = 20_000
    lora_rank: int = 24
    tiny_vae_examples: int = 4_096

    vae: StageSettings = StageSettings(samples=240_000, batch_size=128, lr=1e-3)
    decoder: StageSettings = StageSettings(samples=200_000, batch_size=128, lr=4e-4)
    clip: StageSettings = StageSettings(samples=2_000_000, batch_size=1024, lr=1e-3)
    vision: StageSettings = StageSettings(samples=2_000_000, batch_size=512, lr=1e-3)
    rare_attributes: StageSettings = StageSettings(samples=200_000, batch_size=256, lr=1.5e-3)
    unet: StageSettings = StageSettings(samples=3_000_000, batch_size=512, lr=1e-3)
    controlnet: StageSettings = StageSettings(samples=2_400_000, batch_size=512, lr=5e-4)
    attention_distillation: StageSettings = StageSettings(samples=1_000_000, batch_size=256, lr=1e-3)
    base_adapter: StageSettings = StageSettings(samples=300_000, batch_size=256, lr=6e-4)
    fine_adapter: StageSettings = StageSettings(samples=300_000, batch_size=256, lr=6e-4)
    judge: StageSettings = StageSettings(samples=600_000, batch_size=256, lr=1e-3)
    pose_reader: StageSettings = StageSettings(samples=300_000, batch_size=256, lr=1e-3)
    tiny_vae: StageSettings = StageSettings(samples=600_000, batch_size=64, lr=1e-3)
    student: StageSettings = StageSettings(samples=1_500_000, batch_size=256, lr=2e-3)
    inpainting: StageSettings = StageSettings(samples=400_000, batch_size=64, lr=4e-4)

    @property
    def latent_size(self) -> int:
        """Side of the latents."""
        return self.size // 2 ** (len(self.vae_channels) - 1)

    @property
    def stages(self) -> dict[str, StageSettings]:
        """Settings of each stage, by name."""
        return {name: part for name, part in vars(self).items() if isinstance(part, StageSettings)}

    def limited(self, *, budget: float = 1.0, minutes: float | None = None) -> Recipe:
        """Return the recipe for more or less training.

        Args:
            budget: factor on the samples of every stage, and on the trajectories; below 1 also on the batches, so that
                a stage takes as many steps.
            minutes: time limit of each stage in one run.
        """
        changed = {name: replace(stage.scaled(budget), minutes=minutes) for name, stage in self.stages.items()}
        return replace(self, **changed, trajectories=max(LEAST_BATCH, round(self.trajectories * budget)))


FULL = Recipe(name="full")
"""The shipped model, for one large GPU; on a few CPU cores a sixteenth of the budget takes a night.

On an H200, `vae` saw 76,000 samples a minute, `vision` 900,000 and `controlnet` 230,000 to 300,000: in its small steps,
one CPU core is the bottleneck, not the GPU. Sixteen cores drew 16,000 pictures a minute.
"""

_TINY = StageSettings(samples=8, batch_size=4, lr=1e-3)

TINY = replace(
    FULL,
    name="tiny",
    size=64,
    subjects=24,
    heldout_subjects=8,
    free_subjects=8,
    captions_per_picture=3,
    vision_size=32,
    vision_hidden=32,
    vision_layers=2,
    text_hidden=32,
    text_layers=2,
    projection_dim=32,
    vae_channels=(16, 16, 32, 32),
    unet_channels=(32, 64),
    unet_heads=2,
    trajectories=20,
    lora_rank=4,
    tiny_vae_examples=8,
    **dict.fromkeys(FULL.stages, _TINY) | dict.fromkeys(("clip", "vision"), replace(_TINY, samples=16, batch_size=8)),
)
"""The whole recipe at a tiny size, for tests and for trying it out."""

RECIPES = {recipe.name: recipe for recipe in (FULL, TINY)}
