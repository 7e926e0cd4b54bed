from collections.abc import Callable
from dataclasses import replace

import ase.units
import numpy as np
import pytest
from ase.calculators.calculator import Calculator, SCFError, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential

from qmml_md.errors import LabelError, NotConverged
from qmml_md.reference.ase import AseReference
from qmml_md.reference.label import LevelOfTheory, label_key
from qmml_md.region.cluster import Cluster

Make = Callable[..., Cluster]


class PointCharges(Calculator):
    """Fixed charges in vacuum: a calculator that offers a dipole and charges."""

    implemented_properties = ("energy", "forces", "dipole", "charges")

    def __init__(self, charges: list[float]) -> None:
        super().__init__()
        self._charges = np.array(charges)

    def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)) -> None:  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        apart = self.atoms.positions[:, None] - self.atoms.positions
        distance = np.linalg.norm(apart, axis=-1)
        np.fill_diagonal(distance, np.inf)
        pairs = ase.units.Hartree * ase.units.Bohr * np.outer(self._charges, self._charges) / distance
        self.results = {
            "energy": pairs.sum() / 2,
            "forces": np.einsum("ij,ijx->ix", pairs / distance**2, apart),
            "dipole": self._charges @ self.atoms.positions,
            "charges": self._charges,
        }


def level(program: str) -> LevelOfTheory:
    return LevelOfTheory(program=program, method="", basis="", cartesian=False, density_fit=False, grid_level=0)


def test_label_holds_the_calculators_numbers(water: Cluster) -> None:
    reference = AseReference(EMT(), level("ase:emt"))
    label = reference.label(water)
    assert label.key == label_key(water, reference.level)
    assert label.cluster is water
    assert label.rung == "calculator"
    assert np.isnan(label.dipole).all()
    assert np.isnan(label.charges).all()
    assert label.charges.shape == (3,)
    assert np.isnan([label.spin_squared, label.gap]).all()


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_forces_are_the_gradient_and_a_wrong_factor_is_caught(water: Cluster, factor: float) -> None:
    reference = AseReference(MorsePotential(r0=1.0, epsilon=4.0, rho0=2.0), level("ase:morse"))
    forces = factor * reference.label(water).forces
    step = 1e-4
    numerical = np.zeros((3, 3))
    for index in np.ndindex(3, 3):
        energies = []
        for sign in (-1, 1):
            moved = water.positions.copy()
            moved[index] += sign * step
            energies.append(reference.label(replace(water, positions=moved)).energy)
        numerical[index] = -(energies[1] - energies[0]) / (2 * step)
    # h²·F''/6 with F'' = 3·k·a, k = 2·D·a² = 32 eV/Å², a = 2/Å: 3e-7 eV/Å; two bonds to each oxygen make it 6e-7.
    assert (np.abs(forces - numerical).max() < 1e-6) == (factor == 1.0)


def test_dipole_and_charges_are_taken_where_there_are_any(water: Cluster) -> None:
    label = AseReference(PointCharges([-0.8, 0.4, 0.4]), level("ase:charges")).label(water)
    assert label.charges.tolist() == [-0.8, 0.4, 0.4]
    assert np.allclose(label.dipole, np.array([-0.8, 0.4, 0.4]) @ water.positions, rtol=0, atol=1e-15)
    assert np.abs(label.forces.sum(axis=0)).max() < 1e-13


def test_labels_do_not_share_arrays(water: Cluster, two_waters: Cluster) -> None:
    reference = AseReference(EMT(), level("ase:emt"))
    first = reference.label(water)
    before = first.forces.copy()
    reference.label(two_waters)
    reference.label(replace(water, positions=water.positions * 1.1))
    assert np.array_equal(first.forces, before)


def test_a_charge_that_the_calculator_is_not_set_up_for_is_refused(make_cluster: Make) -> None:
    hydroxide = make_cluster([8, 1], [[0, 0, 0], [0, 0, 1.0]], charge=-1)
    with pytest.raises(LabelError, match="has charge -1 and multiplicity 1; ase:emt is set up for"):
        AseReference(EMT(), level("ase:emt")).label(hydroxide)
    assert np.isfinite(AseReference(EMT(), level("ase:emt"), charge=-1).label(hydroxide).energy)


def test_failure_of_the_calculator_is_a_named_error(make_cluster: Make) -> None:
    with pytest.raises(LabelError, match="ase:emt failed on a cluster of 1 atoms: NotImplementedError") as caught:
        AseReference(EMT(), level("ase:emt")).label(make_cluster([92], [[0, 0, 0]]))
    assert caught.value.cure


def test_unconverged_scf_of_the_calculator_is_named(water: Cluster) -> None:
    class Unconverged(EMT):
        def calculate(self, *args: object, **kwargs: object) -> None:
            raise SCFError("oscillates")

    with pytest.raises(NotConverged, match="ase:emt did not converge: oscillates"):
        AseReference(Unconverged(), level("ase:emt")).label(water)


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value|overflow):RuntimeWarning")
def test_result_that_is_not_finite_is_refused(make_cluster: Make) -> None:
    with pytest.raises(LabelError, match="not finite"):
        AseReference(LennardJones(rc=10.0), level("ase:lj")).label(make_cluster([18, 18], [[0, 0, 0], [0, 0, 1e-60]]))
