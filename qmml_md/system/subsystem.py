"""The part of a system that the networks move, as molecules of its own: its atoms, and a hydrogen for each cut bond.

Where a bond between an ML atom (the host) and an MM atom (the outer atom) is cut, a hydrogen caps the host. It lies on
the bond at a fixed distance of the host, x_c = x_h + d u with u = (x_o − x_h)/|x_o − x_h|, as openmmml and OpenMM's
``LocalCoordinatesSite`` place it. No particle moves with it: its force goes to host and outer atom by the chain rule,

    F_h += F_c − (d/r)(I − u uᵀ) F_c,    F_o += (d/r)(I − u uᵀ) F_c,    r = |x_o − x_h|.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import StructureError
from .fragments import fragments_of, leaving_bonds
from .images import Floats, Ints, nearest_image
from .molecules import Molecules, molecules_of

HYDROGEN = 1
HYDROGEN_MASS_DA = 1.008


@dataclass(frozen=True, slots=True, kw_only=True)
class Subsystem:
    """The ML part of a system, and how it lies in the whole.

    Attributes:
        size: number of atoms of the whole system, n.
        atoms: indices of the ML atoms in the whole system, sorted, shape (a,).
        links: rows (ML atom, MM atom), indices in the whole system, shape (l, 2).
        distances_nm: from each ML atom of ``links`` to its cap, shape (l,).
        molecules: the ML atoms, then the caps: a + l atoms with numbers of their own.
        outer: index of each in the whole system, -1 for a cap, shape (a + l,).
        whole: whether the whole system is ML: nothing is cut, and there is no field.
    """

    size: int
    atoms: Ints
    links: Ints
    distances_nm: Floats
    molecules: Molecules
    outer: Ints
    whole: bool

    def positions(self, x: Floats, box: Floats | None = None) -> Floats:
        """Where the atoms and caps are.

        Args:
            x: positions of the whole system, nm, shape (..., n, 3).
            box: reduced box, nm, shape (3, 3), where molecules may be wrapped; None where they are whole.

        Returns:
            nm, shape (..., a + l, 3); ``x`` itself where the whole system is ML.
        """
        if self.whole:
            return x
        ours = x[..., self.atoms, :]
        if not len(self.links):
            return ours
        caps = place_caps(x[..., self.links[:, 0], :], self._bonds(x, box), self.distances_nm)
        return np.concatenate([ours, caps], axis=-2)

    def at(self, x: Floats, box: Floats | None) -> Molecules:
        """The subsystem elsewhere: positions of the whole system, nm, shape (n, 3), and its box, nm, shape (3, 3)."""
        return self.molecules.at(self.positions(x, box), box)

    def spread(self, forces: Floats, x: Floats, box: Floats | None = None) -> Floats:
        """Forces on the whole system from forces on the subsystem: those on caps go to the ends of their bonds.

        Args:
            forces: shape (..., a + l, 3), any unit.
            x: positions of the whole system, nm, shape (..., n, 3).
            box: as in ``positions``.

        Returns:
            Shape (..., n, 3); zero on atoms that are neither ML nor at the outer end of a cut bond. ``forces`` itself
            where the whole system is ML.
        """
        if self.whole:
            return forces
        found = np.zeros((*forces.shape[:-2], self.size, 3))
        count = len(self.atoms)
        found[..., self.atoms, :] = forces[..., :count, :]
        if len(self.links):
            caps = forces[..., count:, :]
            passed = passed_on(caps, self._bonds(x, box), self.distances_nm)
            # One atom may end several cut bonds, so that the shares are added one bond at a time.
            for k, (host, outer) in enumerate(self.links):
                found[..., host, :] += caps[..., k, :] - passed[..., k, :]
                found[..., outer, :] += passed[..., k, :]
        return found

    def _bonds(self, x: Floats, box: Floats | None) -> Floats:
        """Vectors of the cut bonds from ML to MM atom, nm, shape (..., l, 3)."""
        vectors, _ = nearest_image(x[..., self.links[:, 1], :] - x[..., self.links[:, 0], :], box)
        return vectors


def place_caps(hosts: Floats, bonds: Floats, distances_nm: Floats) -> Floats:
    """Positions of caps, nm, shape (..., l, 3).

    Args:
        hosts: positions of the atoms that they cap, nm, shape (..., l, 3).
        bonds: from those to the outer atoms, nm, shape (..., l, 3).
        distances_nm: from those to the caps, shape (l,).
    """
    placed: Floats = hosts + bonds * (distances_nm[:, None] / np.linalg.norm(bonds, axis=-1, keepdims=True))
    return placed


def passed_on(on_caps: Floats, bonds: Floats, distances_nm: Floats) -> Floats:
    """The part of the forces on caps, shape (..., l, 3), that goes to the outer atoms; hosts have the rest.

    Args:
        on_caps: any unit, shape (..., l, 3).
        bonds: from hosts to outer atoms, nm, shape (..., l, 3).
        distances_nm: from hosts to caps, shape (l,).
    """
    lengths = np.linalg.norm(bonds, axis=-1, keepdims=True)
    units = bonds / lengths
    along = (units * on_caps).sum(axis=-1, keepdims=True)
    result: Floats = (on_caps - along * units) * (distances_nm[:, None] / lengths)
    return result


def whole_subsystem(molecules: Molecules) -> Subsystem:
    """The subsystem that is everything.

    Args:
        molecules: what is simulated.
    """
    atoms = np.arange(molecules.size)
    return Subsystem(
        size=molecules.size,
        atoms=atoms,
        links=np.zeros((0, 2), dtype=np.int64),
        distances_nm=np.zeros(0),
        molecules=molecules,
        outer=atoms,
        whole=True,
    )


def subsystem_of(molecules: Molecules, atoms: Ints, links: Ints, distances_nm: Floats) -> Subsystem:
    """A part of a system, its cut bonds capped with hydrogen.

    A cap has the residue of its host and a topology residue of its own at the end, as openmmml names it (``V0``): in a
    topology the atoms of a residue stand together. It has the mass of hydrogen, though no particle moves with it, and
    no charge.

    Args:
        molecules: the whole system.
        atoms: indices of the ML atoms, sorted, shape (a,).
        links: rows (ML atom, MM atom), one for each cut bond in the order of the caps, shape (l, 2).
        distances_nm: from ML atom to cap, shape (l,).

    Raises:
        StructureError: no atoms; the atoms are not sorted; or the links are not the bonds that the selection cuts.
    """
    atoms, links = np.asarray(atoms, dtype=np.int64), np.asarray(links, dtype=np.int64).reshape(-1, 2)
    distances_nm = np.asarray(distances_nm, dtype=np.float64)
    if not len(atoms) or (np.diff(atoms) <= 0).any():
        raise StructureError(f"a subsystem needs atoms in rising order, not {atoms[:8].tolist()}")
    if {tuple(link) for link in links.tolist()} != {tuple(bond) for bond in cut_bonds(molecules, atoms).tolist()}:
        raise StructureError(f"the links {links.tolist()} are not the bonds that leave the ML atoms")
    if distances_nm.shape != (len(links),) or not (distances_nm > 0.0).all():
        raise StructureError(f"{len(links)} links need as many distances, not {distances_nm.tolist()}")
    outer = np.concatenate([atoms, np.full(len(links), -1, dtype=np.int64)])
    bare = Subsystem(
        size=molecules.size, atoms=atoms, links=links, distances_nm=distances_nm, molecules=molecules, outer=outer,
        whole=False,
    )  # fmt: skip
    part = _capped(molecules, atoms, links, bare.positions(molecules.positions, molecules.box))
    return Subsystem(
        size=molecules.size, atoms=atoms, links=links, distances_nm=distances_nm, molecules=part, outer=outer,
        whole=False,
    )  # fmt: skip


def cut_bonds(molecules: Molecules, atoms: Ints) -> Ints:
    """Bonds that leave a set of atoms: rows (atom inside, atom outside), shape (l, 2).

    Args:
        molecules: the whole system.
        atoms: indices, shape (a,).
    """
    inside = np.zeros(molecules.size, dtype=bool)
    inside[atoms] = True
    return leaving_bonds(molecules.bonds, inside)


def _capped(molecules: Molecules, atoms: Ints, links: Ints, positions: Floats) -> Molecules:
    """Atoms and caps as molecules of their own. A cap keeps the degree of its host, on which fragments depend."""
    count, caps = len(atoms), len(links)
    place = np.full(molecules.size, -1, dtype=np.int64)
    place[atoms] = np.arange(count)
    within = place[molecules.bonds]
    joints = np.stack([place[links[:, 0]], np.arange(count, count + caps)], axis=1)
    bonds = np.concatenate([within[(within >= 0).all(axis=1)], joints])
    bonds = bonds[np.lexsort((bonds[:, 1], bonds[:, 0]))]
    numbers = np.concatenate([molecules.numbers[atoms], np.full(caps, HYDROGEN, dtype=np.int64)])
    topology = _topology(molecules.topology, atoms, joints)
    residue_of = np.array([atom.residue.index for atom in topology.atoms], dtype=np.int64)
    residue_of[count:] = residue_of[joints[:, 0]]
    return Molecules(
        topology=topology,
        numbers=numbers,
        masses=np.concatenate([molecules.masses[atoms], np.full(caps, HYDROGEN_MASS_DA)]),
        positions=positions,
        box=molecules.box,
        bonds=bonds,
        molecule_of=molecules_of(bonds, count + caps),
        residue_of=residue_of,
        fragment_of=fragments_of(numbers, bonds),
        formal_charge=np.concatenate([molecules.formal_charge[atoms], np.zeros(caps, dtype=np.int64)]),
    )


def _topology(topology: Any, atoms: Ints, joints: Ints) -> Any:
    """The topology of the atoms, and after it a residue for each cap."""
    from mdtraj.core import element

    part = topology.subset(atoms.tolist())
    if not len(joints):
        return part
    chain = part.add_chain()
    for k, (host, _) in enumerate(joints.tolist()):
        cap = part.add_atom(f"V{k}", element.hydrogen, part.add_residue(f"V{k}", chain, resSeq=k + 1))
        part.add_bond(part.atom(host), cap)
    return part
