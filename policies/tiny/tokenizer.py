"""tiny's tokenizer: whole phrases of the tasks are single tokens, and so is every other character.

A greedy split on the longest known phrase, then one id per piece. Every text of printable ASCII and newlines survives
encoding and decoding unchanged; any other character becomes `<unk>`.
"""

from __future__ import annotations

import re

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tasks.gsm_synth import EVENTS, ITEMS, NAMES, QUESTION, START, GsmSynth
from tasks.wordle import Wordle

SPECIAL = ("<pad>", "<unk>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
TAGS = ("<think>", "</think>", "<guess>", "</guess>", "</think><guess>")
WORDLE_RULES = tuple(dict.fromkeys(several[0] for several in Wordle.advice.values()))
GSM_RULES = tuple(dict.fromkeys(several[0] for several in GsmSynth.advice.values()))
WORDLE_PHRASES = (
    " guesses left.",
    " guess left.",
    "That word is not in the list.",
    "No guess was found.",
    " not ",
    " no ",
    "- ",
    "? ",
    "+ ",
    "' must be at position ",
    "' must be in the word",
    "' must not be at position ",
    "' is not in the word",
    "' is in the word only ",
    "' is not a word",
    "' is not the secret word",
    "no guess was given",
    "solved",
    "not solved",
    " times",
    "once",
    "twice",
    "three",
)
GSM_PHRASES = (
    "#### ",
    " is wrong",
    "no step is written as an equation",
    "the last line must be #### and the answer",
    "each equation is right, but they do not answer the question",
)
RETRY = "Try again."
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def _sentences(text: str) -> list[str]:
    return re.findall(r"[^.]+\.", text)


def phrases() -> list[str]:
    """Everything longer than one character that is a token."""
    found = [*TAGS, *WORDLE_PHRASES, *GSM_PHRASES, RETRY, *WORDLE_RULES, *GSM_RULES, *NAMES]
    found += [" " + text for text in (*WORDLE_RULES, *GSM_RULES, RETRY)]
    found += _sentences(Wordle.instructions) + _sentences(GsmSynth.instructions)
    found += [*ITEMS, *(f" {item}" for item in ITEMS), *(f" {name}" for name in NAMES)]
    for template in (START, QUESTION, *(text for group in EVENTS.values() for text in group)):
        for piece in re.split(r"\{\w+\}", template):
            found += [piece, " " + piece] if len(piece) > 1 else []
    return sorted({text for text in found if len(text) > 1}, key=lambda text: (-len(text), text))


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer with its chat template. Deterministic: the same vocabulary in the same order every time."""
    known = phrases()
    characters = ["\n", *(chr(code) for code in range(32, 127))]
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *known, *characters])}
    pattern = "|".join(re.escape(text).replace(r"\ ", " ") for text in known) + r"|[\s\S]"
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<|end|>",
        additional_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    wrapped.chat_template = TEMPLATE
    return wrapped
