"""The short answer of each setting: which algorithm to use, and how sure that is.

Nothing is measured here: the words only say what the leaderboard's and the matrix's numbers say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from benchmarks.analysis.claim_tests import EQUAL_COST
from benchmarks.analysis.experiments import Experiment
from benchmarks.report.gather import Setting
from benchmarks.report.judging import Difference
from benchmarks.wording import COSTS, one_line, percent, scientific

MOST_NAMED = 6
"""Algorithms that one line names."""


@dataclass(frozen=True, slots=True)
class ShortAnswer:
    """What one setting says."""

    names: tuple[str, ...]
    """Task, policy and budget."""
    flops: float | None
    """What a run of the dearest algorithm spent; None where it was not measured."""
    sure: Literal["clear", "open", "alone"]
    """Whether the best was told from every other algorithm; `alone`: there was no other."""
    headline: str
    lines: list[str]


def short_answer(setting: Setting) -> ShortAnswer:
    """The answer of a setting with at least one complete run."""
    best, *others = setting.plotted
    found = list(zip(others, setting.wins[0][1:], strict=True))
    told = [(other, win) for other, win in found if win is not None and win.decided]
    open_ = [(other, win) for other, win in found if win is None or not win.decided]
    name = one_line(best.label)
    lines = [_measured(best)]
    if told:
        lines.append(f"Better than {_named(told)}.")
    if open_:
        lines.append(f"Ahead of these, but it cannot be told apart from them: {_named(open_)}.")
        unseen = [win.detectable for _, win in open_ if win is not None]
        if unseen and min(max(unseen), 1.0) == 1.0:
            lines.append("With these seeds and problems no difference is large enough to be found reliably.")
        elif unseen:
            lines.append(
                f"That is no proof of equality: differences below {100 * max(unseen):.1f} points would be missed in a "
                "fifth of all repetitions, or more."
            )
        lines += _cheapest([best, *(other for other, _ in open_)])
    if others:
        lines.append(f"Two are told apart where p < 0.05, corrected by Holm for {setting.family} comparisons.")
    lines += _cautions(setting)
    if not others:
        headline, sure = f"Only {name} was run", "alone"
    elif not open_:
        headline, sure = f"{name}: better than each of the {len(others)} others", "clear"
    else:
        rivals = _list([one_line(other.label) for other, _ in open_])
        headline, sure = f"No clear winner: {name} is ahead, but cannot be told apart from {rivals}", "open"
    spent = [fmean(each) for experiment in setting.plotted if (each := experiment.totals("flops"))]
    flops = max(spent, default=None)
    # An algorithm that does nothing spends nothing; it is there to be compared with.
    if lowest := min(filter(None, spent), default=0.0):
        alike = max(spent) / lowest <= EQUAL_COST
        lines += (
            [] if alike else [f"Not at equal cost: from {scientific(lowest)} to {scientific(max(spent))} FLOPs a run."]
        )
    return ShortAnswer(setting.names, flops, sure, headline, lines)  # type: ignore[arg-type]


def _measured(best: Experiment) -> str:
    row = best.row
    gain, low, high = (100 * row[key] for key in ("gain", "gain_ci_low", "gain_ci_high"))
    text = (
        f"{one_line(best.label)} solves {percent(row['accuracy_final'])} "
        f"[{100 * row['accuracy_ci_low']:.1f}, {100 * row['accuracy_ci_high']:.1f}] of the test problems, "
        f"{gain:+.1f} [{low:+.1f}, {high:+.1f}] points over the untouched policy"
    )
    return f"{text}." if low > 0 else f"{text}: that may be no gain at all."


def _named(found: Sequence[tuple[Experiment, Difference | None]]) -> str:
    words = []
    for other, win in found:
        label = one_line(other.label)
        if win is None:
            words.append(f"{label} (no seed in common)")
        else:
            numbers = f"{100 * win.effect:+.1f} [{100 * win.low:+.1f}, {100 * win.high:+.1f}]"
            words.append(f"{label} (by {numbers}, {p_words(win.p_holm)})")
    return _list(words, "; ")


def p_words(p_value: float) -> str:
    """A p-value as people read it."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def _list(words: list[str], between: str = ", ") -> str:
    if len(words) <= MOST_NAMED + 1:  # "and 1 more" is as long as a name.
        return between.join(words)
    return between.join(words[:MOST_NAMED]) + f"{between}and {len(words) - MOST_NAMED} more"


def _cheapest(experiments: list[Experiment]) -> list[str]:
    # An algorithm that does nothing takes no time, and is no advice.
    spent: dict[str, Any] = {
        one_line(e.label): e.row["wall_s"] for e in experiments if e.row["wall_s"] and e.row["flops"]
    }
    if len(spent) < 2:
        return []
    first = min(spent, key=lambda label: (spent[label], label))
    return [f"Of those that cannot be told apart, {first} took the least time ({COSTS['wall_s'](spent[first])} a run)."]


def _cautions(setting: Setting) -> list[str]:
    lines = []
    fewest = min(len(experiment.complete) for experiment in setting.plotted)
    if fewest == 1:
        lines.append("One seed: this says nothing about training again.")
    elif fewest < 5:
        lines.append(f"{fewest} seeds: enough for honest intervals, too few for narrow ones.")
    tried = [experiment.row["algo"] for experiment in setting.experiments if experiment.standing not in ("", "apart")]
    counts = {algo: tried.count(algo) for algo in tried}
    if len(set(counts.values())) > 1:
        lines.append("Some algorithms ran with several settings; those nearest to their presets are compared.")
    if setting.names[1] == "tiny":
        lines.append("Policy tiny: this is about mechanisms, and no evidence about language models.")
    return lines
