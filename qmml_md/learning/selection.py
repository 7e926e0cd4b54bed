"""What to label: a few clusters of a stretch, chosen for disagreement and diversity together, within a cost.

Each atom of each candidate has a distance to what is labelled: the Euclidean distance of its AEV to the nearest one of
an atom of the same element. A label is worth what it takes off the squares of these distances, summed over the atoms
of all candidates, times the square root of its doubt,

``score(c | S) = √σ_c · Σ_i max(0, d_i²(S) − d_i²(S ∪ c))``

and labels are chosen one by one, the best first. The sum is the gain of a facility-location problem, for which the
greedy choice is within 1 − 1/e of the best one (Nemhauser, Wolsey, Fisher, Math. Program. 14, 265, 1978,
doi:10.1007/BF01588971). It asks for clusters that stand for many others; the farthest point would ask for outliers.
Atoms are compared one by one, so order and number of atoms of a cluster do not matter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..region.cluster import Cluster
from ..system.molecules import Floats, Ints
from .boundary import simulated
from .features import Features, of_atoms

#: Clusters all of whose atoms have a labelled twin within this AEV distance are the same geometry: a shift of 1e-4 to
#: 1e-3 Å, far above the rounding of single precision (1e-6) and below the motion of one time step.
SAME_GEOMETRY = 1e-3

#: Power of the doubt in the score.
DOUBT_POWER = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A cluster that could be labelled.

    Attributes:
        step: at which it was met.
        cluster: the atoms.
        doubt: largest disagreement of its atoms, eV/Å.
        features: of the cluster.
    """

    step: int
    cluster: Cluster
    doubt: float
    features: Features


def choose(
    candidates: Sequence[Candidate],
    labelled: Sequence[Features],
    *,
    count: int,
    budget_s: float | None = None,
    cost: Callable[[Cluster], float],
) -> list[int]:
    """Choose which clusters to label.

    With a budget the choice is made twice, by score and by score per second; the one of larger total score counts
    (Leskovec et al., KDD 2007, 420, doi:10.1145/1281192.1281239).

    Args:
        candidates: to choose from.
        labelled: clusters that have labels already; none of them is chosen again.
        count: most labels.
        budget_s: most seconds that all chosen labels together may cost; None for no limit. Where every cluster costs
            more, none is chosen.
        cost: estimated seconds of one label.

    Returns:
        Indices of candidates, best first.

    Raises:
        ValueError: a doubt is negative or not finite, or a cost is not a positive number.
    """
    # A link atom is none of the simulation: no label is worth more for having one that is unlike others.
    features = [of_atoms(candidate.features, simulated(candidate.cluster)) for candidate in candidates]
    doubt = np.array([candidate.doubt for candidate in candidates], dtype=np.float64)
    if budget_s is None:
        return _greedy(features, doubt, labelled, count=count)[0]
    seconds = np.array([cost(candidate.cluster) for candidate in candidates], dtype=np.float64)
    if not (np.isfinite(seconds) & (seconds > 0.0)).all():
        raise ValueError("the cost of a label must be a positive number of seconds")
    by_score = _greedy(features, doubt, labelled, count=count, seconds=seconds, budget_s=budget_s)
    by_rate = _greedy(features, doubt, labelled, count=count, seconds=seconds, budget_s=budget_s, per_second=True)
    return max(by_score, by_rate, key=lambda found: found[1])[0]


def pick_from_pool(
    features: Sequence[Features], doubt: Floats, count: int, labelled: Sequence[Features] = ()
) -> list[int]:
    """Choose from a pool of clusters by the rule of ``choose``, without a budget.

    Args:
        features: of the pool.
        doubt: largest disagreement of each cluster, eV/Å, shape (n,).
        count: most labels.
        labelled: clusters that have labels already.

    Returns:
        Indices, best first; fewer than ``count`` only if the rest of the pool is labelled geometry.

    Raises:
        ValueError: shapes do not fit, or a doubt is negative or not finite.
    """
    return _greedy(features, np.asarray(doubt, dtype=np.float64), labelled, count=count)[0]


def _greedy(
    features: Sequence[Features],
    doubt: Floats,
    labelled: Sequence[Features],
    *,
    count: int,
    seconds: Floats | None = None,
    budget_s: float = np.inf,
    per_second: bool = False,
) -> tuple[list[int], float]:
    """Indices in the order in which they were chosen, and the sum of their scores."""
    weight = _weights(features, doubt)
    price = np.zeros(len(features)) if seconds is None else seconds
    squares, owner, current = _distances(features, labelled)
    chosen: list[int] = []
    total, spent = 0.0, 0.0
    while len(chosen) < count:
        # Where nothing is labelled yet, every geometry is new.
        new = (_largest(current, owner, len(features)) > SAME_GEOMETRY**2) | (not labelled and not chosen)
        open_ = new & (spent + price <= budget_s)
        open_[chosen] = False
        if not open_.any():
            break
        score = weight * np.maximum(current[:, None] - squares, 0.0).sum(axis=0)
        best = int(np.argmax(np.where(open_, score / price if per_second else score, -np.inf)))
        chosen.append(best)
        total += float(score[best])
        spent += float(price[best])
        current = np.minimum(current, squares[:, best])
    return chosen, total


def _weights(features: Sequence[Features], doubt: Floats) -> Floats:
    if doubt.shape != (len(features),) or not (np.isfinite(doubt) & (doubt >= 0.0)).all():
        raise ValueError(f"{len(features)} clusters need as many finite doubts that are not negative")
    if not doubt.any():
        # A model of one member has no doubt at all; diversity alone decides.
        return np.ones(len(features))
    weights: Floats = doubt**DOUBT_POWER
    return weights


def _distances(features: Sequence[Features], labelled: Sequence[Features]) -> tuple[Floats, Ints, Floats]:
    """Squared AEV distances of the a atoms of all n candidates.

    Returns:
        To the nearest atom of each candidate, shape (a, n), infinite where it has none of that element; the candidate
        that owns each atom, shape (a,); and to the nearest labelled atom, but at most as far as the farthest
        candidate, shape (a,).
    """
    if not features:
        return np.zeros((0, 0)), np.zeros(0, dtype=np.int64), np.zeros(0)
    elements = torch.cat([f.elements for f in features])
    aev = torch.cat([f.aev for f in features]).double()
    squares = np.stack([_nearest(elements, aev, f) for f in features], axis=1)
    current = np.where(np.isfinite(squares), squares, 0.0).max(axis=1)
    for known in labelled:
        current = np.minimum(current, _nearest(elements, aev, known))
    owner: Ints = np.repeat(np.arange(len(features), dtype=np.int64), [f.atoms for f in features])
    return squares, owner, current


def _nearest(elements: Tensor, aev: Tensor, known: Features) -> Floats:
    """Squared distance of each AEV to the nearest of the same element in a cluster, shape (a,)."""
    found = aev.new_full((len(elements),), torch.inf)
    other = known.aev.double()
    for element in sorted(set(known.elements.tolist())):
        ours, theirs = elements == element, known.elements == element
        gaps = torch.cdist(aev[ours], other[theirs], compute_mode="donot_use_mm_for_euclid_dist")
        found[ours] = gaps.amin(dim=1).square()
    result: Floats = found.numpy()
    return result


def _largest(values: Floats, owner: Ints, count: int) -> Floats:
    """Largest value of the atoms of each candidate, shape (count,)."""
    found = np.zeros(count)
    np.maximum.at(found, owner, values)
    return found
