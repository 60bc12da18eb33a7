"""How a model is sampled: its scheduler, what a checkpoint file says of it, and the noise that training adds.

Whether a UNet predicts v or the noise does not follow from its weights. Diffusers' folders record it in
scheduler_config.json; a checkpoint file has empty tensors named `v_pred` and `ztsnr` (ComfyUI, reForge, NoobAI),
metadata of the program that trained it, or a .yaml beside it. EDM models have their parameters in the file: `edm_mean`
and `edm_std` are Playground v2.5's, `edm_vpred.sigma_max` and `edm_vpred.sigma_min` CosXL's.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import diffusers
import torch
import yaml
from diffusers import DDIMScheduler, DDPMScheduler, SchedulerMixin
from diffusers.utils.import_utils import DummyObject
from torch import Tensor

from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.weights import Header

logger = logging.getLogger(__name__)

# The tensors of a file that show how its model is sampled.
MARKS = ("v_pred", "ztsnr", "edm_mean", "edm_std", "edm_vpred.")
_PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow_prediction")
_STEPS_TRIED = 3
# The settings that say which noise a model was trained to remove; all others are its scheduler's way of removing it.
_NOISE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type")
_ROUNDING = 1e-3  # of alphas_cumprod; zero terminal SNR is a small number in some schedulers
_FAILURES = (AssertionError, IndexError, RuntimeError, ValueError)  # of schedulers that cannot do that many steps
# Source: Stability AI's CosXL in diffusers: EDMEulerScheduler with an exponential schedule and data of deviation 1.
_COSXL = {
    "sigma_min": 0.002,
    "sigma_max": 120.0,
    "sigma_data": 1.0,
    "prediction_type": "v_prediction",
    "sigma_schedule": "exponential",
}
# Source: Playground v2.5's scheduler_config.json and vae/config.json.
_PLAYGROUND = {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "prediction_type": "epsilon"}
_PLAYGROUND_SCALING_FACTOR = 0.5
# Their names in the .yaml files of CompVis' and Stability's code.
_YAML_PREDICTIONS = {
    "v": "v_prediction",
    "eps": "epsilon",
    "VScaling": "v_prediction",
    "EpsScaling": "epsilon",
}
_YAML_BETAS = {"linear_start": "beta_start", "linear_end": "beta_end", "timesteps": "num_train_timesteps"}


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What is known of a model's sampling beside its scheduler_config.json.

    Attributes:
        scheduler: name of the class, if it must differ from the configuration's.
        settings: scheduler settings that override the configuration's.
        vae: VAE settings that override its configuration's.
    """

    scheduler: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    vae: Mapping[str, Any] = field(default_factory=dict)

    def over(self, other: Sampling) -> Sampling:
        """Merge with another; this one takes precedence."""
        return Sampling(
            scheduler=self.scheduler or other.scheduler,
            settings={**other.settings, **self.settings},
            vae={**other.vae, **self.vae},
        )


def sampling_of_tensors(header: Header, value: Callable[[str], Tensor], *, name: str) -> Sampling:
    """Read the sampling from tensors beside a UNet's weights.

    Args:
        header: of the file.
        value: returns a tensor of it by name.
        name: of the file or the model, for the message.

    Raises:
        UserError: only some of an EDM model's parameters are there.
    """
    edm = [key for key in ("edm_mean", "edm_std") if key in header]
    if len(edm) == 1:
        raise UserError("checkpoint.half_edm", file=name, key=edm[0])
    if edm:
        mean, deviation = (value(key).flatten().tolist() for key in edm)
        vae = {"latents_mean": mean, "latents_std": deviation, "scaling_factor": _PLAYGROUND_SCALING_FACTOR}
        return Sampling(scheduler="EDMDPMSolverMultistepScheduler", settings=_PLAYGROUND, vae=vae)
    if "edm_vpred.sigma_max" in header:
        names = [name for name in ("sigma_min", "sigma_max") if f"edm_vpred.{name}" in header]
        sigmas = {name: float(value(f"edm_vpred.{name}")) for name in names}
        return Sampling(scheduler="EDMEulerScheduler", settings={**_COSXL, **sigmas})
    settings: dict[str, Any] = {}
    if "v_pred" in header:
        settings["prediction_type"] = "v_prediction"
    if "ztsnr" in header:
        settings["rescale_betas_zero_snr"] = True
    return Sampling(settings=settings)


