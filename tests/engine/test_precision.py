from __future__ import annotations

import os
import subprocess
import sys

import pytest


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
