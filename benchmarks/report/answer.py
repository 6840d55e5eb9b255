"""The short answer of each setting: which algorithm to use, and how sure that is.

Nothing is measured here: the words only say what the leaderboard's and the matrix's numbers say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from benchmarks.analysis.claim_tests import EQUAL_COST
from benchmarks.analysis.comparison import SMALLEST
from benchmarks.analysis.experiments import Experiment
from benchmarks.report.gather import Setting
from benchmarks.report.judging import Difference
from benchmarks.wording import one_line, percent, scientific

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
        equal = [one_line(other.label) for other, win in open_ if win is not None and win.standing == "equivalent"]
        if equal:
            lines.append(f"Surely within {100 * SMALLEST:g} points: {_list(equal)}.")
        if setting.detectable is not None and len(equal) < len(open_):
            seen = f"one of {100 * setting.detectable:.1f} points" if setting.detectable < 1 else "no difference at all"
            lines.append(f"That is no proof of equality: what this design finds in 80 % of cases is {seen}.")
    if others:
        lines.append(
            "Two are told apart where their difference's interval, which holds at once for all pairs, excludes 0."
        )
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
    text = (
        f"{one_line(best.label)} solves {percent(row['accuracy_final'])} "
        f"[{100 * row['accuracy_ci_low']:.1f}, {100 * row['accuracy_ci_high']:.1f}] of the test problems"
    )
    if row["gain"] is None:
        return f"{text}: it is the untouched policy."
    gain, low, high = (100 * row[key] for key in ("gain", "gain_ci_low", "gain_ci_high"))
    text += f", {gain:+.1f} [{low:+.1f}, {high:+.1f}] points over the untouched policy"
    return f"{text}." if low > 0 else f"{text}: that may be no gain at all."


def _named(found: Sequence[tuple[Experiment, Difference | None]]) -> str:
    words = []
    for other, win in found:
        label = one_line(other.label)
        numbers = "" if win is None else f" (by {100 * win.effect:+.1f} [{100 * win.low:+.1f}, {100 * win.high:+.1f}])"
        words.append(f"{label}{numbers}")
    return _list(words, "; ")


def _list(words: list[str], between: str = ", ") -> str:
    if len(words) <= MOST_NAMED + 1:  # "and 1 more" is as long as a name.
        return between.join(words)
    return between.join(words[:MOST_NAMED]) + f"{between}and {len(words) - MOST_NAMED} more"


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
