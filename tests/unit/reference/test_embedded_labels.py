"""Labels of clusters among point charges: gradients, balance, limits, and what is taken off."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from qmml_md import config
from qmml_md.errors import ConfigError, LabelError
from qmml_md.reference.ase import AseReference
from qmml_md.reference.embedding import explicit_term
from qmml_md.reference.label import Label
from qmml_md.reference.pyscf import PyscfReference
from qmml_md.reference.pyscf_setup import level_of_theory
from qmml_md.region.cluster import Cluster, Surroundings

Make = Callable[..., Cluster]
#: Tight, so that energies are good to 1e-10 eV and differences of them to what the tests ask.
TIGHT = config.Reference(
    method="hf", basis="6-31g", density_fit=False, scf_tolerance_hartree=1e-12, embedding="electrostatic"
)
RUN_LEVEL = config.Reference(embedding="electrostatic", scf_tolerance_hartree=1e-11)
TIP3P = np.array([-0.834, 0.417, 0.417])
TOO_MUCH = np.array([-0.734, 0.417, 0.417])
STEP_A = 1e-3


def alone(settings: config.Reference) -> config.Reference:
    return settings.model_copy(update={"embedding": "mechanical"})


def label(settings: config.Reference, cluster: Cluster, **options: bool) -> Label:
    return PyscfReference(settings, 1, **options).label(cluster)


def raw(settings: config.Reference, cluster: Cluster) -> float:
    found = label(settings, cluster).embedding
    assert found is not None
    return found.energy


@pytest.fixture
def dimer(two_waters: Cluster) -> Cluster:
    """The donor of a hydrogen bond; the acceptor is three charges."""
    around = Surroundings(
        positions=two_waters.positions[3:], charges=TIP3P, parent=np.array([3, 4, 5]), own=TIP3P
    )  # fmt: skip
    return replace(two_waters, numbers=two_waters.numbers[:3], positions=two_waters.positions[:3],
                   parent=np.arange(3), surroundings=around)  # fmt: skip


def displaced(cluster: Cluster, atoms: np.ndarray | float = 0.0, charges: np.ndarray | float = 0.0) -> Cluster:
    assert cluster.surroundings is not None
    around = replace(cluster.surroundings, positions=cluster.surroundings.positions + charges)
    return replace(cluster, positions=cluster.positions + atoms, surroundings=around)


COMPONENTS = (((1, 2), True), ((0, 1), False), ((0, 1), True), ((2, 2), False))


def gradient_errors(settings: config.Reference, cluster: Cluster, factor: float, *, few: bool = False) -> list[float]:
    """Raw forces on some atoms and charges against differences of the raw energy, by fourth order, eV/Å."""
    found = label(settings, cluster).embedding
    assert found is not None
    wrong = []
    for index, on_atoms in COMPONENTS[:2] if few else COMPONENTS:
        by = np.zeros((3, 3))
        by[index] = STEP_A
        slope = 0.0
        for k, weight in ((1, 8), (2, -1)):
            ends = [
                raw(settings, displaced(cluster, **{"atoms" if on_atoms else "charges": s * k * by})) for s in (1, -1)
            ]
            slope += weight * (ends[0] - ends[1]) / (12 * STEP_A)
        analytic = found.forces if on_atoms else found.on_charges
        wrong.append(abs(factor * analytic[index] + slope))
    return wrong


@pytest.mark.parametrize("factor", [1.0, 1.0001])
def test_raw_forces_are_the_gradient_on_atoms_and_charges(dimer: Cluster, factor: float) -> None:
    # h⁴·F⁗/30 < 1e-9 even for an O–H bond (F⁗ ~ k a³ ~ 50·8 eV/Å⁵); energies of 2e3 eV are rounded to 5e-13 and
    # converged to 1e-10, over a step of 1e-3: 3e-7 at worst. The smallest force looked at is 0.1 eV/Å.
    assert (max(gradient_errors(TIGHT, dimer, factor)) < 1e-6) == (factor == 1.0)


@pytest.mark.slow
def test_so_they_are_at_the_level_of_a_run(dimer: Cluster) -> None:
    # ωB97X/6-31G* with Cartesian d functions, density fitting and a grid; the grid is screened to 1e-7 of the energy's
    # gradient.
    assert max(gradient_errors(RUN_LEVEL, dimer, 1.0, few=True)) < 2e-6


def imbalance(found: Label) -> float:
    """Sum of all raw forces, which is the gradient of moving everything together, eV/Å."""
    assert found.embedding is not None
    return float(np.abs(found.embedding.forces.sum(axis=0) + found.embedding.on_charges.sum(axis=0)).max())


def test_forces_on_atoms_and_charges_balance(dimer: Cluster) -> None:
    # Exact but for rounding of integrals, 1e-15 of terms of 1e2 hartree/bohr.
    assert imbalance(label(TIGHT, dimer)) < 1e-11
    # With a grid: as far as its response is exact; without it, 1e-3.
    assert imbalance(label(RUN_LEVEL, dimer)) < 1e-6
    assert imbalance(label(RUN_LEVEL, dimer, grid_response=False)) > 1e-4


def test_where_everything_lies_does_not_matter(dimer: Cluster) -> None:
    one, other = (label(TIGHT, c) for c in (dimer, displaced(dimer, np.array([3.0, -7.0, 1.0]), [3.0, -7.0, 1.0])))
    assert one.energy == pytest.approx(other.energy, abs=1e-9)
    assert np.abs(one.forces - other.forces).max() < 1e-7
    # If the charges stay behind, it does.
    assert abs(label(TIGHT, displaced(dimer, np.array([0.0, 0.1, 0.0]))).energy - one.energy) > 1e-4


def test_no_charges_give_the_label_of_the_isolated_cluster(water: Cluster) -> None:
    none = Surroundings(positions=np.zeros((0, 3)), charges=np.zeros(0), parent=np.arange(0), own=TIP3P)
    found, isolated = label(TIGHT, replace(water, surroundings=none)), label(alone(TIGHT), water)
    assert found.energy == isolated.energy
    assert np.array_equal(found.forces, isolated.forces)
    assert found.embedding is not None
    assert found.embedding.on_charges.shape == (0, 3)
    assert isolated.embedding is None
    assert found.key != isolated.key


def test_trained_on_is_the_raw_result_less_the_explicit_term(dimer: Cluster) -> None:
    found = label(TIGHT, dimer)
    assert found.embedding is not None
    assert dimer.surroundings is not None
    explicit = explicit_term(dimer.positions, dimer.surroundings)
    assert found.energy == found.embedding.energy - explicit.energy
    assert np.array_equal(found.forces, found.embedding.forces - explicit.forces)


def left_over(cluster: Cluster, own: np.ndarray, charges: np.ndarray, distance_A: float) -> float:
    """Label less isolated label, with charges at a distance on an axis that no symmetry of water favours, eV."""
    axis = np.array([0.3, 0.8, 0.52])
    places = distance_A * axis + np.arange(len(charges))[:, None] * np.array([0.5, 0.3, -0.2])
    around = Surroundings(positions=places, charges=charges, parent=np.arange(len(charges)) + 9, own=own)
    return label(TIGHT, replace(cluster, surroundings=around)).energy - label(alone(TIGHT), cluster).energy


@pytest.mark.parametrize(
    ("own", "charges", "power"),
    [
        # What is left between two neutral sets of charges is a difference of dipoles in the field of a dipole.
        (TIP3P, np.array([-1.0, 1.0]), 3),
        # A charge outside sees the difference of dipoles.
        (TIP3P, np.array([1.0]), 2),
        # Sabotage: own charges that do not sum up to the cluster's charge leave a charge that is not there.
        (TOO_MUCH, np.array([1.0]), 1),
        (TOO_MUCH, np.array([-1.0, 1.0]), 2),
    ],
)
def test_far_charges_leave_the_isolated_label(water: Cluster, own: np.ndarray, charges: np.ndarray, power: int) -> None:
    near, far = (left_over(water, own, charges, d) for d in (40.0, 80.0))
    # The next multipole adds up to (3 × 1.5 Å)/40 Å, and half as much at twice the distance: 6 % of the ratio.
    assert near / far == pytest.approx(2.0**power, rel=0.06)


def test_a_water_among_the_charges_of_another_is_bound_about_as_the_charges_say(dimer: Cluster) -> None:
    found, isolated = label(RUN_LEVEL, dimer), label(alone(RUN_LEVEL), replace(dimer, surroundings=None))
    assert found.embedding is not None
    bound, charges = found.embedding.energy - isolated.energy, found.embedding.energy - found.energy
    assert charges == pytest.approx(-0.265, abs=0.001)  # two TIP3P waters, by hand
    # The dipole of TIP3P, 2.35 D, is a quarter larger than that of free water, 1.85 D; polarisation gives some back.
    assert bound == pytest.approx(charges, rel=0.25)
    # Electrons that can answer lower the energy below that of the same density held fixed; a dipole grows.
    assert np.linalg.norm(found.dipole) > np.linalg.norm(isolated.dipole)
    # What the networks cannot see is a part of it.
    assert abs(found.energy - isolated.energy) < 0.5 * abs(bound)


@pytest.mark.parametrize("rung", ["diis", "level-shift", "second-order"])
def test_every_rung_finds_the_same_state_among_charges(dimer: Cluster, rung: str) -> None:
    one = PyscfReference(TIGHT, 1, rungs=(rung,)).label(dimer)
    assert one.rung == rung
    # Converged to 1e-12 hartree each.
    assert one.energy == pytest.approx(label(TIGHT, dimer).energy, abs=1e-9)


def test_densities_are_guesses_whatever_is_around(dimer: Cluster) -> None:
    reference = PyscfReference(TIGHT, 1)
    reference.label(dimer)
    moved = displaced(dimer, 0.0, [0.1, 0.0, 0.0])
    found = reference.label(moved)
    assert found.rung == "guess"
    assert found.energy == pytest.approx(label(TIGHT, moved).energy, abs=1e-9)


def test_radicals_have_forces_on_charges_from_both_spins(make_cluster: Make) -> None:
    around = Surroundings(
        positions=np.array([[0.5, 0.4, 2.5]]), charges=np.array([0.6]), parent=np.array([5]), own=np.array([-0.4, 0.4])
    )
    hydroxyl = make_cluster([8, 1], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.97]], multiplicity=2)
    assert imbalance(label(TIGHT, replace(hydroxyl, surroundings=around))) < 1e-10


def test_more_charges_than_one_block_holds(dimer: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = label(TIGHT, dimer).embedding
    monkeypatch.setattr("qmml_md.reference.pyscf.BLOCK_BYTES", 1)
    blocks = label(TIGHT, dimer).embedding
    assert whole is not None
    assert blocks is not None
    assert np.abs(whole.on_charges - blocks.on_charges).max() < 1e-12


def test_charge_on_an_atom_is_refused(dimer: Cluster) -> None:
    with pytest.raises(LabelError, match="a point charge coincides with an atom"):
        label(TIGHT, displaced(dimer, 0.0, dimer.positions[0] - dimer.surroundings.positions[0] + 0.01))  # type: ignore[union-attr]


def test_surroundings_that_the_level_does_not_know_are_refused(dimer: Cluster, water: Cluster) -> None:
    with pytest.raises(LabelError, match="lies among point charges"):
        label(alone(TIGHT), dimer)
    with pytest.raises(LabelError, match="has no surroundings"):
        label(TIGHT, water)


def test_ase_calculators_are_not_asked_for_embedding(dimer: Cluster) -> None:
    from ase.calculators.emt import EMT

    with pytest.raises(ConfigError, match="cannot be embedded"):
        AseReference(EMT(), level_of_theory(TIGHT))
    with pytest.raises(LabelError, match="lies among point charges"):
        AseReference(EMT(), level_of_theory(alone(TIGHT))).label(dimer)
