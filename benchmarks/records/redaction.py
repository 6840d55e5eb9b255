"""What must not be in a record: whose home folder it was, and the secrets of the environment.

A traceback or a command holds whatever was in its arguments and messages, and records are made to be shown to others.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

SECRET_NAME = re.compile(
    r"(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|_KEY|_AUTH)$", re.I
)
"""Names of environment variables whose values are secrets."""
SECRET_SETTING = re.compile(r"key|secret|token|password|.*_(key|secret|token|password|string)", re.I)
"""The same of what fsspec's configuration hands to a store, from files or from FSSPEC_... variables."""
SHORTEST = 8
"""Characters of a secret: shorter values occur in any text."""
KNOWN_FORMS = re.compile(
    r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|pypi-[\w-]{20,}"
    r"|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}|(?:AKIA|ASIA)[A-Z0-9]{16})"
    r"|(?<=://)[^/\s:@]{1,200}:[^/\s@]{1,200}(?=@)"
    r"|(?<=[Bb]earer )[\w.~+/-]{16,}=*"
)
"""Secrets that tell by their form: keys of well-known services, a password in an address, a bearer token."""
HIDDEN = "***"


def redact(text: str) -> str:
    """The text with `~` for the home folder and `***` for secrets."""
    for secret in _secrets():
        text = text.replace(secret, HIDDEN)
    return without_home(KNOWN_FORMS.sub(HIDDEN, text))


def without_home(text: str) -> str:
    """The text with `~` for the user's home folder, where a path begins with it."""
    home = os.environ.get("HOME", "").rstrip("/")
    return re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text) if len(home) > 1 else text


def redacted(values: Any) -> Any:
    """Nested plain values with every text redacted."""
    if isinstance(values, dict):
        return {key: redacted(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [redacted(value) for value in values]
    return redact(values) if isinstance(values, str) else values


def _secrets() -> Iterator[str]:
    """Values of secrets in the environment and in fsspec's configuration, the longest first."""
    found = {value for name, value in os.environ.items() if SECRET_NAME.search(name)}
    fsspec = sys.modules.get("fsspec.config")  # Where nobody has loaded it, nobody has used what it holds.
    found |= set(_settings(fsspec.conf)) if fsspec else set()
    yield from sorted((value for value in found if len(value) >= SHORTEST), key=len, reverse=True)


def _settings(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _settings(value)
        elif isinstance(value, str) and SECRET_SETTING.fullmatch(str(name)):
            yield value
