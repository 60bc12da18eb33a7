"""A model's scheduler: every place that declares one is respected, and pictures equal those of plain diffusers."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    PNDMScheduler,
    SchedulerMixin,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from ipa_app.errors import UserError
from ipa_app.models.catalog import entry_from_file, entry_from_folder
from ipa_app.models.schedule import Sampling, build_scheduler, sampling_of_yaml
from ipa_app.training.components import load_components
from tests.checkpoints import (
    cache_configuration,
    copy_configuration,
    draw_ours,
    draw_plainly,
    load,
    plain_pipeline,
    write_checkpoint,
)
from tests.tiny_sdxl import tiny_sdxl_bundle

V_PRED = {"v_pred": torch.tensor([])}
ZTSNR = {"ztsnr": torch.tensor([])}
EPSILON = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
SD21 = "stabilityai/stable-diffusion-2-1"
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"


def set_scheduler(folder: Path, scheduler: SchedulerMixin) -> Path:
    shutil.rmtree(folder / "scheduler", ignore_errors=True)
    scheduler.save_pretrained(folder / "scheduler")
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", type(scheduler).__name__]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def small(tiny_bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model whose scheduler is configured for noise prediction, like Stable Diffusion 1.5's."""
    folder = shutil.copytree(tiny_bundle_dir, tmp_path_factory.mktemp("schedule") / "small")
    return set_scheduler(folder, PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=False, **EPSILON))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an SDXL with the published schedule."""
    # An SDXL's two text encoders are told apart by their widths.
    return tiny_sdxl_bundle(tmp_path_factory.mktemp("schedule") / "large", second_text={"hidden_size": 48})


def euler(**changes: Any) -> SchedulerMixin:
    return EulerDiscreteScheduler(timestep_spacing="leading", **EPSILON, **changes)


def ddim(**changes: Any) -> SchedulerMixin:
    return DDIMScheduler(clip_sample=False, set_alpha_to_one=False, **EPSILON, **changes)


V = {"prediction_type": "v_prediction"}


@pytest.mark.parametrize(
    ("more", "scheduler"),
    [
        ({}, euler()),
        (V_PRED, euler(**V)),
        (V_PRED | ZTSNR, euler(**V, rescale_betas_zero_snr=True)),
        (ZTSNR, euler()),
        (
            {"edm_vpred.sigma_max": torch.tensor(120.0), "edm_vpred.sigma_min": torch.tensor(0.002)},
            EDMEulerScheduler(sigma_min=0.002, sigma_max=120.0, sigma_data=1.0, sigma_schedule="exponential", **V),
        ),
        (
            {"edm_vpred.sigma_max": torch.tensor(80.0)},
            EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=1.0, sigma_schedule="exponential", **V),
        ),
    ],
    ids=["epsilon", "v", "zero snr", "zero snr alone", "CosXL", "CosXL to 80"],
)
def test_what_an_sdxl_says_by_its_tensors_is_heard(
    large: Path, tmp_path: Path, more: dict[str, Tensor], scheduler: SchedulerMixin
) -> None:
    model = load(write_checkpoint(large, tmp_path / "dream.safetensors", more=more))
    drawn = draw_ours(model)
    assert torch.equal(drawn, draw_plainly(plain_pipeline(large, scheduler)))
    if not isinstance(scheduler, EulerDiscreteScheduler) or scheduler.config.prediction_type != "epsilon":
        assert not torch.allclose(drawn, draw_plainly(plain_pipeline(large)), atol=1e-2)


@pytest.mark.parametrize(
    ("more", "scheduler"),
    [
        (V_PRED, PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=False, **EPSILON, **V)),
        (V_PRED | ZTSNR, ddim(**V, rescale_betas_zero_snr=True)),
    ],
    ids=["v", "zero snr"],
)
def test_what_a_stable_diffusion_says_by_its_tensors_is_heard(
    small: Path, tmp_path: Path, more: dict[str, Tensor], scheduler: SchedulerMixin
) -> None:
    """PNDM, the default of Stable Diffusion 1.5, cannot start from pure noise: DDIM replaces it."""
    model = load(write_checkpoint(small, tmp_path / "dream.safetensors", more=more))
    assert torch.equal(draw_ours(model), draw_plainly(plain_pipeline(small, scheduler)))


def test_playground_brings_its_schedule_and_the_statistics_of_its_latents(large: Path, tmp_path: Path) -> None:
    mean, deviation = [-1.6, 1.1, 0.4, -2.0], [8.4, 5.9, 8.4, 4.5]
    more = {
        "edm_mean": torch.tensor(mean).view(1, 4, 1, 1),
        "edm_std": torch.tensor(deviation).view(1, 4, 1, 1),
    }
    model = load(write_checkpoint(large, tmp_path / "playground.safetensors", more=more))
    plain = plain_pipeline(large, EDMDPMSolverMultistepScheduler(sigma_max=80.0, sigma_min=0.002, sigma_data=0.5))
    assert torch.equal(draw_ours(model), draw_plainly(plain))
    config = model.pipelines["text_to_image"].vae.config
    assert config.scaling_factor == 0.5
    assert config.latents_mean == pytest.approx(mean)
    assert config.latents_std == pytest.approx(deviation)


def test_half_of_playgrounds_statistics_is_told(large: Path, tmp_path: Path) -> None:
    entry = write_checkpoint(large, tmp_path / "half.safetensors", more={"edm_mean": torch.zeros(1, 4, 1, 1)})
    with pytest.raises(UserError, match=r"half\.safetensors is damaged: it has edm_mean of an EDM model"):
        load(entry)


@pytest.mark.parametrize(
    ("notes", "predicted"),
    [
        ({"modelspec.prediction_type": "v"}, "v_prediction"),
        ({"modelspec.predict_key": "v"}, "v_prediction"),
        ({"ss_v_parameterization": "True"}, "v_prediction"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v"}, "v_prediction"),
        ({"modelspec.prediction_type": "epsilon", "ss_v_parameterization": "False"}, "epsilon"),
    ],
)
def test_what_the_maker_noted_is_heard(small: Path, tmp_path: Path, notes: dict[str, str], predicted: str) -> None:
    model = load(write_checkpoint(small, tmp_path / "dream.safetensors", notes=notes))
    assert model.pipelines["text_to_image"].scheduler.config.prediction_type == predicted


def test_a_note_of_zero_snr_is_heard(small: Path, tmp_path: Path) -> None:
    notes = {"ss_v_parameterization": "True", "ss_zero_terminal_snr": "True"}
    model = load(write_checkpoint(small, tmp_path / "dream.safetensors", notes=notes))
    assert model.pipelines["text_to_image"].scheduler.config.rescale_betas_zero_snr


CONFIG = {**V, "_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing", **EPSILON}
COMPVIS = "model:\n  params:\n    parameterization: 'v'\n    linear_start: 0.00085\n    linear_end: 0.0120\n"
STABILITY = """
model:
  params:
    scale_factor: 0.13025
    denoiser_config:
      params:
        scaling_config: {target: sgm.modules.diffusionmodules.denoiser_scaling.VScaling}
        discretization_config: {target: sgm.modules.diffusionmodules.discretizer.LegacyDDPMDiscretization}