def sampling_of_notes(notes: Mapping[str, str]) -> Sampling:
    """Read the sampling from a checkpoint's metadata: ModelSpec's fields, and those of sd-scripts.

    Only v-prediction is taken from it: programs also write "epsilon" when they do not know.
    """
    predicted = {str(notes.get(f"modelspec.{key}", "")).lower() for key in ("prediction_type", "predict_key")}
    is_v = bool(predicted & {"v", "v_prediction", "v-prediction"}) or notes.get("ss_v_parameterization") == "True"
    is_v = is_v or str(notes.get("modelspec.architecture", "")).startswith("stable-diffusion-v2-768-v")
    settings: dict[str, Any] = {"prediction_type": "v_prediction"} if is_v else {}
    if notes.get("ss_zero_terminal_snr") == "True":
        settings["rescale_betas_zero_snr"] = True
    return Sampling(settings=settings)


def sampling_of_yaml(path: Path, *, width: int | None = None) -> Sampling | None:
    """Read the configuration of CompVis' or Stability's training code that some repositories put beside a checkpoint.

    Args:
        path: of the file.
        width: of the text tokens that the UNet takes, if the file may belong to another model.

    Returns:
        The sampling; None if the file is something else, or for a model with text tokens of another width.

    Raises:
        UserError: it cannot be read.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = Message("file.line", number=mark.line + 1) if mark else str(error).splitlines()[0]
        raise UserError("file.not_yaml", path=path, mark=reason) from error
    model = content.get("model") if isinstance(content, dict) else None
    params = model.get("params") if isinstance(model, dict) else None
    if not isinstance(params, dict) or (width and _text_width(params) not in (None, width)):
        return None
    settings = {
        ours: params[theirs] for theirs, ours in _YAML_BETAS.items() if isinstance(params.get(theirs), int | float)
    }
    scaling, levels = _target(params, "scaling_config"), _target(params, "discretization_config")
    predicted = _YAML_PREDICTIONS.get(str(params.get("parameterization"))) or _YAML_PREDICTIONS.get(scaling)
    if predicted:
        settings["prediction_type"] = predicted
    if levels == "ZeroSNRDDPMDiscretization":
        settings["rescale_betas_zero_snr"] = True
    factor = params.get("scale_factor")
    vae = {"scaling_factor": factor} if isinstance(factor, int | float) else {}
    if scaling == "VScalingWithEDMcNoise":
        return Sampling(scheduler="EDMEulerScheduler", settings=_COSXL, vae=vae)
    return Sampling(settings=settings, vae=vae)


def _target(params: Mapping[str, Any], part: str) -> str:
    """Return the class that Stability's configuration names for a part of its denoiser; "" if there is none."""
    return str(_found(params, "denoiser_config", "params", part, "target") or "").rpartition(".")[2]


def _text_width(params: Mapping[str, Any]) -> object:
    """Return the width of the text tokens in CompVis' or Stability's configuration; None if it does not say."""
    widths = (_found(params, network, "params", "context_dim") for network in ("unet_config", "network_config"))
    return next((width for width in widths if width is not None), None)


def _found(params: object, *keys: str) -> object:
    """Return the value nested under keys; None if there is none."""
    for key in keys:
        params = params.get(key) if isinstance(params, Mapping) else None
    return params


def build_scheduler(
    name: str | None,
    config: Mapping[str, Any],
    *,
    title: str,
    sampling: Sampling | None = None,
    corrections: Mapping[str, Any] | None = None,
) -> SchedulerMixin:
    """Build a model's scheduler and try it, so that problems are reported before anything is drawn.

    Args:
        name: of its class in diffusers, as in model_index.json.
        config: the content of its scheduler_config.json, or another scheduler's configuration.
        title: of the model, for the message.
        sampling: what is known from elsewhere; it overrides the configuration.
        corrections: of its family; they override both, if the class has these settings.

    Raises:
        UserError: there is no such scheduler here, or it does not work with Stable Diffusion models.
    """
    kind, settings = _chosen(name, config, sampling or Sampling(), title=title)
    taken = inspect.signature(kind.__init__).parameters
    settings |= {key: value for key, value in (corrections or {}).items() if key in taken}
    predicted = settings.get("prediction_type", "epsilon")
    if predicted not in _PREDICTIONS:
        raise UserError(
            "schedule.unknown_prediction",
            title=title,
            name=repr(str(predicted)[:40]),
            names=", ".join(_PREDICTIONS[:-1]),
            last=_PREDICTIONS[-1],
        )
    try:
        _try(kind.from_config(settings), steps=_STEPS_TRIED)
    except Exception as error:
        if kind.__name__.startswith("Flow"):
            raise UserError("schedule.flow_matching", title=title, sort=kind.__name__) from error
        logger.exception("%s does not work with %s", kind.__name__, settings)
        raise UserError("schedule.does_not_work", title=title, sort=kind.__name__) from error
    return kind.from_config(settings)


