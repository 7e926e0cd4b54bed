"""How one place grows around a unit: hot units first, then the buffer, within the limit, until all link atoms fit."""

import numpy as np

from ..system.molecules import Flags, Floats, Ints
from .layout import NO_ATOMS
from .patch import Patch, Scene, closed, joined
from .vicinity import Vicinity, distances, extent, vicinity

#: No bond is longer than this, nm: so far the neighbours over bonds are looked for.
LONGEST_BOND_NM = 0.25
#: At first so many reaches around the first core atom are looked through; more where the core grows beyond.
FIRST_RADIUS = 3.0
#: A reach below this is no reason to look through less, nm.
LEAST_REACH_NM = 0.15


def grow(scene: Scene, hot: Flags, start: int, *, held: Ints = NO_ATOMS, banned: Flags) -> Patch | None:
    """Grow a place.

    Units join one by one, each if there is room for it: the start, units that are held, hot units within reach of a
    core atom (the nearest to the start first), others within reach of a core atom (the nearest first), and the
    solvent where it is counted. Link atoms take room, too. Where one is not fit, the unit in its place comes in, and
    those that joined last make room.

    Args:
        scene: the frame.
        hot: whether each atom may become core, shape (n,); one of the start does.
        start: unit to begin with.
        held: units that join next.
        banned: whether each unit must stay outside, shape (number of units,); the start joins all the same.

    Returns:
        The place; None where the start does not fit.
    """
    if joined(scene.layout, Patch(), [start]).size > scene.rules.max_atoms - scene.reserved:
        return None
    while True:
        growth = _Growth(scene, hot, start, banned)
        growth.run(held[~banned[held]])
        answer = closed(scene, growth.order, growth.solvent, banned)
        if not isinstance(answer, int):
            return answer
        banned = banned | (np.arange(len(banned)) == answer)


class _Growth:
    """A place while it grows.

    Attributes:
        order: units in the order in which they joined.
        solvent: units that joined because the solvent is counted.
    """

    def __init__(self, scene: Scene, hot: Flags, start: int, banned: Flags) -> None:
        self._scene, self._banned = scene, banned
        self.order: list[int] = []
        self.solvent: list[int] = []
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
        first = self._core_of(start)
        self._centre = int(first[0])
        self._first = self._sources = scene.space.seen_from(self._centre, first)
        self._look(extent(self._first) + FIRST_RADIUS * self._reach)
        self._near = np.full(len(banned), np.inf)

    def run(self, held: Ints) -> None:
        """Let everything join that may."""
        limit = self._scene.rules.max_atoms - self._scene.reserved
        for unit in (self._start, *held[np.argsort(self._lead[held], kind="stable")].tolist()):
            self._admit(unit, limit)
        while self._next_hot(limit):
            pass
        self._buffer(limit)
        if self._scene.rules.solvent_molecules is not None:
            self._solvent(self._scene.rules.solvent_molecules)

    def _core_of(self, unit: int) -> Ints:
        first, last = np.searchsorted(self._hot_units, (unit, unit + 1))
        return self._hot_atoms[first:last]

    def _look(self, radius: float) -> None:
        """Look through everything within a radius of the first core atom."""
        self._view: Vicinity = vicinity(self._scene.space, self._centre, radius)
        self._units = self._scene.layout.unit_of.take(self._view.atoms)
        self._lead = self._distances(self._first)

    def _distances(self, places: Floats) -> Floats:
        """From the nearest of some places to each unit in view, nm."""
        shortest = np.full(len(self._banned), np.inf)
        np.minimum.at(shortest, self._units, distances(self._view, places))
        return shortest

    def _admit(self, unit: int, limit: int) -> bool:
        """Let a unit join if there is room."""
        patch = joined(self._scene.layout, self._patch, [unit])
        if patch.size > limit:
            return False
        self._patch = patch
        self._joined[unit] = True
        self.order.append(unit)
        if self._warm[unit]:
            self._spread(self._core_of(unit))
        return True

    def _spread(self, core: Ints) -> None:
        """Measure from further core atoms."""
        places = self._scene.space.seen_from(self._centre, core)
        self._sources = np.concatenate([self._sources, places])
        need = extent(places) + self._reach
        if need > self._view.radius:
            self._look(1.5 * need)
        np.minimum(self._near, self._distances(places), out=self._near)
        if self._scene.rules.hops:
            layout = self._scene.layout
            self._bonded[layout.unit_of[layout.within_bonds(core, self._scene.rules.hops)]] = True

    def _full(self, limit: int) -> bool:
        """Whether nothing can join any more; a unit that closes a cut bond may cost less than its atoms."""
        return not self._patch.links and limit - self._patch.size < self._scene.layout.smallest

    def _within_reach(self) -> Flags:
        near: Flags = (self._near <= self._scene.rules.reach_nm) | self._bonded
        return near & ~self._joined & ~self._banned

    def _next_hot(self, limit: int) -> bool:
        """Let the next hot unit join; False where none is left that fits."""
        if self._full(limit):
            return False
        candidates = np.flatnonzero(self._within_reach() & self._warm)
        order = candidates[np.argsort(self._lead[candidates], kind="stable")]
        return any(self._admit(unit, limit) for unit in order.tolist())

    def _buffer(self, limit: int) -> None:
        counted = self._scene.rules.solvent_molecules is not None
        open_ = self._within_reach() & ~self._warm
        candidates = np.flatnonzero(open_ & ~self._scene.layout.solvent if counted else open_)
        for unit in candidates[np.argsort(self._near[candidates], kind="stable")].tolist():
            if not self._full(limit):
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
                if count > 0 and self._admit(unit, scene.rules.max_atoms):
                    self.solvent.append(self.order.pop())
                    count -= 1
            if self._view.radius >= everything or not (scene.layout.solvent & ~tried).any():
                return
            if count > 0:
                self._look(2.0 * self._view.radius)