"""


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("dream/scheduler/scheduler_config.json", json.dumps(CONFIG)),
        ("dream/scheduler_config.json", json.dumps(CONFIG)),
        ("scheduler/scheduler_config.json", json.dumps(CONFIG)),
        ("scheduler_config.json", json.dumps(CONFIG)),
        ("dream.yaml", COMPVIS),
        ("dream.yml", STABILITY),
        ("dream/any.yaml", STABILITY),
        ("v2-inference-v.yaml", COMPVIS),
    ],
)
def test_what_lies_beside_the_file_counts_before_the_usual_configuration(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, text: str
) -> None:
    cache_configuration(small, repo=SD15, cache=tmp_path / "cache", monkeypatch=monkeypatch)
    entry = write_checkpoint(small, tmp_path / "here" / "dream.safetensors", beside=False)
    path = tmp_path / "here" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    model = load(entry)
    own = EulerDiscreteScheduler.from_config(CONFIG)
    expected = own if place.endswith(".json") else PNDMScheduler.from_pretrained(small / "scheduler", **V)
    assert torch.equal(draw_ours(model), draw_plainly(plain_pipeline(small, expected)))


def test_a_yaml_of_another_file_is_not_this_ones(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_configuration(small, repo=SD15, cache=tmp_path / "cache", monkeypatch=monkeypatch)
    entry = write_checkpoint(small, tmp_path / "dream.safetensors", beside=False)
    (tmp_path / "other.safetensors").touch()
    (tmp_path / "other.yaml").write_text(COMPVIS)
    (tmp_path / "docker-compose.yaml").write_text("services: {}")
    (tmp_path / "template.yaml").write_text("{{ a: template")
    assert load(entry).pipelines["text_to_image"].scheduler.config.prediction_type == "epsilon"


@pytest.mark.parametrize(("second", "predicted"), [("'v'", "v_prediction"), ("eps", "epsilon")])
def test_of_several_yamls_around_it_none_counts_that_another_contradicts(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: str, predicted: str
) -> None:
    cache_configuration(small, repo=SD15, cache=tmp_path / "cache", monkeypatch=monkeypatch)
    entry = write_checkpoint(small, tmp_path / "dream.safetensors", beside=False)
    (tmp_path / "v2-inference-v.yaml").write_text(COMPVIS)
    (tmp_path / "second.yaml").write_text(COMPVIS.replace("'v'", second))
    assert load(entry).pipelines["text_to_image"].scheduler.config.prediction_type == predicted


def test_the_configuration_around_the_file_is_taken_as_in_most_repositories(small: Path, tmp_path: Path) -> None:
    """The file lies in the diffusers folder of the same model, as a link like those of the Hub's cache."""
    repository = copy_configuration(small, tmp_path / "repository")
    set_scheduler(repository, ddim(**V))
    write_checkpoint(small, tmp_path / "blobs" / "0123abcd", beside=False)
    (repository / "dream.safetensors").symlink_to(tmp_path / "blobs" / "0123abcd")
    model = load(entry_from_file(repository / "dream.safetensors", name="dream"))
    assert torch.equal(draw_ours(model), draw_plainly(plain_pipeline(small, ddim(**V))))


