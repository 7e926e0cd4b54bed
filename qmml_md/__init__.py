"""Molecular dynamics with an adaptive QM/ML region, learning in the loop, and an audit of the energy books.

Importing this package loads none of OpenMM, torch, PySCF, ASE and mdtraj: each room loads its own when it is entered.
"""

__version__ = "0.1.0"
