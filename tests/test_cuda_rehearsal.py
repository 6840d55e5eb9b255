"""Runs the rehearsal of CUDA (tests/cuda_rehearsal) in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA: make gpu-check runs on it")
@pytest.mark.skipif(shutil.which("c++") is None, reason="the rehearsal of CUDA needs a C++ compiler")
def test_everything_that_a_run_does_has_been_done_on_a_cuda_device_that_is_not_there() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--tb=short",
        str(HERE / "cuda_rehearsal"),
    ]
    environment = {**os.environ, "REHEARSE_CUDA": "1", "OMP_NUM_THREADS": "1"}
    found = subprocess.run(command, env=environment, cwd=HERE.parent, capture_output=True, text=True, timeout=1800)
    assert found.returncode == 0, found.stdout[-5000:]
