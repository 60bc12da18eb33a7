"""Sizes and budgets of the recipe: everything that differs between a laptop and a big GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """How long and how fast one stage trains.

    Attributes:
        samples: training samples to see; the stage ends there.
        batch_size: samples per optimiser step.
        lr: peak learning rate; warmed up, then lowered along a cosine to a twentieth.
        minutes: limit of one sitting, after which the stage stops unfinished and says so; None for none.
    """

    samples: int
    batch_size: int
    lr: float
    minutes: float | None = None


@dataclass(frozen=True, kw_only=True)
class Enlargement:
    """How the model learns to draw at twice the size it was trained at.

    Attributes:
        vae: training of the autoencoder.
        skeletons: training of the ControlNet's layers that look at skeletons.
    """

    vae: StageSettings
    skeletons: StageSettings


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One complete setting of the recipe.

    Attributes:
        size: width and height of the pictures in pixels, a multiple of 8.
        vae_channels: of the autoencoder's levels; each level after the first halves the size of the latents.
        subjects: training subjects drawn; each is seen in two scenes.
        heldout_subjects: subjects whose combination of attributes never occurs in training.
        captions_per_picture: differently worded captions kept per picture.
        vision_size: side of the square the vision tower sees, in pixels.
        other_view_share: share of the adapters' pairs whose reference shows the same subject in another scene; the
            others are picture = target, as in the paper. Another view teaches "this subject, elsewhere" instead of
            "copy this picture".
        trajectories: pictures whose way from noise is kept, for the student and the small autoencoder.
        lora_rank: of the student's changes to the UNet's layers.
        tiny_vae_examples: latents that the small autoencoder learns from.
        widen: of the stage that gives a narrower autoencoder the ``vae_channels``; None leaves it as it is.
        enlarge: of the stage that makes the bundle draw at twice ``size``; None leaves it at that.
    """

    name: str
    size: int
    subjects: int
    heldout_subjects: int = 512
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
    vae_channels: tuple[int, ...] = (16, 32, 64)
    unet_channels: tuple[int, ...] = (32, 96, 160)
    unet_heads: int = 4
    other_view_share: float = 0.6
    trajectories: int = 5_000
    lora_rank: int = 48
    tiny_vae_examples: int = 4_096

    vae: StageSettings
    clip: StageSettings
    vision: StageSettings
    quiet_words: StageSettings
    unet: StageSettings
    controlnet: StageSettings
    text_teacher: StageSettings
    base_adapter: StageSettings
    fine_adapter: StageSettings
    judge: StageSettings
    pose_reader: StageSettings
    decoder: StageSettings
    tiny_vae: StageSettings
    student: StageSettings
    widen: StageSettings | None = None
    enlarge: Enlargement | None = None

    @property
    def picture_size(self) -> int:
        """Side in pixels of what the finished model draws."""
        return 2 * self.size if self.enlarge else self.size

    @property
    def latent_size(self) -> int:
        """Side of the latents."""
        return self.size // 2 ** (len(self.vae_channels) - 1)


CPU_128 = Recipe(
    name="cpu128",
    size=128,
    subjects=8_000,
    vae=StageSettings(samples=24_000, batch_size=8, lr=1.2e-3),
    clip=StageSettings(samples=70_000, batch_size=192, lr=1e-3),
    vision=StageSettings(samples=400_000, batch_size=128, lr=1e-3),
    quiet_words=StageSettings(samples=60_000, batch_size=64, lr=1.5e-3),
    unet=StageSettings(samples=130_000, batch_size=16, lr=1e-3),
    controlnet=StageSettings(samples=160_000, batch_size=16, lr=1e-3),
    text_teacher=StageSettings(samples=200_000, batch_size=64, lr=1e-3),
    base_adapter=StageSettings(samples=30_000, batch_size=16, lr=6e-4),
    fine_adapter=StageSettings(samples=30_000, batch_size=16, lr=6e-4),
    judge=StageSettings(samples=144_000, batch_size=64, lr=1e-3),
    pose_reader=StageSettings(samples=60_000, batch_size=64, lr=2e-3),
    decoder=StageSettings(samples=12_000, batch_size=4, lr=4e-4),
    tiny_vae=StageSettings(samples=120_000, batch_size=16, lr=1e-3),
    student=StageSettings(samples=200_000, batch_size=32, lr=1e-3),
    enlarge=Enlargement(
        vae=StageSettings(samples=40_000, batch_size=8, lr=1e-3),
        skeletons=StageSettings(samples=12_800, batch_size=16, lr=2e-3),
    ),
)
"""Two CPU cores, a night."""

