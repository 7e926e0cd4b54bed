"""Link atoms: hydrogens that stand in for what a cut bond has lost, and the exact chain rule for their forces.

A link atom sits on the bond that was cut, at a fixed part of the way: cap = x_host + g (x_outer − x_host), with g the
ratio of the two equilibrium bond lengths (Dapprich, Komáromi, Byun, Morokuma, Frisch, J. Mol. Struct. THEOCHEM 461, 1,
1999, doi:10.1016/S0166-1280(98)00475-8). It has no degree of freedom of its own: the energy of the capped cluster is a
function of the positions of real atoms, and its force on them is exact.
"""

from typing import TYPE_CHECKING

import numpy as np

from ..errors import RegionError
from ..system.fragments import leaving_bonds
from ..system.images import nearest_image
from ..system.molecules import Flags, Floats, Ints, Molecules
from ..units import NM_PER_ANGSTROM

if TYPE_CHECKING:
    from .cluster import Cluster

HYDROGEN = 1
#: Equilibrium lengths of bonds to hydrogen by element, Å: CT-HC, H-N, HO-OH and HS-SH of the Amber force field (Cornell
#: and others, J. Am. Chem. Soc. 117, 5179, 1995, doi:10.1021/ja00124a002); PH3 (CRC Handbook of Chemistry and Physics).
TO_HYDROGEN_A = {6: 1.09, 7: 1.01, 8: 0.96, 15: 1.42, 16: 1.336}
#: Equilibrium lengths of single bonds by pair of elements, Å: CT-CT, CX-N, CT-OS, CT-S, S-S and OS-P of the same force
#: field. A saturated carbon is 1.522 Å from a carbonyl carbon and 1.510 Å from an aromatic one, so that one value for
#: all carbons moves a link atom by at most 0.011 Å, a third of the thermal amplitude of a C–H bond.
SINGLE_BONDS_A = {(6, 6): 1.526, (6, 7): 1.449, (6, 8): 1.410, (6, 16): 1.810, (16, 16): 2.038, (8, 15): 1.610}
#: Below, two hydrogens look bonded: midway between the bond of H2, 0.74 Å, and the distance of two hydrogens on one
#: carbon, 1.78 Å.
CLOSE_TO_HYDROGEN_A = 1.25
#: Midway between a C–H bond, 1.09 Å, and the distance from a hydrogen to the next atom but one, 1.95 Å at the least.
CLOSE_TO_HEAVY_A = 1.5


def cut_bonds(molecules: Molecules, inside: Flags) -> Ints:
    """Bonds between an atom of a cluster and one outside.

    Args:
        molecules: what is simulated.
        inside: whether each atom belongs to the cluster, shape (n,).

    Returns:
        Rows (inside atom, outside atom), sorted, shape (l, 2).
    """
    return leaving_bonds(molecules.bonds, inside)


def link_ratio(inside_number: int, outside_number: int) -> float:
    """Part of the way along a bond at which its link hydrogen sits.

    Args:
        inside_number: atomic number of the atom that is capped.
        outside_number: atomic number of the atom in whose place the hydrogen stands.

    Raises:
        RegionError: the kind of bond is not in the table.
    """
    pair = (min(inside_number, outside_number), max(inside_number, outside_number))
    if pair not in SINGLE_BONDS_A:
        raise RegionError(
            f"no link atom is known for a cut bond between elements {inside_number} and {outside_number}",
            cure="choose the atoms so that only C–C bonds (or C–N, C–O, C–S, S–S, O–P) are cut",
        )
    return TO_HYDROGEN_A[inside_number] / SINGLE_BONDS_A[pair]


def link_ratios(numbers: Ints, cut: Ints) -> Floats:
    """``link_ratio`` of each cut bond.

    Args:
        numbers: atomic numbers, shape (n,).
        cut: rows (inside atom, outside atom), shape (l, 2).

    Returns:
        Shape (l,).
    """
    return np.array([link_ratio(a, b) for a, b in numbers[cut].tolist()], dtype=np.float64)


def place_links(host_positions: Floats, outer_positions: Floats, ratios: Floats) -> Floats:
    """Where link atoms sit.

    Args:
        host_positions: atoms that are capped, shape (l, 3).
        outer_positions: atoms in whose place the link atoms stand, at the image bonded to the host, shape (l, 3).
        ratios: part of the way, shape (l,).

    Returns:
        In the unit of the positions, shape (l, 3).
    """
    return host_positions + ratios[:, None] * (outer_positions - host_positions)


def fold_forces(cluster: "Cluster", forces: Floats) -> tuple[Floats, Floats]:
    """Forces on real atoms of an energy of the capped cluster: that of a link atom is divided among its two atoms.

    The chain rule of ``place_links``: (1 − g) of it goes to the atom that is capped, g to the one outside. The sum of
    all forces stays.

    Args:
        cluster: with l link atoms.
        forces: on all its atoms, shape (m, 3).

    Returns:
        Forces on the atoms that are no link atoms, in their order, shape (m − l, 3), and on ``cluster.outer``,
        shape (l, 3); in the unit of ``forces``.
    """
    caps, hosts = cluster.links.T
    outer = cluster.ratios[:, None] * forces[caps]
    folded = np.array(forces, dtype=np.float64)
    np.add.at(folded, hosts, forces[caps] - outer)
    return np.delete(folded, caps, axis=0), outer


def unfit_outers(molecules: Molecules, positions_nm: Floats, inside: Flags, box: Floats | None) -> Ints:
    """Atoms outside that must come in with their fragments, since link atoms in their place would not be fit.

    Two link atoms must not stand in for one atom, nor come as close to one another, or to an atom of the cluster that
    is not their host, as if they were bonded. Of two link atoms that are too close, the atom of lower index comes in.

    Args:
        molecules: what is simulated.
        positions_nm: nm, shape (n, 3), wrapped or not.
        inside: whether each atom belongs to the cluster, shape (n,).
        box: reduced box now, nm, shape (3, 3); None in vacuum.

    Returns:
        Indices, sorted; empty where all link atoms are fit. Ask again when the atoms have come in.
    """
    cut = cut_bonds(molecules, inside)
    if not len(cut):
        return np.zeros(0, dtype=np.int64)
    hosts, outers = cut.T
    bond, _ = nearest_image(positions_nm[outers] - positions_nm[hosts], box)
    caps = positions_nm[hosts] + link_ratios(molecules.numbers, cut)[:, None] * bond
    atoms = np.flatnonzero(inside)
    limits = np.where(molecules.numbers[atoms] == HYDROGEN, CLOSE_TO_HYDROGEN_A, CLOSE_TO_HEAVY_A) * NM_PER_ANGSTROM
    near_atom = (_distances(caps, positions_nm[atoms], box) < limits) & (atoms != hosts[:, None])
    near_cap = _distances(caps, caps, box) < CLOSE_TO_HYDROGEN_A * NM_PER_ANGSTROM
    near_cap |= outers == outers[:, None]
    first, second = np.nonzero(np.triu(near_cap, 1))
    lower = np.minimum(outers[first], outers[second])
    return np.unique(np.concatenate([outers[near_atom.any(axis=1)], lower]))


def _distances(here: Floats, there: Floats, box: Floats | None) -> Floats:
    vectors, _ = nearest_image(there[None, :] - here[:, None], box)
    return np.asarray(np.sqrt(np.einsum("ijk,ijk->ij", vectors, vectors)), dtype=np.float64)
