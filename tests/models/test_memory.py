"""The way a model is held in memory follows from numbers alone: what it needs and what is free."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch

from ipa_app.errors import UserError
from ipa_app.models.memory import MemoryPlan, Needs, default_dtype, free_main_memory, plan_memory
from ipa_app.models.state import MemoryUse

GB = 10**9
HALF, SINGLE, BRAIN = torch.float16, torch.float32, torch.bfloat16

SD15 = Needs(
    title="SD 1.5",
    parts={
        "unet": 860 * 10**6,
        "vae": 84 * 10**6,
        "text_encoder": 123 * 10**6,
        "image_encoder": 632 * 10**6,
        "controlnet": 361 * 10**6,
    },
    pixels=512 * 512,
)
SDXL = Needs(
    title="SDXL",
    parts={
        "unet": 2567 * 10**6,
        "vae": 84 * 10**6,
        "text_encoder": 123 * 10**6,
        "text_encoder_2": 695 * 10**6,
        "image_encoder": 632 * 10**6,
        "adapter base": 349 * 10**6,
    },
    pixels=1024 * 1024,
)


def ways(planned: tuple[MemoryPlan, MemoryUse]) -> tuple[torch.dtype, bool, bool]:
    plan, _ = planned
    return plan.dtype, plan.offload, plan.tiled


@pytest.mark.parametrize(
    ("told", "exact", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, False, BRAIN),
        ({"avx512_bf16": True}, True, SINGLE),
        ({"amx_bf16": True}, False, BRAIN),
        ({"avx2": True, "avx512_bf16": False}, False, SINGLE),
        ({}, False, SINGLE),
    ],
)
def test_a_processor_draws_in_what_it_calculates_in(
    told: dict[str, bool], exact: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    assert default_dtype("cpu", exact=exact) == expected
    assert default_dtype("cuda:0", exact=exact) == HALF
    assert default_dtype("mps", exact=exact) == SINGLE


def test_a_processor_that_cannot_be_asked_draws_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert default_dtype("cpu", exact=False) == SINGLE


@pytest.mark.parametrize(
    ("needs", "free", "expected"),
    [
        (SD15, 24 * GB, (HALF, False, False)),
        (SD15, 6 * GB, (HALF, False, False)),
        (SD15, 4 * GB, (HALF, True, True)),
        (SDXL, 24 * GB, (HALF, False, False)),
        (SDXL, 10 * GB, (HALF, False, True)),
        (SDXL, 7 * GB, (HALF, True, True)),
    ],
)
def test_a_graphics_card_tiles_first_and_offloads_then(needs: Needs, free: int, expected: tuple) -> None:
    assert ways(plan_memory(needs, device="cuda", dtype=HALF, free=free, free_main=64 * GB)) == expected


@pytest.mark.parametrize(
    ("needs", "free", "expected"),
    [
        (SD15, 16 * GB, (SINGLE, False, False)),
        (SD15, 6 * GB, (HALF, False, False)),
        (SDXL, 32 * GB, (SINGLE, False, False)),
        (SDXL, 20 * GB, (SINGLE, False, True)),
        (SDXL, 12 * GB, (HALF, False, False)),
        (SDXL, 10 * GB, (HALF, False, True)),
    ],
)
def test_shared_memory_halves_the_precision(needs: Needs, free: int, expected: tuple) -> None:
    """On MPS and CPU, device memory is main memory, so moving parts out would save nothing."""
    assert ways(plan_memory(needs, device="mps", dtype=SINGLE, free=free)) == expected
    on_cpu = plan_memory(needs, device="cpu", dtype=SINGLE, free=free)
    assert ways(on_cpu) == (BRAIN if expected[0] == HALF else SINGLE, *expected[1:])


def test_exact_pictures_are_refused_on_a_processor_rather_than_drawn_in_another_precision() -> None:
    assert ways(plan_memory(SDXL, device="cpu", dtype=SINGLE, free=20 * GB, exact=True)) == (SINGLE, False, True)
    with pytest.raises(UserError, match=r"SDXL needs at least 1\d\.\d GB .* only 12\.0 GB is free in main memory"):
        plan_memory(SDXL, device="cpu", dtype=SINGLE, free=12 * GB, exact=True)
    assert ways(plan_memory(SDXL, device="mps", dtype=SINGLE, free=12 * GB, exact=True))[0] == HALF


def test_weights_stored_in_bfloat16_stay_so_on_a_graphics_card() -> None:
    stored = Needs(title="x", parts={"unet": 10**6}, pixels=64 * 64, stored_bfloat16=True)
    assert ways(plan_memory(stored, device="cuda", dtype=HALF, free=8 * GB))[0] == BRAIN
    assert ways(plan_memory(stored, device="cuda", dtype=SINGLE, free=8 * GB))[0] == SINGLE
    assert ways(plan_memory(stored, device="cpu", dtype=SINGLE, free=8 * GB))[0] == SINGLE


def test_nothing_is_saved_where_free_memory_cannot_be_told() -> None:
    assert ways(plan_memory(SDXL, device="cuda", dtype=HALF, free=None)) == (HALF, False, False)


def test_it_is_told_where_it_runs_and_what_was_saved() -> None:
    _, easy = plan_memory(SD15, device="cuda", dtype=HALF, free=24 * GB)
    assert (easy.device, easy.precision, easy.savings) == ("cuda", "half", ())
    assert round(easy.needed / GB, 1) == 5.0
    _, short = plan_memory(SD15, device="cuda", dtype=HALF, free=4 * GB, free_main=16 * GB)
    assert (short.savings, short.free, short.wanted) == (("offload", "tiled"), 4 * GB, easy.needed)
    _, halved = plan_memory(SDXL, device="cpu", dtype=SINGLE, free=12 * GB)
    assert (halved.device, halved.precision, halved.savings) == ("cpu", "half", ("half",))
    _, unknown = plan_memory(SDXL, device="mps", dtype=SINGLE, free=None)
    assert (unknown.precision, unknown.savings) == ("single", ())


@pytest.mark.parametrize(
    ("device", "dtype", "free", "free_main", "words"),
    [
        ("cuda", HALF, 2 * GB, 64 * GB, r"SDXL needs at least 6\.\d GB .* only 2\.0 GB is free on the graphics card"),
        ("cuda", HALF, 7 * GB, 4 * GB, r"SDXL needs at least 9\.\d GB .* only 4\.0 GB is free in main memory"),
        ("cpu", SINGLE, 5 * GB, None, r"SDXL needs at least 9\.\d GB .* only 5\.0 GB is free in main memory"),
    ],
)
def test_what_fits_in_no_way_is_refused_in_words(
    device: str, dtype: torch.dtype, free: int, free_main: int | None, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        plan_memory(SDXL, device=device, dtype=dtype, free=free, free_main=free_main)


def test_a_containers_limit_counts_and_not_the_machines(tmp_path: Path) -> None:
    free = psutil.virtual_memory().available
    assert abs(free_main_memory(group=tmp_path) - free) < GB
    for name, text in {"memory.max": "900", "memory.current": "500", "memory.stat": "anon 7\ninactive_file 50"}.items():
        (tmp_path / name).write_text(f"{text}\n")
    assert free_main_memory(group=tmp_path) == 450
    (tmp_path / "memory.max").write_text("max\n")
    assert abs(free_main_memory(group=tmp_path) - free) < GB
