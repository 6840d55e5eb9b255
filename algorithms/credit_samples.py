"""A few training rollouts with the advantage of every token, as rows for the record: what `credit` really rewarded.

Of one update, one group is kept: the one whose rollouts' mean advantages lie furthest apart (the first of equals), and
of it the two rollouts with the highest mean and the two with the lowest. Demonstrations are not in it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import torch

from algorithms.batch import RolloutBatch

FIRST, LAST = "credit_first.parquet", "credit_last.parquet"
EACH = 2
"""Rollouts that are kept from either end."""


def credit_rows(batch: RolloutBatch, advantages: torch.Tensor, update: int) -> list[dict[str, Any]]:
    """Rows of one update, one a turn.

    Args:
        batch: the update's rollouts.
        advantages: float32 [rollouts] or [rollouts, tokens], as `credit` returned them.
        update: the update's number, from 1.

    Returns:
        update, rollout (its place in the batch), problem, solved, score (the rollout's summed reward), turn, action,
        rewards (the turn's, as JSON), ends (where each token ends in the action, in characters) and advantages (one a
        token; None where the token counts in another rollout of its tree).
    """
    mask = batch.action_mask.cpu()
    spread = advantages.detach().cpu().float()
    spread = (spread if spread.dim() == 2 else spread[:, None]) * mask
    means = (spread.sum(1) / mask.sum(1).clamp(min=1)).tolist()
    groups: dict[int, list[int]] = defaultdict(list)
    for place, rollout in enumerate(batch.rollouts):
        groups[rollout.group].append(place)
    group = max(groups.values(), key=lambda places: max(means[p] for p in places) - min(means[p] for p in places))
    ranked = sorted(group, key=lambda place: -means[place])
    chosen = dict.fromkeys([*ranked[:EACH], *ranked[-EACH:]])
    scores = (batch.rewards * batch.weights).sum(1).tolist()
    rows = []
    for place in chosen:
        rollout = batch.rollouts[place]
        for number, turn in enumerate(rollout.turns):
            trained = mask[place, turn.start : turn.end].tolist()
            values = spread[place, turn.start : turn.end].tolist()
            rows.append(
                {
                    "update": update,
                    "rollout": place,
                    "problem": rollout.problem.id,
                    "solved": rollout.solved,
                    "score": scores[place],
                    "turn": number,
                    "action": turn.action.encode("utf-8", "replace").decode(),  # Arrow takes no lone surrogates.
                    "rewards": json.dumps(dict(turn.verdict.rewards)),
                    "ends": batch.token_ends(rollout.completion_ids[turn.start : turn.end]),
                    "advantages": [value if here else None for value, here in zip(values, trained, strict=True)],
                }
            )
    return rows
