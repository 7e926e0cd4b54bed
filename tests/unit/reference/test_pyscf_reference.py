from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyscf
import pytest
from pydantic import ValidationError
from pyscf.data import nist

from qmml_md import config, units
from qmml_md.errors import ConfigError, LabelError
from qmml_md.reference.label import label_key
from qmml_md.reference.pyscf import PyscfReference
from qmml_md.reference.pyscf_setup import build_mean_field, build_molecule, count_functions, level_of_theory
from qmml_md.region.cluster import Cluster

Make = Callable[..., Cluster]
CHEAP = config.Reference(method="hf", basis="sto-3g", density_fit=False)


def test_label_is_what_pyscf_computes_by_itself(water: Cluster) -> None:
    label = PyscfReference(CHEAP, 1).label(water)
    molecule = pyscf.M(
        atom=list(zip("OHH", water.positions.tolist(), strict=True)), basis="sto-3g", verbose=0, cart=True
    )
    mean_field = molecule.RHF()
    mean_field._chkfile.close()  # or its collection as garbage would warn
    mean_field.run(conv_tol=1e-9, chkfile=None)
    # PySCF converts with CODATA 2010 values: 1e-10 of the geometry and 3e-8 of energies in eV.
    energy = mean_field.e_tot * nist.HARTREE2EV
    assert abs(label.energy - energy) < 3e-8 * abs(energy)
    forces = -mean_field.nuc_grad_method().kernel() * nist.HARTREE2EV / nist.BOHR
    assert np.abs(label.forces - forces).max() < 1e-5 * np.abs(forces).max()
    debye = mean_field.dip_moment(unit="Debye", verbose=0)
    assert np.abs(label.dipole * units.DEBYE_PER_E_ANGSTROM - debye).max() < 1e-5
    gap = (mean_field.mo_energy[5] - mean_field.mo_energy[4]) * nist.HARTREE2EV
    assert label.gap == pytest.approx(gap, rel=1e-6)


def test_label_is_addressed_and_complete(water: Cluster) -> None:
    reference = PyscfReference(CHEAP, 1)
    label = reference.label(water)
    assert label.key == label_key(water, reference.level)
    assert label.cluster is water
    assert label.level == reference.level
    assert (label.forces.shape, label.dipole.shape, label.charges.shape) == ((3, 3), (3,), (3,))
    assert label.rung == "diis"
    assert label.spin_squared == 0.0
    assert label.wall_time > 0


def test_doublet_is_unrestricted_and_its_gap_lies_within_one_spin(make_cluster: Make) -> None:
    hydrogen = make_cluster([1], [[0.0, 0.0, 0.0]], multiplicity=2)
    label = PyscfReference(config.Reference(method="hf", basis="6-31g", density_fit=False), 1).label(hydrogen)
    assert label.spin_squared == pytest.approx(0.75, abs=1e-12)  # S(S + 1), one electron
    assert np.abs(label.forces).max() < 1e-9
    assert label.energy / units.EV_PER_HARTREE == pytest.approx(-0.49823, abs=1e-5)  # hydrogen atom in 6-31G
    assert np.isfinite(label.gap)
    minimal = PyscfReference(CHEAP, 1).label(hydrogen)
    assert minimal.gap == np.inf  # one orbital: neither spin has both an occupied and an empty one


def test_charge_is_honoured(make_cluster: Make) -> None:
    hydroxide = make_cluster([8, 1], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.97]], charge=-1)
    label = PyscfReference(CHEAP, 1).label(hydroxide)
    assert label.charges.sum() == pytest.approx(-1.0, abs=1e-8)


