"""Plugins of other packages and of single files: found, configured, identified, listed; broken ones are named."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.config.listing import listing
from benchmarks.config.plugins import installed
from benchmarks.config.schema import RunConfig, check_config, compose_config
from tasks.errors import BadInput

ALGORITHM = """
from dataclasses import dataclass
from algorithms.grpo import GRPO, GRPOConfig

@dataclass(kw_only=True)
class MineConfig(GRPOConfig):
    name: str = "mine"
    temperature: float = 0.7
    shift: float = 0.5

class Mine(GRPO):
    Config = MineConfig
"""
TASK = """
from dataclasses import dataclass
from tasks.gsm_synth import GsmSynth, GsmSynthConfig

@dataclass(kw_only=True)
class SumsConfig(GsmSynthConfig):
    name: str = "sums"
    hardness: int = 2

class Sums(GsmSynth):
    Config = SumsConfig
    name = "sums"
"""
POLICY = """
from policies.source import PolicyConfig

def gnat():
    return PolicyConfig(name="gnat", path="package:policies/tiny/weights", max_action_tokens=72, learning_rate=3e-5)

def not_a_policy():
    return {"name": "gnat"}
"""


class Site:
    """A folder on sys.path into which packages are installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, package: str, version: str, entry_points: str, **modules: str) -> None:
        """Write modules, and metadata as pip leaves it."""
        info = self.folder / f"{package}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(entry_points)
        for name, source in modules.items():
            (self.folder / f"{name}.py").write_text(source)
        installed.cache_clear()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    known = set(sys.modules)
    yield Site(folder)
    installed.cache_clear()
    for name in set(sys.modules) - known:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def configured(*words: str) -> RunConfig:
    return check_config(compose_config(words))


