"""Adapters: nothing at first, all that is trained, and saved and loaded bit by bit."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from stub_session import StubSession

from algorithms.grpo import GRPO, GRPOConfig
from policies.adapter import AdapterConfig, check_quantisation
from policies.api import Rollout, Sampling
from policies.language_model import LanguageModel, load_policy
from policies.source import PolicyConfig, Source, find_source, fingerprint
from policies.weights import put_weights, trained_weights
from tasks.errors import BadInput
from tasks.gsm_synth import GsmSynth, GsmSynthConfig

TINY = PolicyConfig(name="tiny", path="package:policies/tiny/weights", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def task() -> GsmSynth:
    return GsmSynth(GsmSynthConfig(max_action_tokens=40))


def adapted(seed: int = 0, rank: int = 4) -> LanguageModel:
    return load_policy(TINY, adapter=AdapterConfig(rank=rank, alpha=8), seed=seed)


def play(policy: LanguageModel, task: GsmSynth) -> list[list[int]]:
    rollouts: list[Rollout] = policy.play(task, task.problems("val")[:6], 2, Sampling(), seed=3)[0]
    return [rollout.completion_ids for rollout in rollouts]


@pytest.fixture(scope="module")
def trained(task: GsmSynth, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    policy = adapted()
    policy.instructions = task.instructions
    config = GRPOConfig(learning_rate=1e-2, problems_per_update=2, group_size=8, gradient_checkpointing=True)
    session = StubSession(policy, task, tmp_path_factory.mktemp("scratch"), updates=2)
    GRPO(config).improve(policy, task, session)
    return policy


def test_a_fresh_adapter_changes_nothing(tiny: LanguageModel, task: GsmSynth) -> None:
    policy = adapted()
    tiny.instructions = policy.instructions = task.instructions
    tiny.max_action_tokens = None
    assert play(policy, task) == play(tiny, task)


def test_grpo_trains_the_adapter_and_leaves_the_weights_alone(trained: LanguageModel) -> None:
    fresh = dict(adapted().model.named_parameters())
    for name, parameter in trained.model.named_parameters():
        if "lora_B" in name:
            assert parameter.requires_grad
            assert bool(parameter.any()), f"{name} was never trained"
        elif "lora_A" not in name:
            assert not parameter.requires_grad
            assert torch.equal(parameter, fresh[name])


def test_a_saved_adapter_plays_bit_for_bit_as_it_did(trained: LanguageModel, task: GsmSynth, tmp_path: Path) -> None:
    trained.save(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < 2**19, "the frozen weights are not saved again"
    again = adapted(seed=1)
    again.restore_adapter(tmp_path)
    assert again.state_hash() == trained.state_hash()
    assert again.instructions == trained.instructions
    assert play(again, task) == play(trained, task)


def test_a_saved_adapter_is_a_policy_of_its_own(trained: LanguageModel, task: GsmSynth, tmp_path: Path) -> None:
    trained.save(tmp_path / "policy")
    about = json.loads((tmp_path / "policy" / "adapter_config.json").read_text())
    assert about["base_model_name_or_path"] == "package:policies/tiny/weights"
    config = replace(TINY, path=str(tmp_path / "policy"))
    before = torch.get_rng_state()
    again = load_policy(config)
    assert torch.equal(torch.get_rng_state(), before)
    assert again.instructions == trained.instructions
    assert {name for name, _ in again.model.named_parameters()} == {
        n for n, _ in load_policy(TINY).model.named_parameters()
    }
    ids = torch.tensor([again.chat.prompt("", [{"role": "user", "content": "1+1?"}])])
    with torch.no_grad():
        assert torch.allclose(again.model(ids).logits, trained.model(ids).logits, atol=1e-4)
        assert not torch.allclose(again.model(ids).logits, load_policy(TINY).model(ids).logits, atol=1e-2)
    assert fingerprint(again.source) != fingerprint(find_source(TINY))
    # Another adapter may be trained beside it, and stands on both.
    more = load_policy(config, adapter=AdapterConfig(rank=2))
    more.save(tmp_path / "more")
    assert load_policy(replace(TINY, path=str(tmp_path / "more"))).state_hash() == again.state_hash()


def test_an_adapter_beside_a_warm_start_names_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    warm = load_policy(TINY)
    with torch.no_grad():
        next(iter(warm.model.parameters())).mul_(2)
    warm.save(tmp_path / "warm")
    source = Source(str(tmp_path / "warm"), None, "package:policies/tiny/weights, warm-started (0)")
    policy = load_policy(TINY, source, AdapterConfig(rank=2))
    policy.save(tmp_path / "policy")
    again = load_policy(replace(TINY, path=str(tmp_path / "policy")))
    assert again.state_hash() == warm.state_hash()


def test_plain_peft_reads_what_was_saved(
    trained: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    load_policy(TINY).save(tmp_path / "base")
    policy = load_policy(replace(TINY, path="base"), adapter=AdapterConfig(rank=4, alpha=8))
    put_weights(policy, trained_weights(trained))
    policy.save(tmp_path / "policy")
    assert json.loads((tmp_path / "policy" / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"
    theirs = AutoPeftModelForCausalLM.from_pretrained("policy")
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        assert torch.equal(theirs(ids).logits, policy.model(ids).logits)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_model_name_or_path": None}, "does not name the weights"),
        ({"base_model_name_or_path": "nowhere at all"}, "its weights are not to be had: policy.path: no folder"),
        ({"base_model_name_or_path": "."}, "does not name the weights"),
        ({"peft_type": "LOHA"}, "only LoRA adapters"),
        ({"init_lora_weights": "pissa"}, "only LoRA adapters"),
        ({"use_dora": True}, "an adapter with use_dora"),
        ({"r": "many"}, "cannot load"),
        ({"r": 8}, "size mismatch"),
        ({"target_modules": ["nothing"]}, "cannot load"),
    ],
)
def test_an_adapter_folder_that_lies_is_refused_in_one_line(
    trained: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], message: str
) -> None:
    trained.save(tmp_path)
    monkeypatch.chdir(tmp_path)
    about = tmp_path / "adapter_config.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), **settings}))
    with pytest.raises(BadInput, match=message) as caught:
        load_policy(replace(TINY, path=str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_an_adapter_of_another_shape_or_none_at_all_is_refused(trained: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no adapter_model\.safetensors"):
        adapted().restore_adapter(tmp_path)
    trained.save(tmp_path)
    with pytest.raises(BadInput, match="size mismatch"):
        adapted(rank=2).restore_adapter(tmp_path)


def test_the_seed_decides_the_first_matrices_and_no_global_generator_moves() -> None:
    before = torch.get_rng_state()
    states = [adapted(seed).state_hash() for seed in (0, 0, 1)]
    assert states[0] == states[1] != states[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_four_bits_need_cuda_and_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="need a CUDA device, and the policy is on cpu; adapter=lora"):
        load_policy(TINY, adapter=AdapterConfig(name="qlora"))
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match="needs the package bitsandbytes"):
        check_quantisation(torch.device("cuda"))
