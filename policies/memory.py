"""Bytes that a policy needs on its device, by formula: before anything is loaded, from the model's configuration alone.

With N weights of b bytes, T trained ones of t bytes, L layers of hidden width h, inner width m, attention width A and
key-value width K, vocabulary V, and rows x tokens places:

    weights     N b                      4-bit: 0.52 bytes a weight of the linear layers, double quantisation included
    gradients   T t
    optimiser   2 T t                    AdamW's two moments
    update      places L a               activations of one micro-batch; with gradient checkpointing places (L h c + a)
                + N 2                    copies of float32 weights while gradients are computed in bfloat16
                + 4 V h                  where the head is trained: its gradient, added up in float32
                + 4096 x 32768 c         TRL's tile of logits, or less where there are fewer tokens or words
    play        places 3 (2 L K) b       keys and values: a full cache is copied into one of twice the size
                + read (3 m + 4 h) b     one layer while the prompts are read, at most 16,384 places at once; or
                  rows 5 V 4             the last logits, and their probabilities and sums in float64

where a = c (6 h + 4 m + 3 A + 4 K) + 16 h is what one layer keeps of a token for the backward pass, at c bytes a
number; its norms keep float32.

The sum of the first three is certain: with less the run cannot be. The rest is for the longest episodes that the task
allows, all at once, and is rarely needed. Not in it: fragmentation, and activations of value heads. Compared with
torch's own count on CPU by tests/policies/test_memory.py; not yet on CUDA.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from policies.adapter import AdapterConfig, attach
from policies.attention import attention_of
from policies.batched_sampler import PLACES_PER_PASS
from policies.flops import chosen_experts
from policies.model_folder import read_config
from policies.source import Source
from tasks.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTEXT = {"cuda": 600 * 2**20, "cpu": 500 * 2**20}
"""What a process holds before any weight: CUDA's context with its kernels (a usual figure, not measured), or Python
with its libraries (measured)."""
TILE = (4096, 32768)
"""Tokens and words of the logits that TRL holds at once."""
FOUR_BITS = 0.52
"""Bytes of a weight in NF4 with double quantisation: 1/2 + 1/64 + 4/(64 * 256)."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of a policy, at its longest and widest."""

    updates: bool
    """Whether gradients are computed; without, nothing but weights and play is needed."""
    micro_batch: int
    """Rollouts of a backward pass."""
    rows: int
    """Episodes played side by side."""
    prompt: int
    """Tokens of the first prompt."""
    longest: int
    """Tokens of the longest episode."""
    checkpointing: bool = False
    """Gradient checkpointing."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes by what they are for."""

    context: float
    weights: float
    gradients: float
    optimiser: float
    update: float
    play: float

    @property
    def certain(self) -> float:
        """What is needed whatever is played."""
        return self.context + self.weights + self.gradients + self.optimiser

    @property
    def most(self) -> float:
        """What is needed for the longest episodes: updates and play take turns."""
        return self.certain + max(self.update, self.play)


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A model without its weights, for counting."""

    linear: int
    """Weights of the frozen or trained linear layers."""
    other: int
    """All other weights of the model: embeddings, norms, and the output head."""
    adapter: int
    """Weights of the adapter."""
    layers: int
    hidden: int
    inner: int
    attention: int
    keys: int
    vocabulary: int

    @property
    def weights(self) -> int:
        """All weights but the adapter's."""
        return self.linear + self.other


@cache
def skeleton(source: Source, adapter: AdapterConfig | None, ways: str) -> Skeleton:
    """Read a model's sizes off its configuration; once per process, since a GGUF takes seconds to read.

    Args:
        source: where the model is.
        adapter: what is trained beside it.
        ways: how it is had without a hub, for the message.

    Raises:
        BadInput: the configuration cannot be had.
    """
    try:
        if source.gguf:
            about = AutoConfig.from_pretrained(source.folder, gguf_file=source.gguf, trust_remote_code=False)
        else:
            about = read_config(source.folder)
    # A folder of a stranger makes transformers raise nearly anything; all of it means that it cannot be read.
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise BadInput(f"policy: cannot read {source.label}: {first}; offline, give {ways}") from None
    return skeleton_of(about, adapter)


