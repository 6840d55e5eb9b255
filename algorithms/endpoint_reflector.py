"""The reflector `endpoint`: a model behind an OpenAI-compatible server is asked for better instructions."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from algorithms.api import Session
from algorithms.policy_reflector import ReflectionConfig, question, read_reply
from algorithms.reflector import Reflector, Refused, join
from policies.api import Rollout
from tasks.errors import require

NO_KEY = "none"
"""What a server that asks for no key is sent."""
MOST_TOKENS = 10**9
"""A reply that claims to have taken more is not believed: JSON can spell numbers that no float holds."""


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
