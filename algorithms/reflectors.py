"""Reflectors: who proposes new instructions to gepa, from the episodes that went wrong under the present ones.

- `rules`: counts the faults that the referee names and adds the task's own advice against the most frequent one.
  Deterministic and offline.
- `policy`: the policy itself is asked for better instructions.
- `endpoint`: a model behind an OpenAI-compatible server is asked the same.

Instructions come in named *parts*, which are joined by blanks: GEPA merges two candidates part by part. A reflector
that cannot propose anything usable raises `Refused` with the reason; the run goes on.
"""

from __future__ import annotations

import importlib.util
import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from algorithms.api import Session, State
from policies import ranks
from policies.api import Rollout, Sampling
from tasks.api import Task
from tasks.errors import BadInput, require

if TYPE_CHECKING:
    from policies.language_model import LanguageModel

FENCE = "```"
NO_KEY = "none"
"""What a server that asks for no key is sent."""
MOST_TOKENS = 10**9
"""A reply that claims to have taken more is not believed: JSON can spell numbers that no float holds."""


class Refused(Exception):
    """A proposal that is not to be tried; the text is the reason."""


@dataclass(kw_only=True)
class EndpointConfig:
    """The server of the reflector `endpoint`."""

    base_url: str = "http://127.0.0.1:8000/v1"
    """Where the OpenAI-compatible server is."""
    model: str = ""
    """The model's name there."""
    key_variable: str | None = None
    """Environment variable that holds the API key; the key itself is never recorded. None: the server needs no key."""
    timeout_s: float = 60.0
    """Seconds without a byte after which a request is given up."""
    retries: int = 2
    """Further tries after a timeout, a 429 or a server's error."""

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.base_url)
            fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # half an IPv6 address, or a port that is no number
            fits = False
        require(fits, f"algo.endpoint.base_url={self.base_url}: give http://HOST:PORT/v1 or https://HOST/v1")
        secret = "@" in parts.netloc or bool(parts.query or parts.fragment)
        require(
            not secret, "algo.endpoint.base_url: no password in the address, nor anything after ?; use key_variable"
        )
        require(self.timeout_s > 0, f"algo.endpoint.timeout_s={self.timeout_s:g} must be above 0")
        require(0 <= self.retries <= 10, f"algo.endpoint.retries={self.retries} must be from 0 to 10")

    def key(self) -> str:
        """The API key.

        Raises:
            BadInput: no model is named, the client is not installed, or the variable is not set.
        """
        require(bool(self.model), "algo.endpoint.model: name the server's model")
        client = importlib.util.find_spec("openai") is not None
        require(client, "algo.reflector=endpoint needs the package openai: pip install 'grpo-bench[gepa-endpoint]'")
        if self.key_variable is None:
            return NO_KEY
        key = os.environ.get(self.key_variable, "")
        require(bool(key), f"algo.endpoint.key_variable={self.key_variable}: there is no such environment variable")
        return key


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


def join(parts: Mapping[str, str]) -> str:
    """The instructions that parts make."""
    return " ".join(text for text in parts.values() if text)


class Reflector(ABC):
    """Proposes new instructions."""

    def parts(self, instructions: str) -> dict[str, str]:
        """The instructions to start from, in parts."""
        return {"instructions": instructions}

    def state(self) -> State:
        """What the reflector remembers from proposal to proposal."""
        return {}

    def restore(self, state: State) -> None:  # noqa: B027
        """Take back what `state` said in a run that was broken off."""

    @abstractmethod
    def propose(self, parts: Mapping[str, str], failures: Sequence[Rollout]) -> dict[str, str]:
        """New texts of those parts that change.

        Args:
            parts: the present instructions.
            failures: episodes of train problems that were played under them and went wrong, the worst first.

        Raises:
            Refused: there is nothing to propose.
        """


@dataclass
class Rules(Reflector):
    """Adds the advice against the most frequent fault that the instructions do not speak to yet.

    Of several sentences the one whose outcome was proposed least often goes first: a proposal that failed by chance
    gets its second try after the others' first. Once nothing is left to add, one of the added sentences, drawn at
    random, is left out.
    """

    task: Task
    session: Session
    tried: Counter[str] = field(default_factory=Counter)
    """How often instructions were proposed."""

    def __post_init__(self) -> None:
        name = self.task.name
        require(bool(self.task.advice), f"algo.reflector=rules: task {name} has no advice; use policy or endpoint")

    def parts(self, instructions: str) -> dict[str, str]:
        """The instructions, and an empty part for each sentence of advice that they do not hold."""
        sentences = [sentence for sentence in self.task.sentences if sentence not in instructions]
        return {"instructions": instructions, **dict.fromkeys(sentences, "")}

    def state(self) -> State:
        return {"tried": self.tried}

    def restore(self, state: State) -> None:
        self.tried = Counter(state["tried"])

    def faults(self, failures: Sequence[Rollout]) -> Counter[str]:
        """How often the verdicts name a fault, by the sentence against it."""
        tops = {component.name: component.high for component in self.task.components}
        counts: Counter[str] = Counter()
        for verdict in (verdict for rollout in failures for verdict in rollout.verdicts):
            for fault, sentences in self.task.advice.items():
                named = verdict.rewards[fault] < tops[fault] if fault in tops else verdict.feedback.count(fault)
                counts.update(dict.fromkeys(sentences, int(named)))
        return counts

    def propose(self, parts: Mapping[str, str], failures: Sequence[Rollout]) -> dict[str, str]:
        counts, rng = self.faults(failures), self.session.rng
        changes = {sentence: {sentence: "" if text else sentence} for sentence, text in parts.items()}
        tries = {sentence: self.tried[join({**parts, **change})] for sentence, change in changes.items()}
        missing = [sentence for sentence, text in parts.items() if counts[sentence] and not text]
        added = [sentence for sentence, text in parts.items() if sentence in counts and text]
        if missing:
            chosen = min(missing, key=lambda sentence: (tries[sentence], -counts[sentence], rng.random()))
        elif added:
            chosen = min(added, key=lambda sentence: (tries[sentence], rng.random()))
        else:
            raise Refused("the referee names no fault that the task has advice against")
        self.tried[join({**parts, **changes[chosen]})] += 1
        return changes[chosen]


