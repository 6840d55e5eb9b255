"""Which weights a policy is made of, found without loading them (and without importing torch)."""

from __future__ import annotations

import hashlib
import importlib.resources
import importlib.util
import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from tasks.errors import BadInput, require
from tasks.files import located, read_file

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)

ADAPTER = "adapter_config.json"
LONGEST_JSON = 1 << 20

SAMPLERS = ("batched", "hf")
"""See `policies.sampler`."""


@dataclass(kw_only=True)
class PolicyConfig:
    """conf/policy/NAME.yaml."""

    name: str
    path: str
    """A folder (of a model, or of an adapter that a run saved), a model id of the hub, or `package:FOLDER` for weights
    inside an installed package."""
    learning_rate: float = 1e-6
    """What gradient algorithms use for this model unless they are told otherwise."""
    micro_batch_size: int = 16
    """Rollouts of this model that a backward pass can hold unless algorithms are told otherwise."""
    gguf_variable: str | None = None
    """Environment variable that names a GGUF file to load instead."""
    gguf_package: str | None = None
    """Installed package whose GGUF file is loaded when the hub's files are not in the cache."""
    device: str = "auto"
    """auto (cuda where there is one, then mps, then cpu), or one of these, or cuda:1."""
    dtype: str = "auto"
    """What the weights are held in: auto (float32; below an adapter on cuda bfloat16), float32, bfloat16, float16.
    With auto or bfloat16, gradients on cuda are computed in bfloat16."""
    max_action_tokens: int | None = None
    """A cap on one action beside the task's."""
    sampler: str = "batched"
    """How actions are sampled: batched (continuous batching, the KV cache kept over turns) or hf (transformers'
    generate, every turn read anew: slow and plain)."""
    threads: int | None = None
    """CPU threads; None leaves torch's choice."""

    def __post_init__(self) -> None:
        require(self.threads is None or self.threads >= 1, f"policy.threads={self.threads} must be at least 1")
        require(self.sampler in SAMPLERS, f"policy.sampler={self.sampler}: use one of {', '.join(SAMPLERS)}")
        cap = self.max_action_tokens
        require(cap is None or cap >= 1, f"policy.max_action_tokens={cap} must be at least 1")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a policy's weights come from."""

    folder: str
    """Folder or hub id for `from_pretrained`."""
    gguf: str | None
    """File name of a GGUF in that folder."""
    label: str
    """For messages and the manifest; holds no path of the user's home."""
    adapters: tuple[str, ...] = ()
    """Folders of LoRA adapters that are merged into the weights, in this order."""

    def base(self, config: PolicyConfig) -> str:
        """How an adapter that is trained beside these weights names them: a hub id, `package:FOLDER`, or a folder,
        relative to where the run was started."""
        if self.adapters:
            return os.path.relpath(self.adapters[-1])
        if self.gguf:
            return config.path
        # Of a warm start the label says where it began, and the folder what it became.
        if config.path.startswith("package:") and self.label == config.path:
            return config.path
        return os.path.relpath(self.folder) if Path(self.folder).is_dir() else self.folder


def find_source(config: PolicyConfig) -> Source:
    """Decide where the weights come from, without loading them.

    Raises:
        BadInput: a folder without weights, or no such file.
    """
    if config.path.startswith("package:"):
        package, _, folder = config.path.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        inside = ".." not in Path(folder).parts and not Path(folder).is_absolute()
        named = spec is not None and bool(spec.submodule_search_locations) and inside
        require(named, f"policy.path={config.path[:200]}: no such package; write package:PACKAGE/FOLDER")
        return _folder(Path(str(importlib.resources.files(package).joinpath(folder))), config.path)
    path = located(config.path, "policy.path")
    if (path / ADAPTER).is_file() and not (path / "config.json").exists():
        return _adapted(config, path)
    if path.exists():
        return _folder(path, path.name)
    variable = os.environ.get(config.gguf_variable or "")
    if variable:
        file = located(variable, str(config.gguf_variable))
        if not file.is_file():
            raise BadInput(f"{config.gguf_variable}={variable}: no such file; it must name a GGUF file")
        return Source(str(file.parent), file.name, f"{file.name} ({config.gguf_variable})")
    if config.gguf_package and config.gguf_package.isidentifier() and not _cached(config.path):
        spec = importlib.util.find_spec(config.gguf_package)
        if spec is not None and spec.origin:
            for file in sorted(Path(spec.origin).parent.glob("*.gguf")):
                return Source(str(file.parent), file.name, f"{file.name} (package {config.gguf_package})")
    if not HUB_ID.fullmatch(config.path):
        raise BadInput(f"policy.path: no folder {config.path!r}; give a model folder or a hub id OWNER/NAME")
    return Source(config.path, None, config.path)


