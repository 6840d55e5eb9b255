"""Writes records as the runner leaves them: one from a table of what was solved, or thousands like those of a study."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.records.record import RECORD_VERSION, SEAL, Record, Status

DAMAGE: dict[str, tuple[dict[str, Any], str]] = {
    "no summary": ({"without": ["summary.json"]}, "summary.json: missing"),
    "no outcomes": ({"without": ["outcomes.parquet"]}, "outcomes.parquet: missing"),
    "no status": ({"without": ["status"]}, "status: missing"),
    "another version": ({"record_version": 1}, "record_version 2"),
    "keys missing": ({"lacking": ["flops", "phases"]}, "lacks flops, phases"),
    "a text for a number": ({"flops": "many"}, "impossible value of flops"),
    "an impossible accuracy": ({"accuracy_final": 1.5}, "impossible value of accuracy_final"),
    "a negative cost": ({"wall_s": -1.0}, "impossible value of wall_s"),
    "an integer beyond all floats": ({"rollouts": 10**400}, "impossible value of rollouts"),
    "a truth value for a number": ({"rollouts": True}, "impossible value of rollouts"),
    "a correlation that is no number": ({"reward_correlations": {"sum_solved": "1"}}, "impossible value of sum_solved"),
    "metrics that are no numbers": ({"metrics_final": {"solved": None}}, "impossible value of solved"),
    "a name that steers the terminal": ({"algo": "grpo\x1b[2J"}, "impossible value of algo"),
    "an accuracy other than the samples'": ({"accuracy_final": 0.7}, "accuracy_final"),
    "another number of problems": ({"n_test": 3}, "n_test"),
    "another number of samples": ({"test_samples": 1}, "test_samples"),
    "no config": ({"status": "running", "without": ["config.json"]}, "config.json: missing"),
    "no manifest": ({"status": "failed", "without": ["manifest.json"]}, "manifest.json: missing"),
}
"""How `write_record` makes a record that must not enter a table, and what the reason then says."""
UNREADABLE = {
    "summary.json": [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"null", b'{"seed": ' + b"1" * 5000 + b"}"],
    "outcomes.parquet": [b"", b"PAR1", b"PAR1" * 50, b"not parquet at all"],
    "status": [b"", b"\xff", b"done\n"],
    "config.json": [
        b"",
        b"[1",
        b"[1]",
        b'{"algo": "grpo"}',
        b"\x00",
        b'{"algo": {"name": 3}}',
        b'{"a":' * 900 + b"1" + b"}" * 900,
    ],
}
"""Contents that no reader can make sense of."""
HOSTILE = {
    "clear the screen": "\x1b[2J\x1b[H",
    "set the window's title": "\x1b]0;owned\x07",
    "one-byte control sequence": "\x9b31m",
    "return to the line's start": "lost\rwon",
    "backspaces": "lost\b\b\b\bwon",
    "text that runs backwards": "\u202egpj.exe",
    "nothing to see": "a\u200bb\x00",
    "a line separator": "a\u2028turn 9: solved",
    "a lone surrogate": "\ud800 and \udfff",
    "a tab": "a\tb",
}
"""Actions that would steer a terminal or deceive its reader."""
MARKUP = {
    "the script's end": "</script><script>window.owned = 1</script>",
    "an image that fails": "<img src=x onerror='window.owned = 1'>",
    "an image on the net": "<img src=https://example.org/x.png>",
    "a comment that swallows a script": "<!--<script>",
    "a quote that ends an attribute": '" onmouseover="window.owned = 1" x=\'',
    "a template's braces": "{{ 7 * 7 }}{% raise %}",
    "a link that runs": "<a href='javascript:window.owned = 1'>click</a>",
    "an entity": "&lt;script&gt;window.owned = 1&lt;/script&gt;",
    "a key of every object": "__proto__",
}
"""Text that would run, load or hide something if a page took it for markup."""


def write_record(
    directory: Path,
    *,
    algo: str = "grpo",
    task: str = "wordle",
    policy: str = "tiny",
    budget: str = "quick",
    seed: int = 0,
    experiment: str = "e0e0e0e0e0",
    status: Status = "complete",
    base: Sequence[Sequence[bool]] = ((False, False), (False, True)),
    final: Sequence[Sequence[bool]] = ((True, False), (True, True)),
    tstar: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None = None,
    actions: Sequence[str] = ("<think></think><guess>crane</guess>",),
    problem: str = "",
    started: str = "2026-11-23T10:00:00+00:00",
    without: Sequence[str] = (),
    lacking: Sequence[str] = (),
    **changes: Any,
) -> Record:
    """One record.

    Args:
        directory: of all records.
        base, final: outcomes [problems, samples] of the test evaluations.
        tstar: the same at T*, before and after; None writes no such outcomes.
        problem: name of every problem, before its number; the task's own names if empty.
        actions: the turns of every sample; only the last can solve the problem.
        without: files to leave out.
        lacking: keys to leave out of summary.json.
        changes: other values in summary.json.
    """
    record = Record(directory / f"{algo}-{task}-{policy}-s{seed}-{experiment}")
    record.folder.mkdir(parents=True)
    groups = {"algo": algo, "task": task, "policy": policy, "budget": budget}
    config = {**{group: {"name": name} for group, name in groups.items()}, "seed": seed}
    record.write_json("config.json", config)
    record.write_json("manifest.json", {"command": "run", "experiment": experiment, "started": started})
    record.write_rows("ledger.parquet", [{"update": 1.0, "rollout/wall_s": 1.0}])
    record.write_rows("curve.parquet", [{"solved": 0.5}])
    if status == "complete":
        rows = [*sample_rows("base", base, actions), *sample_rows("final", final, actions)]
        if problem:
            rows = [{**row, "problem": row["problem"].replace("wordle/word", problem)} for row in rows]
        record.write_rows("samples.parquet", rows)
        record.write_rows("outcomes.parquet", outcome_rows(rows))
        about = {**groups, "seed": seed, "experiment": experiment}
        if tstar is not None:
            stages = dict(zip(("base", "final"), tstar, strict=True))
            best = [row for stage, solved in stages.items() for row in tstar_rows(stage, solved)]
            record.write_rows("outcomes.parquet", [*outcome_rows(rows), *best])
            about |= {f"accuracy_tstar_{stage}": float(solved.mean()) for stage, solved in stages.items()}
        summary = {**about, **measured(np.array(base, dtype=float), np.array(final, dtype=float)), **changes}
        record.write_json("summary.json", {key: value for key, value in summary.items() if key not in lacking})
    record.write_status(status)
    for file in without:
        (record.folder / file).unlink()
    return record


def rewrite(record: Record, file: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Another table in a record, sealed anew."""
    record.write_rows(file, rows)
    status = record.status
    assert status
    record.write_status(status)


