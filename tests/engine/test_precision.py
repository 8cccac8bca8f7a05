from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from scenefuse.engine.precision import repeatable


@pytest.mark.slow
def test_products_of_matrices_are_deterministic_in_a_process_that_trains_first() -> None:
    code = "import os, scenefuse.pipeline.train; print(os.environ.get('CUBLAS_WORKSPACE_CONFIG'))"
    bare = {name: value for name, value in os.environ.items() if name != "CUBLAS_WORKSPACE_CONFIG"}
    done = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ":4096:8"


def test_float32_on_a_gpu_is_float32_whatever_the_process_likes() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with repeatable("cuda", "fp32"):
            assert not torch.backends.cuda.matmul.allow_tf32
            assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
