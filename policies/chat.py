"""Chats as token ids, without ever encoding a token twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.api import Message
from tasks.errors import BadInput

SENTINEL = "\u2063ACTION\u2063"


class Chat:
    """A tokenizer's chat template, used in two ways: for the prompt, and for what follows an action."""

    def __init__(self, tokenizer: Any, source: str) -> None:
        if tokenizer.chat_template is None:
            raise BadInput(f"{source}: the tokenizer has no chat template; give an instruct model")
        if tokenizer.eos_token_id is None:
            raise BadInput(f"{source}: the tokenizer has no end token (eos_token): no action would ever end; set one")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.tokenizer = tokenizer
        self.source = source
        self._check()
        self._system = self._takes_system()

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
            ended: whether the action's last sampled token was the end token, which is then not repeated.

        Raises:
            BadInput: the chat template hides earlier assistant messages.
        """
        chat: list[Message] = [{"role": "user", "content": "x"}, {"role": "assistant", "content": SENTINEL}, message]
        _, found, tail = self._render(chat, reply=True).partition(SENTINEL)
        if not found:
            raise BadInput(f"{self.source}: the chat template changes earlier assistant messages; it can't play turns")
        ids = self._encode(tail)
        if ended and ids and ids[0] == self.tokenizer.eos_token_id:
            ids = ids[1:]
        return ids

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
        """The text that an environment is given for sampled ids: special tokens dropped."""
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text
