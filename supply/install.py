"""What `make setup` does: install every package of the lock, each file held against its hash, and the project on top.

Nothing is resolved: the lock names all that is needed, and a file that is not one of those it knows is refused. One
package (antlr4-python3-runtime) comes as source; it is built with the locked setuptools, as the project itself is with
the locked hatchling, so that no build fetches anything either. Knows nothing but the standard library.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import requires
from pathlib import Path

from lock import CUDA, OF_CUDA, REQUIREMENTS, ROOT, blocks

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")


def pip(*words: str) -> None:
    """Run this Python's pip; what it says goes to the terminal.

    Raises:
        SystemExit: pip failed.
    """
    code = subprocess.run([*PIP, *words]).returncode
    if code:
        sys.exit(code)


def locked(*words: str) -> None:
    """Install from a lock, and nothing that it does not name."""
    pip("--require-hashes", "--no-deps", "--no-build-isolation", *words)


def main() -> None:
    """Install all."""
    with tempfile.TemporaryDirectory() as scratch:
        build = Path(scratch) / "build.lock"
        build.write_text(blocks(REQUIREMENTS.read_text())["setuptools"])
        locked("-r", str(build))
        torch = Path(scratch) / "torch.lock"
        torch.write_text(blocks(REQUIREMENTS.read_text())["torch"])
        # Wheels that this machine's pip is told of (find-links) go first: pip itself would take the index's build,
        # which brings gigabytes of CUDA along. What is not there, or of another hash, comes with the others.
        words = ["--require-hashes", "--no-deps", "--no-index", "-r", str(torch)]
        subprocess.run([*PIP, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    locked("-r", str(REQUIREMENTS))
    if any(OF_CUDA.match(needed) for needed in requires("torch") or ()):
        locked("-r", str(CUDA))
    pip("--no-deps", "--no-build-isolation", "-e", str(ROOT))


if __name__ == "__main__":
    main()
