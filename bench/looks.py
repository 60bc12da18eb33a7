"""Measure how much pictures look like drawings, whatever they show: a distance between two sets of pictures.

It is the maximum mean discrepancy with a Gaussian kernel (Gretton et al. 2012, equation 3), as in CMMD (Jayasumana et
al. 2024), which unlike FID is unbiased for a few hundred pictures. CLIP's embedding, which would have to be downloaded
and has seen no toys, is replaced by statistics of the judge's close-look features over a picture. The judge has learned
to ignore slight noise and JPEG artefacts, as people do, but it does notice blurred, smeared and misshapen parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from bench.judging import judge_pixels
from toybox.judge import Judge

IN_THOUSANDTHS = 1000
"""Factor of the distance, as CMMD is reported."""


class Drawings:
    """The drawings that pictures are compared with."""

    def __init__(self, judge: Judge, drawings: Sequence[Image.Image]) -> None:
        self._judge = judge
        statistics = self._statistics(drawings)
        self._mean, self._deviation = statistics.mean(dim=0), statistics.std(dim=0).clamp(min=1e-6)
        self._drawings = self._normalised(statistics)

    def distance(self, pictures: Sequence[Image.Image]) -> float:
        """Return the squared distance in thousandths: 0 on average for other drawings, at most about 2000."""
        other = self._normalised(self._statistics(pictures))
        own, others, between = (
            _kernel(a, b) for a, b in ((self._drawings,) * 2, (other,) * 2, (self._drawings, other))
        )
        return IN_THOUSANDTHS * float(_mean_of_pairs(own) + _mean_of_pairs(others) - 2 * between.mean())

    @torch.no_grad()
    def _statistics(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        return torch.cat([self._judge.statistics(judge_pixels(self._judge, [picture])) for picture in pictures])

    def _normalised(self, statistics: torch.Tensor) -> torch.Tensor:
        return (statistics - self._mean) / self._deviation


def _kernel(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return exp(-d² / 2) of every pair; d² is the mean square over the statistics, about 1.4² for two drawings."""
    return torch.exp(-torch.cdist(first, second).square() / (2 * first.shape[1]))


def _mean_of_pairs(kernel: torch.Tensor) -> torch.Tensor:
    """Return the mean over pairs of different pictures of one set."""
    count = len(kernel)
    return (kernel.sum() - kernel.trace()) / (count * (count - 1))
