"""Every factor of ``units.py`` against four independent tables of constants.

The tables stand on different CODATA vintages. ``units.py`` and OpenMM use 2018, which should agree to rounding. ASE
(by default), PySCF and TorchANI use 2014, where the constants that are exact today were still measured. A true value
lies within three relative standard uncertainties of the measured one, so the tolerance of a comparison across vintages
is three times the sum of the uncertainties that CODATA 2014 printed for the constants in the factor.
"""

import math

import ase.units
import openmm.unit as omm
import pyscf.data.nist as nist
import pytest
import torchani.units

from qmml_md import units

#: CODATA 2014, relative standard uncertainties (Mohr, Newell, Taylor, doi:10.1103/RevModPhys.88.035009).
U_E, U_NA, U_K, U_HARTREE, U_BOHR = 6.1e-9, 1.2e-8, 5.7e-7, 6.2e-9, 2.3e-10
#: Float64 arithmetic of a few products.
ROUNDING = 1e-14
SIGMA = 3

ASE_2018 = ase.units.create_units("2018")

CASES = {
    "e, OpenMM": (units.ELEMENTARY_CHARGE_C, (1 * omm.elementary_charge).value_in_unit(omm.coulomb), ROUNDING),
    "e, ASE": (units.ELEMENTARY_CHARGE_C, ase.units._e, SIGMA * U_E),
    "e, PySCF": (units.ELEMENTARY_CHARGE_C, nist.E_CHARGE, SIGMA * U_E),
    "e, TorchANI": (units.ELEMENTARY_CHARGE_C, torchani.units.EV_TO_JOULE, SIGMA * U_E),
    "N_A, OpenMM": (units.AVOGADRO_PER_MOL, omm.AVOGADRO_CONSTANT_NA.value_in_unit(omm.mole**-1), ROUNDING),
    "N_A, ASE": (units.AVOGADRO_PER_MOL, ase.units._Nav, SIGMA * U_NA),
    "N_A, PySCF": (units.AVOGADRO_PER_MOL, nist.AVOGADRO, SIGMA * U_NA),
    "N_A, TorchANI": (units.AVOGADRO_PER_MOL, torchani.units.AVOGADROS_NUMBER, SIGMA * U_NA),
    "k, OpenMM": (
        units.BOLTZMANN_J_PER_K,
        omm.BOLTZMANN_CONSTANT_kB.value_in_unit(omm.joule / omm.kelvin),
        ROUNDING,
    ),
    "k, ASE": (units.BOLTZMANN_J_PER_K, ase.units._k, SIGMA * U_K),
    "k, PySCF": (units.BOLTZMANN_J_PER_K, nist.BOLTZMANN, SIGMA * U_K),
    "R, OpenMM": (
        units.BOLTZMANN_KJ_PER_MOL_PER_K,
        omm.MOLAR_GAS_CONSTANT_R.value_in_unit(omm.kilojoule_per_mole / omm.kelvin),
        ROUNDING,
    ),
    "nm in Å, OpenMM": (units.ANGSTROM_PER_NM, (1 * omm.nanometer).value_in_unit(omm.angstrom), ROUNDING),
    "Å in nm, ASE": (units.NM_PER_ANGSTROM, ase.units.Ang / ase.units.nm, ROUNDING),
    "ps in fs, OpenMM": (units.FS_PER_PS, (1 * omm.picosecond).value_in_unit(omm.femtosecond), ROUNDING),
    "fs in ps, ASE": (units.PS_PER_FS, ase.units.fs / (1000 * ase.units.fs), ROUNDING),
    "bohr, OpenMM": (units.ANGSTROM_PER_BOHR, (1 * omm.bohr).value_in_unit(omm.angstrom), ROUNDING),
    "bohr, ASE": (units.ANGSTROM_PER_BOHR, ase.units.Bohr, SIGMA * U_BOHR),
    "bohr, PySCF": (units.ANGSTROM_PER_BOHR, nist.BOHR, SIGMA * 3.2e-10),  # CODATA 2010: 0.52917721092(17)
    "bohr, TorchANI": (units.ANGSTROM_PER_BOHR, 1 / torchani.units.ANGSTROM_TO_BOHR, SIGMA * 3.2e-10),
    # CODATA 2018 through ASE: derived from other constants, each rounded to the ten digits that were printed.
    "hartree, ASE 2018": (units.EV_PER_HARTREE, ASE_2018.Hartree, 1e-9),
    "bohr, ASE 2018": (units.ANGSTROM_PER_BOHR, ASE_2018.Bohr, 1e-9),
    "hartree, ASE": (units.EV_PER_HARTREE, ase.units.Hartree, SIGMA * U_HARTREE),
    "hartree, PySCF": (units.EV_PER_HARTREE, nist.HARTREE2EV, SIGMA * U_HARTREE),
    "hartree, TorchANI": (units.EV_PER_HARTREE, torchani.units.HARTREE_TO_EV, SIGMA * U_HARTREE),
    "eV, ASE": (units.KJ_PER_MOL_PER_EV, ase.units.mol / ase.units.kJ, SIGMA * (U_E + U_NA)),
    "eV, TorchANI": (units.KJ_PER_MOL_PER_EV, torchani.units.EV_TO_KJOULEMOL, SIGMA * (U_E + U_NA)),
    "1/eV, ASE": (units.EV_PER_KJ_PER_MOL, ase.units.kJ / ase.units.mol, SIGMA * (U_E + U_NA)),
    "hartree in kJ/mol, OpenMM": (
        units.KJ_PER_MOL_PER_HARTREE,
        (1 * omm.hartree * omm.AVOGADRO_CONSTANT_NA).value_in_unit(omm.kilojoule_per_mole),
        1e-11,  # the hartree in J and in eV are each printed to twelve digits
    ),
    "hartree in kJ/mol, PySCF": (
        units.KJ_PER_MOL_PER_HARTREE,
        nist.HARTREE2J * nist.AVOGADRO * 1e-3,
        SIGMA * (U_HARTREE + U_E + U_NA),
    ),
    "hartree in kJ/mol, TorchANI": (
        units.KJ_PER_MOL_PER_HARTREE,
        torchani.units.HARTREE_TO_KJOULEMOL,
        SIGMA * (U_HARTREE + U_E + U_NA),
    ),
    "force, ASE": (
        units.EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM,
        ase.units.kJ / ase.units.mol / ase.units.nm,
        SIGMA * (U_E + U_NA),
    ),
    "force back, ASE": (
        units.KJ_PER_MOL_PER_NM_PER_EV_PER_ANGSTROM,
        1 / (ase.units.kJ / ase.units.mol / ase.units.nm),
        SIGMA * (U_E + U_NA),
    ),
    "gradient, PySCF": (
        units.EV_PER_ANGSTROM_PER_HARTREE_PER_BOHR,
        nist.HARTREE2EV / nist.BOHR,
        SIGMA * (U_HARTREE + 3.2e-10),
    ),
    "charges, ASE": (
        units.COULOMB_EV_ANGSTROM_PER_E2,
        ASE_2018["_e"] / (4 * math.pi * ASE_2018["_eps0"]) * 1e10,
        1e-11,  # the magnetic constant, the hartree and the bohr are each printed to twelve digits
    ),
    "charges, PySCF": (
        units.COULOMB_EV_ANGSTROM_PER_E2,
        nist.HARTREE2EV * nist.BOHR,
        SIGMA * (U_HARTREE + U_BOHR),
    ),
    "bar nm³, OpenMM": (
        units.KJ_PER_MOL_PER_NM3_PER_BAR,
        (1 * omm.bar * omm.nanometer**3 * omm.AVOGADRO_CONSTANT_NA).value_in_unit(omm.kilojoule_per_mole),
        ROUNDING,
    ),
    "kcal, OpenMM": (units.KJ_PER_KCAL, (1 * omm.kilocalorie).value_in_unit(omm.kilojoule), ROUNDING),
    "debye, ASE": (units.DEBYE_PER_E_ANGSTROM, 1 / ase.units.Debye, SIGMA * U_E),
    # PySCF prints the debye to seven digits, TorchANI its inverse likewise.
    "debye, PySCF": (units.DEBYE_PER_E_ANGSTROM, nist.AU2DEBYE / nist.BOHR, 0.5e-6 / 3.335641 + SIGMA * U_E),
    "debye, TorchANI": (
        units.DEBYE_PER_E_ANGSTROM,
        1 / torchani.units.DEBYE_TO_ELECTRON_ANGSTROM,
        0.5e-7 / 0.2081943,
    ),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_factor_agrees_with_an_independent_table(case: str) -> None:
    ours, theirs, tolerance = CASES[case]
    assert abs(ours / theirs - 1) <= tolerance


def test_every_factor_is_compared() -> None:
    compared = {ours for ours, _, _ in CASES.values()}
    factors = {name: value for name, value in vars(units).items() if name.isupper()}
    assert {name for name, value in factors.items() if value not in compared} == set()


@pytest.mark.parametrize(
    ("case", "factor"), [("eV, ASE", 96.4916 / 96.4853), ("debye, ASE", 1 + 1e-7), ("R, OpenMM", 4.184)]
)
def test_sabotaged_factor_is_caught(case: str, factor: float) -> None:
    """A factor that another package carries (96.4916), one wrong digit, and calories for joules."""
    ours, theirs, tolerance = CASES[case]
    assert abs(ours * factor / theirs - 1) > tolerance
