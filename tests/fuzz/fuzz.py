"""Over a million inputs for everything that reads a stranger's bytes, and a table of the outcomes.

Each target of targets.py runs in a process of its own under atheris, which mutates inputs and keeps those that reach
new code; seed and numbers of inputs are fixed, the time is bounded. A crash, an assertion, a signal (Arrow's and the
tokenizers' code is native) and an input of more than TIMEOUT_S seconds all count as crashes, and the input is kept.

    python tests/fuzz/fuzz.py [--share 0.01] [TARGET ...]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
PATHS = [HERE.parents[1], HERE.parent / "benchmarks"]
sys.path[:0] = map(str, PATHS)
TIMEOUT_S = 20
"""An input that takes longer hangs. The tenth of a second for ten megabytes is held by tests of its own."""
MOST_S = 1200
"""Seconds for one target at most."""


def drive(name: str, inputs: int, folder: Path) -> None:
    """In a process of its own: fuzz one target, and note the slowest input on the way."""
    import atheris

    with atheris.instrument_imports(
        include=["tasks", "benchmarks", "algorithms.endpoint_reflector", "algorithms.policy_reflector"]
    ):
        from targets import TARGETS

    target = TARGETS[name]
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(seed)
    escaped = ["".join(f"\\x{byte:02x}" for byte in token.encode()) for token in (*target.tokens, "\0")]
    (folder / "tokens").write_text("".join(f'"{token}"\n' for token in escaped))
    slowest = 0.0

    def one(data: bytes) -> None:
        nonlocal slowest
        began = time.process_time()
        target.parse(data)
        taken = time.process_time() - began
        if taken > slowest:
            slowest = taken
            (folder / "slowest").write_text(json.dumps(taken))

    options = [
        f"-runs={inputs}",
        "-seed=1",
        f"-max_len={target.longest}",
        f"-timeout={TIMEOUT_S}",
        "-rss_limit_mb=8192",
    ]
    options += [
        f"-max_total_time={MOST_S}",
        f"-dict={folder / 'tokens'}",
        f"-artifact_prefix={folder}/",
        "-verbosity=1",
    ]
    atheris.Setup(["fuzz", *options, str(corpus)], one)
    atheris.Fuzz()


def fuzz(name: str, share: float, inputs: int) -> tuple[int, int, float, float, str]:
    """Inputs tried, crashes, the slowest input's seconds, all seconds, and where the crash is told."""
    with tempfile.TemporaryDirectory(prefix="grpo-bench-fuzz-") as scratch:
        folder = Path(scratch)
        wanted = max(1, int(inputs * share))
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        began = time.monotonic()
        with (folder / "log").open("wb") as log:
            command = [sys.executable, __file__, "--drive", name, str(wanted), scratch]
            code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment).returncode
        seconds = time.monotonic() - began
        log_text = (folder / "log").read_text(errors="replace")
        done = re.search(r"Done (\d+) runs", log_text) or re.search(r"DONE +cov.*?#(\d+)", log_text)
        counts = [int(number) for number in re.findall(r"^#(\d+)\s", log_text, re.MULTILINE)]
        tried = int(done.group(1)) if done else max(counts, default=0)
        slowest = json.loads((folder / "slowest").read_text()) if (folder / "slowest").exists() else 0.0
        told = ""
        if code:
            kept = Path(tempfile.mkdtemp(prefix="grpo-bench-crash-"))
            for path in (*folder.glob("crash-*"), *folder.glob("timeout-*"), *folder.glob("oom-*"), folder / "log"):
                path.rename(kept / path.name)
            told = f"{kept} (exit {code})"
        return tried, int(code != 0), slowest, seconds, told


def main() -> int:
    """Fuzz every target, or those named; exit code 1 after a crash."""
    if sys.argv[1:2] == ["--drive"]:
        name, inputs, folder = sys.argv[2:]
        drive(name, int(inputs), Path(folder))
        return 0
    from targets import TARGETS

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"some of: {', '.join(TARGETS)}")
    parser.add_argument("--share", type=float, default=1.0, help="of the inputs that each target gets")
    asked = parser.parse_args()
    print("| parser | inputs | crashes | slowest | time |\n| --- | ---: | ---: | ---: | ---: |")
    rows, crashed = [], []
    names = asked.targets or list(TARGETS)
    with ThreadPoolExecutor(os.cpu_count()) as processes:
        found = processes.map(lambda name: fuzz(name, asked.share, TARGETS[name].inputs), names)
        for name, row in zip(names, found, strict=True):
            rows.append(row)
            print(f"| {name} | {row[0]:,} | {row[1]} | {1000 * row[2]:,.1f} ms | {row[3]:,.0f} s |", flush=True)
            if row[4]:
                crashed.append(f"{name}: {row[4]}")
    total = [sum(column) for column in list(zip(*rows, strict=True))[:2]]
    slowest, seconds = max(row[2] for row in rows), sum(row[3] for row in rows)
    print(f"| all | {total[0]:,} | {total[1]} | {1000 * slowest:,.1f} ms | {seconds:,.0f} s |")
    print(*crashed, sep="\n")
    return 1 if crashed else 0


if __name__ == "__main__":
    sys.exit(main())
