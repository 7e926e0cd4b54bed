"""A force on some particles of a System is the ensemble on these particles, whatever else is there."""

from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import unit

from qmml_md.ensemble import weights
from qmml_md.ensemble.force import BLEND, Particles, build_force
from qmml_md.ensemble.model import evaluate

MINI = str(Path(__file__).parents[1] / "data" / "ani_mini.safetensors")
#: Relative to energies and forces of order 100: both sides add the same terms in double precision, in another order.
EQUAL = 1e-9
NUMBERS = np.array([8, 1, 1, 6, 1, 1, 1, 8, 1])
POSITIONS = 0.1 * np.array([
    [0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0],
    [3.0, 0.5, 0.2], [3.3, 1.5, 0.3], [3.4, 0.0, 1.1], [3.4, 0.0, -0.7], [1.6, 0.6, 0.3], [1.3, 0.1, -0.4],
])  # fmt: skip
BOX = np.array([[1.25, 0.0, 0.0], [0.2, 1.3, 0.0], [-0.1, 0.3, 1.4]])
#: Not in the order of the System, and not all of it: particle k of the part is particle PART[k] of the System.
PART = np.array([9, 2, 3, 4, 12, 6, 7, 8, 10])


def context(kind: str, models: list, box: np.ndarray | None, part: np.ndarray = PART) -> openmm.Context:
    """A System of 13 particles, nine of them on the ensemble."""
    system = openmm.System()
    for _ in range(13):
        system.addParticle(12.0)
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box)
    coming = models[1] if len(models) > 1 else None
    periodic = box is not None
    own = Particles(atoms=part)
    system.addForce(build_force(models[0], NUMBERS, periodic=periodic, kind=kind, coming=coming, part=own))
    platform = openmm.Platform.getPlatformByName("Reference")
    return openmm.Context(system, openmm.VerletIntegrator(1e-3), platform)


def read(context: openmm.Context) -> tuple[float, np.ndarray]:
    """Energy (kJ/mol) and forces (kJ/mol/nm), with the other particles right among those of the part."""
    everything = np.random.default_rng(1).uniform(0.0, 0.4, size=(13, 3))
    everything[PART] = POSITIONS
    context.setPositions(everything)
    state = context.getState(energy=True, forces=True)
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    return state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole), np.array(forces)


def other_than(ensemble) -> object:
    """A model on the same descriptor whose weights are 2 % larger."""
    changed = weights.load(MINI, "double")
    for parameter in changed.parameters():
        parameter.data.mul_(1.02)
    return changed


@pytest.mark.parametrize("kind", ["torchforce", "pythonforce"])
@pytest.mark.parametrize("box", [None, BOX], ids=["vacuum", "box"])
@pytest.mark.parametrize("blend", [None, 0.0, 0.3])
def test_the_part_alone_is_on_the_ensemble(kind: str, box: np.ndarray | None, blend: float | None) -> None:
    base = weights.load(MINI, "double")
    models = [base] if blend is None else [base, other_than(base)]
    made = context(kind, models, box)
    if blend is not None:
        made.setParameter(BLEND, blend)
    energy, forces = read(made)
    outs, share = [evaluate(m, NUMBERS, POSITIONS, box) for m in models], blend or 0.0
    wanted = outs[0].energy if blend is None else (1.0 - share) * outs[0].energy + share * outs[1].energy
    pulls = outs[0].forces if blend is None else (1.0 - share) * outs[0].forces + share * outs[1].forces
    assert energy == pytest.approx(wanted, rel=EQUAL)
    assert np.abs(forces[PART] - pulls).max() < EQUAL * np.abs(pulls).max()
    assert not forces[np.setdiff1d(np.arange(13), PART)].any()


@pytest.mark.parametrize("kind", ["torchforce", "pythonforce"])
def test_particles_in_another_order_are_caught(kind: str) -> None:
    # Sabotage: the part in the order of the System, not of its numbers.
    base = weights.load(MINI, "double")
    energy, _ = read(context(kind, [base], None, np.sort(PART)))
    assert abs(energy - evaluate(base, NUMBERS, POSITIONS, None).energy) > 1.0
