"""`make lock`: write the hashes of what constraints.txt names, for `supply/install.py` to hold every file against.

The versions are those of constraints.txt; uv finds which packages are needed and what each file of a release hashes to.
Two files come of it: requirements.lock, and cuda.lock with what PyPI's build of torch needs on Linux beside it, whose
versions torch itself names. Only this script reaches the network.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CONSTRAINTS = ROOT / "constraints.txt"
REQUIREMENTS, CUDA = HERE / "requirements.lock", HERE / "cuda.lock"
PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)")
OF_CUDA = re.compile(r"nvidia-|cuda-|triton$")
ELSEWHERE = re.compile(r"sys_platform == '(win32|emscripten)'")
"""Markers of what is never installed on Linux."""
BROUGHT = ("pip",)
"""What a virtual environment has already."""
ALSO = {"torch==2.13.0": ("sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",)}
"""Files that PyPI has not: torch's CPU build for Python 3.11 on x86-64 Linux, torch-2.13.0+cpu-cp311-cp311-…"""


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Versions by normal name, of constraints.txt or of a lock."""
    found = (PIN.match(line) for line in text.splitlines())
    return {normal(match.group(1)): match.group(2) for match in found if match}


def blocks(text: str) -> dict[str, str]:
    """A lock's entries, each a pin with its hashes, by normal name."""
    found: dict[str, str] = {}
    for block in re.split(r"\n(?=\S)", text):
        match = PIN.match(block)
        if match:
            found[normal(match.group(1))] = block.rstrip() + "\n"
    return found


def split(text: str, allowed: dict[str, str]) -> tuple[list[str], list[str]]:
    """Entries of requirements.lock and of cuda.lock.

    Raises:
        SystemExit: something is needed that constraints.txt does not name.
    """
    requirements, cuda = [], []
    for name, block in blocks(text).items():
        pin = f"{name}=={pins(block)[name]}"
        if name in allowed:
            requirements.append(
                "".join([block.rstrip(), *(f" \\\n    --hash={each}" for each in ALSO.get(pin, ()))]) + "\n"
            )
        elif OF_CUDA.match(name):
            cuda.append(block)
        elif name not in BROUGHT and not ELSEWHERE.search(block.splitlines()[0]):
            sys.exit(f"{pin} is needed and constraints.txt does not name it; add that line")
    return requirements, cuda


def main() -> None:
    """Write both locks."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "lock"
        words = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"]
        words += ["--no-header", "--no-annotate", "--extra", "dev", "-c", str(CONSTRAINTS), "-o", str(out)]
        subprocess.run([sys.executable, "-m", *words, str(ROOT / "pyproject.toml")], check=True)
        requirements, cuda = split(out.read_text(), pins(CONSTRAINTS.read_text()))
    told = "# Written by supply/lock.py from constraints.txt and pyproject.toml; `make lock` writes it anew.\n"
    REQUIREMENTS.write_text(told + "".join(requirements))
    CUDA.write_text(told + "# What PyPI's build of torch needs on Linux beside requirements.lock.\n" + "".join(cuda))


if __name__ == "__main__":
    main()
