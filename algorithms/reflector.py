"""What proposes new instructions to gepa, from the episodes that went wrong under the present ones.

Instructions come in named *parts*, which are joined by blanks: GEPA merges two candidates part by part. A reflector
that cannot propose anything usable raises `Refused` with the reason; the run continues.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from algorithms.api import State
from policies.api import Rollout


class Refused(Exception):
    """A proposal that is not to be tried; the text is the reason."""


def join(parts: Mapping[str, str]) -> str:
    """The instructions that parts make."""
    return " ".join(text for text in parts.values() if text)


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


class Reflector(ABC):
    """Proposes new instructions."""

    def parts(self, instructions: str) -> dict[str, str]:
        """The instructions to start from, in parts."""
        return {"instructions": instructions}

    def state(self) -> State:
        """What the reflector remembers from proposal to proposal."""
        return {}

    def restore(self, state: State) -> None:  # noqa: B027
        """Take back what `state` returned in a run that was interrupted."""

    @abstractmethod
    def propose(self, parts: Mapping[str, str], failures: Sequence[Rollout]) -> dict[str, str]:
        """New texts of those parts that change.

        Args:
            parts: the present instructions.
            failures: episodes of train problems that were played under them and went wrong, the worst first.

        Raises:
            Refused: there is nothing to propose.
        """
