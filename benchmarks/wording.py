"""How numbers and untrusted text are written for a person."""

from __future__ import annotations

from collections.abc import Callable


def percent(share: float) -> str:
    """0.314 as `31.4 %`."""
    return f"{100 * share:.1f} %"


def scientific(amount: float) -> str:
    """3.21e+12 as `3.2e12`."""
    mantissa, exponent = f"{amount:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would use."""
    size, unit = (1, "s") if seconds < 120 else (60, "min") if seconds < 7200 else (3600, "h")
    return f"{seconds / size:.1f} {unit}"


def memory(amount: float) -> str:
    """Bytes as MiB or GiB."""
    return f"{amount / 2**20:.0f} MiB" if amount < 2**30 else f"{amount / 2**30:.1f} GiB"


COSTS: dict[str, Callable[[float], str]] = {
    **dict.fromkeys(("rollouts", "tokens_generated", "tokens_trained"), "{:,.0f}".format),
    "flops": scientific,
    "wall_s": duration,
    "rollouts_per_s": "{:,.1f}".format,
    "tokens_per_s": "{:,.0f}".format,
    "peak_memory_bytes": memory,
    "energy_j": "{:,.0f} J".format,
}
"""What a run costs, as summary.json names it, and how a person reads it."""


def visible(text: str) -> str:
    """Text in which every character but the line break prints; the others are Python escapes, such as \\x1b."""
    if text.replace("\n", "").isprintable():
        return text  # Nearly all are: a page holds tens of thousands of them.
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    """Visible text whose line breaks are escapes too."""
    return visible(text).replace("\n", "\\n")
