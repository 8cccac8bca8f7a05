"""The numeric precision a model runs in, and the settings that make its result repeatable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch

from scenefuse.config import PrecisionChoice
from scenefuse.engine.device import Device
from scenefuse.errors import ModelError, UsageError
from scenefuse.models.base import ModelCard

Precision = Literal["fp32", "bf16", "fp16"]
"""Numeric precision of a model."""

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(wanted: PrecisionChoice, *, card: ModelCard, device: Device) -> Precision:
    """The precision of a run; auto is bf16 if the model's card lists it and the GPU supports it, else fp32.

    On a CPU auto is fp32: in bf16, networks were 8 to 20 % slower with bfloat16 instructions (AVX-512), and 25 to 90
    times slower without.
    """
    if wanted == "auto":
        return "bf16" if "bf16" in card.precisions and device == "cuda" and _gpu_computes_bf16() else "fp32"
    if wanted not in ("fp32", *_DTYPES):
        raise UsageError(f"precision {wanted!r}", "there is no such precision", "Use auto, fp32, bf16 or fp16")
    if wanted == "fp16" and device == "cpu":
        raise UsageError("precision fp16 on a CPU", "it is 6 to 125 times slower than fp32 there", "Use bf16 or fp32")
    if wanted not in card.precisions:
        raise ModelError(
            f"precision {wanted}",
            f"{card.name} keeps its quality in {', '.join(card.precisions)} only",
            f"Use --precision {card.precisions[0]}",
        )
    return wanted


def _gpu_computes_bf16() -> bool:
    """Whether the GPU supports bfloat16; assumed of a cluster's GPUs not seen here, as all since 2020 do."""
    return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)


@contextmanager
def repeatable(device: Device, precision: Precision) -> Iterator[None]:
    """Make inference deterministic and of the given precision within the block; restores torch's settings on exit."""
    with ExitStack() as stack:
        stack.enter_context(_one_thread() if device == "cpu" else _deterministic_cuda())
        stack.enter_context(torch.inference_mode())
        if precision != "fp32":
            stack.enter_context(torch.autocast(device, dtype=_DTYPES[precision]))
        yield


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one intra-op thread: with two, 1x1 convolutions differ by 6e-7 between window sizes.

    This alone makes a CPU deterministic; torch's own switch would also import its compiler, which takes over a second
    per process, and fill every new tensor.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _deterministic_cuda() -> Iterator[None]:
    cudnn = torch.backends.cudnn
    new_tensors: Any = torch.utils.deterministic
    filled = new_tensors.fill_uninitialized_memory  # a costly pass over memory that is never read here
    before = torch.are_deterministic_algorithms_enabled(), cudnn.benchmark
    torch.use_deterministic_algorithms(mode=True)
    new_tensors.fill_uninitialized_memory = cudnn.benchmark = False
    try:
        with _without_tf32():
            yield
    finally:
        torch.use_deterministic_algorithms(mode=before[0])
        new_tensors.fill_uninitialized_memory = filled
        cudnn.benchmark = before[1]


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Compute float32 with its 24-bit significand instead of TF32's 11.

    Convolutions use TF32 by default, matrix products if a notebook has chosen `high`. Sets the names that kernels read:
    the older ones (allow_tf32, float32_matmul_precision) cannot be read once the new ones have been used, and
    convolutions with allow_tf32 off still follow torch.backends.fp32_precision.
    """
    backends: Any = torch.backends  # its stubs lack both names
    kinds = backends.cudnn.conv, backends.cuda.matmul
    before = [kind.fp32_precision for kind in kinds]
    for kind in kinds:
        kind.fp32_precision = "ieee"
    try:
        yield
    finally:
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision
