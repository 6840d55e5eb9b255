"""A causal language model from transformers as a policy."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from policies import ranks
from policies.adapter import AdapterConfig, attach, check_quantisation, four_bits, merged, restore
from policies.api import PlayCost, Rollout, Sampling, Turn
from policies.chat import Chat
from policies.decoder import check_decoder
from policies.devices import choose_device, choose_dtype, trains_in_bf16
from policies.flops import model_shape
from policies.model_folder import read_config
from policies.sampler import Action, Sampler, build_sampler, check_room, learned_positions
from policies.source import PolicyConfig, Source, find_source, offline_ways
from tasks.api import Episode, Problem, Task
from tasks.errors import BadInput, require
from tasks.files import read_file

LONGEST = 1 << 20
"""Bytes of saved instructions."""
SAMPLING = "sampling.json"
"""Of a saved policy: its temperature."""


class LanguageModel:
    """A policy: model, tokenizer and instructions (the system prompt)."""

    def __init__(self, config: PolicyConfig, source: Source, model: Any, tokenizer: Any, device: torch.device) -> None:
        self.config = config
        self.name = config.name
        self.source = source
        # 4-bit weights are on their device already, and stay there.
        self.model = (model if getattr(model, "is_loaded_in_4bit", False) else model.to(device)).eval()
        self.tokenizer = tokenizer
        self.shape = model_shape(model)
        if config.sampler == "batched":
            check_decoder(self.model)
        self.chat = Chat(tokenizer, source.label, getattr(model.generation_config, "eos_token_id", None))
        self.device = device
        self.instructions = ""
        self.temperature = 1.0
        """What the temperature of every sampling is multiplied by: another distribution to play from, and to train."""
        self.max_action_tokens = config.max_action_tokens
        self.bf16 = trains_in_bf16(config.dtype, device)
        """Whether gradients are computed in bfloat16, whatever the weights are held in."""

    def play(
        self,
        task: Task,
        problems: Sequence[Problem],
        group_size: int,
        sampling: Sampling,
        seed: int,
    ) -> tuple[list[Rollout], PlayCost]:
        """Play every problem `group_size` times; the processes of a run share the games and all get all of them.

        Args:
            task: whose environment judges.
            problems: what to play.
            group_size: episodes per problem.
            sampling: how actions are drawn.
            seed: of the draws; the same seed gives the same rollouts on the same machine and thread count.

        Returns:
            Rollouts in the order of `problems`, each problem's group side by side, and what they cost.
        """
        mine = ranks.share(len(problems) * group_size)
        limit = self.action_limit(task)
        sampler = self.sampler(limit, sampling, seed, first=mine.start)
        positions = learned_positions(self.model)
        rollouts: list[Rollout] = []
        games: dict[int, tuple[Episode, Rollout]] = {}
        for number in mine:
            group = number // group_size
            episode = task.start(problems[group])
            prompt = self.chat.prompt(self.instructions, episode.messages)
            check_room(len(prompt) + task.max_turns * limit, positions)
            rollout = Rollout(problem=problems[group], group=group, prompt_ids=prompt)
            rollouts.append(rollout)
            games[sampler.add(prompt)] = (episode, rollout)
        score_s = 0.0
        with self.playing():
            for action in sampler.actions():
                episode, rollout = games[action.key]
                began = time.perf_counter()
                reply = self.take_turn(rollout, episode, action)
                score_s += time.perf_counter() - began
                if reply:
                    sampler.feed(action.key, reply)
                else:
                    rollout.messages = episode.messages
        everyone = [each for part in ranks.gather(rollouts) for each in part]
        return everyone, self._cost(everyone, score_s)

    @contextmanager
    def playing(self) -> Iterator[None]:
        """The model in its evaluation mode while it plays; then in the mode in which it was."""
        training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(training)

    def sampler(self, limit: int, sampling: Sampling, seed: int, first: int = 0) -> Sampler:
        """A sampler that has read nothing yet, of the kind that the configuration names; `first` is its first key."""
        return build_sampler(
            self.config.sampler,
            self.model,
            pad=self.tokenizer.pad_token_id,
            ends=sorted(self.chat.ends),
            limit=limit,
            sampling=replace(sampling, temperature=sampling.temperature * self.temperature),
            seed=seed,
            first=first,
        )

    def action_limit(self, task: Task) -> int:
        """Tokens that one action may have: the task's word, or less where the policy says so."""
        return min(task.max_action_tokens, self.max_action_tokens or task.max_action_tokens)

    def take_turn(self, rollout: Rollout, episode: Episode, action: Action) -> list[int]:
        """Have an action judged and enter it into the rollout, with what the environment says next.

        Returns:
            The ids of what it says; none when the episode is done.
        """
        ids = action.ids
        rollout.knowledge.append(episode.knowledge())
        if action.hidden is not None:
            rollout.hidden.append(action.hidden)
        rollout.logprobs += action.logprobs or []
        text = self.chat.text(ids)
        start = len(rollout.completion_ids)
        rollout.completion_ids += ids
        rollout.mask += [1] * len(ids)
        verdict = episode.step(text)
        rollout.turns.append(Turn(action=text, verdict=verdict, start=start, end=start + len(ids)))
        if episode.done:
            return []
        reply = self.chat.after_action(episode.messages[-1], ended=ids[-1] in self.chat.ends)
        rollout.completion_ids += reply
        rollout.mask += [0] * len(reply)
        return reply

    def sample(
        self, contexts: Sequence[list[int]], limit: int, sampling: Sampling, seed: int
    ) -> tuple[list[list[int]], PlayCost]:
        """Write one action after each context; the processes of a run share them and all get all of them.

        Args:
            contexts: token ids, each ending where the assistant begins to write.
            limit: tokens that an action may have.
            sampling: how actions are drawn.
            seed: of the draws.

        Returns:
            The sampled ids of each action, and what they cost; each counts as a rollout.
        """
        mine = ranks.share(len(contexts))
        sampler = self.sampler(limit, sampling, seed, first=mine.start)
        for number in mine:
            sampler.add(contexts[number])
        with self.playing():
            found = {action.key: action.ids for action in sampler.actions()}
        actions = [ids for part in ranks.gather([found[key] for key in mine]) for ids in part]
        cost = PlayCost(rollouts=len(contexts))
        for context, action in zip(contexts, actions, strict=True):
            cost.prompt_tokens += len(context)
            cost.generated_tokens += len(action)
            cost.flops += self.shape.forward(len(context) + len(action), heads=len(action))
        return actions, cost

    def _cost(self, rollouts: Sequence[Rollout], score_s: float) -> PlayCost:
        cost = PlayCost(rollouts=len(rollouts), score_s=score_s)
        for rollout in rollouts:
            written = sum(rollout.mask)
            read = len(rollout.prompt_ids) + len(rollout.mask) - written
            cost.generated_tokens += written
            cost.prompt_tokens += read
            cost.flops += self.shape.forward(read + written, heads=written)
        return cost

    def state_hash(self) -> str:
        """Hash of weights, instructions and temperature: equal hashes play equally."""
        digest = hashlib.sha256(self.instructions.encode())
        if self.temperature != 1:
            digest.update(repr(self.temperature).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write weights (safetensors; of a policy with an adapter the adapter's alone), tokenizer and instructions."""
        folder.mkdir(parents=True, exist_ok=True)
        adapted = hasattr(self.model, "peft_config")
        if adapted:
            self.model.peft_config["default"].base_model_name_or_path = self.source.base(self.config)
        # Else peft would look at the weights again, on the hub perhaps, to see whether embeddings were added.
        self.model.save_pretrained(folder, **({"save_embedding_layers": False} if adapted else {}))
        self.tokenizer.save_pretrained(folder)
        (folder / "instructions.txt").write_text(self.instructions, encoding="utf-8")
        (folder / SAMPLING).write_text(json.dumps({"temperature": self.temperature}), encoding="utf-8")

    def restore_adapter(self, folder: Path) -> None:
        """Take over the adapter, instructions and temperature that `save` wrote; this policy must have such an adapter.

        Raises:
            BadInput: the folder holds none, or another one.
        """
        restore(self.model, folder)
        self.instructions = read_file(folder / "instructions.txt", LONGEST, follow=False).decode()
        self.temperature = saved_temperature(folder)


def load_policy(
    config: PolicyConfig, source: Source | None = None, adapter: AdapterConfig | None = None, seed: int = 0
) -> LanguageModel:
    """Load a policy. trust_remote_code is off, always.

    Args:
        config: the policy.
        source: where its weights are, if that was found already.
        adapter: what is trained beside frozen weights; all weights are trained if None.
        seed: of a fresh adapter.

    Raises:
        BadInput: the device or dtype is not to be had, or the source cannot be read.
    """
    source = source or find_source(config)
    if config.threads:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, device, trained=adapter is None)
    quantised = adapter is not None and adapter.quantised
    if quantised:
        check_quantisation(device)
    try:
        if source.gguf:
            require(not quantised, "adapter=qlora needs safetensors, and this is GGUF; use adapter=lora")
            tokenizer, model = _from_gguf(source, dtype)
        else:
            bits = {"quantization_config": four_bits(), "device_map": {"": device}} if quantised else {}
            tokenizer, model = _from_folder(source.folder, dtype, **bits)
        for folder in source.adapters:
            require(not quantised, "adapter=qlora cannot begin from a saved adapter; use adapter=lora")
            with torch.random.fork_rng(devices=[]):
                model = merged(model, Path(folder))
        newest = Path((source.folder, *source.adapters)[-1])
        saved = newest / "instructions.txt"
        # They end up in records and prompts: a link could put any file of this disk there.
        instructions = read_file(saved, LONGEST, follow=False).decode() if os.path.lexists(saved) else ""
        temperature = saved_temperature(newest)
    # A folder of a stranger makes transformers raise nearly anything; all of it means that it cannot be loaded.
    except Exception as error:
        told = "" if isinstance(error, BadInput | OSError) else f"{type(error).__name__}: "
        first = (str(error).splitlines() or [""])[0][:300]
        raise BadInput(
            f"policy {config.name}: cannot load {source.label}: {told}{first}; offline, give {offline_ways(config)}"
        ) from None
    if adapter is not None:
        model = attach(model, adapter, seed)
    policy = LanguageModel(config, source, model, tokenizer, device)
    policy.instructions, policy.temperature = instructions, temperature
    return policy


def saved_temperature(folder: Path) -> float:
    """The temperature that `LanguageModel.save` wrote into a folder; 1 where there is none.

    Raises:
        BadInput: the file says something else.
    """
    if not os.path.lexists(folder / SAMPLING):
        return 1.0
    try:
        found = json.loads(read_file(folder / SAMPLING, LONGEST, follow=False))["temperature"]
        fits = type(found) in (int, float) and 0 <= found < math.inf
    except (ValueError, LookupError, TypeError, RecursionError):
        fits = False
    require(fits, f'{SAMPLING} must be {{"temperature": NUMBER}}, a number from 0 up')
    return float(found)


def _from_folder(folder: str, dtype: torch.dtype, **bits: Any) -> tuple[Any, Any]:
    """Tokenizer and model, by folder or hub id. Weights come from safetensors or not at all."""
    config = read_config(folder)
    if (Path(folder) / "generation_config.json").is_file():
        # A broken one would be passed over, and with it the ids that end a turn.
        GenerationConfig.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=dtype, trust_remote_code=False, use_safetensors=True, **bits
    )
    return tokenizer, model


def _from_gguf(source: Source, dtype: torch.dtype) -> tuple[Any, Any]:
    """Dequantise, and move the weights into a fresh model: one loaded from GGUF cannot be saved as it is."""
    if importlib.util.find_spec("gguf") is None:
        raise BadInput(f"{source.label}: reading GGUF needs the package gguf: pip install 'grpo-bench[gguf]'")
    where: dict[str, Any] = {"gguf_file": source.gguf, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(source.folder, padding_side="left", **where)
    loaded = AutoModelForCausalLM.from_pretrained(source.folder, dtype=torch.float32, **where)
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    fresh = AutoModelForCausalLM.from_config(AutoConfig.for_model(settings.pop("model_type"), **settings))
    fresh.load_state_dict(loaded.state_dict())
    return tokenizer, fresh.to(dtype)
