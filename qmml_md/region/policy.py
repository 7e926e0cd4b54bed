"""The policy that moves Region A: who is core, who is buffer."""

from dataclasses import dataclass
from typing import Protocol

from ..system.molecules import Floats, Ints, Molecules


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Region A: the atoms that quantum mechanics looks at. Moving it changes no energy.

    Attributes:
        core: indices of the atoms whose disagreement called for it, sorted, shape (m,).
        atoms: indices of all atoms of the region (core, their whole molecules, buffer), sorted, shape (m',).
        epoch: counts the changes of the region within a run; 0 is the empty region before the first check.
    """

    core: Ints
    atoms: Ints
    epoch: int


class RegionPolicy(Protocol):
    """Anything that can move Region A."""

    def select(self, disagreement: Floats, previous: Region, positions: Floats, molecules: Molecules) -> Region:
        """Choose the next region.

        Args:
            disagreement: σ of each atom, eV/Å, shape (n,).
            previous: the region so far.
            positions: nm, shape (n, 3), now.
            molecules: what is simulated; its box is the box now.

        Returns:
            The new region; with the epoch of ``previous`` if nothing changed, else one more.
        """
        ...
