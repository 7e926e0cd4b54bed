"""What no instant of a run may hold."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qmml_md.config import Dynamics
from qmml_md.engine.instant import EXPLOSION_KJ_PER_MOL_PER_NM, Instant, limits_of, refuse_explosion
from qmml_md.errors import DynamicsError
from qmml_md.system.structures import read_structure
from qmml_md.units import BOLTZMANN_KJ_PER_MOL_PER_K

ETHANOL = Path(__file__).parents[3] / "examples" / "ethanol_nve" / "ethanol.pdb"
FREEDOM = 24


@pytest.fixture(scope="module")
def calm() -> Instant:
    positions = read_structure(ETHANOL).positions
    zeros = np.zeros_like(positions)
    return Instant(
        positions=positions, velocities=zeros, forces=zeros, potential=0.0, kinetic=0.0, box=np.zeros((3, 3))
    )


def refuse(found: Instant, **settings: float) -> None:
    dynamics = Dynamics(max_temperature_K=1000.0, **settings)
    refuse_explosion(limits_of(dynamics, read_structure(ETHANOL), FREEDOM), found)


def test_a_calm_instant_is_none(calm: Instant) -> None:
    refuse(calm, max_bond_stretch=1.5)


@pytest.mark.parametrize("name", ["positions", "velocities", "forces", "potential", "kinetic"])
def test_numbers_that_are_none(calm: Instant, name: str) -> None:
    with pytest.raises(DynamicsError, match="not finite"):
        refuse(replace(calm, **{name: getattr(calm, name) * np.nan}))


def test_a_force_names_its_atom(calm: Instant) -> None:
    forces = np.zeros_like(calm.positions)
    forces[2, 1] = -EXPLOSION_KJ_PER_MOL_PER_NM
    refuse(replace(calm, forces=forces))
    with pytest.raises(DynamicsError, match=r"index 2"):
        refuse(replace(calm, forces=forces * 1.001))


def test_heat(calm: Instant) -> None:
    at_limit = 0.5 * FREEDOM * BOLTZMANN_KJ_PER_MOL_PER_K * 1000.0
    refuse(replace(calm, kinetic=at_limit * 0.999))
    with pytest.raises(DynamicsError, match="temperature is 1001 K"):
        refuse(replace(calm, kinetic=at_limit * 1.001))


def test_a_torn_bond_counts_only_where_bonds_may_not_break(calm: Instant) -> None:
    positions = calm.positions.copy()
    positions[-1] += 1.0
    refuse(replace(calm, positions=positions))
    with pytest.raises(DynamicsError, match="max_bond_stretch"):
        refuse(replace(calm, positions=positions), max_bond_stretch=2.0)


def test_a_bond_across_the_box_is_not_torn(calm: Instant) -> None:
    box = np.diag([3.0, 3.0, 3.0])
    positions = calm.positions.copy()
    positions[-1] += box[0]
    refuse(replace(calm, positions=positions, box=box), max_bond_stretch=1.5)