def refusal(*words: str) -> str:
    with pytest.raises(BadInput) as caught:
        configured(*words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def row(name: str, folder: Path) -> str:
    (line,) = [line for line in listing(folder).splitlines() if line.split()[:1] == [name]]
    return line


def test_an_installed_algorithm_runs_under_its_name_with_its_own_config(site: Site) -> None:
    site.install("demo", "1.2", "[grpo_bench.algorithms]\nmine = demo_mine:Mine\n", demo_mine=ALGORITHM)
    config = configured("+algo=mine", "algo.shift=0.25", "policy.learning_rate=5e-5")
    assert (config.algo.name, config.algo.shift) == ("mine", 0.25)
    assert config.algorithm_class.__name__ == "Mine"
    assert config.algo.learning_rate == 5e-5, "a shared setting"
    assert config.algo.temperature == 0.7, "a default that the plugin changed is its own"
    assert "algo.shift" in refusal("+algo=mine", "algo.shift=far")
    assert "did you mean algo.shift" in refusal("+algo=mine", "algo.shfit=1")


def test_a_package_may_bring_its_own_preset(site: Site) -> None:
    site.install("demo", "1.2", "[grpo_bench.algorithms]\nmine = demo_mine:Mine\n", demo_mine=ALGORITHM)
    (site.folder / "mine.yaml").write_text("shift: 0.125\ngroup_size: 4\n")
    config = configured("+algo=mine")
    assert (config.algo.shift, config.algo.group_size, config.algo.problems_per_update) == (0.125, 4, 8)
    (site.folder / "mine.yaml").write_text("shfit: 0.125\n")
    assert "algo.shfit" in refusal("+algo=mine")


def test_an_installed_task_and_an_installed_policy_are_found(site: Site) -> None:
    points = "[grpo_bench.tasks]\nsums = demo_two:Sums\n[grpo_bench.policies]\ngnat = demo_gnat:gnat\n"
    site.install("demo", "1.2", points, demo_two=TASK, demo_gnat=POLICY)
    config = configured("+algo=grpo", "task=sums", "task.hardness=3", "policy=gnat", "policy.dtype=float32")
    assert (config.task.name, config.task.hardness) == ("sums", 3)
    assert (config.policy.name, config.policy.dtype, config.algo.learning_rate) == ("gnat", "float32", 3e-5)


def test_a_plugin_changes_the_run_and_its_version_and_source_are_in_the_record(site: Site) -> None:
    site.install("demo", "1.2", "[grpo_bench.algorithms]\nmine = demo_mine:Mine\n", demo_mine=ALGORITHM)
    about = configured("+algo=mine").resolved["plugins"]["algo"]
    assert about["origin"] == "package demo 1.2"
    assert re.fullmatch(r"[0-9a-f]{64}", about["sha256"])
    assert "plugins" not in configured("+algo=grpo").resolved, "ours are identified by the version of the benchmark"


def test_a_file_runs_as_it_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my plugins").mkdir()
    (tmp_path / "my plugins/new-algo.py").write_text(ALGORITHM)
    (tmp_path / "my_task.py").write_text(TASK)
    for path in ("my plugins/new-algo.py", "./my plugins/new-algo.py", str(tmp_path / "my plugins/new-algo.py")):
        config = configured(f"+algo={path}:Mine", "task=my_task.py:Sums", "algo.shift=2", "task.hardness=5")
        assert (config.algo.name, config.algo.shift) == ("new-algo.Mine", 2)
        assert (config.task.name, config.task.hardness) == ("my_task.Sums", 5)
        assert re.fullmatch(r"new-algo\.Mine-my_task\.Sums-tiny-s0-[0-9a-f]{10}", config.run_name("x"))


def test_another_content_of_a_file_is_another_run(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(ALGORITHM)
    first = configured(f"+algo={file}:Mine")
    assert configured(f"+algo={file}:Mine").run_name("x") == first.run_name("x")
    file.write_text(ALGORITHM + "    lazy = True\n")
    second = configured(f"+algo={file}:Mine")
    assert (first.algorithm_class, second.algorithm_class.lazy) != (second.algorithm_class, None)
    assert second.run_name("x") != first.run_name("x")
    assert second.experiment("x") != first.experiment("x")


def test_a_moved_file_is_the_same_run(tmp_path: Path) -> None:
    names = set()
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        (folder / "mine.py").write_text(ALGORITHM)
        names.add(configured(f"+algo={folder}/mine.py:Mine").run_name("x"))
    assert len(names) == 1


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("nowhere.py:Mine", ["nowhere.py", "no file"]),
        ("mine.py", ["FILE.py:CLASS"]),
        ("mine.py:", ["FILE.py:CLASS"]),
        ("mine.py:Yours", ["mine.py has no Yours"]),
        ("mine.py:MineConfig", ["no subclass of algorithms.api.Algorithm"]),
        ("wrong.py:Mine", ["wrong.py:Mine", "cannot be imported", "SyntaxError"]),
    ],
)
def test_a_wrong_file_is_named_in_one_line(
    choice: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(ALGORITHM)
    (tmp_path / "wrong.py").write_text("class Mine(:\n")
    message = refusal(f"+algo={choice}")
    for part in expected:
        assert part in message


BROKEN = {
    "gone": ("no_such_module:Mine", "No module named 'no_such_module'"),
    "raises": ("demo_raises:Mine", "ZeroDivisionError"),
    "quits": ("demo_quits:Mine", "SystemExit"),
    "nothing": ("demo_fine:Nothing", "AttributeError"),
    "number": ("demo_fine:NUMBER", "no subclass of algorithms.api.Algorithm"),
    "untyped": ("demo_fine:Untyped", "its Config is no dataclass"),
    "nameless": ("demo_fine:Nameless", "no field name"),
    "odd": ("demo_fine:Odd", "its Config cannot be checked"),
    "undone": ("demo_fine:Undone", "it lacks credit"),
}
FINE = """
from dataclasses import dataclass
from algorithms.grpo import GRPO, GRPOConfig
from algorithms.policy_gradient import PolicyGradient

NUMBER = 3

class Config:
    name = "untyped"

class Untyped(GRPO):
    Config = Config

@dataclass
class NamelessConfig:
    size: int = 3

class Nameless(GRPO):
    Config = NamelessConfig

@dataclass
class OddConfig:
    name: str = "odd"
    where: object | complex = 3

class Odd(GRPO):
    Config = OddConfig

class Undone(PolicyGradient):
    Config = GRPOConfig
"""


@pytest.fixture
def broken(site: Site) -> Site:
    points = "".join(f"{name} = {target}\n" for name, (target, _) in BROKEN.items())
    modules = {"demo_raises": "1 / 0\n", "demo_quits": "import sys; sys.exit(3)\n", "demo_fine": FINE}
    site.install("shaky", "0.1", f"[grpo_bench.algorithms]\n{points}", **modules)
    site.install("demo", "1.2", "[grpo_bench.algorithms]\nmine = demo_mine:Mine\n", demo_mine=ALGORITHM)
    return site


@pytest.mark.parametrize(("name", "reason"), [(name, reason) for name, (_, reason) in BROKEN.items()])
def test_a_broken_plugin_is_named_with_its_reason(name: str, reason: str, broken: Site, tmp_path: Path) -> None:
    message = refusal(f"+algo={name}")
    assert f"algorithm {name} (package shaky 0.1" in message
    assert reason in message
    assert "broken: " in row(name, tmp_path)
    assert reason in row(name, tmp_path)


def test_broken_plugins_never_break_the_others(broken: Site, tmp_path: Path) -> None:
    assert configured("+algo=mine").algo.name == "mine"
    assert configured("+algo=grpo").algo.name == "grpo"
    assert row("mine", tmp_path).endswith("package demo 1.2 (demo_mine:Mine)")
    assert "group-relative policy optimisation" in row("grpo", tmp_path)


def test_a_name_that_two_packages_claim_is_refused_with_both(site: Site, tmp_path: Path) -> None:
    site.install("demo", "1.2", "[grpo_bench.algorithms]\nmine = demo_mine:Mine\n", demo_mine=ALGORITHM)
    site.install("rival", "3.0", "[grpo_bench.algorithms]\nmine = rival_mine:Mine\ngrpo = rival_mine:Mine\n")
    for part in ("mine", "package demo 1.2", "package rival 3.0"):
        assert part in refusal("+algo=mine")
        assert part in row("mine", tmp_path)
    assert "built in (algorithms.grpo:GRPO) and package rival 3.0" in refusal("+algo=grpo")
    assert configured("+algo=gdpo").algo.name == "gdpo"


def test_a_policy_with_the_name_of_ours_is_refused(site: Site, tmp_path: Path) -> None:
    site.install(
        "demo", "1.2", "[grpo_bench.policies]\ntiny = demo_gnat:gnat\nodd = demo_gnat:not_a_policy\n", demo_gnat=POLICY
    )
    assert "conf/policy/tiny.yaml" in refusal("+algo=grpo", "policy=tiny")
    assert "returned no policies.source.PolicyConfig" in refusal("+algo=grpo", "policy=odd")
    assert "broken: " in row("odd", tmp_path)


@pytest.mark.parametrize("name", ["a.b", "9lives", "x y"])
def test_a_name_that_no_folder_should_have_is_refused(name: str, site: Site) -> None:
    site.install("demo", "1.2", f"[grpo_bench.algorithms]\n{name} = demo_mine:Mine\n", demo_mine=ALGORITHM)
    assert "a name is letters, digits, _ and -" in refusal(f"+algo={name}")


def test_files_of_the_working_directory_are_listed_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ALGORITHM + "raise RuntimeError('was run')\n")
    (tmp_path / "sums.py").write_text(TASK)
    (tmp_path / "notes.py").write_text("class Note: ...\n")
    (tmp_path / "half.py").write_text("class Half(\n")
    text = listing(tmp_path)
    assert re.search(r"mine\.py:Mine +file", text)
    assert re.search(r"sums\.py:Sums +file", text)
    assert "notes.py" not in text
    assert "half.py" not in text


