"""Build ion_in_water.pdb: a sodium and a chloride ion, far apart, in a periodic cube of TIP3P water at 300 K and 1 bar.

Usage: python build_structure.py [OUTPUT.pdb]      (a minute on one core; the same seed gives the same file)
"""

import sys
from pathlib import Path

import numpy as np
from openmm import app, unit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from boxes import centred, equilibrate, write

WATERS = 212
EQUILIBRATION_STEPS = 20_000
#: Half the diagonal of the box: as far apart as two ions can be.
APART = 1.6 * unit.nanometer


def ions() -> tuple[app.Topology, unit.Quantity]:
    """One of each."""
    topology = app.Topology()
    chain = topology.addChain()
    for name, symbol in (("NA", "Na"), ("CL", "Cl")):
        topology.addAtom(name, app.Element.getBySymbol(symbol), topology.addResidue(name, chain))
    direction = np.ones(3) / np.sqrt(3.0)
    return topology, np.outer([0.0, APART.value_in_unit(unit.nanometer)], direction) * unit.nanometer


def main() -> None:
    """Build the structure and write it."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("ion_in_water.pdb")
    field = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
    modeller = app.Modeller(*ions())
    modeller.addSolvent(field, model="tip3p", numAdded=WATERS)
    positions, box = equilibrate(field, modeller, steps=EQUILIBRATION_STEPS)
    title = "sodium and chloride in TIP3P water, 300 K, 1 bar"
    write(path, title, modeller.topology, centred(modeller.topology, positions, box, [0]), box)


if __name__ == "__main__":
    main()
