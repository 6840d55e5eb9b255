"""`python -m benchmarks`. What a folder or file of the user's hides is named before anything is imported from it."""

import sys
from importlib.util import find_spec
from pathlib import Path

OURS = Path(__file__).resolve().parents[1]


def shadowed() -> str | None:
    """A package of ours that the working directory has another of under the same name; None where all are ours."""
    for name in ("tasks", "policies", "algorithms"):
        spec = find_spec(name)
        place = Path(spec.origin).resolve() if spec and spec.origin else None
        if place is not None and OURS not in place.parents:
            return str(place.parent if place.name == "__init__.py" else place)
    return None


if __name__ == "__main__":
    if found := shadowed():
        print(
            f"error: {found} hides a package of grpo-bench; run grpo-bench, or python -P -m benchmarks", file=sys.stderr
        )
        sys.exit(2)
    from benchmarks.cli import main

    main()
