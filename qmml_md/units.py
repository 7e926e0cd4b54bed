"""Every unit factor of the package, once.

Inside the engine: nm, ps, Da, kJ/mol, K, e (OpenMM's units). Labels, learning and whatever a person reads about forces:
eV and Å. Hartree and bohr appear only inside ``reference/pyscf*.py`` and at the ANI seam.

Source: CODATA 2018 recommended values (Tiesinga, Mohr, Newell, Taylor, Rev. Mod. Phys. 93, 025010, 2021,
doi:10.1103/RevModPhys.93.025010). The Avogadro and Boltzmann constants and the elementary charge are exact in the SI.
"""

AVOGADRO_PER_MOL = 6.02214076e23
BOLTZMANN_J_PER_K = 1.380649e-23
ELEMENTARY_CHARGE_C = 1.602176634e-19

NM_PER_ANGSTROM = 0.1
ANGSTROM_PER_NM = 10.0
ANGSTROM_PER_BOHR = 0.529177210903
PS_PER_FS = 1e-3
FS_PER_PS = 1e3

EV_PER_HARTREE = 27.211386245988
KJ_PER_MOL_PER_EV = ELEMENTARY_CHARGE_C * AVOGADRO_PER_MOL * 1e-3
KJ_PER_MOL_PER_HARTREE = EV_PER_HARTREE * KJ_PER_MOL_PER_EV
#: Thermochemical calorie, exact by definition.
KJ_PER_KCAL = 4.184
EV_PER_KJ_PER_MOL = 1.0 / KJ_PER_MOL_PER_EV

#: Boltzmann constant in kJ/mol/K (the molar gas constant).
BOLTZMANN_KJ_PER_MOL_PER_K = BOLTZMANN_J_PER_K * AVOGADRO_PER_MOL * 1e-3

#: Forces: eV/Å from kJ/mol/nm, and back.
EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM = EV_PER_KJ_PER_MOL / ANGSTROM_PER_NM
KJ_PER_MOL_PER_NM_PER_EV_PER_ANGSTROM = KJ_PER_MOL_PER_EV * ANGSTROM_PER_NM
EV_PER_ANGSTROM_PER_HARTREE_PER_BOHR = EV_PER_HARTREE / ANGSTROM_PER_BOHR

#: Energy of two charges of 1 e at a distance of 1 Å in vacuum, eV: in atomic units it is one.
COULOMB_EV_ANGSTROM_PER_E2 = EV_PER_HARTREE * ANGSTROM_PER_BOHR

#: Pressure times volume: 1 bar nm³ = 1e5 Pa · 1e-27 m³.
KJ_PER_MOL_PER_NM3_PER_BAR = 1e5 * 1e-27 * AVOGADRO_PER_MOL * 1e-3

DEBYE_PER_E_ANGSTROM = ELEMENTARY_CHARGE_C * 1e-10 / (1e-21 / 299792458.0)
