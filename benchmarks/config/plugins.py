"""Finding algorithms, tasks and policies by name: entry points of installed packages, ours among them, and files.

An algorithm or a task is a class with a `Config`; a policy is a function without arguments that returns a
`PolicyConfig`. A file's plugin is written `path/to/file.py:Class` and is called `file.Class` from then on.
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from tasks.errors import BadInput, require
from tasks.files import located

Kind = Literal["algorithms", "tasks", "policies"]
KINDS: dict[str, Kind] = {"algo": "algorithms", "task": "tasks", "policy": "policies"}
"""What can be a plugin, by configuration group."""
SINGULAR = {"algorithms": "algorithm", "tasks": "task", "policies": "policy"}
OURS = "grpo-bench"
BUILT_IN = "built in"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
"""Names that are safe in a file name and in Hydra's grammar. The dot is left to files."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """Something that can be chosen by name, not loaded yet."""

    kind: Kind
    name: str
    target: str
    """`module:Class`, or `/path/to/file.py:Class`."""
    origin: str
    """`built in`, `package NAME VERSION`, or `file`."""

    @property
    def is_file(self) -> bool:
        """Whether it is a single file and no part of an installed package."""
        return self.origin == "file"

    def __str__(self) -> str:
        return f"{SINGULAR[self.kind]} {self.name} ({self.origin}, {self.target})"


@cache
def installed(kind: Kind) -> dict[str, tuple[Plugin, ...]]:
    """Entry points of a kind by name, without importing them; more than one where packages claim the same name."""
    found: dict[str, tuple[Plugin, ...]] = {}
    for point in sorted(entry_points(group=f"grpo_bench.{kind}"), key=lambda point: (point.name, point.value)):
        plugin = Plugin(kind, point.name, point.value, _origin(point))
        found[point.name] = (*found.get(point.name, ()), plugin)
    return found


def _origin(point: EntryPoint) -> str:
    if point.dist is None or point.dist.name == OURS:
        return BUILT_IN
    return f"package {point.dist.name} {point.dist.version}"


def find(kind: Kind, name: str) -> Plugin:
    """The plugin of a name.

    Raises:
        BadInput: no such name (the nearest is named), a name that two packages claim, or one that no folder can have.
    """
    known = installed(kind)
    if name not in known:
        raise BadInput(unknown(SINGULAR[kind], name, known))
    first, *others = known[name]
    if others:
        claims = " and ".join(f"{plugin.origin} ({plugin.target})" for plugin in known[name])
        raise BadInput(f"{SINGULAR[kind]} {name} is there {len(known[name])} times: {claims}; uninstall or rename one")
    require(NAME.fullmatch(name) is not None, f"{first}: a name is letters, digits, _ and -, a letter first")
    return first


def is_file_choice(value: str) -> bool:
    """Whether a choice names a file and not a plugin by name."""
    return ".py:" in value or value.endswith(".py")


def from_file(kind: Kind, choice: str) -> Plugin:
    """The plugin that `path/to/file.py:Class` stands for. The file is looked for, not run.

    Raises:
        BadInput: no class is named, or there is no such file.
    """
    path, _, name = choice.rpartition(":")
    wanted = f"{choice}: write FILE.py:CLASS"
    require(path.endswith(".py") and name.isidentifier() and name.isascii(), wanted)
    file = located(path, choice[:200])
    require(file.is_file(), f"{choice}: there is no file {path}")
    stem = re.sub(r"[^A-Za-z0-9_-]", "_", file.stem)
    return Plugin(kind, f"{stem}.{name}", f"{file.resolve()}:{name}", "file")


def load(plugin: Plugin) -> Any:
    """The class (or the policy's function) behind a plugin.

    Raises:
        BadInput: it cannot be imported, or it is not what the benchmark can use; the reason is named.
    """
    place, _, attribute = plugin.target.rpartition(":")
    try:
        if plugin.is_file:
            module: Any = import_file(Path(place))
            found = getattr(module, attribute, None)
            require(found is not None, f"{plugin}: {Path(place).name} has no {attribute}")
        else:
            found = EntryPoint(plugin.name, plugin.target, "").load()
    except BadInput:
        raise
    # A stranger's module may raise anything, and may even call sys.exit: it must not take the others along.
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise BadInput(f"{plugin} cannot be imported: {reason}") from error
    problem = problem_of(plugin.kind, found)
    if problem:
        raise BadInput(f"{plugin} cannot be used: {problem}")
    return found


def import_file(path: Path) -> ModuleType:
    """Run a file as a module, once for every content that it has."""
    content = path.read_bytes()
    name = f"grpo_bench_file_{hashlib.sha256(str(path).encode() + content).hexdigest()[:16]}"
    if name not in sys.modules:
        module = ModuleType(name)
        module.__file__ = str(path)
        sys.modules[name] = module  # dataclasses look their module up while it runs
        try:
            exec(compile(content, str(path), "exec"), module.__dict__)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def problem_of(kind: Kind, found: object) -> str | None:
    """Why an object cannot serve as a plugin of this kind; None where it can."""
    if kind == "policies":
        return None if callable(found) else "it is no function that returns a PolicyConfig"
    from algorithms.api import Algorithm
    from tasks.api import Task

    base: type[Any] = Algorithm if kind == "algorithms" else Task
    if not (isinstance(found, type) and issubclass(found, base)):
        return f"it is no subclass of {base.__module__}.{base.__name__}"
    if inspect.isabstract(found):
        return f"it lacks {', '.join(sorted(getattr(found, '__abstractmethods__', ())))}"
    if kind == "tasks" and not all(isinstance(getattr(found, key, None), str) for key in ("name", "version")):
        return "it needs a name and a version, both str"
    return config_problem(getattr(found, "Config", None))


def config_problem(schema: object) -> str | None:
    """Why a class cannot be checked against; None where it can."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not (isinstance(schema, type) and is_dataclass(schema)):
        return "its Config is no dataclass"
    if "name" not in {field.name for field in fields(schema)}:
        return "its Config has no field name: str"
    try:
        OmegaConf.structured(schema)
    except (OmegaConfBaseException, TypeError, NameError) as error:  # NameError: a type that is not imported
        return f"its Config cannot be checked: {' '.join(str(error).split())[:200]}"
    return None


def identity(plugin: Plugin, found: object) -> dict[str, str] | None:
    """What makes a run with this plugin another run: where it comes from, and its source. None where it is ours."""
    if plugin.origin == BUILT_IN:
        return None
    source = source_file(found)
    code = hashlib.sha256(source.read_bytes()).hexdigest() if source else "unknown"
    return {"origin": plugin.origin, "target": Path(plugin.target).name, "sha256": code}


def source_file(found: object) -> Path | None:
    """The file that a class or function was written in."""
    file = getattr(sys.modules.get(getattr(found, "__module__", "")), "__file__", None)
    return Path(file) if file else None


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence for an unknown name."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else "."
    return f"unknown {what} {name!r}{hint} There are: {', '.join(names)}"
