"""What a model folder says of itself, checked before a model is built from it.

A folder is a stranger's: its config.json may ask for code to be run or fetched, or describe a model that no memory
holds. transformers believes it; here it is compared with the weights that are really there.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

from tasks.errors import require
from tasks.files import read_file

MOST_LAYERS = 1000
SLACK = 1_000_000
"""Numbers that a model may have beside twice those of its weights (a head that is tied, a buffer)."""
INDEX = "model.safetensors.index.json"
LARGEST_JSON = 64 * 2**20


def read_config(folder: str) -> Any:
    """The configuration of a model, by folder or hub id; no code of its own is ever run.

    Raises:
        BadInput: it asks for another's kernels, for an adapter, or for a model that its weights do not hold.
        Exception: whatever transformers raises where it cannot read it.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    for part in (config, config.get_text_config()):
        kernel = str(getattr(part, "_attn_implementation", None))
        # transformers fetches an attention with a slash in its name from the hub, and runs it.
        require("/" not in kernel, f"config.json asks for the attention {kernel[:60]!r}, which is code of a stranger")
    layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
    require(0 < layers <= MOST_LAYERS, f"config.json has num_hidden_layers={layers}; it must be 1 to {MOST_LAYERS}")
    if Path(folder).is_dir():
        _check_weights(Path(folder), config)
    return config


def _check_weights(folder: Path, config: Any) -> None:
    adapter = folder / "adapter_config.json"
    require(not adapter.exists(), f"{adapter.name} names another model to load; merge the adapter into its model first")
    held = sum(map(_numbers, _weight_files(folder)))
    # Built without memory, and without a draw from the generators that a run depends on.
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    needed = sum(parameter.numel() for parameter in model.parameters())
    fits = needed <= 2 * held + SLACK
    require(fits, f"config.json describes a model of {needed:,} numbers, and the weights hold {held:,}")


def _weight_files(folder: Path) -> list[Path]:
    """The files that transformers would take."""
    single = folder / "model.safetensors"
    if single.exists():
        return [single]
    require((folder / INDEX).exists(), f"the weights must be in {single.name}, or in the files that {INDEX} lists")
    weight_map = json.loads(read_file(folder / INDEX, LARGEST_JSON))["weight_map"]
    names = sorted(set(weight_map.values()))
    for name in names:
        inside = Path(name).name == name and name.endswith(".safetensors")
        require(inside, f"{INDEX} lists {name[:60]!r}, which is no *.safetensors in its folder")
    return [folder / name for name in names]


def _numbers(file: Path) -> int:
    """How many numbers a file of weights holds, by its header, which safetensors checks against its length."""
    with safe_open(file, framework="pt") as opened:
        return sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
