import numpy as np
import openmm
import pytest

from qmml_md import units
from qmml_md.reference.embedding import explicit_term
from qmml_md.region.cluster import Surroundings


@pytest.fixture
def places() -> np.ndarray:
    return np.array([[0.0, 0.0, 0.12], [0.0, 0.78, -0.47], [0.05, -0.76, -0.45]])


@pytest.fixture
def around() -> Surroundings:
    return Surroundings(
        positions=np.array([[0.0, 2.45, -1.55], [0.7, 3.0, -1.2], [-0.7, 3.0, -1.3], [0.0, 0.0, 3.2]]),
        charges=np.array([-0.834, 0.417, 0.417, 1.0]),
        parent=np.array([3, 4, 5, 6]),
        own=np.array([-0.8, 0.4, 0.4]),
    )


def moved(around: Surroundings, by: np.ndarray) -> Surroundings:
    return Surroundings(
        positions=around.positions + by, charges=around.charges, parent=around.parent, own=around.own
    )  # fmt: skip


@pytest.mark.parametrize("factor", [1.0, 1.0001])
def test_forces_are_the_gradient_and_a_wrong_factor_is_caught(
    places: np.ndarray, around: Surroundings, factor: float
) -> None:
    found = explicit_term(places, around)
    step, wrong = 1e-4, []
    for analytic, on_atoms in ((found.forces, True), (found.on_charges, False)):
        for index in np.ndindex(*analytic.shape):
            by = np.zeros_like(analytic)
            by[index] = step
            ends = [
                explicit_term(places + s * by, around) if on_atoms else explicit_term(places, moved(around, s * by))
                for s in (1, -1)
            ]
            wrong.append(factor * analytic[index] + (ends[0].energy - ends[1].energy) / (2 * step))
    # h²·F''/6 with F'' = 6·k·q·q'/r⁴: 3 eV/Å³ for the nearest pair at 1.9 Å, ten pairs, 5e-8 eV/Å.
    assert (np.abs(wrong).max() < 1e-7) == (factor == 1.0)


def test_forces_balance(places: np.ndarray, around: Surroundings) -> None:
    found = explicit_term(places, around)
    # Thirty terms of up to 2 eV/Å, each rounded to 2e-16 of itself.
    assert np.abs(found.forces.sum(axis=0) + found.on_charges.sum(axis=0)).max() < 1e-13


def test_energy_is_the_one_that_openmm_adds_again(places: np.ndarray, around: Surroundings) -> None:
    charges = np.concatenate([around.own, around.charges])
    both = np.concatenate([places, around.positions])
    first = np.arange(7) < 3
    whole = _coulomb(both, charges)
    between = whole - _coulomb(both[first], charges[first]) - _coulomb(both[~first], charges[~first])
    # OpenMM's constant is rounded to 3e-9; the difference of totals of 20 eV costs 1e-15 of them.
    assert explicit_term(places, around).energy == pytest.approx(between * units.EV_PER_KJ_PER_MOL, rel=1e-7)


def _coulomb(places_A: np.ndarray, charges: np.ndarray) -> float:
    system, force = openmm.System(), openmm.NonbondedForce()
    for q in charges:
        system.addParticle(1.0)
        force.addParticle(float(q), 1.0, 0.0)
    system.addForce(force)
    context = openmm.Context(system, openmm.VerletIntegrator(1e-3), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(places_A * units.NM_PER_ANGSTROM)
    return float(context.getState(getEnergy=True).getPotentialEnergy()._value)


def test_no_charges_no_term(places: np.ndarray, around: Surroundings) -> None:
    none = Surroundings(positions=np.zeros((0, 3)), charges=np.zeros(0), parent=around.parent[:0], own=around.own)
    found = explicit_term(places, none)
    assert found.energy == 0.0
    assert not found.forces.any()
    assert found.on_charges.shape == (0, 3)
