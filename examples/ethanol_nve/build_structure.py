"""Build ethanol.pdb: one ethanol molecule (anti) in vacuum, at the MP2/6-31G* geometry of the G2 set as ASE ships it.

Atoms carry the names of the PDB chemical component EOH; the bonds stand in CONECT records, and there is no box.

Usage: python build_structure.py [OUTPUT.pdb]
"""

import sys
from pathlib import Path

from ase.build import molecule

NAMES = ("C2", "C1", "O", "HO", "H11", "H12", "H21", "H22", "H23")
BONDS = ((0, 1), (1, 2), (2, 3), (1, 4), (1, 5), (0, 6), (0, 7), (0, 8))


def pdb_lines() -> list[str]:
    """The lines of the PDB file."""
    atoms = molecule("CH3CH2OH")
    lines = ["REMARK   1 ETHANOL, G2 GEOMETRY (MP2/6-31G*); MADE BY BUILD_STRUCTURE.PY"]
    for i, (name, symbol, (x, y, z)) in enumerate(zip(NAMES, atoms.symbols, atoms.positions, strict=True), start=1):
        coordinates = f"{x:8.3f}{y:8.3f}{z:8.3f}"
        lines.append(f"HETATM{i:5d}  {name:<3s} EOH A   1    {coordinates}  1.00  0.00          {symbol:>2s}")
    for i in range(len(NAMES)):
        partners = [b if a == i else a for a, b in BONDS if i in (a, b)]
        lines.append(f"CONECT{i + 1:5d}" + "".join(f"{j + 1:5d}" for j in partners))
    return [*lines, "END"]


def main() -> None:
    """Build the structure and write it."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("ethanol.pdb")
    path.write_text("\n".join(pdb_lines()) + "\n")
    print(f"{path}: {len(NAMES)} atoms")


if __name__ == "__main__":
    main()
