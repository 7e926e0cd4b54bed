"""From a cluster of what is on the ensemble to one of the whole system, with the charges around it where they count."""

from dataclasses import replace

import numpy as np

from ..config import Config
from ..region.cluster import Cluster
from ..region.numbering import renumbered
from ..region.surroundings import ForceFieldCharges, in_system, surround
from ..system.archive import Simulated
from ..system.molecules import Floats


def charges_of(config: Config, simulated: Simulated) -> ForceFieldCharges | None:
    """The charges that labels are embedded in; None where they are not.

    Args:
        config: of the run.
        simulated: what is simulated.
    """
    if config.reference.embedding == "mechanical" or simulated.field is None:
        return None
    atoms = simulated.molecules
    ml = np.zeros(atoms.size, dtype=bool)
    ml[simulated.part.atoms] = True
    charges = simulated.field.charges
    return ForceFieldCharges(charges=charges, ml=ml, bonds=atoms.bonds, residue_of=atoms.residue_of)


def in_whole(
    cluster: Cluster,
    simulated: Simulated,
    charges: ForceFieldCharges | None,
    positions: Floats,
    box: Floats | None,
    *,
    cutoff_A: float,
) -> Cluster:
    """A cluster of what is on the ensemble, counted among all atoms.

    Args:
        cluster: its parents are atoms of the part.
        simulated: what is simulated.
        charges: that its label is embedded in, as ``charges_of`` says.
        positions: of all atoms then, nm, shape (n, 3).
        box: then, nm, shape (3, 3); None in vacuum.
        cutoff_A: reach of the charges around it, Å.
    """
    part = simulated.part
    found = renumbered(cluster, part.outer)
    if charges is None:
        return found
    _, boundary = in_system(cluster, part.outer, part.links)
    around = surround(found, charges, positions, box, cutoff_A=cutoff_A, boundary=boundary)
    return replace(found, surroundings=around)