@pytest.mark.parametrize("place", ["scheduler/scheduler_config.json", "scheduler_config.json", "any.yaml"])
def test_the_repositorys_folder_counts_for_a_file_deeper_in_it(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    cache_configuration(small, repo=SD15, cache=tmp_path / "cache", monkeypatch=monkeypatch)
    root = tmp_path / "cache" / "models--maker--dream" / "snapshots" / ("1" * 40)
    entry = write_checkpoint(small, root / "checkpoints" / "dream.safetensors", beside=False)
    (root / place).parent.mkdir(exist_ok=True)
    (root / place).write_text(json.dumps(CONFIG) if place.endswith("json") else COMPVIS)
    assert load(entry).pipelines["text_to_image"].scheduler.config.prediction_type == "v_prediction"


def test_what_the_file_says_counts_before_what_lies_beside_it(small: Path, tmp_path: Path) -> None:
    entry = write_checkpoint(small, tmp_path / "dream.safetensors", more=V_PRED)
    (tmp_path / "dream.yaml").write_text(COMPVIS.replace("'v'", "eps"))
    assert load(entry).pipelines["text_to_image"].scheduler.config.prediction_type == "v_prediction"


@pytest.mark.parametrize(("deviation", "predicted"), [(0.15, "v_prediction"), (0.03, "epsilon")])
def test_a_stable_diffusion_2_tells_by_a_layer(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deviation: float, predicted: str
) -> None:
    cache_configuration(small, repo=SD21, cache=tmp_path / "cache", monkeypatch=monkeypatch)
    layer = torch.randn(64, generator=torch.Generator().manual_seed(0)) * deviation
    name = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
    entry = write_checkpoint(
        small, tmp_path / "dream.safetensors", beside=False, text_layout="open_clip", more={name: layer}
    )
    # The tiny model has no such layer; that unknown layers are refused has its own tests.
    monkeypatch.setattr("ipa_app.models.single_file.Checkpoint.check_fit", lambda *_, **__: None)
    assert load(entry).pipelines["text_to_image"].scheduler.config.prediction_type == predicted


@pytest.mark.parametrize("text", ["services: {}", "- 1", "", "model: 3", "model: {params: [1]}"])
def test_a_yaml_that_is_something_else_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    assert sampling_of_yaml(tmp_path / "x.yaml") is None


@pytest.mark.parametrize("params", [{"denoiser_config": 3}, {"parameterization": ["v"]}, {"linear_start": "a"}])
def test_a_yaml_of_other_forms_says_nothing(tmp_path: Path, params: dict[str, object]) -> None:
    (tmp_path / "x.yaml").write_text(json.dumps({"model": {"params": params}}))
    told = sampling_of_yaml(tmp_path / "x.yaml")
    assert told is not None
    assert not told.settings


def test_a_broken_yaml_is_named(small: Path, tmp_path: Path) -> None:
    entry = write_checkpoint(small, tmp_path / "dream.safetensors")
    (tmp_path / "dream.yaml").write_text("model: {")
    with pytest.raises(UserError, match=r"dream\.yaml is not readable YAML"):
        load(entry)


def test_a_yaml_tells_the_factor_of_the_latents(small: Path, tmp_path: Path) -> None:
    entry = write_checkpoint(small, tmp_path / "dream.safetensors")
    (tmp_path / "dream.yaml").write_text(STABILITY)
    assert load(entry).pipelines["text_to_image"].vae.config.scaling_factor == 0.13025


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_a_folders_unet_may_say_it_too(small: Path, tmp_path: Path, ending: str) -> None:
    """As in a checkpoint that was converted with all its extra tensors."""
    folder = shutil.copytree(small, tmp_path / "folder")
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    statistics = {"edm_mean": torch.full((1, 4, 1, 1), 2.0), "edm_std": torch.full((1, 4, 1, 1), 3.0)}
    tensors = load_file(path)
    path.unlink()
    for marks in (V_PRED | ZTSNR, statistics):
        if ending == "bin":
            torch.save(tensors | marks, path.with_suffix(".bin"))
        else:
            save_file(tensors | marks, path, metadata={"format": "pt"})
        pipeline = load(entry_from_folder(folder, name="x")).pipelines["text_to_image"]
        if marks is statistics:
            assert isinstance(pipeline.scheduler, EDMDPMSolverMultistepScheduler)
            assert pipeline.vae.config.latents_std == [3.0] * 4
        else:
            assert pipeline.scheduler.config.prediction_type == "v_prediction"
            assert pipeline.scheduler.config.rescale_betas_zero_snr


# Schedulers that do not work with Stable Diffusion or with these settings are reported before anything is drawn.


@pytest.mark.parametrize("kind", [FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler])
def test_schedulers_for_flow_matching_are_refused(small: Path, tmp_path: Path, kind: type) -> None:
    folder = set_scheduler(shutil.copytree(small, tmp_path / "flow"), kind())
    with pytest.raises(UserError, match=f"Tiny draws with {kind.__name__}, which is for flow-matching models"):
        load(entry_from_folder(folder, name="flow"))


@pytest.mark.skipif(find_spec("torchsde") is not None, reason="the package is there")
@pytest.mark.parametrize("name", ["DPMSolverSDEScheduler", "CosineDPMSolverMultistepScheduler"])
def test_a_package_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(UserError, match=rf"draws with {name}, which needs the package torchsde; .* install torchsde"):
        build_scheduler(name, {}, title="Dream")


@pytest.mark.parametrize("name", [None, "AutoencoderKL", "NoSuchScheduler", "utils", "SchedulerMixin "])
def test_what_is_no_scheduler_is_named(name: str | None) -> None:
    with pytest.raises(UserError, match="Dream uses the sampling schedule .* unknown here"):
        build_scheduler(name, {}, title="Dream")


@pytest.mark.parametrize("predicted", ["v", "v-prediction", "eps"])
def test_an_unknown_prediction_is_named(predicted: str) -> None:
    with pytest.raises(UserError, match=rf"scheduler_config.json, the model Dream predicts {predicted!r}"):
        build_scheduler("DDIMScheduler", {"prediction_type": predicted}, title="Dream")


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("DDIMScheduler", {"beta_schedule": "unheard-of"}),
        ("EulerDiscreteScheduler", {"timestep_spacing": "sideways"}),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "unheard-of"}),
        ("ScoreSdeVeScheduler", {}),
        ("IPNDMScheduler", {}),
    ],
)
def test_settings_that_do_not_work_are_told_before_drawing(name: str, config: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"Dream draws with {name}, which does not work here"):
        build_scheduler(name, config, title="Dream")


