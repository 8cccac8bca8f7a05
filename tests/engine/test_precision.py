from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from scenefuse.engine.precision import choose_precision, repeatable
from tests.engine.fakes import AnalyticSource, Setting, load_fake


def test_auto_is_float32_on_a_processor_whatever_the_method_bears() -> None:
    card = load_fake(Setting(source=AnalyticSource(coarse_shape=(9, 9), ratio=3)).ref).card
    card = replace(card, precisions=("fp32", "bf16"))
    assert choose_precision("auto", card=card, device="cpu") == "fp32"
    assert choose_precision("bf16", card=card, device="cpu") == "bf16"
    assert choose_precision("auto", card=replace(card, precisions=("fp32",)), device="cuda") == "fp32"


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_inference_has_one_thread_and_gives_the_others_back() -> None:
    with repeatable("cpu", "fp32"):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


@pytest.mark.slow
def test_products_of_matrices_are_deterministic_in_a_process_that_trains_first() -> None:
    code = "import os, scenefuse.pipeline.train; print(os.environ.get('CUBLAS_WORKSPACE_CONFIG'))"
    bare = {name: value for name, value in os.environ.items() if name != "CUBLAS_WORKSPACE_CONFIG"}
    done = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ":4096:8"


@pytest.mark.slow
@pytest.mark.parametrize(
    "likes",
    [
        "",
        "torch.set_float32_matmul_precision('high')",
        "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
        "torch.backends.fp32_precision = 'tf32'; torch.backends.cudnn.allow_tf32 = False",
    ],
)
def test_float32_on_a_gpu_is_float32_whatever_the_process_likes(likes: str) -> None:
    """In a process of its own: what one test likes would stay with the others."""
    code = f"""
import torch
from scenefuse.engine.precision import repeatable

{likes}
kinds = torch.backends.cudnn.conv, torch.backends.cuda.matmul
before = [kind.fp32_precision for kind in kinds]
with repeatable("cuda", "fp32"):
    assert [kind.fp32_precision for kind in kinds] == ["ieee", "ieee"]
    assert torch.are_deterministic_algorithms_enabled()
assert [kind.fp32_precision for kind in kinds] == before
assert not torch.are_deterministic_algorithms_enabled()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
