"""Build alanine_dipeptide.pdb: Ace-Ala-Nme in a periodic cube of TIP3P water at 300 K and 1 bar.

The heavy atoms start at standard bond lengths and angles near the C7eq conformer; OpenMM's Modeller adds hydrogens and
water, and a short NPT run with the force field of the example finds the density.

Usage: python build_structure.py [OUTPUT.pdb]      (a few minutes on one core; the same seed gives the same file)
"""

import sys
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from boxes import cartesian, centred, equilibrate, write

WATERS = 260
EQUILIBRATION_STEPS = 20_000

#: name, residue, element, then (bonded atom, Å), (angle atom, degrees), (dihedral atom, degrees).
Z_MATRIX = (
    ("C", "ACE", "C", None, None, None),
    ("CH3", "ACE", "C", ("C", 1.520), None, None),
    ("N", "ALA", "N", ("C", 1.335), ("CH3", 116.6), None),
    ("O", "ACE", "O", ("C", 1.229), ("N", 122.9), ("CH3", 180.0)),
    ("CA", "ALA", "C", ("N", 1.449), ("C", 121.9), ("CH3", 180.0)),
    ("C'", "ALA", "C", ("CA", 1.522), ("N", 110.1), ("C", -80.0)),
    ("CB", "ALA", "C", ("CA", 1.526), ("N", 109.7), ("C", 160.0)),
    ("N'", "NME", "N", ("C'", 1.335), ("CA", 116.6), ("N", 70.0)),
    ("O'", "ALA", "O", ("C'", 1.229), ("CA", 120.4), ("N", -110.0)),
    ("CM", "NME", "C", ("N'", 1.449), ("C'", 121.9), ("CA", 180.0)),
)
#: Names in a file are unique within their residue only.
NAMES = {"C'": "C", "O'": "O", "N'": "N", "CM": "C"}
ORDER = {"ACE": ("CH3", "C", "O"), "ALA": ("N", "CA", "CB", "C'", "O'"), "NME": ("N'", "CM")}


def solute() -> tuple[app.Topology, unit.Quantity]:
    """The heavy atoms as OpenMM topology and positions."""
    elements = {row[0]: row[2] for row in Z_MATRIX}
    positions = cartesian(Z_MATRIX)
    topology = app.Topology()
    chain = topology.addChain()
    ordered = []
    for residue_name, names in ORDER.items():
        residue = topology.addResidue(residue_name, chain)
        for name in names:
            topology.addAtom(NAMES.get(name, name), app.Element.getBySymbol(elements[name]), residue)
            ordered.append(positions[name])
    topology.createStandardBonds()
    return topology, np.array(ordered) * unit.angstrom


def solvated(field: app.ForceField) -> app.Modeller:
    """The solute with its hydrogens and exactly ``WATERS`` waters in a cubic box."""
    modeller = app.Modeller(*solute())
    # The Reference platform: hydrogens are placed by minimising from random places, to the same end each time.
    modeller.addHydrogens(field, platform=openmm.Platform.getPlatformByName("Reference"))
    modeller.addSolvent(field, model="tip3p", numAdded=WATERS)
    return modeller


def main() -> None:
    """Build the structure and write it."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("alanine_dipeptide.pdb")
    field = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
    modeller = solvated(field)
    positions, box = equilibrate(field, modeller, steps=EQUILIBRATION_STEPS)
    heart = [atom.index for atom in modeller.topology.atoms() if atom.residue.name != "HOH"]
    title = "Ace-Ala-Nme in TIP3P water, 300 K, 1 bar"
    write(path, title, modeller.topology, centred(modeller.topology, positions, box, heart), box)


if __name__ == "__main__":
    main()
