"""Random two-layer models of the architectures that people bring, with tiny's vocabulary: nothing is loaded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from policies.adapter import AdapterConfig, attach
from policies.language_model import LanguageModel
from policies.tiny.tokenizer import build_tokenizer

WINDOW = 20
"""Of sliding layers: shorter than any episode."""
SIZES: dict[str, Any] = {
    "vocab_size": len(build_tokenizer()),
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    # Weights so large that the random model has something to say.
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 2,
}
GROUPED: dict[str, Any] = {"intermediate_size": 96, "num_key_value_heads": 2}
HEAD: dict[str, Any] = {"head_dim": 16}
SLIDES: dict[str, Any] = {"sliding_window": WINDOW}
BOTH: dict[str, Any] = {**SLIDES, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
OLD: dict[str, Any] = {"n_positions": 1024, "n_embd": 48, "n_layer": 2, "n_head": 6}
LATENT: dict[str, Any] = {
    **{"n_routed_experts": 4, "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1},
    **{"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12},
    "num_key_value_heads": 6,
}
UNGROUPED = ("gpt_neox", "gpt2", "gptj", "opt", "falcon", "mpt", "bloom", "gpt_neo", "mamba", "mamba2")
BATCHED: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": HEAD,
    "smollm3": {},
    "mistral": SLIDES,
    "phi": {},
    "phi3": SLIDES,
    "starcoder2": SLIDES,
    "gemma": HEAD,
    "gemma2": {**HEAD, **SLIDES},
    "gemma3_text": {**HEAD, **BOTH},
    "cohere2": BOTH,
    "olmo2": {},
    "olmo3": BOTH,
    "granite": {},
    "stablelm": {},
    "gpt_neox": {},
    "gpt2": OLD,
    "gptj": {**OLD, "rotary_dim": 4},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 48, "init_std": 0.2, "max_position_embeddings": 1024},
    "falcon": {},
    "mpt": {"d_model": 48, "n_heads": 6, "n_layers": 2},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {**HEAD, **EXPERTS, "num_experts": 4},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "granitemoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt_oss": {**HEAD, **SLIDES, "num_local_experts": 4, "num_experts_per_tok": 2},
}
"""Those that either sampler plays."""
HF_ONLY: dict[str, tuple[dict[str, Any], str]] = {
    "bloom": ({"n_layer": 2, "n_head": 6}, "too many values"),
    "deepseek_v3": ({**EXPERTS, **LATENT}, "keys and values are of unequal width"),
    "llama4_text": ({**HEAD, "num_local_experts": 2, "attention_chunk_size": WINDOW}, "in a sliding window"),
    "lfm2": ({"layer_types": ["conv", "full_attention"]}, "in a sliding window"),
}
"""Those that only transformers' generate plays, and why."""
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "gpt_neo": ({"num_layers": 2, "num_heads": 6, "attention_types": [[["global", "local"], 1]]}, "local attention"),
    "mamba": ({"state_size": 8}, "no attention"),
    "mamba2": ({"state_size": 8, "num_heads": 6, "head_dim": 16, "n_groups": 1}, "no attention"),
}
"""Those that are no policy, and why."""
UNTRAINED = ("granitemoe", "llama4_text")
"""Those that TRL 1.16's fused output head does not run with: they are played only."""
SETTINGS = BATCHED | {name: settings for name, (settings, _) in (HF_ONLY | REFUSED).items()}


def cells_of(name: str) -> list[str]:
    """What test_architectures.py runs: batched with all weights and with LoRA, hf with all weights and with LoRA."""
    if name in REFUSED:
        return ["refused"] * 4
    run = ["played", "—"] if name in UNTRAINED else ["trained", "trained"]
    return ["refused", "refused", *run] if name in HF_ONLY else [*run, "played", "—"]


def config_of(name: str, **more: Any) -> Any:
    """The configuration of a small model."""
    grouped = {} if name in UNGROUPED else GROUPED
    return AutoConfig.for_model(name, **{**SIZES, **grouped, **SETTINGS[name], **more})


def model_of(name: str, **more: Any) -> Any:
    """A small random model."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config_of(name, **more)).eval()


def policy_of(
    name: str, tiny: LanguageModel, sampler: str = "batched", adapter: bool = False, **more: Any
) -> LanguageModel:
    """A small random model as a policy with tiny's tokenizer."""
    model = model_of(name, **more)
    if adapter:
        model = attach(model, AdapterConfig(rank=2, alpha=8), seed=0)
    config = replace(tiny.config, sampler=sampler, max_action_tokens=None)
    return LanguageModel(config, tiny.source, model, tiny.tokenizer, torch.device("cpu"))
