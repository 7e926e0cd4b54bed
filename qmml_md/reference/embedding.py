"""The explicit charge–charge term of a cluster and its surroundings: what a run computes outside the networks.

    E = k Σ_i Σ_j q_i q_j / |x_i − x_j|,    i in the cluster, j in its surroundings

with the force field's charges on both sides. The networks cannot see the surroundings. What they are trained on is
therefore the quantum energy of the cluster among the charges, less this term, which the force field adds again.
"""

from dataclasses import dataclass

import numpy as np

from ..region.cluster import Surroundings
from ..system.molecules import Floats
from ..units import COULOMB_EV_ANGSTROM_PER_E2


@dataclass(frozen=True, slots=True, kw_only=True)
class Explicit:
    """Charges of the force field with one another.

    Attributes:
        energy: between the cluster and its surroundings, eV.
        forces: on the atoms of the cluster, eV/Å, shape (m, 3).
        on_charges: on the surroundings, eV/Å, shape (c, 3).
    """

    energy: float
    forces: Floats
    on_charges: Floats


def explicit_term(positions: Floats, surroundings: Surroundings) -> Explicit:
    """The explicit term and its gradient.

    Args:
        positions: of the cluster's atoms, Å, shape (m, 3).
        surroundings: charges on both sides.
    """
    apart = positions[:, None] - surroundings.positions
    squared = np.einsum("ijx,ijx->ij", apart, apart)
    pairs = COULOMB_EV_ANGSTROM_PER_E2 * np.outer(surroundings.own, surroundings.charges) / np.sqrt(squared)
    push = (pairs / squared)[..., None] * apart
    return Explicit(energy=float(pairs.sum()), forces=push.sum(axis=1), on_charges=-push.sum(axis=0))
