"""Unlabelled clusters cut from where the atoms are."""

import numpy as np

from ..region.cluster import Cluster, cut_cluster
from ..region.policy import RegionPolicy, empty_region
from ..system.molecules import Floats, Molecules

#: A disagreement above every threshold.
BEYOND_DOUBT_EV_PER_A = 1e9


def cluster_around(atom: int, positions: Floats, molecules: Molecules, policy: RegionPolicy) -> Cluster:
    """The cluster that the policy would choose if this atom alone were in doubt.

    Args:
        atom: index of the atom.
        positions: nm, shape (n, 3).
        molecules: what is simulated.
        policy: the policy of the run.

    Raises:
        RegionError: the atom's molecule does not fit into a region.
    """
    alone = np.zeros(molecules.size)
    alone[atom] = BEYOND_DOUBT_EV_PER_A
    region = policy.select(alone, empty_region(), positions, molecules)
    electrons = int(molecules.numbers[region.atoms].sum() - molecules.formal_charge[region.atoms].sum())
    return cut_cluster(molecules, positions, region.atoms, multiplicity=1 + electrons % 2)
