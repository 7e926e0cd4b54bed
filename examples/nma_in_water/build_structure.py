"""Build nma_in_water.pdb: trans-N-methylacetamide in a periodic cube of water at 300 K and 1 bar.

N-methylacetamide, CH3-CO-NH-CH3, is the peptide bond between two caps: residues ACE and NME of Amber ff14SB. Its heavy
atoms start at the gas-phase electron diffraction geometry (Kitano, Fukuyama, Kuchitsu, Bull. Chem. Soc. Jpn. 46, 384,
1973, doi:10.1246/bcsj.46.384); OpenMM's Modeller adds TIP3P water, and a short NPT run finds the density. The force
field serves this preparation only: the run itself knows nothing but the ensemble.

Usage: python build_structure.py [OUTPUT.pdb]      (about a minute on one core; the same seed gives the same file)
"""

import sys
from pathlib import Path

import numpy as np
from openmm import app, unit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from boxes import cartesian, centred, equilibrate, write

WATERS = 213
CUTOFF_NM = 0.8
EQUILIBRATION_STEPS = 20_000
SAMPLES = 60

#: name, residue, element, then (bonded atom, Å), (angle atom, degrees), (dihedral atom, degrees).
Z_MATRIX = (
    ("C", "ACE", "C", None, None, None),
    ("CH3", "ACE", "C", ("C", 1.520), None, None),
    ("N", "NME", "N", ("C", 1.386), ("CH3", 114.1), None),
    ("O", "ACE", "O", ("C", 1.225), ("N", 121.8), ("CH3", 180.0)),
    ("CM", "NME", "C", ("N", 1.469), ("C", 119.6), ("CH3", 180.0)),
    ("H", "NME", "H", ("N", 1.010), ("C", 119.0), ("CH3", 0.0)),
    ("H1", "ACE", "H", ("CH3", 1.095), ("C", 110.0), ("N", 180.0)),
    ("H2", "ACE", "H", ("CH3", 1.095), ("C", 110.0), ("N", 60.0)),
    ("H3", "ACE", "H", ("CH3", 1.095), ("C", 110.0), ("N", -60.0)),
    ("HM1", "NME", "H", ("CM", 1.095), ("N", 110.0), ("C", 180.0)),
    ("HM2", "NME", "H", ("CM", 1.095), ("N", 110.0), ("C", 60.0)),
    ("HM3", "NME", "H", ("CM", 1.095), ("N", 110.0), ("C", -60.0)),
)
#: Amber names the methyl group of NME like this.
AMBER_NAMES = {"CM": "C", "HM1": "H1", "HM2": "H2", "HM3": "H3"}
ORDER = {"ACE": ("CH3", "H1", "H2", "H3", "C", "O"), "NME": ("N", "H", "CM", "HM1", "HM2", "HM3")}


def solute() -> tuple[app.Topology, unit.Quantity]:
    """N-methylacetamide as OpenMM topology and positions."""
    elements = {row[0]: row[2] for row in Z_MATRIX}
    positions = cartesian(Z_MATRIX)
    topology = app.Topology()
    chain = topology.addChain()
    atoms, ordered = {}, []
    for residue_name, names in ORDER.items():
        residue = topology.addResidue(residue_name, chain)
        for name in names:
            element = app.Element.getBySymbol(elements[name])
            atoms[name] = topology.addAtom(AMBER_NAMES.get(name, name), element, residue)
            ordered.append(positions[name])
    for name, _residue, _element, bond, _angle, _dihedral in Z_MATRIX:
        if bond is not None:
            topology.addBond(atoms[bond[0]], atoms[name])
    return topology, np.array(ordered) * unit.angstrom


def solvated(field: app.ForceField) -> app.Modeller:
    """The solute with exactly ``WATERS`` waters in a cubic box."""
    modeller = app.Modeller(*solute())
    modeller.addSolvent(field, model="tip3p", numAdded=WATERS)
    return modeller


def main() -> None:
    """Build the structure and write it."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("nma_in_water.pdb")
    field = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
    modeller = solvated(field)
    positions, box = equilibrate(field, modeller, steps=EQUILIBRATION_STEPS, samples=SAMPLES, cutoff_nm=CUTOFF_NM)
    heart = list(range(sum(len(names) for names in ORDER.values())))
    title = "N-methylacetamide in water, 300 K, 1 bar"
    write(path, title, modeller.topology, centred(modeller.topology, positions, box, heart), box)


if __name__ == "__main__":
    main()