def test_labels_go_in_and_out_silently_and_threads_are_given_back(
    water: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    before = pyscf.lib.num_threads()
    PyscfReference(CHEAP, before + 1).label(water)
    assert pyscf.lib.num_threads() == before
    assert capfd.readouterr() == ("", "")


def test_failed_label_gives_threads_back(make_cluster: Make) -> None:
    before = pyscf.lib.num_threads()
    with pytest.raises(LabelError):
        PyscfReference(CHEAP, before + 1).label(make_cluster([1, 1], np.zeros((2, 3))))
    assert pyscf.lib.num_threads() == before


def test_no_file_is_left_open(water: Cluster) -> None:
    """PySCF opens a checkpoint file for every calculation; half a label is of no use to anyone."""
    mean_field = build_mean_field(build_molecule(water, CHEAP), CHEAP)
    assert mean_field._chkfile.file.closed
    assert mean_field.chkfile is None


def test_coinciding_atoms_are_refused_before_the_scf(make_cluster: Make) -> None:
    with pytest.raises(LabelError, match="coincide"):
        PyscfReference(CHEAP, 1).label(make_cluster([8, 1, 1], [[0, 0, 0], [0, 0, 1], [0, 0, 1]]))


def test_radical_without_multiplicity_is_refused(make_cluster: Make) -> None:
    with pytest.raises(LabelError, match="9 electrons, which cannot have multiplicity 1"):
        PyscfReference(CHEAP, 1).label(make_cluster([8, 1], [[0, 0, 0], [0, 0, 1]]))


def test_element_that_the_basis_lacks_is_named(make_cluster: Make) -> None:
    reference = PyscfReference(config.Reference(method="hf", basis="6-31g*"), 1)
    with pytest.raises(LabelError, match=r"not found for U") as caught:
        reference.label(make_cluster([92], [[0, 0, 0]]))
    assert "reference.basis" in caught.value.cure


@pytest.mark.parametrize("method", ["wb97y", "mp2"])
def test_unknown_method_is_refused_at_once(method: str) -> None:
    with pytest.raises(ConfigError, match=r"reference\.method"):
        PyscfReference(config.Reference(method=method), 1)


def test_a_blank_method_is_refused_before_that() -> None:
    with pytest.raises(ValidationError, match="method"):
        config.Reference(method="")


def test_unknown_basis_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="7-42g"):
        PyscfReference(config.Reference(basis="7-42g"), 1)


def test_level_holds_what_changes_the_number_and_nothing_else() -> None:
    base = config.Reference()
    level = level_of_theory(base)
    same = base.model_copy(
        update={"scf_tolerance_hartree": 1e-7, "max_cycles": 5, "time_limit_s": 1.0, "charge": 1, "method": " wB97X"}
    )
    assert level_of_theory(same) == level
    changes = [
        {"method": "pbe0"},
        {"basis": "def2-svp"},
        {"cartesian": False},
        {"density_fit": False},
        {"grid_level": 4},
    ]
    fingerprints = {level_of_theory(base.model_copy(update=change)).fingerprint for change in changes}
    fingerprints |= {level.fingerprint, level_of_theory(base, grid_response=False).fingerprint}
    assert len(fingerprints) == len(changes) + 2


def test_hartree_fock_has_no_grid() -> None:
    coarse, fine = (level_of_theory(config.Reference(method="HF", grid_level=g)) for g in (1, 5))
    assert coarse == fine == level_of_theory(config.Reference(method="hf"), grid_response=False)


def test_functions_and_electrons_are_counted() -> None:
    # 6-31G*: 3 s + 2 p + 1 d on oxygen, 2 s on hydrogen; a d shell has six Cartesian functions or five spherical ones.
    numbers = np.array([8, 1, 1])
    assert count_functions(numbers, config.Reference()) == (10, 19)
    assert count_functions(numbers, config.Reference(cartesian=False)) == (10, 18)
    assert count_functions(numbers, config.Reference(charge=1)) == (9, 19)


def test_core_potentials_are_used_where_the_basis_has_them() -> None:
    # def2 bases replace the 28 core electrons of iodine; without the potential the basis could not describe them.
    assert count_functions(np.array([53]), config.Reference(basis="def2-svp"))[0] == 53 - 28


def test_counting_names_a_missing_element() -> None:
    with pytest.raises(LabelError, match="not found for U"):
        count_functions(np.array([92]), config.Reference())


def test_permuted_label_has_the_same_energy_but_another_key(water: Cluster) -> None:
    reference = PyscfReference(CHEAP, 1)
    order = np.array([1, 0, 2])
    shuffled = replace(water, numbers=water.numbers[order], positions=water.positions[order])
    assert reference.label(shuffled).key != reference.label(water).key
