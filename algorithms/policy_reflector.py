"""The reflector `policy`: the policy itself is asked for better instructions. And how any language model is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from algorithms.api import Session
from algorithms.reflector import Reflector, Refused, join
from policies import ranks
from policies.api import Rollout, Sampling
from tasks.errors import require

if TYPE_CHECKING:
    from policies.language_model import LanguageModel

FENCE = "```"


@dataclass(kw_only=True)
class ReflectionConfig:
    """How a language model is asked for new instructions."""

    episodes: int = 3
    """Failed episodes that it is shown, the worst first."""
    max_tokens: int = 512
    """Tokens that it may write; a reply that is cut off there is refused."""
    temperature: float = 1.0
    """Of its sampling."""

    def __post_init__(self) -> None:
        for name in ("episodes", "max_tokens"):
            require(getattr(self, name) >= 1, f"algo.reflection.{name}={getattr(self, name)} must be at least 1")
        require(self.temperature >= 0, f"algo.reflection.temperature={self.temperature:g} must be 0 or above")


def question(instructions: str, failures: Sequence[Rollout]) -> str:
    """What a language model is asked."""
    lines = [f"A player was given these instructions:\n{FENCE}\n{instructions}\n{FENCE}", "It went wrong here:"]
    for number, rollout in enumerate(failures, 1):
        lines.append(f"# Episode {number}")
        verdicts = iter(rollout.verdicts)
        for message in rollout.messages:
            if message["role"] == "assistant":
                lines += [f"Player: {message['content']}", f"Feedback: {next(verdicts).feedback}"]
            else:
                lines.append(f"Task: {message['content']}")
    lines.append(
        "Write better instructions for the player, so that they earn less criticism. Keep what the player "
        f"must know of the task and of the form of its answers. Reply with the instructions alone, between {FENCE}."
    )
    return "\n".join(lines)


def read_reply(reply: str) -> str:
    """The instructions in a reply: what stands between the first and the last fence, or all of it without any.

    Raises:
        Refused: a fence that is opened and not closed, as in a reply that was cut off.
    """
    opening, closing = reply.find(FENCE), reply.rfind(FENCE)
    if opening == -1:
        return reply.strip()
    start = opening + len(FENCE)
    if closing < start:
        raise Refused(f"the reply opens {FENCE} and does not close it")
    # What stands right behind the fence, alone in its line, names a language. Looked for by hand: a regular expression
    # gives ten million characters back one by one before it fails.
    language, end, rest = reply[start:closing].partition("\n")
    return (rest if end and (not language or re.fullmatch(r"\w{1,40}", language)) else reply[start:closing]).strip()


@dataclass
class PolicyReflector(Reflector):
    """The policy reflects on itself."""

    config: ReflectionConfig
    policy: LanguageModel
    session: Session

    def propose(self, parts: Mapping[str, str], failures: Sequence[Rollout]) -> dict[str, str]:
        ids = self._prompt(join(parts), failures[: self.config.episodes])
        written = self._write(ids)
        tokens = len(ids) + len(written)
        flops = self.policy.shape.forward(tokens, heads=len(written))
        self.session.charge("reflect", reflected_tokens=tokens, flops=flops)
        if written[-1] not in self.policy.chat.ends:
            raise Refused(f"the reply was cut off after {len(written)} tokens")
        return {"instructions": read_reply(self.policy.chat.text(written))}

    def _prompt(self, instructions: str, failures: Sequence[Rollout]) -> list[int]:
        """Ids of the question with as many episodes as the model's window holds."""
        window = getattr(self.policy.model.config.get_text_config(), "max_position_embeddings", None)
        for count in range(len(failures), 0, -1):
            text = question(instructions, failures[:count])
            ids = self.policy.chat.prompt("", [{"role": "user", "content": text}])
            if window is None or len(ids) + self.config.max_tokens <= window:
                return ids
        raise Refused(
            f"{len(ids)} tokens of question and {self.config.max_tokens} of reply overflow the window {window}"
        )

    def _write(self, ids: list[int]) -> list[int]:
        sampling = Sampling(temperature=self.config.temperature)
        seed = self.session.rng.getrandbits(48)

        def written() -> list[int]:
            sampler = self.policy.sampler(self.config.max_tokens, sampling, seed)
            sampler.add(ids)
            (action,) = sampler.actions()
            return action.ids

        return ranks.once(written)
