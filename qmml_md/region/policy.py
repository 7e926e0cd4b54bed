"""The policy that moves Region A: who is core, who is buffer."""

from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from ..errors import RegionError
from ..system.molecules import Flags, Floats, Ints, Molecules
from ..units import NM_PER_ANGSTROM
from .layout import Layout, lay_out
from .memory import Memory, average, residences
from .patch import Rules, Scene
from .places import Place, Wishes, find_places
from .vicinity import space_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Region A: the atoms that quantum mechanics looks at. Moving it changes no energy.

    Attributes:
        core: indices of the atoms that called for it, sorted, shape (m,).
        atoms: indices of all atoms of the region (core, what joins together with them, buffer), sorted, shape (m',).
        epoch: counts the changes of the region within a run; 0 is the empty region before the first check.
        clusters: atoms of each cluster of the region, hot ones first; none where all atoms are one.
        cold: how many clusters at the end hold seeds that are not hot.
    """

    core: Ints
    atoms: Ints
    epoch: int
    clusters: tuple[Ints, ...] = ()
    cold: int = 0

    @property
    def places(self) -> "tuple[Region, ...]":
        """The clusters of the region one by one, each a region of the same epoch."""
        if not len(self.atoms):
            return ()
        return tuple(
            Region(core=np.intersect1d(self.core, atoms), atoms=atoms, epoch=self.epoch)
            for atoms in self.clusters or (self.atoms,)
        )

    @property
    def hot_places(self) -> "tuple[Region, ...]":
        """The clusters that disagreement called for."""
        places = self.places
        return places[: len(places) - self.cold]


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
    """Region A around the hottest place: enter and stay thresholds, whole units, a buffer, a limit.

    1. An atom is hot if its averaged σ reaches ``enter``; if it was core and that is still at least ``stay``; or if
       it has not been core for the least number of looks.
    2. The start is the unit with the hottest atom. A unit that was core keeps the start until another is hotter by
       more than the ratio enter/stay: by that ratio the thresholds themselves say what counts as no change.
    3. Hot units join, nearest to the start first, if they are within the buffer distance, or so many bonds, of a core
       atom: a place is one cluster. Hot places elsewhere wait, or are places of their own up to ``clusters_per_frame``.
    4. Other units within the buffer distance, or so many bonds, of a core atom join as buffer, nearest first; where
       the solvent is counted, so many of its nearest molecules.
    5. Seeds that are in no hot place make places of their own.

    No unit joins that would exceed the limit, link atoms counted; what is left out is buffer before core, and the
    farther before the nearer, except that a smaller unit may take room that a larger, nearer one does not fit into.
    Equal distances and equal σ are decided by the number of the unit, so that the same input gives the same region.

    Attributes:
        enter_eV_per_A: σ at which an atom becomes core, eV/Å.
        stay_eV_per_A: σ down to which a core atom stays core, eV/Å.
        buffer_A: reach of the buffer around core atoms, by periodic distance to any atom of a unit, Å.
        max_atoms: most atoms of a cluster, link atoms included.
        buffer_bonds: reach of the buffer along bonds.
        solvent_molecules: number of molecules of the solvent in the buffer; None for those within reach.
        smoothing_fs: time constant of the average of σ, fs; 0 for none.
        min_residence_checks: least number of looks that an atom is core.
        clusters_per_frame: most places that are hot.
        layout: units of the system, made once for a run; made anew at each look where it is not given.
    """

    enter_eV_per_A: float
    stay_eV_per_A: float
    buffer_A: float
    max_atoms: int
    buffer_bonds: int = 0
    solvent_molecules: int | None = None
    smoothing_fs: float = 0.0
    min_residence_checks: int = 1
    clusters_per_frame: int = 1
    layout: Layout | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not 0.0 < self.stay_eV_per_A <= self.enter_eV_per_A:
            raise RegionError(
                f"thresholds enter {self.enter_eV_per_A} and stay {self.stay_eV_per_A} eV/Å",
                cure="choose 0 < region.stay_eV_per_A <= region.enter_eV_per_A",
            )
        if not self.buffer_A >= 0.0 or self.max_atoms < 1 or self.buffer_bonds < 0:
            raise RegionError(
                f"buffer {self.buffer_A} Å and {self.buffer_bonds} bonds, at most {self.max_atoms} atoms",
                cure="choose region.buffer_A >= 0, region.buffer_bonds >= 0 and region.max_qm_atoms >= 1",
            )
        if not self.smoothing_fs >= 0.0 or self.min_residence_checks < 1 or self.clusters_per_frame < 1:
            raise RegionError(
                f"average over {self.smoothing_fs} fs, residence of {self.min_residence_checks} looks, "
                f"{self.clusters_per_frame} clusters",
                cure="choose region.smoothing_fs >= 0, min_residence_checks >= 1 and clusters_per_frame >= 1",
            )

    def select(self, disagreement: Floats, previous: Region, positions: Floats, molecules: Molecules) -> Region:
        """Choose the next region from this disagreement alone; see ``RegionPolicy.select``.

        Raises:
            RegionError: as for ``look``.
        """
        served = np.zeros(molecules.size, dtype=np.int64)
        served[previous.core] = self.min_residence_checks
        if self.layout is not None:
            served[self.layout.seeds] = 0
        return self.look(disagreement, Memory(residence=served), previous, positions, molecules)[0]

    def look(
        self,
        disagreement: Floats,
        memory: Memory,
        previous: Region,
        positions: Floats,
        molecules: Molecules,
        *,
        time_fs: float = 0.0,
        surface: str = "",
    ) -> tuple[Region, Memory]:
        """Choose the next region, and remember.

        Args:
            disagreement: σ of each atom, eV/Å, shape (n,).
            memory: of the look before.
            previous: the region so far.
            positions: nm, shape (n, 3), now.
            molecules: what is simulated; its box is the box now.
            time_fs: now, fs.
            surface: name of the model that the disagreement is of.

        Returns:
            The new region, with the epoch of ``previous`` if nothing changed, else one more; and the new memory.

        Raises:
            RegionError: σ is not finite; what joins together with the hottest atom, or with a seed, is more than the
                region may have; or there is less solvent than is asked for.
        """
        if disagreement.shape != (molecules.size,) or not np.isfinite(disagreement).all():
            raise RegionError(
                f"the disagreement of {molecules.size} atoms is not {molecules.size} finite numbers",
                cure="the dynamics has probably blown up: use a smaller time step, or minimise first",
            )
        scene = self._scene(positions, molecules)
        sigma = average(memory, disagreement, time_fs, surface, self.smoothing_fs)
        residence = memory.residence if len(memory.residence) else np.zeros(molecules.size, dtype=np.int64)
        hot, unserved = self._hot(sigma, residence, scene.layout)
        places = find_places(scene, self._wishes(sigma, hot, unserved, residence > 0, previous, scene.layout))
        region = _region_of(places, hot, previous)
        counted = residences(memory, region.core[hot[region.core]], molecules.size)
        averaged = sigma if self.smoothing_fs else np.zeros(0)
        return region, Memory(averaged=averaged, residence=counted, time_fs=time_fs, surface=surface)

    def hot_places(
        self, disagreement: Floats, previous: Region, positions: Floats, molecules: Molecules, *, count: int
    ) -> tuple[Region, ...]:
        """Up to ``count`` regions of one frame that share no atom, to be labelled one by one.

        Each further one is what would be chosen if the places before it were cold. One that would share an atom with
        earlier ones merges with them if all fit into one cluster, and is left out otherwise: without it the cluster
        would lack a neighbour. So is a unit that is larger than the limit.

        Args:
            disagreement: σ of each atom, eV/Å, shape (n,).
            previous: the region so far.
            positions: nm, shape (n, 3), now.
            molecules: what is simulated; its box is the box now.
            count: most regions.

        Returns:
            Regions of one epoch, hottest first; none where no atom is hot.

        Raises:
            RegionError: as for ``look``.
        """
        if count < 1:
            return ()
        several = replace(self, clusters_per_frame=count)
        return several.select(disagreement, previous, positions, molecules).hot_places

    def hottest(self, disagreement: Floats) -> int:
        """The atom of the largest disagreement among those that may enter."""
        if self.layout is None:
            return int(disagreement.argmax())
        return int(np.where(self.layout.open_atoms, disagreement, -np.inf).argmax())

    def _scene(self, positions: Floats, molecules: Molecules) -> Scene:
        layout = lay_out(molecules, max_atoms=self.max_atoms) if self.layout is None else self.layout
        if layout.size != molecules.size:
            raise RegionError(
                f"the layout has {layout.size} atoms, the system {molecules.size}", cure="lay out this system"
            )
        if (self.solvent_molecules or 0) > (available := int(layout.solvent.sum())):
            raise RegionError(
                f"region.solvent_molecules asks for {self.solvent_molecules} molecules, of which there are {available}",
                cure="ask for fewer, or let region.solvent select the solvent",
            )
        rules = Rules(
            reach_nm=self.buffer_A * NM_PER_ANGSTROM,
            hops=self.buffer_bonds,
            max_atoms=self.max_atoms,
            solvent_molecules=self.solvent_molecules,
        )
        few = replace(molecules, bonds=layout.cuttable)
        space = space_of(positions, molecules.box)
        return Scene(layout=layout, rules=rules, molecules=few, positions=positions, space=space)

    def _hot(self, sigma: Floats, residence: Ints, layout: Layout) -> tuple[Flags, Flags]:
        """Whether each atom is hot, and whether that is because it has not been core for long enough."""
        unserved = (residence > 0) & (residence < self.min_residence_checks)
        hot = (sigma >= self.enter_eV_per_A) | ((residence > 0) & (sigma >= self.stay_eV_per_A)) | unserved
        may_enter = layout.open_atoms
        return hot & may_enter, unserved & may_enter

    def _wishes(
        self, sigma: Floats, hot: Flags, unserved: Flags, core: Flags, previous: Region, layout: Layout
    ) -> Wishes:
        """Which units to begin with: those that must stay, the one that held the start before, then the hottest."""
        heat = np.full(len(layout.unit_blocks), -np.inf)
        np.maximum.at(heat, layout.unit_of[hot], sigma[hot])
        warm = np.flatnonzero(np.isfinite(heat))
        order = warm[np.argsort(-heat[warm], kind="stable")]
        bound = np.unique(layout.unit_of[unserved])
        incumbents = np.intersect1d(layout.unit_of[previous.core[core[previous.core]]], warm)
        if len(bound):
            must = np.isin(order, bound)
            order = np.concatenate([order[must], order[~must]])
        elif len(incumbents):
            holder = incumbents[np.argmax(heat[incumbents])]
            if heat[order[0]] * self.stay_eV_per_A <= heat[holder] * self.enter_eV_per_A:
                order = np.concatenate([[holder], order[order != holder]])
        held: dict[int, Ints] = {}
        for place in previous.places if len(bound) else ():
            units = np.intersect1d(layout.unit_of[place.core], bound)
            held |= {int(unit): units[units != unit] for unit in units}
        return Wishes(hot=hot, order=order, held=held, count=self.clusters_per_frame)


def _region_of(places: list[Place], hot: Flags, previous: Region) -> Region:
    """The next region: the previous one if nothing changed."""
    warm = [place for place in places if hot[place.core].any()]
    ordered = warm + [place for place in places if not hot[place.core].any()]
    none = [np.zeros(0, dtype=np.int64)]
    core = np.unique(np.concatenate([place.core for place in ordered] or none))
    atoms = np.unique(np.concatenate([place.atoms for place in ordered] or none))
    same = np.array_equal(core, previous.core) and np.array_equal(atoms, previous.atoms)
    return Region(
        core=core,
        atoms=atoms,
        epoch=previous.epoch if same else previous.epoch + 1,
        clusters=tuple(place.atoms for place in ordered) if len(ordered) > 1 else (),
        cold=len(ordered) - len(warm),
    )
