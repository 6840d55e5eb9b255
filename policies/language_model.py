"""A causal language model from transformers as a policy."""

from __future__ import annotations

import hashlib
import importlib.util
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from policies.api import PlayCost, Rollout, Sampling, Turn
from policies.chat import Chat
from policies.flops import model_shape
from policies.model_folder import read_config
from policies.sampler import Action, Sampler, build_sampler
from policies.source import PolicyConfig, Source, find_source
from tasks.api import Episode, Problem, Task
from tasks.errors import BadInput
from tasks.files import read_file

LONGEST = 1 << 20
"""Bytes of saved instructions."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class LanguageModel:
    """A policy: model, tokenizer and instructions (the system prompt)."""

    def __init__(self, config: PolicyConfig, source: Source, model: Any, tokenizer: Any, device: torch.device) -> None:
        self.config = config
        self.name = config.name
        self.source = source
        self.model = model.to(device).eval()
        self.tokenizer = tokenizer
        self.chat = Chat(tokenizer, source.label)
        self.device = device
        self.instructions = ""
        self.max_action_tokens = config.max_action_tokens
        self.shape = model_shape(model)

    def play(
        self,
        task: Task,
        problems: Sequence[Problem],
        group_size: int,
        sampling: Sampling,
        seed: int,
    ) -> tuple[list[Rollout], PlayCost]:
        """Play every problem `group_size` times.

        Args:
            task: whose environment judges.
            problems: what to play.
            group_size: episodes per problem.
            sampling: how actions are drawn.
            seed: of the draws; the same seed gives the same rollouts on the same machine and thread count.

        Returns:
            Rollouts in the order of `problems`, each problem's group side by side, and what they cost.
        """
        sampler = self.sampler(self.action_limit(task), sampling, seed)
        rollouts: list[Rollout] = []
        games: dict[int, tuple[Episode, Rollout]] = {}
        for group, problem in enumerate(problems):
            for _ in range(group_size):
                episode = task.start(problem)
                prompt = self.chat.prompt(self.instructions, episode.messages)
                rollout = Rollout(problem=problem, group=group, prompt_ids=prompt)
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
        return rollouts, self._cost(rollouts, score_s)

    @contextmanager
    def playing(self) -> Iterator[None]:
        """The model in its evaluation mode while it plays; then in the mode in which it was."""
        training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(training)

    def sampler(self, limit: int, sampling: Sampling, seed: int) -> Sampler:
        """A sampler that has read nothing yet, of the kind that the configuration names."""
        pad, end = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
        name = self.config.sampler
        return build_sampler(name, self.model, pad=pad, ends=[end], limit=limit, sampling=sampling, seed=seed)

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
        reply = self.chat.after_action(episode.messages[-1], ended=ids[-1] == self.tokenizer.eos_token_id)
        rollout.completion_ids += reply
        rollout.mask += [0] * len(reply)
        return reply

    def sample(
        self, contexts: Sequence[list[int]], limit: int, sampling: Sampling, seed: int
    ) -> tuple[list[list[int]], PlayCost]:
        """Write one action after each context.

        Args:
            contexts: token ids, each ending where the assistant begins to write.
            limit: tokens that an action may have.
            sampling: how actions are drawn.
            seed: of the draws.

        Returns:
            The sampled ids of each action, and what they cost; each counts as a rollout.
        """
        sampler = self.sampler(limit, sampling, seed)
        for context in contexts:
            sampler.add(context)
        with self.playing():
            found = {action.key: action.ids for action in sampler.actions()}
        actions = [found[key] for key in range(len(contexts))]
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
        """Hash of weights and instructions: equal hashes play equally."""
        digest = hashlib.sha256(self.instructions.encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write weights (safetensors), tokenizer and instructions."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder / "instructions.txt").write_text(self.instructions, encoding="utf-8")


def load_policy(config: PolicyConfig, source: Source | None = None) -> LanguageModel:
    """Load a policy. trust_remote_code is off, always.

    Raises:
        BadInput: the device or dtype is not to be had, or the source cannot be read.
    """
    source = source or find_source(config)
    if config.threads:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, device)
    try:
        tokenizer, model = _from_gguf(source, dtype) if source.gguf else _from_folder(source.folder, dtype)
        saved = Path(source.folder) / "instructions.txt"
        instructions = read_file(saved, LONGEST).decode() if saved.is_file() else ""
    # A folder of a stranger makes transformers raise nearly anything; all of it means that it cannot be loaded.
    except Exception as error:
        told = "" if isinstance(error, BadInput | OSError) else f"{type(error).__name__}: "
        first = (str(error).splitlines() or [""])[0][:300]
        raise BadInput(
            f"policy {config.name}: cannot load {source.label}: {told}{first}; offline, give policy.path=FOLDER"
        ) from None
    policy = LanguageModel(config, source, model, tokenizer, device)
    policy.instructions = instructions
    return policy


def _from_folder(folder: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Tokenizer and model, by folder or hub id. Weights come from safetensors or not at all."""
    config = read_config(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=dtype, trust_remote_code=False, use_safetensors=True
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


def choose_device(name: str) -> torch.device:
    """`auto` is cuda where there is one.

    Raises:
        BadInput: cuda was asked for and is not there, or the name is no device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadInput(f"policy.device={name}: use auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BadInput(f"policy.device={name}: torch sees no CUDA device here; use policy.device=cpu")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on cuda and float32 elsewhere.

    Raises:
        BadInput: unknown name.
    """
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise BadInput(f"policy.dtype={name}: use auto, {', '.join(DTYPES)}")
    return DTYPES[name]
