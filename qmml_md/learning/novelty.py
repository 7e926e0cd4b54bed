"""How far an environment lies from all that was trained on: a second doubt, which asks no member of the ensemble.

Members were trained on the same data and can agree where all of them are wrong. The atomic environment vector of an
atom is compared with those of the atoms of the same element in the training labels: the distance to the nearest, each
feature divided by its standard deviation there. The unit is the distance that labels keep among themselves: nine
labelled atoms in ten have a neighbour in another label within it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..system.molecules import Floats
from .features import Features

#: Share of the labelled atoms that have a neighbour in another label within the unit of distance.
KNOWN_SHARE = 0.9
#: Of the largest standard deviation of a feature: least that a feature is divided by.
SHRINKAGE = 0.1
#: Nothing is more novel than this; nor is an element that no label holds.
MOST = 10.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Known:
    """Environments of one element that were trained on.

    Attributes:
        weights: one over the width of each feature, shape (D,).
        points: weighted features, shape (n, D).
        unit: distance that counts as one; NaN if fewer than two labels hold the element.
    """

    weights: Tensor
    points: Tensor
    unit: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Novelty:
    """Distance to what was trained on.

    Attributes:
        known: by element index.
        labels: labels that it was made from.
    """

    known: dict[int, Known]
    labels: int

    def score(self, features: Features) -> Floats:
        """Novelty of each atom, shape (m,), from 0 to ``MOST``; about 1 at the edge of what is known.

        One for elements of which fewer than two labels are known: there is no distance to compare with. With two labels
        or more, an element that none of them holds is as novel as can be.
        """
        out = torch.ones(features.atoms, dtype=torch.float64)
        if self.labels < 2:
            return _array(out)
        for element in set(features.elements.tolist()):
            atoms = (features.elements == element).nonzero().flatten()
            here = self.known.get(element)
            if here is None:
                out[atoms] = MOST
            elif np.isfinite(here.unit):
                moved = features.aev[atoms].double() * here.weights
                away = _distances(moved, here.points).min(1).values
                out[atoms] = (away / here.unit).clamp(max=MOST)
        return _array(out)


def make_novelty(trained: Sequence[Features]) -> Novelty:
    """Remember the environments of labels that were trained on.

    Args:
        trained: features of each label, all of one descriptor.
    """
    if not trained:
        return Novelty(known={}, labels=0)
    elements = torch.cat([f.elements for f in trained])
    owner = torch.repeat_interleave(torch.arange(len(trained)), torch.tensor([f.atoms for f in trained]))
    aev = torch.cat([f.aev for f in trained]).double()
    known = {z: _remember(aev[elements == z], owner[elements == z]) for z in sorted(set(elements.tolist()))}
    return Novelty(known=known, labels=len(trained))


def _remember(aev: Tensor, owner: Tensor) -> Known:
    width = aev.std(0, correction=0)
    widest = float(width.max())
    weights = 1.0 / (width + SHRINKAGE * widest) if widest > 0.0 else torch.ones_like(width)
    points = aev * weights
    if int(owner.min()) == int(owner.max()):
        return Known(weights=weights, points=points, unit=float("nan"))
    among = _distances(points, points)
    among[owner.unsqueeze(1) == owner] = float("inf")
    unit = float(torch.quantile(among.min(1).values, KNOWN_SHARE))
    # Labels of one geometry keep no distance; the rounding of single precision stands for it.
    return Known(weights=weights, points=points, unit=max(unit, 1e-6))


def _distances(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distances of all pairs, shape (n, m)."""
    return torch.cdist(first, second, compute_mode="use_mm_for_euclid_dist")


def _array(values: Tensor) -> Floats:
    result: Floats = values.numpy()
    return result
