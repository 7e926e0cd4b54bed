"""Build chignolin.pdb: the peptide chignolin with sodium ions in a periodic cube of TIP3P water at 300 K and 1 bar.

The peptide is model 1 of the PDB entry 1UAO (Honda et al., Structure 12, 1507, 2004, doi:10.1016/j.str.2004.05.022),
beside this file, with its own hydrogens: GYDPETGTWG, both ends and three carboxylates charged.

Usage: python build_structure.py [OUTPUT.pdb]      (ten minutes on one core; the same seed gives the same file)
"""

import sys
from pathlib import Path

from openmm import Vec3, app, unit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from boxes import centred, equilibrate, write

#: Wider than twice the peptide, so that no part of it meets its own image.
EDGE_NM = 3.9
EQUILIBRATION_STEPS = 10_000


def main() -> None:
    """Build the structure and write it."""
    here = Path(__file__).resolve().parent
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else here / "chignolin.pdb"
    peptide = app.PDBFile(str(here / "1uao_model1.pdb"))
    field = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
    modeller = app.Modeller(peptide.topology, peptide.positions)
    modeller.addSolvent(field, model="tip3p", boxSize=Vec3(EDGE_NM, EDGE_NM, EDGE_NM) * unit.nanometer, neutralize=True)
    positions, box = equilibrate(field, modeller, steps=EQUILIBRATION_STEPS)
    heart = [atom.index for atom in peptide.topology.atoms()]
    title = "chignolin (1UAO, model 1) with sodium ions in TIP3P water, 300 K, 1 bar"
    write(path, title, modeller.topology, centred(modeller.topology, positions, box, heart), box)


if __name__ == "__main__":
    main()
