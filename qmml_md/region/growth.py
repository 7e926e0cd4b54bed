"""How one place grows around a unit: hot units first, then the buffer, within the limit, until all link atoms fit."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..system.molecules import Floats, Ints, Molecules
from .layout import NO_ATOMS, Flags, Layout
from .links import unfit_outers
from .vicinity import Space, Vicinity, distances, extent, vicinity

#: No bond is longer than this, nm: so far the neighbours over bonds are looked for.
LONGEST_BOND_NM = 0.25
#: At first so many reaches around the first core atom are looked through; more where the core grows beyond.
FIRST_RADIUS = 3.0
#: A reach below this is no reason to look through less, nm.
LEAST_REACH_NM = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How far a place may grow.

    Attributes:
        reach_nm: distance from a core atom within which units join.
        hops: bonds from a core atom within which units join.
        max_atoms: most atoms of a cluster, link atoms included.
        solvent_molecules: molecules of the solvent in the buffer; None for those within reach.
    """

    reach_nm: float
    hops: int
    max_atoms: int
    solvent_molecules: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """Blocks, and what a cluster cut from them holds.

    Attributes:
        blocks: their numbers.
        atoms: real atoms.
        links: link atoms.
    """

    blocks: frozenset[int] = frozenset()
    atoms: int = 0
    links: int = 0

    @property
    def size(self) -> int:
        """Number of atoms, link atoms included."""
        return self.atoms + self.links


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """One frame with the rules.

    Attributes:
        layout: units of the system.
        rules: of growth.
        molecules: what is simulated; of its bonds those between blocks are enough.
        positions: nm, shape (n, 3).
        space: the positions, ready to be looked through.
    """

    layout: Layout
    rules: Rules
    molecules: Molecules
    positions: Floats
    space: Space

    @property
    def reserved(self) -> int:
        """Atoms that are kept for the solvent."""
        return (self.rules.solvent_molecules or 0) * self.layout.solvent_size


def joined(layout: Layout, patch: Patch, units: Iterable[int]) -> Patch:
    """A patch with further units."""
    blocks, atoms, links = set(patch.blocks), patch.atoms, patch.links
    for unit in units:
        for block in layout.unit_blocks[unit]:
            if block in blocks:
                continue
            blocks.add(block)
            atoms += layout.block_sizes[block]
            for other in layout.block_neighbours[block]:
                links += -1 if other in blocks else 1
    return Patch(blocks=frozenset(blocks), atoms=atoms, links=links)


def inside(layout: Layout, patch: Patch) -> Flags:
    """Whether each atom belongs to a patch, shape (n,)."""
    flags = np.zeros(len(layout.block_sizes), dtype=bool)
    flags[list(patch.blocks)] = True
    found: Flags = flags[layout.block_of]
    return found


def is_whole(layout: Layout, patch: Patch, unit: int) -> bool:
    """Whether all of a unit belongs to a patch."""
    return patch.blocks.issuperset(layout.unit_blocks[unit])


def called_for(scene: Scene, patch: Patch) -> list[int]:
    """Units outside that must come in, since link atoms in their place would not be fit."""
    if not patch.links:
        return []
    outers = unfit_outers(scene.molecules, scene.positions, inside(scene.layout, patch), scene.molecules.box)
    return sorted(set(map(int, scene.layout.unit_of[outers])))


def closed(scene: Scene, patch: Patch, limit: int, banned: Flags) -> tuple[Patch, list[int]] | None:
    """A patch with all that its link atoms call for.

    Args:
        scene: the frame.
        patch: to be closed.
        limit: most atoms, link atoms included.
        banned: whether each unit must stay outside, shape (number of units,).

    Returns:
        The patch and the units that came in; None where it would be too large or needs what must stay outside.
    """
    came: list[int] = []
    while patch.atoms <= limit and (units := called_for(scene, patch)):
        larger = joined(scene.layout, patch, units)
        if banned[units].any() or larger.blocks == patch.blocks:
            return None
        patch, came = larger, came + units
    return (patch, came) if patch.size <= limit else None


def grow(scene: Scene, hot: Flags, start: int, *, held: Ints = NO_ATOMS, banned: Flags) -> Patch | None:
    """Grow a place.

    Units join one by one, each if there is room for it: the start, units that are held, hot units within reach of a
    core atom (the nearest to the start first), others within reach of a core atom (the nearest first), and the
    solvent where it is counted. Link atoms take room, too. Where one would not be fit, all is done again and each unit
    joins together with what its link atoms call for, or not at all.

    Args:
        scene: the frame.
        hot: whether each atom may become core, shape (n,); one of the start does.
        start: unit to begin with.
        held: units that join next.
        banned: whether each unit must stay outside, shape (number of units,); the start joins all the same.

    Returns:
        The place; None where the start does not fit.
    """
    found = _Growth(scene, hot, start, banned, careful=False).run(held)
    if found is not None and not called_for(scene, found):
        return found
    return _Growth(scene, hot, start, banned, careful=True).run(held)


