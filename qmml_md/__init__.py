"""Molecular dynamics with an adaptive QM/ML region, learning in the loop, and an audit of the energy books.

Importing this package loads none of OpenMM, torch, PySCF, ASE and mdtraj: each room loads its own when it is entered.
"""

import os

# Threads of torch that wait by spinning keep the cores from OpenMM's, and from every other process: fifty steps of a
# small part in a force field took 27 s instead of 1.3 with two threads on two cores. It counts when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
