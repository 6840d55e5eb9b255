"""Sentences about algorithms, written as tests on records: conf/claims/*.yaml, and how they stand.

The kinds of tests are in `benchmarks.analysis.claim_tests`, the rule that judges them in
`benchmarks.analysis.verdicts`. A claim is supported where all its deciding tests are, refuted where one of them is,
and undecided otherwise.
"""

from __future__ import annotations

import json
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
from benchmarks.analysis.experiments import Experiment
from benchmarks.analysis.verdicts import Finding, Ground, Need, Test, Verdict
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
    """Each a mapping with `kind`, one of those in `benchmarks.analysis.verdicts`."""

    def __post_init__(self) -> None:
        require(self.seeds >= 2, f"seeds={self.seeds} must be at least 2: one seed says nothing about training again")
        require(bool(self.tests), "tests: a claim needs at least one")


@dataclass(frozen=True, slots=True)
class Answer:
    """How a claim stands."""

    claim: str
    sentence: str
    source: str
    verdict: Verdict
    scope: str
    """What the records are about."""
    findings: list[Finding]


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


def _test(raw: Any) -> Test:
    kind = raw.get("kind") if isinstance(raw, dict) else None
    if kind not in KINDS:
        raise BadInput(f"kind={kind}: use one of {', '.join(KINDS)}")
    test: Test = _checked(KINDS[kind], raw)
    return test


def _checked(schema: type[Any], raw: Any) -> Any:
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), raw))


def answer(claim: Claim, experiments: Sequence[Experiment], policy: str, budget: str) -> Answer:
    """Judge a claim by the complete runs of one policy and budget."""

    def look(tests: int) -> list[Finding]:
        ground = Ground(experiments, policy, budget, claim.seeds, tests)
        return [finding for test in claim.tests for finding in test.findings(ground)]

    # How many tests there are is known only after looking: a claim about components has one for each.
    findings = look(sum(finding.decides for finding in look(1)) or 1)
    verdicts = [finding.verdict for finding in findings if finding.decides]
    verdict: Verdict = "undecided"
    if "refuted" in verdicts:
        verdict = "refuted"
    elif verdicts and set(verdicts) == {"supported"}:
        verdict = "supported"
    scope = ABOUT_TINY if policy == "tiny" else f"on policy {policy}"
    return Answer(claim.name, claim.sentence, claim.source, verdict, f"{scope}; budget {budget}", findings)


def render(answers: Sequence[Answer], fmt: str, console: Console) -> None:
    """Print answers as text, or as one JSON object a claim."""
    if fmt == "json":
        for found in answers:
            print(json.dumps(as_json(asdict(found)), allow_nan=False))
        return
    for found in answers:
        lines = [f"{found.verdict.upper():10} {found.claim}: {found.sentence}", f"  {found.scope}"]
        for finding in found.findings:
            aside = "" if finding.decides else " (told beside, decides nothing)"
            lines.append(f"  {finding.verdict:10} {finding.task}: {finding.test}{aside}")
            lines.append(f"             {measured(finding)}")
            if finding.note:
                lines.append(f"             {finding.note}")
        lines.append(f"  source: {found.source}")
        for line in lines:
            console.print(Text(one_line(line)), soft_wrap=True)
        console.print("")


def measured(finding: Finding) -> str:
    """Effect, interval and threshold of a finding, in a line."""
    if finding.effect is None:
        return f"{finding.unit}: not measured, claimed {finding.claimed}; {len(finding.runs)} runs"
    numbers = f"{finding.effect:+.3g} [{finding.low:+.3g}, {finding.high:+.3g}], claimed {finding.claimed}"
    power = f", detectable at 80% power {finding.detectable:.3g}" if finding.detectable is not None else ""
    return f"{finding.unit}: {numbers}{power}; {len(finding.runs)} runs"


def print_missing(answers: Sequence[Answer], policy: str, budget: str, runs: str) -> None:
    """Print the sweeps that would decide what is undecided; runs that are complete already are not run again."""
    needs = [
        need
        for found in answers
        if found.verdict == "undecided"
        for finding in found.findings
        for need in finding.needs
    ]
    if not needs:
        print("# nothing is missing")
    for command in commands(needs, policy, budget, runs):
        print(command)


def commands(needs: Sequence[Need], policy: str, budget: str, runs: str) -> list[str]:
    """Sweeps that make the needed runs, in few lines: one per set of tasks, seeds and special settings."""
    seeds: dict[tuple[tuple[str, ...], str, str], int] = defaultdict(int)
    for need in needs:
        key = (need.words, need.budget or budget, need.task)
        seeds[key] = max(seeds[key], need.seeds)
    tasks: dict[tuple[tuple[str, ...], str, int], list[str]] = defaultdict(list)
    for (words, wanted, task), count in seeds.items():
        tasks[words, wanted, count].append(task)
    algos: dict[tuple[tuple[str, ...], str, int, tuple[str, ...]], list[str]] = defaultdict(list)
    for (words, wanted, count), found_tasks in tasks.items():
        algo, rest = words[0].removeprefix("+algo="), words[1:]
        algos[rest, wanted, count, tuple(sorted(found_tasks))].append(algo)
    lines = []
    for (rest, wanted, count, names), found in algos.items():
        line = ["python -m benchmarks run -m", f"+algo={','.join(sorted(found))}", *rest, f"task={','.join(names)}"]
        line += [f"policy={policy}", f"budget={wanted}", f"seed={','.join(map(str, range(count)))}"]
        line += [] if is_default(runs) else [f"results.dir={runs}"]
        lines.append(" ".join(line))
    return lines
