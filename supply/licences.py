"""Write docs/licences.md: the licence of every package that `make setup` installs, by pip-licenses."""

from __future__ import annotations

import json
import subprocess
import sys

from lock import REQUIREMENTS, ROOT, normal, pins

PAGE = ROOT / "docs/licences.md"
UNSTATED = {"atheris": "Apache-2.0"}
"""Where the metadata says nothing: read from the file LICENSE in the package."""
HEAD = """# Licences of the dependencies

What `make setup` installs, with the licence that each package states of itself. `python supply/licences.py` writes this
page with pip-licenses; a test holds it against supply/requirements.lock. Packages that a licence wants named or copied
are not part of this repository: pip fetches them.

PyPI's build of torch brings further packages on Linux (supply/cuda.lock): NVIDIA's libraries, which are proprietary and
come under NVIDIA's terms, and triton (MIT). A CPU build of torch needs none of them.

| package | version | licence |
| --- | --- | --- |
"""


def page(found: list[dict[str, str]], locked: dict[str, str]) -> str:
    """The page, a row a package of the lock.

    Raises:
        SystemExit: another version than the lock's is installed, or none.
    """
    known = {normal(each["Name"]): each for each in found}
    rows = []
    for name, version in sorted(locked.items()):
        each = known.get(name)
        if each is None or each["Version"].partition("+")[0] != version:
            sys.exit(
                f"{name} {version} is in the lock and {each['Version'] if each else 'nothing'} is installed: make setup"
            )
        licence = " ".join(UNSTATED.get(name, each["License"]).split()).replace("|", "\\|")
        rows.append(f"| {each['Name']} | {version} | {licence} |\n")
    return HEAD + "".join(rows)


def main() -> None:
    """Write the page."""
    words = ["-m", "piplicenses", "--format=json", "--from=mixed", "--with-system"]
    found = json.loads(subprocess.run([sys.executable, *words], check=True, capture_output=True).stdout)
    PAGE.write_text(page(found, pins(REQUIREMENTS.read_text())), encoding="utf-8")


if __name__ == "__main__":
    main()