def _chosen(name: str | None, config: Mapping[str, Any], told: Sampling, *, title: str) -> tuple[Any, dict[str, Any]]:
    """Choose the class and settings of a scheduler from its configuration and what is known from elsewhere."""
    if told.scheduler and not (name or "").startswith("EDM"):
        name, config = told.scheduler, {}
    kind, settings = _scheduler_class(name, title=title), {**settings_for_another(config), **told.settings}
    if "rescale_betas_zero_snr" in told.settings:
        if settings.get("prediction_type", "epsilon") == "epsilon":
            # Predicting the noise of pure noise gives no information: there is no such model.
            settings["rescale_betas_zero_snr"] = config.get("rescale_betas_zero_snr", False)
        elif "rescale_betas_zero_snr" not in inspect.signature(kind.__init__).parameters:
            # Such as PNDM, Stable Diffusion 1.5's own, which cannot start from pure noise.
            settings = {"clip_sample": False, "set_alpha_to_one": False, **_noise_of(kind), **settings}
            kind = DDIMScheduler
    settings.pop("_class_name", None)
    return kind, settings


def settings_for_another(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in a scheduler's configuration that hold for a scheduler of another class, too.

    The configuration lists what is a default of its class, and `from_config` leaves all of that out. The noise must
    stay: a model that leaves its betas to the class was trained with them.

    Args:
        config: of a scheduler, or the content of its scheduler_config.json.
    """
    left_out = {"_use_default_values", *config.get("_use_default_values", ())}.difference(_NOISE)
    return {key: value for key, value in config.items() if key not in left_out}


def _noise_of(kind: type[SchedulerMixin]) -> dict[str, Any]:
    """Return the noise that a class of scheduler has by default."""
    taken = inspect.signature(kind.__init__).parameters
    return {key: taken[key].default for key in _NOISE if key in taken}


def _scheduler_class(name: str | None, *, title: str) -> Any:
    found = getattr(diffusers, name, None) if name else None
    if isinstance(found, DummyObject):
        backends: list[str] = getattr(found, "_backends", [])
        missing = [each for each in backends if find_spec(each) is None]
        raise UserError(
            "schedule.needs_package", title=title, sort=name, package=" and ".join(missing), packages=" ".join(missing)
        )
    if not (isinstance(found, type) and issubclass(found, SchedulerMixin)):
        raise UserError("schedule.unknown", title=title, name=repr(name))
    return found


@contextmanager
def step_errors(scheduler: SchedulerMixin, steps: int, *, title: str) -> Iterator[None]:
    """Turn an error inside into a `UserError` if the scheduler cannot do that many steps.

    LCM and TCD have a limit of their own; others fail at some numbers of steps with some settings.

    Args:
        scheduler: the scheduler used inside.
        steps: the number of steps requested of it.
        title: the model's title, for the message.

    Raises:
        UserError: the scheduler cannot do so many steps; any other error is raised as it is.
    """
    try:
        yield
    except _FAILURES as error:
        if can_do_steps(scheduler, steps):
            raise
        sort = type(scheduler).__name__
        logger.exception("%s cannot do %d steps with %s", sort, steps, dict(scheduler.config))
        raise UserError("schedule.other_steps", title=title, sort=sort, steps=steps).blaming("steps") from error


def can_do_steps(scheduler: SchedulerMixin, steps: int) -> bool:
    """Whether a scheduler works with this number of steps; a copy of it is run on small tensors."""
    try:
        _try(type(scheduler).from_config(scheduler.config), steps=steps)
    except _FAILURES:
        return False
    return True


def _try(scheduler: Any, *, steps: int) -> None:
    """Use a scheduler as the pipelines do, on small tensors; it raises if anything is wrong with it."""
    with torch.random.fork_rng(devices=[]):
        scheduler.set_timesteps(steps)
        noise = torch.randn(1, 4, 8, 8)
        latents = noise * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            predicted = scheduler.scale_model_input(latents, timestep)
            latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
        scheduler.add_noise(noise, noise, scheduler.timesteps[:1])


def noise_schedule(scheduler: SchedulerMixin) -> DDPMScheduler:
    """Return the schedule that a base model was trained with, for the noise that an adapter's training adds.

    Raises:
        UserError: the model has none of this kind, or predicts something that the loss has no target for.
    """
    own: Tensor | None = getattr(scheduler, "alphas_cumprod", None)
    other = UserError("schedule.not_ddpm", sort=type(scheduler).__name__)
    if own is None:
        raise other
    try:
        schedule = cast(DDPMScheduler, DDPMScheduler.from_config(settings_for_another(scheduler.config)))
    except NotImplementedError as error:  # such as the betas "exp" of Heun
        raise other from error
    if not torch.allclose(own.to(schedule.alphas_cumprod), schedule.alphas_cumprod, rtol=0, atol=_ROUNDING):
        raise other
    predicted = schedule.config["prediction_type"]
    if predicted not in ("epsilon", "v_prediction"):
        raise UserError("schedule.cannot_train", prediction=repr(predicted))
    return schedule
