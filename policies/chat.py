"""Chats as token ids, without ever encoding a token twice.

Three things about a model's turns are decided here, for sampling, feedback and warm starts alike:

- A turn ends with any id that the tokenizer or the model's generation config names, as in transformers' `generate`;
  demonstrations end with the one that the chat template writes.
- Where a template's generation prompt opens the reasoning (`<think>`), what it opened is judged together with the
  action: `text` begins with it. Reasoning stays in the history as it was sampled, although some templates leave it out
  of earlier turns: later turns must be conditioned on the tokens that are trained on.
- A template's clock (`strftime_now`) always shows `DATE`, or the same seed would give another prompt tomorrow.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from transformers.utils.chat_template_utils import _compile_jinja_template

from tasks.api import Message
from tasks.errors import BadInput

SENTINEL = "\u2063ACTION\u2063"
DATE = datetime(2024, 7, 26)
"""What chat templates take for today: the date that Llama 3's shows where it has no clock."""
OPENING = re.compile(r"<think>\s*\Z")
CLOSING = "</think>"


class Chat:
    """A tokenizer's chat template, used in two ways: for the prompt, and for what follows an action.

    Args:
        tokenizer: with a chat template and an end token.
        source: where it is from, for messages.
        ends: what the generation config says ends a turn: an id, ids, or None.

    Raises:
        BadInput: no usable chat template, or no end token.
    """

    def __init__(self, tokenizer: Any, source: str, ends: Any = None) -> None:
        if tokenizer.chat_template is None:
            raise BadInput(f"{source}: the tokenizer has no chat template; give an instruct model")
        if tokenizer.eos_token_id is None:
            raise BadInput(f"{source}: the tokenizer has no end token (eos_token): no action would ever end; set one")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.tokenizer = tokenizer
        self.source = source
        self.ends = frozenset([tokenizer.eos_token_id, *self._named(ends)])
        """Ids that end a turn."""
        self._check()
        self._system = self._takes_system()
        opening = OPENING.search(self._render([{"role": "user", "content": "x"}], reply=True))
        self.opened = opening.group() if opening else ""
        """The reasoning that the generation prompt opens: `<think>` and blanks, or nothing."""

    def _named(self, ends: Any) -> list[int]:
        named = [] if ends is None else ends if isinstance(ends, list) else [ends]
        if not all(type(end) is int for end in named):
            raise BadInput(f"{self.source}: generation_config.json has eos_token_id={ends!r:.60}; it must be ids")
        return named

    def _check(self) -> None:
        try:
            shown = SENTINEL in self._render([{"role": "user", "content": SENTINEL}], reply=True)
            reason = "it does not show the user's message"
        # Templates come with the model and raise whatever they like, or are no templates.
        except Exception as error:
            shown, reason = False, " ".join(f"{type(error).__name__}: {error}".split())[:200]
        if not shown:
            raise BadInput(f"{self.source}: the chat template cannot be used: {reason}")

    def _render(self, messages: Sequence[Message], *, reply: bool) -> str:
        # The compiled template is cached; what is passed to it as an argument may not be a function.
        _compile_jinja_template(self.tokenizer.get_chat_template()).globals["strftime_now"] = DATE.strftime
        text = self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=reply)
        assert isinstance(text, str)
        return text

    def _takes_system(self) -> bool:
        probe: list[Message] = [{"role": "system", "content": SENTINEL}, {"role": "user", "content": "x"}]
        try:
            return SENTINEL in self._render(probe, reply=True)
        except Exception:  # templates raise whatever they like when they refuse a system message
            return False

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def prompt(self, instructions: str, messages: Sequence[Message]) -> list[int]:
        """Ids of a chat that waits for the assistant. Instructions go into the system message where there is one."""
        chat = list(messages)
        if not instructions:
            pass
        elif self._system:
            chat.insert(0, {"role": "system", "content": instructions})
        else:
            chat[0] = {"role": chat[0]["role"], "content": f"{instructions}\n\n{chat[0]['content']}"}
        return self._encode(self._render(chat, reply=True))

    def after_action(self, message: Message, *, ended: bool) -> list[int]:
        """Ids that stand between the last token of an action and the next action.

        Args:
            message: what the environment says next.
            ended: whether the action's last sampled token is one of `ends`; the template's own is then left out.

        Raises:
            BadInput: the chat template hides earlier assistant messages.
        """
        ids = self._tail(message)
        return ids[1:] if ended and ids and ids[0] in self.ends else ids

    def _tail(self, message: Message) -> list[int]:
        chat: list[Message] = [{"role": "user", "content": "x"}, {"role": "assistant", "content": SENTINEL}, message]
        _, found, tail = self._render(chat, reply=True).partition(SENTINEL)
        if not found:
            raise BadInput(f"{self.source}: the chat template changes earlier assistant messages; it can't play turns")
        return self._encode(tail)

    def action(self, text: str) -> list[int]:
        """Ids with which the assistant writes a text of its own accord: what `text` reads back, then an end.

        Where the template opens the reasoning, a text that begins with it goes on from there; any other follows
        reasoning that is empty.
        """
        if self.opened:
            inside = text.lstrip().removeprefix(self.opened.rstrip())
            text = inside.lstrip() if inside != text.lstrip() else f"{CLOSING}\n\n{text}"
        try:
            tail = self._tail({"role": "user", "content": "x"})[:1]
        except BadInput:  # It cannot play turns, and need not for tasks of one.
            tail = []
        own = [end for end in tail if end in self.ends]
        return [*self._encode(text), *(own or [self.tokenizer.eos_token_id])]

    def content_of(self, message: Message, *, ended: bool) -> tuple[int, int]:
        """Where, in `after_action(message)`, the tokens of the message's own text begin and end."""
        ids = self.after_action(message, ended=ended)
        other = self.after_action({"role": message["role"], "content": SENTINEL}, ended=ended)
        same = [a == b for a, b in zip(ids, other, strict=False)]
        start = same.index(False) if False in same else len(same)
        tail = [a == b for a, b in zip(ids[start:][::-1], other[start:][::-1], strict=False)]
        return start, len(ids) - (tail.index(False) if False in tail else len(tail))

    def token_ends(self, ids: Sequence[int]) -> list[int]:
        """For each token of an action, how many characters of `text(ids)` are written once it is there.

        The text is decoded prefix by prefix, never encoded again. A token that ends inside a character (half of a
        UTF-8 sequence) ends where that character begins.
        """
        whole = self.text(ids)
        ends: list[int] = []
        for count in range(1, len(ids) + 1):
            prefix = self.text(ids[:count]).rstrip("\ufffd")
            agreed = len(prefix) if whole.startswith(prefix) else (ends[-1] if ends else 0)
            ends.append(max(agreed, ends[-1] if ends else 0))
        if ends:
            ends[-1] = len(whole)
        return ends

    def text(self, ids: Sequence[int]) -> str:
        """The text that an environment is given for an action's ids: the reasoning that the template opened, then what
        was sampled without its end and special tokens."""
        written = list(ids[:-1] if ids and ids[-1] in self.ends else ids)
        text = self.tokenizer.decode(written, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return self.opened + text
