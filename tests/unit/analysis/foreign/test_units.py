"""Units as other programs write them: the known products, and the refusals."""

import pytest

from qmml_md.analysis.foreign.units import factor_of, parse
from qmml_md.errors import AuditError
from qmml_md.units import EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM, KJ_PER_MOL_PER_EV, KJ_PER_MOL_PER_HARTREE


@pytest.mark.parametrize(
    ("quantity", "text", "factor"),
    [
        ("positions", "Angstrom", 0.1),
        ("positions", "nm", 1.0),
        ("velocities", "nm ps-1", 1.0),
        ("velocities", "nm+1 ps-1", 1.0),
        ("velocities", "Angstrom/fs", 100.0),
        ("forces", "kJ mol-1 nm-1", 1.0),
        ("forces", "kcal/(mol*Angstrom)", 41.84),
        ("forces", "eV/Angstrom", 1.0 / EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM),
        ("forces", "hartree bohr-1", 49614.752589),
        ("energies", "kJ/mole", 1.0),
        ("energies", "eV", KJ_PER_MOL_PER_EV),
        ("energies", "hartree", KJ_PER_MOL_PER_HARTREE),
        ("energies", "Da nm^2 ps**-2", 1.0),
        ("momenta", "Da*Angstrom/ase_time", 9.8226947),
        ("masses", "g mol-1", 1.0),
        ("time", "fs", 1e-3),
    ],
)
def test_known_units(quantity, text, factor):
    assert factor_of(quantity, text, "here") == pytest.approx(factor, rel=1e-7)


def test_ase_time_is_that_of_ase():
    from ase import units

    # Å/fs times ASE's fs gives ASE's velocity.
    assert factor_of("velocities", "Angstrom/ase_time", "here") == pytest.approx(100.0 * units.fs, rel=1e-6)


@pytest.mark.parametrize("text", ["nm)", "(nm", "kJ/", "parsec", "kJ per mol", "2 nm", "nm @"])
def test_what_is_no_unit_is_refused(text):
    with pytest.raises(AuditError, match="cannot be read as a unit"):
        parse(text)


@pytest.mark.parametrize(("quantity", "text"), [("forces", "kJ/mol"), ("positions", "ps"), ("energies", "")])
def test_unit_of_another_quantity_is_refused_with_its_cure(quantity, text):
    with pytest.raises(AuditError, match=f"--unit {quantity}="):
        factor_of(quantity, text, "here")


def test_energy_that_is_not_per_mole_is_refused():
    # One joule per simulated system would be 6e20 kJ/mol.
    with pytest.raises(AuditError, match="lacks `per mole`"):
        factor_of("energies", "kJ", "here")
