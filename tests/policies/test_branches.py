"""What-ifs scored in one pass, against one pass each."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from policies.branches import Branch, passes, score_branches
from policies.language_model import LanguageModel

TOLERANCE = 1e-4
"""Float32 sums in another order."""


def plain(policy: LanguageModel, ids: list[int], temperature: float) -> torch.Tensor:
    """Log-probabilities of ids[1:], one after the other in one unbatched pass."""
    with torch.no_grad():
        logits = policy.model.eval()(torch.tensor([ids])).logits[0, :-1]
    return (logits / temperature).log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), temperature=st.sampled_from([0.7, 1.0]))
def test_a_branch_sees_its_part_of_the_trunk_and_itself(
    untrained: LanguageModel, seed: int, temperature: float
) -> None:
    rng = random.Random(seed)

    def ids(low: int, high: int) -> list[int]:
        return [rng.randrange(len(untrained.tokenizer)) for _ in range(rng.randint(low, high))]

    trunks = [ids(2, 12) for _ in range(rng.randint(1, 4))]
    branches = [
        [Branch(rng.randint(0, len(trunk)), ids(1, 4), ids(1, 4)) for _ in range(rng.randint(0, 3))] for trunk in trunks
    ]
    scores, flops = score_branches(untrained, trunks, branches, temperature)
    assert (flops > 0) == any(branches)
    for trunk, own, score in zip(trunks, branches, scores, strict=True):
        for branch, found in zip(own, score, strict=True):
            alone = plain(untrained, trunk[: branch.at] + branch.context + branch.target, temperature)
            torch.testing.assert_close(found, alone[-len(branch.target) :], atol=TOLERANCE, rtol=0)


def test_rows_are_packed_by_size_and_none_is_lost() -> None:
    sizes = [9_000, 10, 9_000, 20_000, 8_000, 0]
    assert list(passes(sizes)) == [[1, 4], [0], [2], [3]]


def test_the_flops_are_those_that_one_row_needs(untrained: LanguageModel) -> None:
    """A trunk beyond its last branch is not read, and the head is computed at the targets alone."""
    trunk, branch = list(range(6, 46)), Branch(20, list(range(6, 16)), list(range(6, 14)))
    _, flops = score_branches(untrained, [trunk], [[branch]], 1.0)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ids = torch.tensor([trunk[:20] + branch.context + branch.target])
        wanted = torch.arange(29, 37)
        untrained.model(ids, logits_to_keep=wanted)
    assert flops == pytest.approx(counter.get_total_flops(), rel=0.03)
    assert score_branches(untrained, [trunk], [[]], 1.0) == ([[]], 0.0)


def test_scoring_leaves_the_model_in_the_mode_it_was_in(untrained: LanguageModel) -> None:
    untrained.model.train()
    score_branches(untrained, [[1, 2, 3]], [[]], 1.0)
    assert untrained.model.training
