"""A stranger's model folder: none of its code runs, none of its pickles is opened, and what it lies about is named."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from policies.language_model import load_policy
from policies.source import PolicyConfig, find_source
from tasks.errors import BadInput


@pytest.fixture
def folder(untrained_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(untrained_folder, tmp_path / "model")
    return tmp_path / "model"


def load(folder: Path) -> Any:
    return load_policy(PolicyConfig(name="x", path=str(folder), device="cpu", dtype="float32"))


def set_config(folder: Path, **settings: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


class Planted:
    """A pickle that leaves a mark where it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, int]]:
        return os.open, (str(self.mark), os.O_CREAT | os.O_WRONLY)


PICKLES = ("pytorch_model.bin", "model.pt", "training_args.bin", "optimizer.pt", "adapter_model.bin", "vocab.pkl")


def plant(folder: Path) -> Path:
    mark = folder.parent / "opened"
    for name in PICKLES:
        (folder / name).write_bytes(pickle.dumps(Planted(mark)))
    return mark


def test_the_planted_pickle_would_leave_its_mark(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    mark = plant(tmp_path / "folder")
    os.close(pickle.loads((tmp_path / "folder" / PICKLES[0]).read_bytes()))
    assert mark.exists()


def test_a_pickle_beside_the_weights_is_never_opened(folder: Path) -> None:
    mark = plant(folder)
    load(folder)
    assert not mark.exists()


def test_a_pickle_in_the_place_of_the_weights_is_never_opened(folder: Path) -> None:
    mark = plant(folder)
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    with pytest.raises(BadInput, match=r"the weights must be in model\.safetensors"):
        load(folder)
    (folder / "other.safetensors").unlink()
    with pytest.raises(BadInput, match="no weights"):
        load(folder)
    assert not mark.exists()


@pytest.mark.parametrize("model_type", ["llama", "a_type_of_its_own"])
def test_code_in_the_folder_is_never_run_nor_asked_about(
    folder: Path, monkeypatch: pytest.MonkeyPatch, model_type: str
) -> None:
    mark = folder.parent / "ran"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass C: pass\nM = T = C\n")
    names = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M", "AutoTokenizer": ["evil.T", "evil.T"]}
    set_config(folder, model_type=model_type, auto_map=names)
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**tokenizer, "auto_map": names}))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    if model_type == "llama":
        load(folder)  # As transformers knows the type itself, its own code is taken.
    else:
        with pytest.raises(BadInput, match="custom code"):
            load(folder)
    assert not mark.exists()
    assert "evil" not in sys.modules


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"_attn_implementation": "owner/kernel"}, "attention 'owner/kernel', which is code of a stranger"),
        ({"attn_implementation": "owner/kernel"}, "attention 'owner/kernel', which is code of a stranger"),
        ({"vocab_size": 10**9}, "describes a model of 128,"),
        ({"intermediate_size": 10**9}, "describes a model of 1,536,"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers=1000000; it must be 1 to 1000"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0"),
        ({"num_hidden_layers": "many"}, "num_hidden_layers"),
        ({"num_attention_heads": 0}, "ZeroDivisionError"),
        ({"hidden_size": 64}, "cannot load model"),
        ({"rope_parameters": {"rope_type": "nonsense"}}, "nonsense"),
        ({"dtype": "os.system"}, "os.system"),
    ],
)
def test_a_config_that_lies_is_refused_in_one_line(folder: Path, settings: dict[str, Any], told: str) -> None:
    set_config(folder, **settings)
    with pytest.raises(BadInput) as caught:
        load(folder)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("content", [b"[1]", b"[" * 100_000, b"\xff", b"{"])
def test_a_broken_file_is_refused_in_one_line(folder: Path, file: str, content: bytes) -> None:
    (folder / file).write_bytes(content)
    with pytest.raises(BadInput) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("{% for", "TemplateSyntaxError"),
        ("{{ raise_exception('no') }}", "TemplateError: no"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
        ("{{ cycler.__init__.__globals__.os.system('true') }}", "SecurityError|UndefinedError"),
        ("always the same", "does not show the user's message"),
    ],
)
def test_a_chat_template_that_cannot_be_used_or_reaches_out_is_refused(folder: Path, template: str, told: str) -> None:
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(BadInput, match=told):
        load(folder)


def test_an_adapter_that_names_another_model_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/", "peft_type": "LORA"}')
    with pytest.raises(BadInput, match="merge the adapter"):
        load(folder)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "weights.bin"])
def test_an_index_reaches_no_file_outside_its_folder(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    (folder / "x.safetensors").touch()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(BadInput, match=r"is no \*\.safetensors in its folder"):
        load(folder)


@pytest.mark.parametrize("content", [b"\xff", b"x" * (2**20 + 1)])
def test_instructions_that_are_no_text_or_too_long_are_refused(folder: Path, content: bytes) -> None:
    (folder / "instructions.txt").write_bytes(content)
    with pytest.raises(BadInput, match="cannot load model"):
        load(folder)


def test_checking_a_folder_draws_nothing_from_the_global_generator(folder: Path) -> None:
    torch.manual_seed(0)
    expected = torch.random.get_rng_state()
    load(folder)
    assert torch.equal(torch.random.get_rng_state(), expected)


@pytest.mark.parametrize(
    "path",
    [
        *("package:", "package:no_such_package/x", "package:../policies", "package:policies/../../etc", "package:os/x"),
        *("package:policies//etc", "a" * 5000, "a\0b", "~no-such-user-here/model", "owner/../name", "https://u:p@h/m"),
    ],
)
def test_a_path_that_leads_nowhere_is_named(path: str) -> None:
    with pytest.raises(BadInput, match=r"policy\.path"):
        find_source(PolicyConfig(name="x", path=path))
