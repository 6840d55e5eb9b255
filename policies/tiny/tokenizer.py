"""tiny's tokenizer: whole phrases of the tasks are single tokens, and so is every other character.

A greedy split on the longest known phrase, then one id per piece. Every text of printable ASCII and newlines survives
encoding and decoding unchanged; any other character becomes `<unk>`. Few tokens an episode are the cheapest speed there
is: a marked letter (`c- `), a noted one (`c3`), a number and a sentence are one token each.
"""

from __future__ import annotations

import re
from itertools import product
from string import ascii_lowercase

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tasks.api import sentences
from tasks.clues import LENGTH
from tasks.gsm_fields import GsmFields
from tasks.gsm_synth import EVENTS, ITEMS, NAMES, QUESTION, START, GsmSynth
from tasks.question_sets import MOST
from tasks.wordle import SYMBOL, Wordle

SPECIAL = ("<pad>", "<unk>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
RETRY = "Try again."
PLANS = tuple(f"use {''.join(kinds)}; " for kinds in product(("+", ""), ("?", ""), ("-", ""), ("w", "")))
"""What a player of Wordle attends to: green, yellow and grey marks, and whether the guess is a word."""
LARGEST_NUMBER = 199
WORDLE_PHRASES = (
    *("<think>", "</think>", "<guess>", "</guess>", "</think><guess>"),
    *PLANS,
    *(letter + mark + space for letter in ascii_lowercase for mark in SYMBOL for space in ("", " ")),
    *(f"{letter}{place}" for letter in ascii_lowercase for place in range(1, LENGTH + 1)),
    *(f"{line}{n} guesses left." for n in range(2, 7) for line in ("", "\n")),
    *("1 guess left.", "\n1 guess left."),
    *("mend ", " not ", " no ", " yet "),
    *("That word is not in the list.", "No guess was found."),
    *("' must be at position ", "' must be in the word", "' must not be at position ", "' is not in the word"),
    *("' is in the word only ", "' is not a word", "' is not the secret word", "the secret word is '"),
    *("no guess was given", "solved", "not solved", " times", " once", " twice", " three"),
)
GSM_PHRASES = (
    *(str(n) for n in range(10, LARGEST_NUMBER + 1)),
    *(f"{line}{place}. " for place in range(1, MOST + 1) for line in ("", "\n")),
    *(f"{line}{place}: " for place in range(1, MOST + 1) for line in ("", "\n")),
    *("#### ", "\n#### ", " #### "),
    *("the sum ", "the difference ", "the product ", "the quotient ", "the equation "),
    *(" is wrong", " is wrong: it is ", "more", "less", "the answer is ", " than "),
    *("no step is written as an equation", "the last line must be #### and the answer"),
    *("each equation is right, but they do not answer the question", "no line '", ". ... #### answer'"),
)


def _sentences(text: str) -> list[str]:
    return re.findall(r"[^.]+\.", text)


def phrases() -> list[str]:
    """Everything longer than one character that is a token."""
    advice = (*sentences(Wordle.advice), *sentences(GsmSynth.advice), RETRY)
    found = [*WORDLE_PHRASES, *GSM_PHRASES, *NAMES, *advice, *(" " + text for text in advice)]
    for task in (Wordle, GsmSynth, GsmFields):
        found += _sentences(task.instructions)
    found += [*(f" {name}" for name in NAMES), *(f" {item}{end}" for item in ITEMS for end in ("", "."))]
    found += [f" How many {item} does " for item in ITEMS]
    for template in (START, QUESTION, *(text for group in EVENTS.values() for text in group)):
        for piece in re.split(r"\{\w+\}", template):
            found += [piece, " " + piece] if len(piece) > 1 else []
    return sorted({text for text in found if len(text) > 1}, key=lambda text: (-len(text), text))


TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


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
