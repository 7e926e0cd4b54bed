"""A blend of two models is the linear mixture of both, by either implementation of the force."""

from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import unit

from qmml_md.ensemble import weights
from qmml_md.ensemble.force import BLEND, build_force
from qmml_md.ensemble.model import evaluate

MINI = str(Path(__file__).parents[1] / "data" / "ani_mini.safetensors")
NUMBERS = np.array([8, 1, 1, 8, 1, 1])
POSITIONS = np.array(
    [[0.0, 0.0, 0.0], [0.096, 0.0, 0.0], [-0.024, 0.093, 0.0], [0.28, 0.0, 0.02], [0.376, 0.0, 0.02], [0.25, 0.09, 0.0]]
)
BOX = np.eye(3) * 1.2


def context(kind: str, box: np.ndarray | None) -> tuple[openmm.Context, list]:
    old = weights.load(MINI, "double")
    new = weights.load(MINI, "double")
    for network in new.networks:
        network.last.weight.data.mul_(1.3)
    system = openmm.System()
    for _ in NUMBERS:
        system.addParticle(12.0)
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box)
    system.addForce(build_force(old, NUMBERS, periodic=box is not None, kind=kind, coming=new))
    made = openmm.Context(system, openmm.VerletIntegrator(1e-3), openmm.Platform.getPlatformByName("Reference"))
    made.setPositions(POSITIONS)
    return made, [old, new]


@pytest.mark.parametrize("box", [None, BOX], ids=["vacuum", "box"])
@pytest.mark.parametrize("kind", ["torchforce", "pythonforce"])
def test_energy_and_forces_are_mixed_linearly(kind: str, box: np.ndarray | None) -> None:
    made, models = context(kind, box)
    old, new = (evaluate(model, NUMBERS, POSITIONS, box) for model in models)
    assert abs(new.energy - old.energy) > 1.0
    for weight in (0.0, 0.25, 1.0):
        made.setParameter(BLEND, weight)
        state = made.getState(getEnergy=True, getForces=True)
        energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
        forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
        # Double precision, energies of order 1e3 kJ/mol, forces of order 1e4 kJ/mol/nm.
        assert energy == pytest.approx((1 - weight) * old.energy + weight * new.energy, abs=1e-9)
        assert np.abs(forces - (1 - weight) * old.forces - weight * new.forces).max() < 1e-7