def skeleton_of(about: Any, adapter: AdapterConfig | None) -> Skeleton:
    """The sizes of a transformers configuration's model."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(about, trust_remote_code=False)
        head = model.get_output_embeddings()
        layers = [each for each in model.modules() if isinstance(each, torch.nn.Linear) and each is not head]
        total = sum(parameter.numel() for parameter in model.parameters())
        linear = sum(each.weight.numel() for each in layers)
        trained = 0
        if adapter is not None:
            wrapped = attach(model, adapter, seed=0)
            trained = sum(parameter.numel() for parameter in wrapped.parameters() if parameter.requires_grad)
        experts = any(".experts." in name for name, _ in model.named_parameters())
    text, attention = about.get_text_config(), attention_of(about)
    return Skeleton(
        linear=linear,
        other=total - linear,
        adapter=trained,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        inner=inner_width(text, experts),
        attention=round(attention.width),
        keys=round(attention.key_heads * attention.width / attention.heads),
        vocabulary=text.vocab_size,
    )


def inner_width(text: Any, experts: bool) -> int:
    """How wide the inner layer is that one token meets: of a mixture, that of all experts it is sent to."""
    names = ("moe_intermediate_size", "intermediate_size") if experts else ("intermediate_size", "ffn_dim", "n_inner")
    # GPT-2, BLOOM and their kin name none: four times the hidden width.
    width = next((n for name in names if (n := getattr(text, name, None))), 4 * text.hidden_size)
    return int(width) * (chosen_experts(text) if experts else 1)


def need(
    model: Skeleton, load: Load, *, dtype: torch.dtype, bf16: bool, adapter: AdapterConfig | None, device: str
) -> Need:
    """The formula above.

    Args:
        model: its sizes.
        load: what is asked of it.
        dtype: of the weights.
        bf16: whether gradients are computed in bfloat16.
        adapter: None where all weights are trained.
        device: its type.
    """
    size = dtype.itemsize
    quantised = adapter is not None and adapter.quantised
    weights = model.linear * (FOUR_BITS if quantised else size) + model.other * size
    trained = model.weights if adapter is None else model.adapter
    # peft holds an adapter in float32; over 4-bit weights TRL casts it to bfloat16.
    trained_size = size if adapter is None else 2 if quantised else 4
    weights += 0 if adapter is None else trained * trained_size
    computed = 2 if bf16 else size
    token = computed * (6 * model.hidden + 4 * model.inner + 3 * model.attention + 4 * model.keys) + 16 * model.hidden
    places = load.micro_batch * load.longest
    kept = model.layers * model.hidden * computed + token if load.checkpointing else model.layers * token
    casts = 2 * model.weights if bf16 and size == 4 else 0
    head = 4 * model.vocabulary * model.hidden if adapter is None else 0
    tile = min(places, TILE[0]) * min(model.vocabulary, TILE[1]) * computed
    update = places * kept + casts + head + tile
    cache = load.rows * load.longest * 3 * (2 * model.layers * model.keys) * size
    reading = min(load.rows * load.prompt, PLACES_PER_PASS) * (3 * model.inner + 4 * model.hidden) * size
    play = cache + max(reading, load.rows * 5 * model.vocabulary * 4)
    return Need(
        context=CONTEXT["cuda" if device == "cuda" else "cpu"],
        weights=weights,
        gradients=trained * trained_size * load.updates,
        optimiser=2.0 * trained * trained_size * load.updates,
        update=update * load.updates,
        play=play,
    )


def free_memory(device: torch.device) -> tuple[float, float]:
    """Bytes that are free on the device, and all that it has.

    Raises:
        BadInput: somebody else holds the device for himself.
    """
    if device.type != "cuda":
        import psutil

        memory = psutil.virtual_memory()
        return float(memory.available), float(memory.total)
    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise BadInput(f"policy.device={device}: the GPU is not to be had ({reason}); is it in use?") from None
    return float(free), float(total)


def tokens_of(texts: Sequence[str]) -> int:
    """About how many tokens texts have, without a tokenizer: three characters each, on the safe side."""
    return sum(-(-len(text) // 3) for text in texts)
