"""Bad model folders are named before anything is loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from policies.language_model import choose_device, load_policy
from policies.source import PolicyConfig, find_source
from tasks.errors import BadInput


def source_error(**settings: object) -> str:
    with pytest.raises(BadInput) as caught:
        find_source(PolicyConfig(name="x", **settings))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_folder_is_named() -> None:
    assert "/no/such/folder" in source_error(path="/no/such/folder")


def test_a_folder_without_config_is_no_model_folder(tmp_path: Path) -> None:
    assert "config.json" in source_error(path=str(tmp_path))


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert "no weights" in source_error(path=str(tmp_path))


def test_pickled_weights_are_no_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert "no weights (*.safetensors)" in source_error(path=str(tmp_path))


def test_a_gguf_variable_must_name_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SOME_GGUF", str(tmp_path / "gone.gguf"))
    assert "SOME_GGUF" in source_error(path="owner/name", gguf_variable="SOME_GGUF")


def test_a_gguf_variable_goes_before_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    monkeypatch.setenv("SOME_GGUF", str(file))
    found = find_source(PolicyConfig(name="x", path="owner/name", gguf_variable="SOME_GGUF"))
    assert (found.folder, found.gguf) == (str(tmp_path), "model.gguf")


def test_the_label_of_a_source_holds_no_home_path(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert find_source(PolicyConfig(name="x", path=str(tmp_path))).label == tmp_path.name


def test_a_folder_whose_config_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(BadInput) as caught:
        load_policy(PolicyConfig(name="x", path=str(tmp_path), device="cpu"))
    assert "\n" not in str(caught.value)
    assert tmp_path.name in str(caught.value)


def test_damaged_weights_are_refused_in_one_line(untrained_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(untrained_folder, tmp_path / "model")
    (tmp_path / "model/model.safetensors").write_bytes(b"not safetensors at all")
    with pytest.raises(BadInput) as caught:
        load_policy(PolicyConfig(name="x", path=str(tmp_path / "model"), device="cpu"))
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_a_chat_template_is_refused(untrained_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(untrained_folder, tmp_path / "model")
    (tmp_path / "model/chat_template.jinja").unlink()
    with pytest.raises(BadInput, match="chat template"):
        load_policy(PolicyConfig(name="x", path=str(tmp_path / "model"), device="cpu"))


def test_cuda_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(BadInput, match=r"policy\.device=cuda"):
        choose_device("cuda")
