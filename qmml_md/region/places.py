"""Several places of one frame: one after the other, merged where they overlap, and the seeds that are always core."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import NoRoom
from ..system.molecules import Flags, Ints, atom_name
from .growth import grow
from .layout import NO_ATOMS
from .patch import Patch, Scene, inside, is_whole, joined


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wishes:
    """What calls for places.

    Attributes:
        hot: whether disagreement makes each atom hot, shape (n,).
        order: units to begin with, the first one first.
        held: for some of them, units that must stay with them.
        count: most places that heat calls for.
    """

    hot: Flags
    order: Ints
    held: dict[int, Ints]
    count: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Place:
    """One cluster of a region.

    Attributes:
        start: unit that it grew from.
        patch: its blocks.
        core: core atoms, sorted, shape (m,).
        atoms: all atoms, sorted, shape (m',).
    """

    start: int
    patch: Patch
    core: Ints
    atoms: Ints


def find_places(scene: Scene, wishes: Wishes) -> list[Place]:
    """The places of a frame: those of heat in the order of the wishes, then those of seeds that are in none of these.

    A place of heat that shares a block with earlier ones merges with them where all fit into one; otherwise it is left
    out: without its neighbours its cluster would be another one. A place of seeds merges in the same way, and
    otherwise goes without the blocks that are taken, since it must not be left out.

    Args:
        scene: the frame.
        wishes: what calls for places.

    Raises:
        NoRoom: the first unit, or a seed, does not fit.
    """
    layout, places = scene.layout, list[Place]()
    eager = wishes.hot.copy()
    eager[layout.seeds] = True
    for start in _uncovered(scene, wishes.order.tolist(), places):
        if len(places) == wishes.count:
            break
        free = _free(scene, places, eager)
        patch = grow(scene, free, start, held=wishes.held.get(start, NO_ATOMS), banned=layout.banned)
        if patch is None and not places:
            raise _too_large(scene, start)
        if patch is not None:
            _settle(scene, eager, places, _place(scene, free, start, patch))
    for start in _uncovered(scene, np.unique(layout.unit_of[layout.seeds]).tolist(), places):
        free = _free(scene, places, eager)
        patch = grow(scene, free, start, banned=layout.banned)
        if patch is None:
            raise _too_large(scene, start)
        if not _settle(scene, eager, places, _place(scene, free, start, patch)):
            places.append(_beside(scene, free, start, places))
    return places


def _uncovered(scene: Scene, units: list[int], places: list[Place]) -> Iterator[int]:
    """Units that are whole in no place, as places come."""
    for unit in units:
        if not any(is_whole(scene.layout, place.patch, unit) for place in places):
            yield unit


def _free(scene: Scene, places: list[Place], eager: Flags) -> Flags:
    """Atoms that may become core and are in no place."""
    free = eager.copy()
    for place in places:
        free &= ~inside(scene.layout, place.patch)
    return free


def _place(scene: Scene, eager: Flags, start: int, patch: Patch) -> Place:
    atoms = np.flatnonzero(inside(scene.layout, patch))
    ready = atoms[eager[atoms]]
    whole = [is_whole(scene.layout, patch, unit) for unit in scene.layout.unit_of[ready].tolist()]
    return Place(start=start, patch=patch, core=ready[np.array(whole, dtype=bool)], atoms=atoms)


def _settle(scene: Scene, eager: Flags, places: list[Place], new: Place) -> bool:
    """Add a place, merged with those that it shares a block with; False where it can be neither."""
    touched = [place for place in places if place.patch.blocks & new.patch.blocks]
    if not touched:
        places.append(new)
        return True
    parts = [*touched, new]
    layout, start = scene.layout, touched[0].start
    core = np.unique(layout.unit_of[np.concatenate([part.core for part in parts])])
    needed = joined(layout, Patch(), core.tolist()).blocks
    if scene.rules.solvent_molecules is None:
        needed = needed.union(*(part.patch.blocks for part in parts))
    # Grown again from all core units at once: what fits is the union, and the solvent is counted once.
    free = _free(scene, [place for place in places if place not in touched], eager)
    patch = grow(scene, free, start, held=core[core != start], banned=layout.banned)
    if patch is None or not patch.blocks >= needed:
        return False
    others = [place for place in places if place not in touched]
    if any(place.patch.blocks & patch.blocks for place in others):
        return False
    places[places.index(touched[0])] = _place(scene, free, start, patch)
    for place in touched[1:]:
        places.remove(place)
    return True


def _beside(scene: Scene, eager: Flags, start: int, places: list[Place]) -> Place:
    """The place of a seed without the blocks of other places."""
    taken = frozenset[int]().union(*(place.patch.blocks for place in places))
    banned = scene.layout.banned | np.array([not taken.isdisjoint(unit) for unit in scene.layout.unit_blocks])
    patch = grow(scene, eager, start, banned=banned)
    if patch is None:
        raise _too_large(scene, start)
    return _place(scene, eager, start, patch)


def _too_large(scene: Scene, unit: int) -> NoRoom:
    layout, rules = scene.layout, scene.rules
    first, patch = int(np.argmax(layout.unit_of == unit)), joined(layout, Patch(), [unit])
    topology = scene.molecules.topology
    name = f"atom {first}" if topology is None else atom_name(scene.molecules, first)
    links = f" and {patch.links} link atoms" if patch.links else ""
    solvent = f", {scene.reserved} of them kept for the solvent" if scene.reserved else ""
    more = "" if patch.size > rules.max_atoms - scene.reserved else "; what its link atoms call for is more than fits"
    return NoRoom(
        f"what joins together with {name} has {patch.atoms} atoms{links}, the region at most {rules.max_atoms}"
        f"{solvent}{more}",
        cure="raise region.max_qm_atoms, let less join at once (region.unit: fragments), ask for fewer "
        "region.solvent_molecules, or exclude fewer atoms around it (region.exclude)",
    )
