"""In which numbers a model runs, and what makes its result repeatable."""

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
"""Numbers in which a model runs."""

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(wanted: PrecisionChoice, *, card: ModelCard, device: Device) -> Precision:
    """The precision of a run; auto is bf16 on a GPU that computes it where the model's card lists it, else fp32.

    On a CPU it is fp32: with instructions for bfloat16 (AVX-512) networks were 8 to 20 % slower in it, without them
    25 to 90 times.
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
    """A cluster's GPUs that this machine does not see are taken to have bfloat16, as all since 2020 do."""
    return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)


@contextmanager
def repeatable(device: Device, precision: Precision) -> Iterator[None]:
    """A block in which inference is deterministic and in the given precision; torch's settings return at its end."""
    with ExitStack() as stack:
        stack.enter_context(_one_thread() if device == "cpu" else _deterministic_cuda())
        stack.enter_context(torch.inference_mode())
        if precision != "fp32":
            stack.enter_context(torch.autocast(device, dtype=_DTYPES[precision]))
        yield


@contextmanager
def _one_thread() -> Iterator[None]:
    """One intra-op thread: with two, 1x1 convolutions differ by 6e-7 with the window's size.

    It makes a CPU deterministic already; torch's own switch would import its compiler, over a second per process,
    and fill every new tensor.
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
    filled = new_tensors.fill_uninitialized_memory  # which nobody reads here, and which costs a pass
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
    """Float32 of 24 bits: convolutions use TF32, of 11, by default, products where a notebook asked for `high`.

    By the names that kernels look at. The older ones (allow_tf32, float32_matmul_precision) cannot be read where
    somebody has used the new, and convolutions with allow_tf32 off still follow torch.backends.fp32_precision.
    """
    backends: Any = torch.backends  # its stubs know neither name
    kinds = backends.cudnn.conv, backends.cuda.matmul
    before = [kind.fp32_precision for kind in kinds]
    for kind in kinds:
        kind.fp32_precision = "ieee"
    try:
        yield
    finally:
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision
