"""Findings that make a structure unfit for simulation, each with its atoms and its cure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..units import ANGSTROM_PER_NM, NM_PER_ANGSTROM
from .bonds import COVALENT_RADII_A, bonded_by_distance
from .charges import infer_charges
from .images import Ints, nearest_image, pairs_within, perpendicular_widths
from .molecules import Molecules, atom_name, unwrap
from .stated import residue_names, stated_residues
from .valence import crowded_atoms, lacking_atoms

#: Atoms closer than this overlap: half of the shortest bond there is (0.74 Å, H2) with room for its vibration.
OVERLAP_A = 0.5
SAME_PLACE_A = 0.01
#: A bond longer than the covalent radii and this spans a gap, for example of missing residues.
STRETCH_A = 1.0
#: Atoms that a message names before it only counts.
NAMED = 8
RADIUS_OF_OTHERS_A = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One reason not to simulate.

    Attributes:
        what: what is wrong, with the atoms.
        cure: what to do.
        element: whether it is an element that the weights do not know.
    """

    what: str
    cure: str
    element: bool = False


def problems(
    molecules: Molecules, symbols: Sequence[str], cutoff_A: float, multiplicity: int | None = None
) -> list[Problem]:
    """All problems of a structure.

    Args:
        molecules: what is to be simulated.
        symbols: elements that the weights know.
        cutoff_A: the reach of a descriptor, Å.
        multiplicity: 2S + 1 where the user says it.
    """
    if molecules.size == 0:
        return [Problem(what="the structure holds no atoms", cure="give a structure with atoms")]
    found = [*_elements(molecules, symbols), *_box(molecules, cutoff_A), *_positions(molecules)]
    # Distances mean nothing while a position is not a number.
    if np.isfinite(molecules.positions).all():
        lonely = _lonely(molecules)
        found += [*_overlaps(molecules), *_bonds(molecules, lonely)]
        lacking = np.setdiff1d(lacking_atoms(molecules), lonely)
        # Each unpaired electron that the user speaks of stands for one bond that is not there.
        if len(lacking) > (multiplicity or 1) - 1:
            found += _valences(molecules, lacking)
        found += _crowds(molecules)
        if multiplicity is None:
            found += _charges(molecules, np.concatenate([lonely, lacking]))
    return found


def _elements(molecules: Molecules, symbols: Sequence[str]) -> Iterable[Problem]:
    elements = [atom.element.symbol if atom.element is not None else "?" for atom in molecules.topology.atoms]
    sites = [i for i, symbol in enumerate(elements) if molecules.numbers[i] == 0]
    if sites:
        yield Problem(
            what=f"{_named(molecules, sites)} is a virtual site or has no element",
            cure="use a water model without virtual sites (three-site), and fill the element column (77-78 in PDB)",
            element=True,
        )
    unknown = sorted({s for s, z in zip(elements, molecules.numbers, strict=True) if z != 0} - set(symbols))
    if unknown:
        atoms = [i for i, symbol in enumerate(elements) if symbol in unknown]
        yield Problem(
            what=f"the weights do not know {', '.join(unknown)}: {_named(molecules, atoms)}",
            cure=f"remove these atoms, or use weights that know them (these know {', '.join(symbols)}; "
            "`qmml weights list` names others)",
            element=True,
        )


def _box(molecules: Molecules, cutoff_A: float) -> Iterable[Problem]:
    if molecules.box is None:
        return
    widths = perpendicular_widths(molecules.box) * ANGSTROM_PER_NM
    if (widths < 2.0 * cutoff_A).any():
        yield Problem(
            what=f"the box is {', '.join(f'{w:.2f}' for w in widths)} Å between its faces; "
            f"twice the cutoff of {cutoff_A:g} Å is {2 * cutoff_A:g} Å",
            cure=f"solvate in a box at least {2 * cutoff_A:g} Å wide, or set `periodic: false`",
        )


def _positions(molecules: Molecules) -> Iterable[Problem]:
    lost = np.flatnonzero(~np.isfinite(molecules.positions).all(axis=1))
    if len(lost):
        yield Problem(
            what=f"the position of {_named(molecules, lost)} is not a finite number",
            cure="give coordinates for these atoms; NaN usually comes from a simulation that blew up",
        )


def _overlaps(molecules: Molecules) -> Iterable[Problem]:
    pairs, distances = pairs_within(molecules.positions, molecules.box, OVERLAP_A * NM_PER_ANGSTROM)
    same = distances < SAME_PLACE_A * NM_PER_ANGSTROM
    for chosen, words in ((same, "lie at the same place"), (~same, f"overlap (closer than {OVERLAP_A} Å)")):
        if chosen.any():
            names = [
                f"{atom_name(molecules, i)} and {atom_name(molecules, j)}, {d * ANGSTROM_PER_NM:.2f} Å"
                for (i, j), d in zip(pairs[chosen], distances[chosen], strict=True)
            ]
            yield Problem(
                what=f"atoms {words}: {_listed(names, NAMED // 2)}",
                cure="remove doubled atoms and alternate locations; the box must hold one copy of each molecule",
            )


def _lonely(molecules: Molecules) -> Ints:
    """Atoms without a bond though others are within bonding distance."""
    degree = np.bincount(molecules.bonds.ravel(), minlength=molecules.size)
    if (degree > 0).all():
        return np.zeros(0, dtype=np.int64)
    near, _ = bonded_by_distance(molecules.numbers, molecules.positions, molecules.box)
    return np.setdiff1d(near, np.flatnonzero(degree))


def _bonds(molecules: Molecules, lonely: Ints) -> Iterable[Problem]:
    if len(lonely):
        yield Problem(
            what=f"{_named(molecules, lonely)} has no bond, though other atoms are within bonding distance",
            cure="add CONECT (PDB) or struct_conn (mmCIF) records, use standard residue and atom names, "
            "or give extended XYZ, whose bonds are guessed from distances",
        )
    yield from _stretched(molecules)
    if molecules.box is not None and len(molecules.bonds):
        whole = unwrap(molecules.positions, molecules.box, molecules.bonds)
        _, shifts = nearest_image(whole[molecules.bonds[:, 1]] - whole[molecules.bonds[:, 0]], molecules.box)
        endless = np.unique(molecules.bonds[shifts.any(axis=1)])
        if len(endless):
            yield Problem(
                what=f"{_named(molecules, endless)} is bonded to a periodic image of its own molecule",
                cure="only finite molecules can be cut out for quantum mechanics: remove the bond or enlarge the box",
            )


def _stretched(molecules: Molecules) -> Iterable[Problem]:
    i, j = molecules.bonds.T
    vectors, _ = nearest_image(molecules.positions[j] - molecules.positions[i], molecules.box)
    lengths = np.linalg.norm(vectors, axis=1) * ANGSTROM_PER_NM
    radii = np.array([COVALENT_RADII_A.get(int(z), RADIUS_OF_OTHERS_A) for z in molecules.numbers])
    long = np.flatnonzero(lengths > radii[i] + radii[j] + STRETCH_A)
    if len(long):
        names = [f"{atom_name(molecules, i[b])} to {atom_name(molecules, j[b])}, {lengths[b]:.1f} Å" for b in long]
        yield Problem(
            what=f"bonds are too long: {_listed(names, NAMED // 2)}",
            cure="model missing residues (for example with PDBFixer) or split the chain with TER, and check the box",
        )


def _valences(molecules: Molecules, lacking: Ints) -> Iterable[Problem]:
    yield Problem(
        what=f"{len(lacking)} atom{'s lack' if len(lacking) > 1 else ' lacks'} hydrogens or bonds: "
        f"{_named(molecules, lacking)}",
        cure="add hydrogens (OpenMM's Modeller.addHydrogens, PDBFixer) and missing bonds; "
        "a group that is truly deprotonated needs its residue's charge in `system.formal_charges`, "
        "a radical `reference.multiplicity`",
    )


def _crowds(molecules: Molecules) -> Iterable[Problem]:
    crowded = crowded_atoms(molecules)
    if len(crowded):
        yield Problem(
            what=f"{_named(molecules, crowded)} has more bonds than its element forms",
            cure="correct CONECT records, doubled atoms, or contacts that are too short",
        )


def _charges(molecules: Molecules, unfit: Ints) -> Iterable[Problem]:
    """Charges that bonds leave open, or contradict; of residues that lack atoms or bonds nothing is said."""
    inferred = infer_charges(molecules.numbers, molecules.bonds, residue_names(molecules.topology))
    residue_of = molecules.residue_of
    silent = np.isin(residue_of, residue_of[unfit])
    stated = np.isin(residue_of, sorted(stated_residues(molecules.topology)))
    undecided = np.zeros(molecules.size, dtype=bool)
    undecided[inferred.undecided] = True
    open_atoms = np.flatnonzero(undecided & ~stated & ~silent)
    if len(open_atoms):
        yield Problem(
            what=f"bonds do not tell the charge of {_named(molecules, open_atoms)}: an ion and a radical look the same",
            cure="give the charge of the residue in `system.formal_charges` (0 for a radical or carbene) and, if "
            "electrons are unpaired, `reference.multiplicity`; or add what is missing",
        )
    given, expected = np.bincount(residue_of, molecules.formal_charge), np.bincount(residue_of, inferred.charge)
    excused = np.isin(np.arange(len(given)), residue_of[silent | undecided])
    wrong = np.flatnonzero((given != expected) & ~excused)
    if len(wrong):
        names = [
            f"{atom_name(molecules, int(np.argmax(residue_of == k))).split(' of ')[1].split(' (')[0]} is given "
            f"{given[k]:+.0f} e, its bonds make {expected[k]:+.0f} e"
            + (" (an odd number of electrons is left)" if (given[k] - expected[k]) % 2 else "")
            for k in wrong[: NAMED // 2]
        ]
        yield Problem(
            what=f"charges contradict bonds: {_listed(names, NAMED // 2, len(wrong))}",
            cure="leave the residue out of `system.formal_charges` (bonds say its charge), or correct its hydrogens or "
            "columns 79-80 of the file; if the charge is right, set `reference.multiplicity`, and it is taken as given",
        )


def _named(molecules: Molecules, atoms: Ints | list[int]) -> str:
    return _listed([atom_name(molecules, i) for i in atoms[:NAMED]], NAMED, len(atoms))


def _listed(names: list[str], most: int, total: int | None = None) -> str:
    rest = (len(names) if total is None else total) - min(most, len(names))
    return "; ".join(names[:most]) + (f"; and {rest} more" if rest else "")
