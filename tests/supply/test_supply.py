"""The lock, the audit and the page of licences speak of the same packages as constraints.txt."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from audit import verdict
from licences import page
from lock import ALSO, CUDA, OF_CUDA, REQUIREMENTS, blocks, normal, pins, split

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = pins((ROOT / "constraints.txt").read_text())
LOCK = REQUIREMENTS.read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[^\w.-]", requirement)[0]) for requirement in requirements}


def test_the_lock_has_the_versions_of_constraints_and_no_others() -> None:
    assert {name: CONSTRAINTS.get(name) for name in pins(LOCK)} == pins(LOCK)


def test_all_that_the_project_and_its_tests_need_is_locked() -> None:
    needed = names([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]])
    assert needed <= pins(LOCK).keys()


def test_what_the_locked_packages_need_is_locked_too() -> None:
    there = pins(LOCK).keys() | {"pip"}
    for name in pins(LOCK):
        needed = [each for each in requires(name) or () if ";" not in each]
        assert names(needed) <= there | pins(CUDA.read_text()).keys(), name


def test_every_entry_has_hashes_and_nothing_but_a_pin() -> None:
    for text in (LOCK, CUDA.read_text()):
        for name, block in blocks(text).items():
            pin, *hashes = block.rstrip().split(" \\\n")
            assert re.fullmatch(r"[\w.-]+==[\w.+]+( ; [^\\]+)?", pin), name
            assert hashes, name
            assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}", each) for each in hashes), name
        assert "://" not in text


def test_both_builds_of_torch_are_accepted() -> None:
    hashes = blocks(LOCK)["torch"]
    assert all(each in hashes for each in ALSO[f"torch=={CONSTRAINTS['torch']}"])
    assert hashes.count("--hash=") > 10, "PyPI's files are there too"


def test_cuda_lock_names_what_the_build_for_cuda_needs_and_nothing_else() -> None:
    locked = pins(CUDA.read_text())
    assert all(OF_CUDA.match(name) for name in locked)
    assert {"triton", "nvidia-cudnn-cu13"} <= locked.keys()
    assert not locked.keys() & pins(LOCK).keys()


def test_something_needed_that_constraints_do_not_name_stops_the_lock() -> None:
    text = "a==1 \\\n    --hash=x\nb==2 ; sys_platform == 'win32' \\\n    --hash=x\ntriton==3 \\\n    --hash=x\n"
    assert split(text, {"a": "1"}) == (["a==1 \\\n    --hash=x\n"], ["triton==3 \\\n    --hash=x\n"])
    with pytest.raises(SystemExit, match=r"a==1 is needed and constraints\.txt does not name it"):
        split(text, {})


def test_make_setup_installs_from_the_lock_and_from_nothing_else() -> None:
    makefile = (ROOT / "Makefile").read_text()
    recipe = makefile.split("$(VENV)/installed:")[1].split("\n\n")[0]
    assert "supply/install.py" in recipe
    assert "pip install" not in recipe
    assert "--require-hashes" in (ROOT / "supply/install.py").read_text()


def test_the_page_of_licences_has_the_lock_s_packages() -> None:
    text = (ROOT / "docs/licences.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w.-]+) \| (\d[\w.+]*) \| (.+) \|$", text, re.MULTILINE)
    assert {normal(name): version for name, version, _ in rows} == pins(LOCK)
    assert not [name for name, _, licence in rows if licence == "UNKNOWN"]


def test_a_package_of_another_version_gets_no_row() -> None:
    with pytest.raises(SystemExit, match="a 1 is in the lock and 2 is installed"):
        page([{"Name": "A", "Version": "2", "License": "MIT"}], {"a": "1"})
    assert "| A | 1 | MIT \\| BSD |" in page([{"Name": "A", "Version": "1+cpu", "License": "MIT | BSD"}], {"a": "1"})


SOUND = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "c", "version": "1", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("found", "said", "code"),
    [
        ({"dependencies": [SOUND]}, "audited: no known vulnerability in 1 of 1 packages", 0),
        ({"dependencies": [SOUND, BAD]}, "b 2: CVE-1, fixed in ['3']", 1),
        ({"dependencies": [SOUND, UNKNOWN]}, "1 of 2 packages; 1 are unknown to the database", 0),
        ({"dependencies": [UNKNOWN]}, "not audited: the advisory database that can be reached knows none", 0),
        ("no route", "not audited: the advisory database cannot be reached (no route)", 0),
    ],
)
def test_an_audit_says_plainly_what_it_is_worth(found: Any, said: str, code: int) -> None:
    wanted = len(found["dependencies"]) if isinstance(found, dict) else 1
    text, exit_code = verdict(found, wanted)
    assert said in text
    assert exit_code == code