def test_trying_a_scheduler_draws_no_number_that_others_would_have_had() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    build_scheduler("EulerAncestralDiscreteScheduler", {}, title="Dream")
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("name", ["LCMScheduler", "HeunDiscreteScheduler"])
def test_a_scheduler_of_another_class_keeps_the_noise_that_a_model_leaves_to_its_schedulers_class(name: str) -> None:
    own: Any = build_scheduler(name, {}, title="Dream")
    other: Any = build_scheduler("DDIMScheduler", own.config, title="Dream")
    assert torch.equal(other.alphas_cumprod, own.alphas_cumprod)
    assert other.config["timestep_spacing"] == DDIMScheduler().config["timestep_spacing"]
    told = Sampling(settings={"prediction_type": "v_prediction", "rescale_betas_zero_snr": True})
    from_pure_noise: Any = build_scheduler(name, {}, title="Dream", sampling=told)
    assert from_pure_noise.alphas_cumprod[-1] == 0
    torch.testing.assert_close(from_pure_noise.alphas_cumprod[0], own.alphas_cumprod[0])


# Training adds the noise that drawing removes.


def test_training_follows_what_the_file_says(small: Path, tmp_path: Path) -> None:
    entry = write_checkpoint(small, tmp_path / "dream.safetensors", more=V_PRED | ZTSNR)
    shutil.copytree(small / "image_encoder", tmp_path / "dream" / "image_encoder")
    schedule = load_components(entry.location).noise_schedule()
    assert schedule.config.prediction_type == "v_prediction"
    assert schedule.alphas_cumprod[-1] == 0
