"""PSF and SRF of a pair as part of a network: learnt by MossFuse, or given.

S. Du et al. 2025, arXiv:2412.04802, section 3.5.
"""

from __future__ import annotations

from math import ceil, floor, nan

import torch
from torch import Tensor, nn
from torch.nn import functional

from scenefuse.errors import ModelError

Rows = tuple[tuple[float, ...], ...]
"""One row per MSI band, with a non-negative weight for each HSI band."""


class Degradation(nn.Module):
    """PSF and SRF of the pair, given or estimated during training.

    The PSF's initial sigma is half a coarse pixel. The authors' 5 I, a blur of 0.2 fine pixels, cannot be learnt from
    if the centre lies between fine pixels: the nearest ones then have equal weights however narrow it is.

    physical: a Gaussian PSF and an SRF whose rows sum to 1; otherwise unconstrained kernels. phase_px: the PSF's centre
    within a coarse pixel, in fine pixels from its first; None for the middle. given: the SRF, and the PSF's sigma in
    fine pixels.
    """

    def __init__(
        self,
        hs_bands: int,
        ms_bands: int,
        ratio: int,
        *,
        physical: bool = True,
        phase_px: float | None = None,
        given: tuple[Rows, float] | None = None,
    ) -> None:
        super().__init__()
        self.ratio, self.physical, self.learnt = ratio, physical, given is None
        self.phase_px = (ratio - 1) / 2 if phase_px is None else phase_px
        reach = ceil(max(1.75 * ratio, 0 if given is None else 3 * given[1]))
        self.first_px, self.last_px = floor(self.phase_px) - reach, ceil(self.phase_px) + reach
        side = self.last_px - self.first_px + 1
        srf = torch.full((ms_bands, hs_bands), 1.0 if physical else 1 / hs_bands)
        psf = torch.eye(2) * 2 / ratio if physical else torch.full((side, side), side**-2.0)
        if given is not None:
            srf, psf = _given_srf(given[0], hs_bands, ms_bands), torch.eye(2) / given[1]
        self.srf, self.psf = (nn.Parameter(values, requires_grad=self.learnt) for values in (srf, psf))

    def response(self) -> Tensor:
        """SRF (ms band, hs band), rows summing to 1."""
        return self.srf / self.srf.sum(1, keepdim=True) if self.physical else self.srf

    def spread(self) -> Tensor:
        """PSF (k, k) on the fine pixels first_px to last_px of a coarse pixel: exp(-|M (p - phase)|^2 / 2), sum 1."""
        if not self.physical:
            return self.psf
        p = torch.arange(self.first_px, self.last_px + 1).to(self.psf) - self.phase_px
        grid = torch.stack(torch.meshgrid(p, p, indexing="ij"), -1)  # (k, k, 2)
        kernel = torch.exp(-0.5 * (grid @ self.psf.tril().mT).square().sum(-1))
        return kernel / kernel.sum()

    def to_ms(self, image: Tensor) -> Tensor:
        """An image in the HSI's bands as the MSI sees it, (n, ms band, y, x)."""
        return functional.conv2d(image, self.response()[:, :, None, None])

    def to_coarse(self, image: Tensor) -> Tensor:
        """A fine image as the HSI sees it, (n, band, y / ratio, x / ratio); reflected at the window's edges."""
        before, after = -self.first_px, self.last_px - self.ratio + 1
        padded = functional.pad(image, (before, after, before, after), mode="reflect")
        bands = image.shape[1]
        kernel = self.spread().expand(bands, 1, -1, -1)
        return functional.conv2d(padded, kernel, stride=self.ratio, groups=bands)

    @property
    def reach_px(self) -> int:
        """Fine pixels beyond a window that to_coarse fills by mirroring; the window must be larger than this."""
        return max(-self.first_px, self.last_px - self.ratio + 1)

    def inner(self, coarse: Tensor) -> Tensor:
        """Those pixels of a to_coarse result (n, band, y, x) whose PSF stays inside the window; possibly none."""
        cut = -(-self.reach_px // self.ratio)
        return coarse[..., cut : coarse.shape[-2] - cut, cut : coarse.shape[-1] - cut]

    @property
    def psf_sigmas_px(self) -> tuple[float, float]:
        """Largest and smallest standard deviation of the PSF, fine pixels; NaN for unconstrained kernels."""
        if not self.physical:
            return nan, nan
        least, greatest = (1 / torch.linalg.svdvals(self.psf.detach().double().tril())).tolist()
        return greatest, least

    @torch.no_grad()
    def clamp(self) -> None:
        """Clamp the SRF to non-negative values; call after each training step."""
        self.srf.clamp_(min=0)


def _given_srf(srf: Rows, hs_bands: int, ms_bands: int) -> Tensor:
    """The given SRF as a tensor (ms band, hs band), after checking its shape."""
    sizes = {len(row) for row in srf}
    if len(srf) != ms_bands or sizes != {hs_bands}:
        raise ModelError(
            f"an srf of {len(srf)} rows with {' or '.join(map(str, sorted(sizes)))} weights",
            f"the images have {ms_bands} MSI and {hs_bands} HSI bands",
            "Give a row for each MSI band with a weight for each HSI band",
        )
    return torch.tensor(srf)