def offline_ways(config: PolicyConfig) -> str:
    """How this policy is had without a hub, for messages."""
    ways = ["policy.path=FOLDER"]
    if config.gguf_variable:
        ways.append(f"{config.gguf_variable}=FILE.gguf in the environment")
    if config.gguf_package:
        ways.append(f"the package {config.gguf_package.replace('_', '-')}")
    return ", or ".join(ways)


def fingerprint(source: Source) -> str:
    """A hash of the files that make a policy's weights and tokenizer, read without loading them.

    Of a model on the hub it is the commit that lies in the cache, or that the hub names now.
    """
    folder = Path(source.folder)
    if not folder.is_dir():
        return hub_commit(source.folder)
    read = (
        "*.safetensors",
        "config.json",
        "token*.json",
        "chat_template*",
        "vocab*",
        "instructions.txt",
        "sampling.json",
    )
    names = (source.gguf,) if source.gguf else read
    digest = hashlib.sha256()
    adapters = [Path(each) / name for each in source.adapters for name in (ADAPTER, "adapter_model.safetensors")]
    for file in sorted({file for name in names for file in folder.glob(name)}) + adapters:
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def hub_commit(hub_id: str) -> str:
    """The commit of a hub's model: the cached one, or the newest.

    Raises:
        BadInput: it is not cached, and the hub cannot be reached.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache

    cached = try_to_load_from_cache(hub_id, "config.json")
    if isinstance(cached, str):
        return Path(cached).parent.name
    try:
        return str(HfApi().model_info(hub_id).sha)
    except Exception as error:  # whatever stands between here and the hub, the way out is the same
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{hub_id}: the hub cannot be reached ({reason}); offline, give policy.path=FOLDER") from None


def _cached(hub_id: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(hub_id, "config.json"), str)


def _adapted(config: PolicyConfig, path: Path) -> Source:
    """A saved adapter and the weights that it was trained beside."""
    try:
        base = json.loads(read_file(path / ADAPTER, LONGEST_JSON))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        base = None
    if not isinstance(base, str) or (located(base, "policy.path") / ADAPTER).resolve() == (path / ADAPTER).resolve():
        raise BadInput(f"policy.path: {path.name}/{ADAPTER} does not name the weights that it belongs to")
    try:
        found = find_source(replace(config, path=base))
    except (BadInput, RecursionError) as error:
        reason = "its adapters name each other" if isinstance(error, RecursionError) else str(error)
        raise BadInput(f"{path.name} is an adapter, and its weights are not to be had: {reason[:300]}") from None
    adapters = (*found.adapters, str(path))
    return replace(found, label=f"{path.name} beside {found.label}", adapters=adapters)


def _folder(path: Path, label: str) -> Source:
    if not path.is_dir():
        raise BadInput(f"policy.path: {path} is a file; give the folder that holds config.json and *.safetensors")
    if not (path / "config.json").is_file():
        raise BadInput(f"policy.path: {path} has no config.json, so it is not a model folder")
    if not any(path.glob("*.safetensors")):
        raise BadInput(f"policy.path: {path} has no weights (*.safetensors)")
    return Source(str(path), None, label)
