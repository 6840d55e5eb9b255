"""What-ifs scored in one pass, against one pass each."""

from __future__ import annotations

import random

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.branches import Branch, branch_of, passes, score_branches
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


def test_a_branch_leaves_its_trunk_where_the_two_begin_to_differ() -> None:
    assert branch_of([1, 2, 3, 4], [1, 2, 9, 4], [5]) == Branch(2, [9, 4], [5])
    assert branch_of([1, 2, 3, 4], [1, 2, 3], [5]) == Branch(2, [3], [5]), "a target needs a token to be predicted from"
    assert branch_of([1, 2], [1, 2, 3], [5]) == Branch(2, [3], [5])
    assert branch_of([1, 2], [7], [5]) == Branch(0, [7], [5])


def test_rows_are_packed_by_size_and_none_is_lost() -> None:
    sizes = [9_000, 10, 9_000, 20_000, 8_000, 0]
    assert list(passes(sizes)) == [[1, 4], [0], [2], [3]]


def test_scoring_leaves_the_model_in_the_mode_it_was_in(untrained: LanguageModel) -> None:
    untrained.model.train()
    score_branches(untrained, [[1, 2, 3]], [[]], 1.0)
    assert untrained.model.training