class _Growth:
    """A place while it grows."""

    def __init__(self, scene: Scene, hot: Flags, start: int, banned: Flags, *, careful: bool) -> None:
        self._scene, self._banned, self._careful = scene, banned, careful
        atoms = np.flatnonzero(hot)
        units = scene.layout.unit_of[atoms]
        order = np.argsort(units, kind="stable")
        # Hot atoms, those of one unit side by side.
        self._hot_atoms, self._hot_units = atoms[order], units[order]
        self._warm = np.zeros(len(banned), dtype=bool)
        self._warm[units] = True
        self._patch, self._start = Patch(), start
        self._joined = np.zeros(len(banned), dtype=bool)
        self._bonded = np.zeros(len(banned), dtype=bool)
        self._reach = max(scene.rules.reach_nm, scene.rules.hops * LONGEST_BOND_NM, LEAST_REACH_NM)
        first = self._core_of([start])
        self._centre = int(first[0])
        self._first = self._sources = scene.space.seen_from(self._centre, first)
        self._look(extent(self._first) + FIRST_RADIUS * self._reach)
        self._near = np.full(len(banned), np.inf)

    def run(self, held: Ints) -> Patch | None:
        """Let everything join that may."""
        limit = self._scene.rules.max_atoms - self._scene.reserved
        if not self._admit(self._start, limit):
            return None
        for unit in held[np.argsort(self._lead[held], kind="stable")].tolist():
            self._admit(unit, limit)
        while self._next_hot(limit):
            pass
        self._buffer(limit)
        if self._scene.rules.solvent_molecules is not None:
            self._solvent(self._scene.rules.solvent_molecules)
        return self._patch

    def _core_of(self, units: list[int]) -> Ints:
        warm = [unit for unit in units if self._warm[unit]]
        ends = [np.searchsorted(self._hot_units, (unit, unit + 1)) for unit in warm]
        return np.concatenate([NO_ATOMS, *(self._hot_atoms[first:last] for first, last in ends)])

    def _look(self, radius: float) -> None:
        """Look through everything within a radius of the first core atom."""
        self._view: Vicinity = vicinity(self._scene.space, self._centre, radius)
        self._lead = self._distances(self._first)

    def _distances(self, places: Floats) -> Floats:
        """From the nearest of some places to each unit in view, nm."""
        shortest = np.full(len(self._banned), np.inf)
        np.minimum.at(shortest, self._scene.layout.unit_of[self._view.atoms], distances(self._view, places))
        return shortest

    def _admit(self, unit: int, limit: int) -> bool:
        """Let a unit join, with what its link atoms call for, if there is room."""
        layout, came = self._scene.layout, [unit]
        patch = joined(layout, self._patch, came)
        if self._careful:
            answer = closed(self._scene, patch, limit, self._banned)
            if answer is None:
                return False
            patch, more = answer
            came = came + more
        if patch.size > limit:
            return False
        self._patch = patch
        self._joined[came] = True
        self._spread(self._core_of(came))
        return True

    def _spread(self, core: Ints) -> None:
        """Measure from further core atoms."""
        if not len(core):
            return
        places = self._scene.space.seen_from(self._centre, core)
        self._sources = np.concatenate([self._sources, places])
        need = extent(places) + self._reach
        if need > self._view.radius:
            self._look(1.5 * need)
        np.minimum(self._near, self._distances(places), out=self._near)
        if self._scene.rules.hops:
            layout = self._scene.layout
            self._bonded[layout.unit_of[layout.within_bonds(core, self._scene.rules.hops)]] = True

    def _within_reach(self) -> Flags:
        near: Flags = (self._near <= self._scene.rules.reach_nm) | self._bonded
        return near & ~self._joined & ~self._banned

    def _next_hot(self, limit: int) -> bool:
        """Let the next hot unit join; False where none is left that fits."""
        candidates = np.flatnonzero(self._within_reach() & self._warm)
        order = candidates[np.argsort(self._lead[candidates], kind="stable")]
        return any(self._admit(unit, limit) for unit in order.tolist())

    def _buffer(self, limit: int) -> None:
        counted = self._scene.rules.solvent_molecules is not None
        open_ = self._within_reach() & ~self._warm
        candidates = np.flatnonzero(open_ & ~self._scene.layout.solvent if counted else open_)
        for unit in candidates[np.argsort(self._near[candidates], kind="stable")].tolist():
            if self._patch.links or self._patch.size < limit:
                self._admit(unit, limit)

    def _solvent(self, count: int) -> None:
        """Let the nearest molecules of the solvent join until there are so many."""
        scene, tried = self._scene, self._joined | self._banned
        spread = extent(self._sources)
        everything = spread + float(np.abs(scene.space.lattice).sum()) if scene.space.periodic else np.inf
        while count > 0:
            sure = self._view.radius - spread
            near = self._distances(self._sources)
            candidates = np.flatnonzero(scene.layout.solvent & ~tried & (near <= sure))
            for unit in candidates[np.argsort(near[candidates], kind="stable")].tolist():
                tried[unit] = True
                count -= self._admit(unit, scene.rules.max_atoms) if count > 0 else 0
            if self._view.radius >= everything or not (scene.layout.solvent & ~tried).any():
                return
            if count > 0:
                self._look(2.0 * self._view.radius)
