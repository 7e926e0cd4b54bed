"""The point charges around a cluster: whole residues of the force field, and what becomes of those at a cut bond.

Only atoms of the force field are charges. Atoms that the networks move interact with a cluster through the networks,
whether they are in it or not. Residues come whole, so that the sum of the charges is one that a force field means.

At a bond between the two parts the outer atom, M1, would lie 0.4 Å from the cap that stands in its place. Its charge is
moved in equal parts to its neighbours in the force field, M2, and a pair of charges on each bond M1–M2 takes back the
dipole that the move has made (charge shift: Sherwood and others, J. Mol. Struct. THEOCHEM 632, 1, 2003,
doi:10.1016/S0166-1280(03)00285-9). Total charge and dipole stay what they were.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import RegionError
from ..system.images import nearest_image
from ..system.molecules import Flags, Floats, Ints, molecules_of, unwrap
from ..units import ANGSTROM_PER_NM, NM_PER_ANGSTROM
from .cluster import Cluster, Surroundings
from .numbering import renumbered

#: Distance of either charge of a pair from M2, as a part of the bond M1–M2 (0.09 Å in a C–C bond): small against the
#: distance to the nearest atom of the cluster, so that the pair acts as a dipole.
PAIR_OFFSET = 0.06


@dataclass(frozen=True, slots=True, kw_only=True)
class ForceFieldCharges:
    """The charges of a system that does not change.

    Attributes:
        charges: of all atoms, those that the networks move included, e, shape (n,).
        ml: whether the networks move each atom, shape (n,).
        bonds: pairs of atom indices, shape (b, 2).
        residue_of: index of the residue of each atom, shape (n,).
    """

    charges: Floats
    ml: Flags
    bonds: Ints
    residue_of: Ints

    def __post_init__(self) -> None:
        n = len(self.charges)
        if self.ml.shape != (n,) or self.residue_of.shape != (n,) or self.bonds.shape[1:] != (2,):
            raise RegionError(
                f"{n} charges with ml {self.ml.shape}, residue_of {self.residue_of.shape}, bonds {self.bonds.shape}"
            )


def in_system(cluster: Cluster, outer: Ints, links: Ints) -> tuple[Ints, Ints]:
    """Where the atoms of a cluster, cut from a part of a system, lie in the whole system.

    Args:
        cluster: its ``parent`` counts the atoms of the part, and the caps after them.
        outer: index of each atom of the part in the whole system, -1 for its caps, shape (a + c,).
        links: rows (ML atom, MM atom), indices in the whole system, one for each cap of the part, shape (c, 2).

    Returns:
        Index of each atom in the whole system, -1 for caps, shape (m,); and rows (index in the cluster of a cap, index
        in the whole system of the atom in whose place it stands) for bonds to the force field, shape (k, 2).
    """
    parents = renumbered(cluster, outer).parent
    caps = np.flatnonzero((cluster.parent >= 0) & (parents < 0))
    cut = links[cluster.parent[caps] - (len(outer) - len(links)), 1]
    return parents, np.stack([caps, cut], axis=1).astype(np.int64)


def surround(
    cluster: Cluster,
    field: ForceFieldCharges,
    positions_nm: Floats,
    box: Floats | None,
    *,
    cutoff_A: float,
    parents: Ints | None = None,
    boundary: Ints | None = None,
) -> Surroundings:
    """The charges around a cluster, each at the periodic image nearest to it.

    A residue comes in, as far as the force field moves it, if one of its atoms is within the cutoff of an atom of the
    cluster, or next to a cut bond. Each atom comes in once, whatever the cutoff.

    The cluster's own charges, for the explicit term, are those of the force field. Where bonds are cut they do not sum
    up to the cluster's charge, and the difference, in equal parts, stands on the caps: they stand for what was cut off.
    Without it the label would hold the energy of a charge that is not there, which falls off as 1/r only.

    Args:
        cluster: unwrapped, Å.
        field: charges of the whole system.
        positions_nm: of the whole system, nm, shape (n, 3), wrapped or not.
        box: reduced box now, nm, shape (3, 3); None in vacuum.
        cutoff_A: Å.
        parents: index of each atom of the cluster in the whole system, -1 for caps, shape (m,); by default the
            cluster's own.
        boundary: rows (index in the cluster of a cap, index in the whole system of the force-field atom in whose place
            it stands), shape (k, 2); by default none.

    Returns:
        The charges, in the order of the system; then the pairs at cut bonds.

    Raises:
        RegionError: the charge of an atom at a cut bond has no neighbour to go to.
    """
    home = cluster.parent if parents is None else parents
    outers = np.unique(boundary[:, 1]) if boundary is not None else np.zeros(0, dtype=np.int64)
    near = _neighbours(field, outers)
    mm = np.flatnonzero(~field.ml)
    places = cluster.positions * NM_PER_ANGSTROM
    distance, contact = _contacts(positions_nm[mm], places, box)
    forced = np.concatenate([outers, *near.values()])
    residues = field.residue_of[np.concatenate([mm[distance <= cutoff_A * NM_PER_ANGSTROM], forced])]
    come = np.isin(field.residue_of[mm], residues)
    atoms = mm[come]
    placed = _place(field, atoms, positions_nm, box, distance[come], places[contact[come]]) * ANGSTROM_PER_NM
    charges, pairs, pair_charges = _shift(field, atoms, placed, near)
    stay = ~np.isin(atoms, outers)
    return Surroundings(
        positions=np.concatenate([placed[stay], pairs]),
        charges=np.concatenate([charges[stay], pair_charges]),
        parent=np.concatenate([atoms[stay], np.full(len(pairs), -1, dtype=np.int64)]),
        own=_own(cluster, field, home),
    )


def _neighbours(field: ForceFieldCharges, outers: Ints) -> dict[int, Ints]:
    """Of each atom M1 its neighbours M2 in the force field, sorted."""
    found = {}
    for outer in outers.tolist():
        bonded = field.bonds[(field.bonds == outer).any(axis=1)].reshape(-1)
        # A neighbour that loses its own charge cannot take another's.
        second = np.unique(bonded[~field.ml[bonded] & ~np.isin(bonded, outers)])
        if not len(second):
            raise RegionError(
                f"atom {outer} is bonded to the ML part and to nothing that could take its charge",
                cure="choose system.ml_atoms so that no single force-field atom is enclosed by cut bonds, or use "
                "reference.embedding: mechanical",
            )
        found[outer] = second.astype(np.int64)
    return found


def _contacts(positions: Floats, places: Floats, box: Floats | None) -> tuple[Floats, Ints]:
    """Distance of each atom from the cluster, over all images, and the atom of the cluster that is nearest, nm."""
    least, contact = np.full(len(positions), np.inf), np.zeros(len(positions), dtype=np.int64)
    for i, place in enumerate(places):
        vectors, _ = nearest_image(positions - place, box)
        distance = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        closer = distance < least
        least[closer], contact[closer] = distance[closer], i
    return least, contact


def _place(
    field: ForceFieldCharges, atoms: Ints, positions_nm: Floats, box: Floats | None, distance: Floats, contact: Floats
) -> Floats:
    """Put residues together and move each, whole, to where its nearest atom is nearest to the cluster, nm."""
    local = np.full(len(field.charges), -1, dtype=np.int64)
    local[atoms] = np.arange(len(atoms))
    bonds = local[field.bonds]
    bonds = bonds[(bonds >= 0).all(axis=1)]
    residue = field.residue_of[atoms]
    bonds = bonds[residue[bonds[:, 0]] == residue[bonds[:, 1]]]
    whole = unwrap(positions_nm[atoms], box, bonds)
    if box is None or not len(atoms):
        return whole
    piece = molecules_of(bonds, len(atoms))
    order = np.lexsort((distance, piece))
    nearest = order[np.unique(piece[order], return_index=True)[1]]
    _, shifts = nearest_image(whole[nearest] - contact[nearest], box)
    return np.asarray(whole + (shifts @ box)[piece], dtype=np.float64)


def _shift(
    field: ForceFieldCharges, atoms: Ints, placed: Floats, near: dict[int, Ints]
) -> tuple[Floats, Floats, Floats]:
    """Move the charges of M1 to M2: new charges of ``atoms``, e; positions, Å, and charges, e, of the pairs."""
    charges = field.charges[atoms].astype(np.float64)
    pairs: list[Floats] = []
    pair_charges: list[float] = []
    for outer, second in near.items():
        first = int(np.searchsorted(atoms, outer))
        share = charges[first] / len(second)
        charges[first] = 0.0
        for k in np.searchsorted(atoms, second):
            charges[k] += share
            arm = PAIR_OFFSET * (placed[k] - placed[first])
            pairs += [placed[k] - arm, placed[k] + arm]
            # The move made a dipole of share · (M2 − M1); the pair has the opposite one, over a length of two arms.
            pair_charges += [share / (2 * PAIR_OFFSET), -share / (2 * PAIR_OFFSET)]
    return charges, np.array(pairs, dtype=np.float64).reshape(-1, 3), np.array(pair_charges, dtype=np.float64)


def _own(cluster: Cluster, field: ForceFieldCharges, parents: Ints) -> Floats:
    caps = parents < 0
    own: Floats = np.where(caps, 0.0, field.charges[np.where(caps, 0, parents)])
    if caps.any():
        own[caps] = (cluster.charge - own.sum()) / caps.sum()
    return own
