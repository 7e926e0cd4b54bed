"""TorchForce and PythonForce are two implementations of one seam: the same energy, the same forces."""

from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import unit

from qmml_md.ensemble import weights
from qmml_md.ensemble.force import build_force
from qmml_md.ensemble.model import evaluate
from qmml_md.units import EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM

MINI = str(Path(__file__).parents[1] / "data" / "ani_mini.safetensors")
#: Relative, on energies without self energies; and absolute on each force component, eV/Å.
ENERGY, FORCE = 1e-6, 1e-4

# Glycine-like fragment plus water: all four elements at bonded distances (Å).
GLYCINAMIDE = {
    "numbers": [7, 1, 1, 6, 1, 1, 6, 8, 7, 1, 1, 8, 1, 1],
    "positions": [
        [0.0, 0.0, 0.0], [0.0, 1.01, 0.0], [0.95, -0.34, 0.0], [-0.73, -0.5, 1.15], [-0.62, -1.59, 1.2],
        [-1.79, -0.25, 1.05], [-0.2, 0.1, 2.45], [0.6, 1.03, 2.5], [-0.66, -0.48, 3.58], [-0.33, -0.1, 4.46],
        [-1.31, -1.25, 3.6], [2.9, 2.0, 3.4], [2.2, 1.6, 2.9], [3.6, 2.3, 2.8],
    ],
}  # fmt: skip
BOX = np.array([[1.25, 0.0, 0.0], [0.2, 1.3, 0.0], [-0.1, 0.3, 1.4]])


def configuration(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Numbers, positions (nm) and box of one case."""
    numbers = np.array(GLYCINAMIDE["numbers"])
    positions = np.array(GLYCINAMIDE["positions"]) * 0.1
    if name == "vacuum":
        return numbers, positions, None
    if name == "unwrapped":
        shifts = np.random.default_rng(3).integers(-2, 3, size=(len(numbers), 3))
        positions = positions + shifts @ BOX
    if name == "many":
        rng = np.random.default_rng(4)
        grid = np.array([[i, j, k] for i in range(3) for j in range(3) for k in range(2)])
        turned = [positions @ rotation(rng) for _ in grid]
        shifted = [t - t.mean(0) + 0.8 * (g + 0.5) for t, g in zip(turned, grid, strict=True)]
        return np.tile(numbers, len(grid)), np.concatenate(shifted), np.diag([2.4, 2.4, 1.6])
    return numbers, positions, BOX


def rotation(rng: np.random.Generator) -> np.ndarray:
    """A random rotation."""
    return np.linalg.qr(rng.normal(size=(3, 3)))[0]


def by_openmm(kind: str, ensemble, numbers, positions, box) -> tuple[float, np.ndarray]:
    """Energy (kJ/mol) and forces (kJ/mol/nm) as OpenMM gets them."""
    system = openmm.System()
    for _ in numbers:
        system.addParticle(12.0)
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box)
    system.addForce(build_force(ensemble, numbers, periodic=box is not None, kind=kind))
    context = openmm.Context(system, openmm.VerletIntegrator(1e-3), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    state = context.getState(getEnergy=True, getForces=True)
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    return state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole), np.array(forces)


def largest(difference: np.ndarray) -> float:
    """Largest component, eV/Å."""
    return float(np.abs(difference).max()) * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM


@pytest.mark.parametrize("case", ["vacuum", "wrapped", "unwrapped", "many"])
@pytest.mark.parametrize("model", ["mini", "ani1x"])
def test_both_forces_agree_with_each_other_and_with_the_model(case: str, model: str) -> None:
    ensemble = weights.load(MINI if model == "mini" else "ani1x")
    numbers, positions, box = configuration(case)
    assert set(numbers) == {1, 6, 7, 8}
    direct = evaluate(ensemble, numbers, positions, box)
    for kind in ("torchforce", "pythonforce"):
        energy, forces = by_openmm(kind, ensemble, numbers, positions, box)
        assert abs(energy - direct.energy) <= ENERGY * abs(direct.energy)
        assert largest(forces - direct.forces) <= FORCE


def test_wrapping_changes_nothing() -> None:
    ensemble = weights.load("ani1x")
    numbers, wrapped, box = configuration("wrapped")
    _, unwrapped, _ = configuration("unwrapped")
    a, b = evaluate(ensemble, numbers, wrapped, box), evaluate(ensemble, numbers, unwrapped, box)
    assert abs(a.energy - b.energy) <= ENERGY * abs(a.energy)
    assert largest(a.forces - b.forces) <= FORCE


def test_a_force_holds_a_copy_of_the_weights() -> None:
    ensemble = weights.load(MINI)
    numbers, positions, _ = configuration("vacuum")
    before = evaluate(ensemble, numbers, positions, None).energy
    for kind in ("torchforce", "pythonforce"):
        ensemble = weights.load(MINI)
        force_energy = _energy_after_change(kind, ensemble, numbers, positions)
        assert force_energy == pytest.approx(before, rel=ENERGY)


def _energy_after_change(kind: str, ensemble, numbers, positions) -> float:
    system = openmm.System()
    for _ in numbers:
        system.addParticle(12.0)
    system.addForce(build_force(ensemble, numbers, periodic=False, kind=kind))
    for parameter in ensemble.parameters():
        parameter.data.mul_(1.1)
    context = openmm.Context(system, openmm.VerletIntegrator(1e-3), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    return context.getState(getEnergy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)


def test_the_contract_catches_a_model_in_the_wrong_length_unit() -> None:
    # Sabotage: positions handed over in Å where nm are expected must break the contract.
    ensemble = weights.load(MINI)
    numbers, positions, _ = configuration("vacuum")
    right = evaluate(ensemble, numbers, positions, None)
    wrong = evaluate(ensemble, numbers, positions * 10.0, None)
    assert abs(right.energy - wrong.energy) > ENERGY * abs(right.energy)
