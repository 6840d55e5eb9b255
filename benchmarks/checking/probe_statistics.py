"""Cosines of gradients from their dot products, with jackknife errors over batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Batches = NDArray[np.intp]
"""Which batches a statistic is computed from."""


class WithError(NamedTuple):
    """A figure and its standard error; None where it is not defined."""

    value: float | None
    error: float | None


def jackknife(statistic: Callable[[Batches], float], batches: int) -> WithError:
    """A statistic of all batches, and its standard error by leaving out one batch at a time.

    Args:
        statistic: takes the batches that it is to be computed from.
        batches: how many there are.
    """
    every = np.arange(batches)
    left_out = np.array([statistic(np.delete(every, batch)) for batch in every])
    variance = (batches - 1) / batches * float(((left_out - left_out.mean()) ** 2).sum())
    return WithError(*(x if math.isfinite(x) else None for x in (float(statistic(every)), math.sqrt(variance))))


def mean_with_error(numbers: Sequence[float] | Numbers) -> WithError:
    """The mean over batches; batches whose number is NaN are left out."""
    defined = np.array([number for number in numbers if not math.isnan(number)])
    if len(defined) < 2:
        return WithError(float(defined[0]) if len(defined) else None, None)
    return jackknife(lambda chosen: float(defined[chosen].mean()), len(defined))


@dataclass(frozen=True, slots=True)
class Cosines:
    """By algorithm, or by pair of them; see `benchmarks.checking.probe.AlgorithmProbe`."""

    held_out: dict[str, WithError]
    minus_first: dict[str, WithError]
    held_out_of_mean: dict[str, WithError]
    pairs: dict[tuple[str, str], WithError]
    pairs_of_mean: dict[tuple[str, str], WithError]
    halves: float | None
    """Between the two halves of the held-out gradient."""


def cosines(gram: Numbers, names: Sequence[str], batches: int) -> Cosines:
    """All cosines that the probe prints. A gradient that is 0 has none, and its batch is left out.

    Args:
        gram: dot products, float64 [2 + algorithms x batches, same]: the two halves of the held-out gradient, then
            each algorithm's batches.
        names: the algorithms.
        batches: of each.
    """
    truth_squared = float(gram[:2, :2].sum())
    blocks = gram[2:, 2:].reshape(len(names), batches, len(names), batches)
    on_truth = gram[2:, :2].sum(1).reshape(len(names), batches)

    def each(one: int, other: int) -> Numbers:
        """Batch by batch: [batches]."""
        squared = np.diagonal(blocks[one, :, one]) * np.diagonal(blocks[other, :, other])
        return over(np.diagonal(blocks[one, :, other]), squared)

    def of_mean(one: int, other: int) -> WithError:
        def statistic(chosen: Batches) -> float:
            product, *squared = (
                blocks[a, :, b][np.ix_(chosen, chosen)].sum() for a, b in ((one, other), (one, one), (other, other))
            )
            return float(over(product, squared[0] * squared[1]))

        return jackknife(statistic, batches)

    def truth_of_mean(one: int) -> WithError:
        def statistic(chosen: Batches) -> float:
            squared = blocks[one, :, one][np.ix_(chosen, chosen)].sum()
            return float(over(on_truth[one, chosen].sum(), squared * truth_squared))

        return jackknife(statistic, batches)

    with_truth = [over(on_truth[a], np.diagonal(blocks[a, :, a]) * truth_squared) for a in range(len(names))]
    pairs = list(combinations(range(len(names)), 2))
    halves = float(over(gram[0, 1], gram[0, 0] * gram[1, 1]))
    return Cosines(
        held_out={name: mean_with_error(with_truth[a]) for a, name in enumerate(names)},
        minus_first={name: mean_with_error(with_truth[a] - with_truth[0]) for a, name in enumerate(names) if a},
        held_out_of_mean={name: truth_of_mean(a) for a, name in enumerate(names)},
        pairs={(names[a], names[b]): mean_with_error(each(a, b)) for a, b in pairs},
        pairs_of_mean={(names[a], names[b]): of_mean(a, b) for a, b in pairs},
        halves=None if math.isnan(halves) else halves,
    )


def over(product: Numbers, squared: Numbers) -> Numbers:
    """Dot products by the roots of products of squared norms; NaN where a norm is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(squared > 0, product / np.sqrt(squared), np.nan)
