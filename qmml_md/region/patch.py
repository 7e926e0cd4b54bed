"""Blocks that make a place: how many atoms a cluster of them has, and what its link atoms call for."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..system.molecules import Flags, Floats, Ints, Molecules
from .layout import NO_ATOMS, Layout
from .links import unfit_outers
from .vicinity import Space


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


def called_for(scene: Scene, patch: Patch) -> Ints:
    """Atoms outside that must come in, since link atoms in their place would not be fit."""
    if not patch.links:
        return NO_ATOMS
    return unfit_outers(scene.molecules, scene.positions, inside(scene.layout, patch), scene.molecules.box)


def closed(scene: Scene, order: list[int], solvent: list[int], banned: Flags) -> Patch | int | None:
    """Units with all that their link atoms call for; the last ones leave where there is no room for that.

    Args:
        scene: the frame.
        order: units, the first one to stay whatever happens.
        solvent: units that stay as well.
        banned: whether each unit must stay outside.

    Returns:
        The place; None where the first unit and the solvent do not fit with what is called for; or a unit that cannot
        be capped, since an atom beside it must stay outside: the place must be without that unit.
    """
    layout, limit, kept, came = scene.layout, scene.rules.max_atoms, list(order), list[int]()
    while True:
        patch = joined(layout, Patch(), [*kept, *came, *solvent])
        if patch.size > limit:
            if len(kept) == 1:
                return None
            while len(kept) > 1 and joined(layout, Patch(), [*kept, *came, *solvent]).size > limit:
                kept.pop()
            # What only those that left called for need not come.
            came = []
            continue
        outers = called_for(scene, patch)
        if not len(outers):
            return patch
        forbidden = outers[banned[layout.unit_of[outers]]]
        if len(forbidden):
            return _last_beside(layout, patch, int(forbidden[0]), [*kept, *came])
        came += sorted(set(layout.unit_of[outers].tolist()))


def _last_beside(layout: Layout, patch: Patch, outer: int, order: list[int]) -> int | None:
    """The last unit but the first that holds a bonded neighbour, in the place, of an atom outside."""
    hosts = layout.bond_ends[layout.bond_starts[outer] : layout.bond_starts[outer + 1]]
    blocks = {int(block) for block in layout.block_of[hosts]} & patch.blocks
    return next((unit for unit in reversed(order[1:]) if not blocks.isdisjoint(layout.unit_blocks[unit])), None)
