"""Sentences about algorithms, written as tests on records: conf/claims/*.yaml, and how they stand.

The kinds of tests are in `benchmarks.analysis.claim_tests`, the rule that judges them in
`benchmarks.analysis.conclusions`. A claim is refuted where one of its deciding tests is, supported where all of them
are, undecided where one of them is, and equivalent where the rest are too small to matter.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.text import Text

from benchmarks.analysis.claim_tests import KINDS
from benchmarks.analysis.comparison import as_json
from benchmarks.analysis.conclusions import FINE, ClaimTest, Conclusion, Judgement
from benchmarks.analysis.experiments import Experiment
from benchmarks.analysis.ground import Ground, MissingRuns
from benchmarks.config.presets import CONF
from benchmarks.records.store import is_default
from benchmarks.wording import one_line
from tasks.errors import BadInput, require

FORMATS = ("text", "json")
ABOUT_TINY = "on policy tiny: about mechanisms, no evidence about language models"


@dataclass(kw_only=True)
class Claim:
    """conf/claims/NAME.yaml."""

    name: str
    sentence: str
    source: str
    """Who says so."""
    seeds: int = 3
    """The fewest with which a test decides."""
    tests: list[Any] = field(default_factory=list)
    """Each a mapping with `kind`, one of those in `benchmarks.analysis.claim_tests`."""

    def __post_init__(self) -> None:
        require(self.seeds >= 2, f"seeds={self.seeds} must be at least 2: one seed says nothing about training again")
        require(bool(self.tests), "tests: a claim needs at least one")


@dataclass(frozen=True, slots=True)
class Answer:
    """How a claim stands."""

    claim: str
    sentence: str
    source: str
    conclusion: Conclusion
    scope: str
    """What the records are about."""
    judgements: list[Judgement]


def load_claims(directory: Path = CONF / "claims") -> list[Claim]:
    """All claims, by file name.

    Raises:
        BadInput: a file with an unknown key, a wrong type or a value out of range; file and key are named.
    """
    return [_load(path) for path in sorted(directory.glob("*.yaml"))]


def _load(path: Path) -> Claim:
    try:
        raw = OmegaConf.to_container(OmegaConf.load(path))
        claim: Claim = _checked(Claim, raw)
        require(claim.name == path.stem, f"name={claim.name} must be the file's")
        claim.tests = [_test(test) for test in claim.tests]
    # A damaged file makes YAML and OmegaConf raise nearly anything; all of it means the same.
    except Exception as error:
        raise BadInput(one_line(f"{path.name}: {str(error).splitlines()[0]}")) from None
    return claim


def _test(raw: Any) -> ClaimTest:
    kind = raw.get("kind") if isinstance(raw, dict) else None
    if kind not in KINDS:
        raise BadInput(f"kind={kind}: use one of {', '.join(KINDS)}")
    test: ClaimTest = _checked(KINDS[kind], raw)
    return test


def _checked(schema: type[Any], raw: Any) -> Any:
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), raw))


def answer(claim: Claim, experiments: Sequence[Experiment], policy: str, budget: str) -> Answer:
    """Judge a claim by the complete runs of one policy and budget."""
    deciding = sum(len(test.tasks) for test in claim.tests if test.decides)
    ground = Ground(experiments, policy, budget, claim.seeds, deciding or 1)
    judgements = [test.judge(ground, task) for test in claim.tests for task in test.tasks]
    found = {judgement.conclusion for judgement in judgements if judgement.decides}
    order: tuple[Conclusion, ...] = ("refuted", "undecided", "equivalent", "supported")
    conclusion: Conclusion = next((each for each in order if each in found), "undecided")
    scope = f"{ABOUT_TINY if policy == 'tiny' else f'on policy {policy}'}; budget {budget}"
    return Answer(claim.name, claim.sentence, claim.source, conclusion, scope, judgements)


def render(answers: Sequence[Answer], fmt: str, console: Console) -> None:
    """Print answers as text, or as one JSON object a claim."""
    if fmt == "json":
        for found in answers:
            print(json.dumps(as_json(asdict(found)), allow_nan=False))
        return
    for found in answers:
        lines = [f"{found.conclusion.upper():10} {found.claim}: {found.sentence}", f"  {found.scope}"]
        for judgement in found.judgements:
            lines.append(f"  {judgement.conclusion:10} {judgement.task}: {judgement.test}{aside(judgement)}")
            lines += [
                f"             {line}"
                for line in (measured(judgement), judgement.note, to_decide(judgement.missing))
                if line
            ]
        lines.append(f"  source: {found.source}")
        for line in lines:
            console.print(Text(one_line(line)), soft_wrap=True)
        console.print("")


def aside(judgement: Judgement) -> str:
    """What stands behind a test that is no part of the claim's conclusion."""
    return "" if judgement.decides else " (reported beside, decides nothing)"


