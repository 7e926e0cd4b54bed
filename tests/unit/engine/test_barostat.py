"""The barostat samples constant pressure: an ideal gas of molecules, whose volume has a known distribution."""

from dataclasses import replace

import numpy as np
import pytest

from qmml_md.engine.barostat import Barostat, BarostatState, adapt, scaled
from qmml_md.errors import DynamicsError
from qmml_md.system.molecules import Molecules
from qmml_md.units import BOLTZMANN_KJ_PER_MOL_PER_K, KJ_PER_MOL_PER_NM3_PER_BAR

MOLECULES, TEMPERATURE_K, PRESSURE_BAR = 20, 300.0, 100.0
#: p/kT, 1/nm³.
DENSITY = PRESSURE_BAR * KJ_PER_MOL_PER_NM3_PER_BAR / (BOLTZMANN_KJ_PER_MOL_PER_K * TEMPERATURE_K)


class IdealGas:
    """Atoms without interaction."""

    def __init__(self, molecules: Molecules) -> None:
        self.molecules = molecules

    def potential(self) -> float:
        return 0.0

    def move(self, positions: np.ndarray, box: np.ndarray) -> float:
        self.molecules = self.molecules.at(positions, box)
        return 0.0


def gas(size: float) -> Molecules:
    """Diatomic molecules in a cubic box of edge ``size`` nm."""
    rng = np.random.default_rng(2)
    centres = rng.uniform(0, size, size=(MOLECULES, 1, 3))
    positions = (centres + rng.normal(scale=0.05, size=(MOLECULES, 2, 3))).reshape(-1, 3)
    n = 2 * MOLECULES
    return Molecules(
        topology=None,
        numbers=np.full(n, 7),
        masses=np.full(n, 14.0),
        positions=positions,
        box=np.eye(3) * size,
        bonds=np.arange(n).reshape(-1, 2),
        molecule_of=np.repeat(np.arange(MOLECULES), 2),
        residue_of=np.repeat(np.arange(MOLECULES), 2),
        fragment_of=np.repeat(np.arange(MOLECULES), 2),
        formal_charge=np.zeros(n, dtype=np.int64),
    )


def volumes(barostat: Barostat, molecules: Molecules, moves: int, seed: int = 1) -> np.ndarray:
    """Volumes (nm³) after each move, the first tenth left out."""
    system, state, rng = IdealGas(molecules), BarostatState(), np.random.default_rng(seed)
    found = []
    for _ in range(moves):
        barostat.attempt(system, system.molecules, state, rng)
        found.append(np.linalg.det(system.molecules.box))
    return np.array(found[moves // 10 :])


def barostat(cutoff_nm: float = 0.01) -> Barostat:
    return Barostat(pressure_bar=PRESSURE_BAR, temperature_K=TEMPERATURE_K, cutoff_nm=cutoff_nm)


def expected_mean(count: int) -> float:
    """p(V) ∝ V^N exp(−pV/kT) is a gamma distribution of shape N + 1, whatever the ensemble of moves."""
    return (count + 1) / DENSITY


def test_the_volume_of_an_ideal_gas() -> None:
    found = volumes(barostat(), gas(2.0), 30000)
    # Mean (N+1)kT/p, relative width 1/sqrt(N+1) = 22 %. Moves of up to 30 % forget the volume within about ten: the
    # standard error is 22 % · sqrt(2 · 10 / 27000) = 0.6 %; three of them. Moves proposed in proportion to the present
    # volume would be wrong by 7 %.
    assert found.mean() / expected_mean(MOLECULES) == pytest.approx(1.0, abs=0.018)
    assert found.std() / found.mean() == pytest.approx(1 / np.sqrt(MOLECULES + 1), rel=0.06)


def test_counting_atoms_instead_of_molecules_is_caught() -> None:
    # Sabotage: every atom a molecule; the volume doubles.
    wrong = replace(gas(2.0), molecule_of=np.arange(2 * MOLECULES))
    assert volumes(barostat(), wrong, 30000).mean() / expected_mean(MOLECULES) > 1.8


def test_molecules_move_as_a_whole() -> None:
    before = gas(2.0)
    after = scaled(before.positions, before.molecule_of, 1.1)
    bonds = [np.linalg.norm(x[0::2] - x[1::2], axis=1) for x in (before.positions, after)]
    assert np.allclose(*bonds, rtol=1e-12)
    centres = [0.5 * (x[0::2] + x[1::2]) for x in (before.positions, after)]
    assert np.allclose(centres[1], 1.1 * centres[0], rtol=1e-12)


def test_a_refused_move_leaves_everything_where_it_was() -> None:
    class Wall(IdealGas):
        def move(self, positions: np.ndarray, box: np.ndarray) -> float:
            super().move(positions, box)
            return 1e9

    system = Wall(gas(2.0))
    start = system.molecules
    assert barostat().attempt(system, start, BarostatState(), np.random.default_rng(0)) is None
    assert np.array_equal(system.molecules.positions, start.positions)
    assert np.array_equal(system.molecules.box, start.box)


def test_a_box_below_twice_the_cutoff_is_refused() -> None:
    # Twenty moves of up to one per cent of the volume: one of them shrinks the box by more than one part in a thousand.
    with pytest.raises(DynamicsError, match="less than twice the cutoff"):
        volumes(barostat(cutoff_nm=0.999), gas(2.0), 20)


def test_the_largest_move_adapts_to_the_rate_of_acceptance() -> None:
    state = BarostatState(largest_move_nm3=0.1, limit_nm3=0.105)
    for _ in range(10):
        adapt(state, accepted=False)
    assert state.largest_move_nm3 == pytest.approx(0.1 / 1.1)
    for _ in range(10):
        adapt(state, accepted=True)
    assert state.largest_move_nm3 == pytest.approx(0.1)
    for _ in range(10):
        adapt(state, accepted=True)
    assert state.largest_move_nm3 == pytest.approx(0.105)
    assert (state.attempted, state.accepted) == (0, 0)
