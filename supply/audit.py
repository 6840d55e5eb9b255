"""Part of `make lint`: hold the locked versions against the advisory database of PyPI.

A known vulnerability fails. Where the database cannot be reached, or does not know the packages, that is said, and
nothing fails: CI must not stand still because a service does. pip-audit itself passes over what it cannot look up, and
ends well though it looked nothing up: hence the count.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from lock import REQUIREMENTS, blocks, pins

TIMEOUT_S = 120


def audit(lock: str) -> dict[str, Any] | str:
    """What pip-audit finds in a lock's pins: its JSON, or why there is none."""
    with tempfile.TemporaryDirectory() as scratch:
        # Versions only: pip-audit wants hashes of what is installed here, and the lock is for other machines too.
        file = Path(scratch) / "requirements.txt"
        file.write_text("".join(f"{name}=={version}\n" for name, version in pins(lock).items()))
        words = [
            "-m",
            "pip_audit",
            "--no-deps",
            "--disable-pip",
            "--format=json",
            "--progress-spinner=off",
            "--timeout=10",
        ]
        try:
            done = subprocess.run(
                [sys.executable, *words, "-r", str(file)], capture_output=True, text=True, timeout=TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            return f"no answer within {TIMEOUT_S} s"
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:300]
    return found


def verdict(found: dict[str, Any] | str, wanted: int) -> tuple[str, int]:
    """What is said of an audit, and the exit code: 1 where a vulnerability is known."""
    if isinstance(found, str):
        return f"not audited: the advisory database cannot be reached ({found})", 0
    bad = [
        f"{each['name']} {each['version']}: {vulnerability['id']}, fixed in {vulnerability['fix_versions']}"
        for each in found["dependencies"]
        for vulnerability in each.get("vulns", ())
    ]
    if bad:
        return "\n".join(bad), 1
    looked_up = sum("vulns" in each for each in found["dependencies"])
    if not looked_up:
        return f"not audited: the advisory database that can be reached knows none of the {wanted} packages", 0
    rest = f"; {wanted - looked_up} are unknown to the database" if looked_up < wanted else ""
    return f"audited: no known vulnerability in {looked_up} of {wanted} packages{rest}", 0


def main() -> int:
    """Audit requirements.lock."""
    lock = REQUIREMENTS.read_text()
    said, code = verdict(audit(lock), len(blocks(lock)))
    print(said)
    return code


if __name__ == "__main__":
    sys.exit(main())