def test_listing_loads_no_model_library() -> None:
    code = (
        "import sys; from pathlib import Path; from benchmarks.config.listing import listing; listing(Path('/')); "
        "print([m for m in ('torch', 'transformers', 'trl') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], ["launcher=joblib", "hydra.launcher.n_jobs=2"]], ids=["here", "joblib"])
def test_files_and_names_can_be_swept_together(launcher: list[str], tmp_path: Path) -> None:
    for folder, extra in (("a", ""), ("b", "    lazy = True\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(ALGORITHM + extra)
    sizes = ["budget=smoke", "budget.updates=1", "policy.threads=1", "task.max_turns=2", "evaluate.val_problems=1"]
    words = [
        "run",
        "-m",
        "+algo=base,a/mine.py:Mine,b/mine.py:Mine",
        *sizes,
        "evaluate.test_problems=2",
        "results.dir=runs",
        *launcher,
    ]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    runs = sorted((tmp_path / "runs").glob("*-s0-*"))
    assert [path.name.split("-wordle")[0] for path in runs] == ["base", "mine.Mine", "mine.Mine"]
    commands = "".join((path / "manifest.json").read_text() for path in runs)
    assert "+algo=a/mine.py:Mine" in commands
    assert "+algo=b/mine.py:Mine" in commands