CPU_256 = replace(
    CPU_128,
    name="cpu256",
    size=256,
    subjects=12_000,
    vae_channels=(32, 32, 64, 128),
    widen=StageSettings(samples=48_000, batch_size=16, lr=1e-3),
    controlnet=StageSettings(samples=100_000, batch_size=32, lr=1e-3),
    enlarge=None,
)
"""To train on from a bundle that `cpu128` made."""

GPU_256 = replace(
    CPU_256,
    name="gpu256",
    subjects=20_000,
    widen=None,
    vae=StageSettings(samples=240_000, batch_size=128, lr=1e-3),
    clip=StageSettings(samples=2_000_000, batch_size=1024, lr=1e-3),
    vision=StageSettings(samples=2_000_000, batch_size=512, lr=1e-3),
    quiet_words=StageSettings(samples=200_000, batch_size=256, lr=1.5e-3),
    unet=StageSettings(samples=3_000_000, batch_size=512, lr=1e-3),
    controlnet=StageSettings(samples=2_400_000, batch_size=512, lr=5e-4),
    text_teacher=StageSettings(samples=1_000_000, batch_size=256, lr=1e-3),
    base_adapter=StageSettings(samples=300_000, batch_size=256, lr=6e-4),
    fine_adapter=StageSettings(samples=300_000, batch_size=256, lr=6e-4),
    judge=StageSettings(samples=600_000, batch_size=256, lr=1e-3),
    pose_reader=StageSettings(samples=300_000, batch_size=256, lr=1e-3),
    decoder=StageSettings(samples=240_000, batch_size=64, lr=4e-4),
    trajectories=20_000,
    tiny_vae=StageSettings(samples=600_000, batch_size=64, lr=1e-3),
    student=StageSettings(samples=1_500_000, batch_size=256, lr=2e-3),
)
"""One big GPU, no stage longer than some ten minutes and what it draws first; from nothing, or on from a bundle.

On an H200, `vae` saw 76,000 samples a minute, `vision` 900,000 and `controlnet` 300,000; the other stages, but for some
seconds of both teachers, have not run there.
"""

TINY = Recipe(
    name="tiny",
    size=64,
    subjects=24,
    heldout_subjects=8,
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
    vae=StageSettings(samples=8, batch_size=4, lr=1e-3),
    clip=StageSettings(samples=16, batch_size=8, lr=1e-3),
    vision=StageSettings(samples=16, batch_size=8, lr=1e-3),
    quiet_words=StageSettings(samples=8, batch_size=4, lr=1e-3),
    unet=StageSettings(samples=8, batch_size=4, lr=1e-3),
    controlnet=StageSettings(samples=8, batch_size=4, lr=1e-3),
    text_teacher=StageSettings(samples=8, batch_size=4, lr=1e-3),
    base_adapter=StageSettings(samples=8, batch_size=4, lr=1e-3),
    fine_adapter=StageSettings(samples=8, batch_size=4, lr=1e-3),
    judge=StageSettings(samples=8, batch_size=4, lr=1e-3),
    pose_reader=StageSettings(samples=8, batch_size=4, lr=1e-3),
    decoder=StageSettings(samples=8, batch_size=4, lr=1e-3),
    trajectories=20,
    lora_rank=4,
    tiny_vae_examples=8,
    tiny_vae=StageSettings(samples=8, batch_size=4, lr=1e-3),
    student=StageSettings(samples=8, batch_size=4, lr=1e-3),
)
"""The whole recipe in seconds, for the tests."""

RECIPES = {recipe.name: recipe for recipe in (CPU_128, CPU_256, GPU_256, TINY)}