def question(instructions: str, failures: Sequence[Rollout]) -> str:
    """What a language model is asked."""
    lines = [f"A player was given these instructions:\n{FENCE}\n{instructions}\n{FENCE}", "It went wrong here:"]
    for number, rollout in enumerate(failures, 1):
        lines.append(f"# Episode {number}")
        verdicts = iter(rollout.verdicts)
        for message in rollout.messages:
            if message["role"] == "assistant":
                lines += [f"Player: {message['content']}", f"Referee: {next(verdicts).feedback}"]
            else:
                lines.append(f"Task: {message['content']}")
    lines.append(
        "Write better instructions for the player, so that the referee has less to object to. Keep what the player "
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


class EndpointReflector(Reflector):
    """A model behind an OpenAI-compatible server. Its FLOPs are unknown here and not charged; its tokens are."""

    def __init__(self, config: ReflectionConfig, endpoint: EndpointConfig, session: Session) -> None:
        import openai

        self.config, self.endpoint, self.session = config, endpoint, session
        self.key = endpoint.key()
        self.client = openai.OpenAI(
            api_key=self.key, base_url=endpoint.base_url, timeout=endpoint.timeout_s, max_retries=endpoint.retries
        )

    def propose(self, parts: Mapping[str, str], failures: Sequence[Rollout]) -> dict[str, str]:
        import openai

        text = question(join(parts), failures[: self.config.episodes])
        try:
            reply: Any = self.client.chat.completions.create(
                model=self.endpoint.model,
                messages=[{"role": "user", "content": text}],
                max_tokens=self.config.max_tokens,
                temperature=self.config.temperature,
                seed=self.session.rng.getrandbits(31),
            )
        except (openai.OpenAIError, ValueError, RecursionError) as error:  # the latter two: JSON that is none
            raise Refused(self._reason(error)) from None
        return {"instructions": read_reply(self._content(reply))}

    def _content(self, reply: Any) -> str:
        """Book a reply's tokens and take its text. The client checks no types: a server may send anything.

        Raises:
            Refused: a malformed or truncated reply.
        """
        tokens = getattr(getattr(reply, "usage", None), "total_tokens", None)
        if isinstance(tokens, int) and 0 <= tokens <= MOST_TOKENS:
            self.session.charge("reflect", reflected_tokens=tokens)
        try:
            choice = reply.choices[0]
            content, ending = choice.message.content, choice.finish_reason
        except (AttributeError, LookupError, TypeError):
            raise Refused("the server's reply is malformed: it has no choices[0].message.content") from None
        if ending == "length":
            raise Refused(f"the reply was cut off at {self.config.max_tokens} tokens (finish_reason=length)")
        if not isinstance(content, str):
            raise Refused(f"the server's reply is malformed: its content is {type(content).__name__}")
        return content

    def _reason(self, error: Exception) -> str:
        text = str(error) if self.key == NO_KEY else str(error).replace(self.key, "***")
        return f"{type(error).__name__}: {(text.splitlines() or [''])[0][:200]}"


def check_text(text: str, longest: int, special: Sequence[str]) -> None:
    """Refuse instructions that are empty, overlong or unwritable.

    Args:
        text: what was proposed.
        longest: characters allowed.
        special: the tokenizer's special tokens: inside the instructions they would end the system message.

    Raises:
        Refused: with the reason.
    """
    if not text.strip():
        raise Refused("the proposal is empty")
    if len(text) > longest:
        raise Refused(f"the proposal has {len(text)} characters, more than algo.longest={longest}")
    if text.encode(errors="ignore").decode() != text:
        raise Refused("the proposal holds half characters that cannot be written")
    if any(token in text for token in special):
        raise Refused("the proposal holds special tokens of the policy's tokenizer")


REFLECTORS = ("rules", "policy", "endpoint")


def build_reflector(
    name: str,
    config: ReflectionConfig,
    endpoint: EndpointConfig,
    policy: LanguageModel,
    task: Task,
    session: Session,
) -> Reflector:
    """The reflector of a name.

    Raises:
        BadInput: no such name, or the reflector lacks what it needs.
    """
    if name == "rules":
        return Rules(task, session)
    if name == "policy":
        return PolicyReflector(config, policy, session)
    if name == "endpoint":
        return EndpointReflector(config, endpoint, session)
    raise BadInput(f"algo.reflector={name}: use one of {', '.join(REFLECTORS)}")