def measured(judgement: Judgement) -> str:
    """Effect, interval and threshold of a test, in a line."""
    if judgement.effect is None:
        return f"{judgement.unit}: not measured, claimed {judgement.claimed}; {len(judgement.runs)} runs"
    interval = f"[{judgement.low:+.3g}, {judgement.high:+.3g}]"
    numbers = f"{judgement.effect:+.3g} {interval}, claimed {judgement.claimed}"
    power = (
        f", this design finds {judgement.detectable:.3g} in 80%"
        if (judgement.detectable or math.inf) < math.inf
        else ""
    )
    return f"{judgement.unit}: {numbers}{power}; {len(judgement.runs)} runs of {judgement.seeds} seeds"


def to_decide(missing: Sequence[MissingRuns]) -> str:
    """What missing runs would take; empty where none are missing."""
    known = [runs.hours for runs in missing if runs.hours is not None]
    cost = f"about {sum(known):.2g} CPU hours, as the records have it" if known else ""
    unknown = len(missing) - len(known)
    more = f"{unknown} of {len(missing)} sets of runs cost what no record tells" if unknown else ""
    return (
        f"to decide: claims --missing prints the runs; {', and '.join(filter(None, (cost, more)))}" if missing else ""
    )


def print_missing(answers: Sequence[Answer], policy: str, runs: str) -> None:
    """Print the sweeps that would decide what is undecided; runs that are complete already are not run again."""
    missing = [
        each
        for found in answers
        if found.conclusion == "undecided"
        for judgement in found.judgements
        if judgement.decides
        for each in judgement.missing
    ]
    print(f"# {to_decide(missing) or 'no runs are known that would decide more'}")
    for command in commands(missing, policy, runs):
        print(command)


def commands(missing: Sequence[MissingRuns], policy: str, runs: str) -> list[str]:
    """Sweeps that make the missing runs, in few lines: those that differ in one word are one sweep over its values."""
    seeds: dict[tuple[str, ...], int] = {}
    fine = {(each.words, each.task, each.budget) for each in missing if each.fine}
    for each in missing:
        algo, *rest = each.words
        # A finer curve serves the tests that look at none as well.
        rest += [f"budget.checkpoints={FINE}"] if (each.words, each.task, each.budget) in fine else []
        words = (algo, f"task={each.task}", *rest, f"policy={policy}", f"budget={each.budget}")
        seeds[words] = max(each.seeds, seeds.get(words, 0))
    lines = [(*words, f"seed={','.join(map(str, range(count)))}") for words, count in seeds.items()]
    for place in range(max(map(len, lines), default=1) - 1):
        alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for line in lines:
            if place < len(line) - 1:  # The seeds stand last and are not joined.
                name, value = line[place].split("=", 1)
                alike[(*line[:place], f"{name}=", *line[place + 1 :])].append(value)
        short = [line for line in lines if place >= len(line) - 1]
        lines = short + [(*ln[:place], ln[place] + ",".join(vs), *ln[place + 1 :]) for ln, vs in alike.items()]
    where = () if is_default(runs) else (f"results.dir={runs}",)
    return [" ".join(("python -m benchmarks run -m", *line, *where)) for line in lines]
