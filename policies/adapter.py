"""Adapters: a few trained matrices beside frozen weights. LoRA, arXiv 2106.09685; over 4-bit weights QLoRA, 2305.14314.

An adapter begins as nothing: its second matrices are zero, so a policy with a fresh one plays as it does without.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policies.source import LONGEST_JSON
from tasks.errors import BadInput, require
from tasks.files import read_file

if TYPE_CHECKING:
    import torch

WEIGHTS = "adapter_model.safetensors"


@dataclass(kw_only=True, unsafe_hash=True)
class AdapterConfig:
    """conf/adapter/lora.yaml and conf/adapter/qlora.yaml: matrices beside every linear layer but the output head."""

    name: str = "lora"
    rank: int = 16
    """Inner width of each pair of matrices."""
    alpha: int = 32
    """Their product counts alpha / rank times."""

    def __post_init__(self) -> None:
        for key in ("rank", "alpha"):
            require(getattr(self, key) >= 1, f"adapter.{key}={getattr(self, key)} must be at least 1")

    @property
    def quantised(self) -> bool:
        """Whether the frozen weights are held in 4 bits."""
        return self.name == "qlora"


def check_quantisation(device: torch.device) -> None:
    """Refuse 4-bit weights where they cannot be.

    Raises:
        BadInput: no CUDA device, or no bitsandbytes.
    """
    if device.type != "cuda":
        raise BadInput(f"adapter=qlora: 4-bit weights need a CUDA device, and the policy is on {device}; adapter=lora")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BadInput("adapter=qlora needs the package bitsandbytes: pip install 'grpo-bench[qlora]'; or adapter=lora")


def four_bits() -> Any:
    """How transformers is to load 4-bit weights: NF4, its constants quantised too, products in bfloat16."""
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def attach(model: Any, config: AdapterConfig, seed: int) -> Any:
    """The model with a fresh adapter, which alone is trained; torch's global generators stay as they were.

    Args:
        model: a causal language model.
        config: the adapter.
        seed: of the adapter's first matrices.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(model, lora)


def merged(model: Any, folder: Path) -> Any:
    """The model with a saved LoRA adapter added to its weights, in their own numbers.

    Raises:
        BadInput: the folder holds another kind of adapter, none, or that of another model.
    """
    from peft import LoraConfig, get_peft_model

    settings = json.loads(read_file(folder / "adapter_config.json", LONGEST_JSON))
    plain = settings.get("peft_type") == "LORA" and settings.get("init_lora_weights", True) is True
    require(plain, f"{folder.name}: only LoRA adapters with the usual beginning can be added to their weights")
    known = ("r", "lora_alpha", "target_modules", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out")
    lora = LoraConfig(task_type="CAUSAL_LM", **{key: settings[key] for key in known if key in settings})
    other = {key for key in ("modules_to_save", "use_dora", "target_parameters", "lora_bias") if settings.get(key)}
    require(not other, f"{folder.name}: an adapter with {', '.join(sorted(other))} cannot be added to its weights")
    adapted = get_peft_model(model, lora)
    restore(adapted, folder)
    return adapted.merge_and_unload()


def restore(model: Any, folder: Path) -> None:
    """Give an attached adapter the matrices that `LanguageModel.save` wrote.

    Raises:
        BadInput: the folder holds none, or those of another adapter.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    file = folder / WEIGHTS
    if not file.is_file():
        raise BadInput(f"{folder} has no {WEIGHTS}: it holds no saved adapter")
    try:
        missed = set_peft_model_state_dict(model, load_file(file))
    except RuntimeError as error:
        raise BadInput(f"{file}: {' '.join(str(error).split())[:200]}") from None
    own = [name for name in missed.missing_keys if "lora_" in name]
    if own or missed.unexpected_keys:
        raise BadInput(f"{file}: made for another adapter or another model (say, {[*own, *missed.unexpected_keys][0]})")
