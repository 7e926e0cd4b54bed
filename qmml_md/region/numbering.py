"""From the numbers of atoms within a part of a system to those in the whole.

What is learned about is counted among the atoms that are on the ensemble; what is written down is counted among all.
"""

from dataclasses import replace

import numpy as np

from ..system.molecules import Ints
from .cluster import Cluster
from .policy import Region


def renumbered(cluster: Cluster, outer: Ints) -> Cluster:
    """A cluster of a part as one of the whole; caps of the part become link atoms without an atom to stand for.

    Args:
        cluster: its parents are atoms of the part.
        outer: index in the whole of each atom of the part, -1 for its own caps.
    """
    parent = np.where(cluster.parent >= 0, outer[cluster.parent], -1)
    return replace(cluster, parent=parent, outer=outer[cluster.outer] if len(cluster.outer) else cluster.outer)


def renumbered_region(region: Region, outer: Ints) -> Region:
    """A region of a part as one of the whole, caps left out; arguments as for ``renumbered``."""

    def counted(atoms: Ints) -> Ints:
        found = outer[atoms]
        return np.sort(found[found >= 0])

    clusters = tuple(counted(atoms) for atoms in region.clusters)
    return replace(region, core=counted(region.core), atoms=counted(region.atoms), clusters=clusters)
