"""Bad model folders are named before anything is loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from policies.chat import Chat
from policies.devices import choose_device, choose_dtype, trains_in_bf16
from policies.language_model import LanguageModel, load_policy
from policies.memory import skeleton
from policies.source import PolicyConfig, find_source, fingerprint, offline_ways
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


def test_a_tokenizer_without_an_end_token_is_refused_since_no_action_would_end(tiny: LanguageModel) -> None:
    tiny.tokenizer.eos_token = None
    with pytest.raises(BadInput, match=r"^tiny: the tokenizer has no end token"):
        Chat(tiny.tokenizer, "tiny")


def test_a_hub_that_cannot_be_reached_is_one_line_with_the_ways_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to the hub\nand more lines")

    monkeypatch.setattr("policies.language_model.AutoTokenizer.from_pretrained", unreachable)
    monkeypatch.setattr("policies.model_folder.AutoConfig.from_pretrained", unreachable)
    config = PolicyConfig(name="x", path="owner/name", gguf_variable="X_GGUF", gguf_package="x_weights", device="cpu")
    wanted = "offline, give policy.path=FOLDER, or X_GGUF=FILE.gguf in the environment, or the package x-weights"
    for attempt in (load_policy, lambda config: skeleton(find_source(config), None, offline_ways(config))):
        with pytest.raises(BadInput) as caught:
            attempt(config)
        assert str(caught.value).endswith(wanted)
        assert "\n" not in str(caught.value)


def test_the_fingerprint_of_a_folder_is_that_of_the_files_that_are_read(untrained_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(untrained_folder, tmp_path / "model")
    source = find_source(PolicyConfig(name="x", path=str(tmp_path / "model")))
    before = fingerprint(source)
    (tmp_path / "model/README.md").write_text("nobody reads this")
    assert fingerprint(source) == before
    weights = tmp_path / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert fingerprint(source) != before


CUDA = torch.device("cuda")


@pytest.mark.parametrize(
    ("name", "has_bf16", "trained", "held", "gradients_in_bf16"),
    [
        ("auto", True, True, torch.float32, True),
        ("auto", True, False, torch.bfloat16, True),
        ("auto", False, False, torch.float32, False),
        ("float32", True, True, torch.float32, False),
        ("bfloat16", True, True, torch.bfloat16, True),
    ],
)
def test_on_cuda_trained_weights_are_held_in_float32_and_frozen_ones_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    has_bf16: bool,
    trained: bool,
    held: torch.dtype,
    gradients_in_bf16: bool,
) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: has_bf16)
    assert choose_dtype(name, CUDA, trained=trained) == held
    assert trains_in_bf16(name, CUDA) == gradients_in_bf16


def test_bfloat16_on_a_gpu_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda **_: False)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "Old GPU")
    with pytest.raises(BadInput, match=r"^policy\.dtype=bfloat16: Old GPU .*use policy\.dtype=float32$"):
        choose_dtype("bfloat16", CUDA)


def test_a_step_of_adam_is_lost_in_weights_of_bfloat16_which_is_why(tiny: LanguageModel) -> None:
    moved = {}
    for dtype in (torch.float32, torch.bfloat16):
        weights = tiny.model.model.layers[0].mlp.up_proj.weight.detach().to(dtype).clone().requires_grad_()
        before = weights.detach().clone()
        weights.grad = torch.ones_like(weights)
        torch.optim.AdamW([weights], lr=1e-6, weight_decay=0.0).step()
        moved[dtype] = float((weights.detach() != before).float().mean())
    assert moved[torch.float32] > 0.99
    assert moved[torch.bfloat16] < 0.01


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_is_cuda_then_mps_then_cpu(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, chosen: str) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)
    assert choose_device("auto").type == chosen


@pytest.mark.parametrize(
    ("name", "message"), [("mps", "no MPS device"), ("xpu", "use auto, cpu, mps"), ("gpu", "use auto")]
)
def test_devices_that_are_not_there_or_not_known_are_named(name: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        choose_device(name)


def test_cuda_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(BadInput, match=r"policy\.device=cuda"):
        choose_device("cuda")