def set_aside(directory: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows of a folder's table, and why its other records enter none.

    Read beside a sound record, since a folder of which nothing can be used is a failure.
    """
    from benchmarks.analysis.table import read_table

    sound = write_record(directory, algo="sound", experiment="5050505050")
    table = read_table(directory)
    shutil.rmtree(sound.folder)
    return [row for row in table.rows if row["algo"] != "sound"], dict(table.set_aside)


def measured(base: np.ndarray[Any, Any], final: np.ndarray[Any, Any]) -> dict[str, Any]:
    """What summary.json says beside the run's names."""
    return {
        "record_version": RECORD_VERSION,
        "task_version": "1",
        "stopped_by": "updates",
        "updates": 10,
        "n_test": final.shape[0],
        "test_samples": final.shape[1],
        "accuracy_base": base.mean(),
        "accuracy_final": final.mean(),
        "metrics_base": {"solved": base.mean(), "guesses": 6.5},
        "metrics_final": {"solved": final.mean(), "guesses": 4.5},
        "rollouts": 640,
        "tokens_generated": 70_000,
        "tokens_prompt": 20_000,
        "tokens_trained": 64_000,
        "flops": 3.21e12,
        "wall_s": 90.0,
        "evaluate_wall_s": 30.0,
        "phases": {"rollout": 40.0, "update": 50.0, "evaluate": 30.0},
        "reward_correlations": {},
        "rollouts_per_s": 16.0,
        "tokens_per_s": 1750.0,
        "peak_memory_bytes": 600 * 2**20,
        "energy_j": None,
    }


def tstar_rows(stage: str, solved: np.ndarray[Any, Any]) -> list[Mapping[str, Any]]:
    """Rows of outcomes.parquet for outcomes [problems, samples] at T*."""
    about = {"stage": stage, "mode": "tstar"}
    return [
        {**about, "problem": f"wordle/word{problem}", "sample": sample, "solved": bool(each)}
        for problem, samples in enumerate(solved)
        for sample, each in enumerate(samples)
    ]


def sample_rows(stage: str, outcomes: Sequence[Sequence[bool]], actions: Sequence[str]) -> list[Mapping[str, Any]]:
    """Rows of samples.parquet for outcomes [problems, samples]."""
    rows = []
    for problem, samples in enumerate(outcomes):
        for sample, solved in enumerate(samples):
            turns, messages = [], [{"role": "user", "content": "6 guesses left."}]
            for number, action in enumerate(actions, 1):
                won = bool(solved) and number == len(actions)
                turns.append(
                    {
                        "action": action,
                        "rewards": {"format": -1.0, "solved": float(won)},
                        "feedback": "solved" if won else "letter 'c' is not in the word",
                        "spans": {"solved": [22, 27]},
                        "solved": won,
                        "tokens": 12,
                    }
                )
                messages.append({"role": "assistant", "content": action})
                if number < len(actions):
                    messages.append({"role": "user", "content": f"{6 - number} guesses left."})
            rows.append(
                {
                    "stage": stage,
                    "problem": f"wordle/word{problem}",
                    "sample": sample,
                    "solved": bool(solved),
                    "score": float(solved) - 0.05,
                    "turns": json.dumps(turns),
                    "messages": json.dumps(messages),
                    "metric/solved": float(solved),
                }
            )
    return rows


def outcome_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of outcomes.parquet for rows of samples.parquet."""
    about = {"mode": "sampled", "temperature": 1.0}
    return [{**{k: v for k, v in row.items() if k not in ("turns", "messages")}, **about} for row in rows]


ALGORITHMS = {"base": 0.0, "grpo": 0.25, "gdpo": 0.27, "dr_grpo": 0.24, "rft": 0.18, "vector_grpo": 0.33, "gepa": 0.2}
"""Share of the unsolved problems that each imagined algorithm learns to solve."""
TASKS = {"wordle": 0.2, "wordle_turn": 0.25, "gsm_synth": 0.4}
COMPONENTS = ("format", "valid", "consistent", "progress", "solved")


def write_study(directory: Path, runs: int, *, problems: int = 100, samples: int = 2, seeds: int = 5) -> None:
    """Many complete records at once: every algorithm on every task at three budgets and several learning rates.

    They are sealed and sound, and as large as real ones, but share their samples: 12 outcomes for each algorithm and
    task. (Ten thousand different parquet files take minutes to write.)
    """
    directory.mkdir(parents=True, exist_ok=True)
    pools = {
        pair: [
            _study_files(*pair, np.random.default_rng([number, len("".join(pair))]), problems, samples)
            for number in range(12)
        ]
        for pair in itertools.product(ALGORITHMS, TASKS)
    }
    budgets = ("quick", "standard", "long")
    variants = range(1 + runs // (len(budgets) * len(TASKS) * len(ALGORITHMS) * seeds))
    grid = itertools.product(variants, budgets, TASKS, ALGORITHMS, range(seeds))
    rng = random.Random(0)
    for variant, budget, task, algo, seed in itertools.islice(grid, runs):
        files, numbers = rng.choice(pools[algo, task])
        experiment = hashlib.sha256(f"{variant} {budget} {task} {algo}".encode()).hexdigest()[:10]
        config = {
            "algo": {"name": algo, "learning_rate": 1e-5 * (variant + 1)},
            **{group: {"name": name} for group, name in (("task", task), ("policy", "tiny"), ("budget", budget))},
            "seed": seed,
        }
        about = {**{group: config[group]["name"] for group in ("algo", "task", "policy", "budget")}, "seed": seed}  # type: ignore[index]
        texts = {
            "config.json": json.dumps(config),
            "manifest.json": json.dumps({**MANIFEST, "experiment": experiment}),
            "summary.json": json.dumps({**about, "experiment": experiment, **numbers}),
        }
        files = files | {name: text.encode() for name, text in texts.items()}
        sealed = {
            "record_version": RECORD_VERSION,
            "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        }
        folder = (
            directory / f"{algo}-{task}-tiny-s{seed}-{hashlib.sha256(texts['config.json'].encode()).hexdigest()[:10]}"
        )
        folder.mkdir()
        for name, content in {**files, SEAL: json.dumps(sealed).encode(), "status": b"complete\n"}.items():
            (folder / name).write_bytes(content)


MANIFEST = {
    "record_version": RECORD_VERSION,
    "command": "python -m benchmarks run +algo=grpo",
    "started": "2026-11-23T10:00:00+00:00",
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
    "git_dirty": False,
    "python": "3.11.7",
    "packages": {"grpo-bench": "0.1.0", "torch": "2.13.0", "trl": "1.16.0"},
    "device": "a made-up processor",
    "threads": 2,
    "dtype": "float32",
}


def _study_files(
    algo: str, task: str, rng: np.random.Generator, problems: int, samples: int
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The parquet files of one imagined run, and its summary."""
    hard = rng.beta(1, 3, size=(problems, 1))
    start = hard * TASKS[task] * 2
    learnt = start + (1 - start) * ALGORITHMS[algo]
    base, final = rng.random((problems, samples)) < start, rng.random((problems, samples)) < learnt
    folder = Path(tempfile.mkdtemp())
    record = Record(folder)
    action = "<think>" + "c+ r- a? n- e- " * 3 + "</think><guess>crane</guess>"
    rows = [*sample_rows("base", base.tolist(), [action]), *sample_rows("final", final.tolist(), [action])]
    record.write_rows("samples.parquet", rows)
    record.write_rows("outcomes.parquet", outcome_rows(rows))
    curve = []
    for share in np.linspace(0, 1, 5):
        level = base.mean() + share * (final.mean() - base.mean())
        point = {"spent/flops": 2e12 * share, "spent/rollouts": 3300 * share, "spent/tokens": 9.4e4 * share}
        point |= {"spent/updates": 52 * share, "spent/seconds": 48 * share, "solved": level, "score": level - 0.05}
        point |= {f"reward/{name}": (level - 1) / (place + 1) for place, name in enumerate(COMPONENTS)}
        curve.append({name: float(value) for name, value in point.items()})
    record.write_rows("curve.parquet", curve)
    record.write_rows("ledger.parquet", [{"update": float(n), "rollout/wall_s": 0.4} for n in range(1, 53)])
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    numbers = measured(base.astype(float), final.astype(float))
    return files, {**numbers, "flops": 2e12 * rng.uniform(0.9, 1.1), "wall_s": 48 * rng.uniform(0.8, 1.3)}
