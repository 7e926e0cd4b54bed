"""The policy that moves Region A: who is core, who is buffer."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import RegionError
from ..system.images import nearest_image
from ..system.molecules import Floats, Ints, Molecules
from ..units import NM_PER_ANGSTROM

Flags = NDArray[np.bool_]


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


def empty_region() -> Region:
    """The region before the first check: no atoms, epoch 0."""
    none = np.zeros(0, dtype=np.int64)
    return Region(core=none, atoms=none, epoch=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdPolicy:
    """Region A around the hottest place: enter and stay thresholds, whole molecules, a buffer, a limit.

    1. An atom is hot if its σ reaches ``enter``, or if it was core and its σ is still at least ``stay``.
    2. The seed is the molecule with the hottest atom. A molecule that was core keeps the seed until another is hotter
       by more than the ratio enter/stay: by that ratio the thresholds themselves say what counts as no change.
    3. Hot molecules join, nearest to the seed first, if they are within the buffer distance of a core atom: the region
       is one cluster. Hot places elsewhere wait until this one has cooled down.
    4. Other molecules within the buffer distance of a core atom join as buffer, nearest first.

    No molecule joins that would exceed the limit; what is left out is buffer before core, and the farther before the
    nearer, except that a smaller molecule may take room that a larger, nearer one does not fit into. Equal distances
    and equal σ are decided by the number of the molecule, so that the same input gives the same region.

    Present limit: whole molecules only. No covalent bond is cut, so a seed that is larger than the limit is an error.

    Attributes:
        enter_eV_per_A: σ at which an atom becomes core, eV/Å.
        stay_eV_per_A: σ down to which a core atom stays core, eV/Å.
        buffer_A: reach of the buffer around core atoms, by periodic distance to any atom of a molecule, Å.
        max_atoms: most atoms of the region.
    """

    enter_eV_per_A: float
    stay_eV_per_A: float
    buffer_A: float
    max_atoms: int

    def __post_init__(self) -> None:
        if not 0.0 < self.stay_eV_per_A <= self.enter_eV_per_A:
            raise RegionError(
                f"thresholds enter {self.enter_eV_per_A} and stay {self.stay_eV_per_A} eV/Å",
                cure="choose 0 < region.stay_eV_per_A <= region.enter_eV_per_A",
            )
        if not self.buffer_A >= 0.0 or self.max_atoms < 1:
            raise RegionError(
                f"buffer {self.buffer_A} Å, at most {self.max_atoms} atoms",
                cure="choose region.buffer_A >= 0 and region.max_qm_atoms >= 1",
            )

    def select(self, disagreement: Floats, previous: Region, positions: Floats, molecules: Molecules) -> Region:
        """Choose the next region; see ``RegionPolicy.select``.

        Raises:
            RegionError: σ is not finite, or the seed molecule has more atoms than the region may have.
        """
        hot = self._hot(disagreement, previous, molecules)
        chosen = np.zeros(int(molecules.molecule_of.max(initial=-1)) + 1, dtype=bool)
        if hot.any():
            heat = _heat(hot, disagreement, molecules)
            seed = self._seed(heat, np.unique(molecules.molecule_of[previous.core]))
            self._grow(chosen, seed, hot, positions, molecules)
        inside = chosen[molecules.molecule_of]
        return _successor(previous, np.flatnonzero(hot & inside), np.flatnonzero(inside))

    def hot_places(
        self, disagreement: Floats, previous: Region, positions: Floats, molecules: Molecules, *, count: int
    ) -> tuple[Region, ...]:
        """Up to ``count`` regions of one frame that share no atom, to be labelled one by one.

        The first is that of ``select``. Each further one is what would be chosen if the places before it were cold,
        from the hottest molecule on that none of them holds. A place that would take a molecule of an earlier one is
        left out: without it the cluster would lack a neighbour. So is a molecule that is larger than the limit.

        Args:
            disagreement: σ of each atom, eV/Å, shape (n,).
            previous: the region so far.
            positions: nm, shape (n, 3), now.
            molecules: what is simulated; its box is the box now.
            count: most regions.

        Returns:
            Regions with the epoch of the first, hottest first after it; none where no atom is hot.

        Raises:
            RegionError: as for ``select``.
        """
        first = self.select(disagreement, previous, positions, molecules)
        if count < 1 or not len(first.core):
            return ()
        places = [first]
        hot = self._hot(disagreement, previous, molecules)
        sizes = np.bincount(molecules.molecule_of)
        taken = np.zeros(len(sizes), dtype=bool)
        taken[molecules.molecule_of[first.atoms]] = True
        heat = _heat(hot, disagreement, molecules)
        for seed in np.argsort(-heat, kind="stable"):
            if len(places) == count or not np.isfinite(heat[seed]):
                break
            if taken[seed] or sizes[seed] > self.max_atoms:
                continue
            chosen, open_ = np.zeros(len(sizes), dtype=bool), hot & ~taken[molecules.molecule_of]
            self._grow(chosen, int(seed), open_, positions, molecules)
            if not (chosen & taken).any():
                taken |= chosen
                inside = chosen[molecules.molecule_of]
                core, atoms = np.flatnonzero(open_ & inside), np.flatnonzero(inside)
                places.append(Region(core=core, atoms=atoms, epoch=first.epoch))
        return tuple(places)

    def _hot(self, disagreement: Floats, previous: Region, molecules: Molecules) -> Flags:
        """Whether each atom is hot, shape (n,)."""
        if disagreement.shape != (molecules.size,) or not np.isfinite(disagreement).all():
            raise RegionError(
                f"the disagreement of {molecules.size} atoms is not {molecules.size} finite numbers",
                cure="the dynamics has probably blown up: use a smaller time step, or minimise first",
            )
        hot: Flags = disagreement >= self.enter_eV_per_A
        hot[previous.core] |= disagreement[previous.core] >= self.stay_eV_per_A
        return hot

    def _seed(self, heat: Floats, incumbents: Ints) -> int:
        """The molecule to grow from: σ of the hottest core atom of each molecule, -inf for none, decides."""
        hottest = int(np.argmax(heat))
        if not len(incumbents):
            return hottest
        holder = int(incumbents[np.argmax(heat[incumbents])])
        return hottest if heat[hottest] * self.stay_eV_per_A > heat[holder] * self.enter_eV_per_A else holder

    def _grow(self, chosen: Flags, seed: int, hot: Flags, positions: Floats, molecules: Molecules) -> None:
        """Mark the molecules of the region in ``chosen``, shape (number of molecules,)."""
        sizes = np.bincount(molecules.molecule_of)
        room = self.max_atoms - int(sizes[seed])
        if room < 0:
            raise RegionError(
                f"molecule {seed} has {sizes[seed]} atoms, the region at most {self.max_atoms}",
                cure="raise region.max_qm_atoms; cutting through covalent bonds is not available yet",
            )
        reach = self.buffer_A * NM_PER_ANGSTROM
        warm = np.zeros(len(chosen), dtype=bool)
        warm[molecules.molecule_of[hot]] = True
        chosen[seed] = True
        from_seed = near = self._distances(seed, hot, positions, molecules)
        while (candidates := np.flatnonzero(warm & ~chosen & (near <= reach) & (sizes <= room))).size:
            joining = int(candidates[np.argmin(from_seed[candidates])])
            chosen[joining] = True
            room -= int(sizes[joining])
            near = np.minimum(near, self._distances(joining, hot, positions, molecules))
        outside = np.flatnonzero(~chosen & (near <= reach))
        for joining in outside[np.argsort(near[outside], kind="stable")]:
            if sizes[joining] <= room:
                chosen[joining] = True
                room -= int(sizes[joining])

    def _distances(self, source: int, hot: Flags, positions: Floats, molecules: Molecules) -> Floats:
        """Periodic distance from the nearest core atom of one molecule to each molecule, nm; exact up to the reach."""
        core = np.flatnonzero(hot & (molecules.molecule_of == source))
        reach = self.buffer_A * NM_PER_ANGSTROM
        shortest = np.full(molecules.size, np.inf)
        for atom in core:
            vectors, _ = nearest_image(positions - positions[atom], molecules.box, within=reach)
            np.minimum(shortest, np.einsum("ij,ij->i", vectors, vectors), out=shortest)
        result = np.full(int(molecules.molecule_of.max()) + 1, np.inf)
        np.minimum.at(result, molecules.molecule_of, np.sqrt(shortest))
        return result


def _heat(hot: Flags, disagreement: Floats, molecules: Molecules) -> Floats:
    """σ of the hottest hot atom of each molecule, eV/Å, -inf for none, shape (number of molecules,)."""
    heat = np.full(int(molecules.molecule_of.max(initial=-1)) + 1, -np.inf)
    np.maximum.at(heat, molecules.molecule_of[hot], disagreement[hot])
    return heat


def _successor(previous: Region, core: Ints, atoms: Ints) -> Region:
    """The next region: the previous one if nothing changed."""
    if np.array_equal(core, previous.core) and np.array_equal(atoms, previous.atoms):
        return previous
    return Region(core=core, atoms=atoms, epoch=previous.epoch + 1)
