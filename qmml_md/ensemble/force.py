"""The ensemble mean as an OpenMM force: TorchForce (default) or PythonForce, behind one function.

Both compute ``U = ⟨E_k⟩`` in kJ/mol, self energies subtracted, and forces by reverse-mode differentiation of it.
"""

import copy
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openmm
import torch
from openmm import unit
from torch import Tensor

from ..errors import InstallationError
from ..system.molecules import Ints
from ..units import ANGSTROM_PER_NM, KJ_PER_MOL_PER_HARTREE
from .model import AniEnsemble, element_indices, evaluate

ForceKind = Literal["torchforce", "pythonforce"]


class _PotentialModule(torch.nn.Module):
    """What OpenMM calls: positions (nm) and box vectors (nm) in, energy (kJ/mol, float64) out."""

    def __init__(self, ensemble: AniEnsemble, elements: Tensor, periodic: bool) -> None:
        super().__init__()
        self.ensemble = ensemble
        self.periodic = periodic
        self.angstrom_per_nm = ANGSTROM_PER_NM
        self.kj_per_mol_per_hartree = KJ_PER_MOL_PER_HARTREE
        self.register_buffer("elements", elements, persistent=False)

    def forward(self, positions: Tensor, boxvectors: Tensor | None = None) -> Tensor:
        x = positions.to(torch.float64) * self.angstrom_per_nm
        cell: Tensor | None = None
        if boxvectors is not None and self.periodic:
            cell = boxvectors.to(torch.float64) * self.angstrom_per_nm
        energy: Tensor = self.ensemble(self.elements, x, cell).mean() * self.kj_per_mol_per_hartree
        return energy


def build_force(ensemble: AniEnsemble, numbers: Ints, *, periodic: bool, kind: ForceKind) -> openmm.Force:
    """An OpenMM force that holds a copy of the ensemble; later changes of its weights are not seen.

    Args:
        ensemble: the model.
        numbers: atomic numbers of all particles of the System, shape (n,).
        periodic: whether to use the System's box.
        kind: which implementation.

    Raises:
        ElementError: the weights do not know an element.
        InstallationError: openmmtorch cannot be loaded.
    """
    builder = _torch_force if kind == "torchforce" else _python_force
    force = builder(copy.deepcopy(ensemble), numbers, periodic)
    force.setUsesPeriodicBoundaryConditions(periodic)
    force.setName("ensemble")
    return force


def _torch_force(ensemble: AniEnsemble, numbers: Ints, periodic: bool) -> openmm.Force:
    try:
        import openmmtorch

        _load_plugin()
    except (ImportError, openmm.OpenMMException) as error:
        raise InstallationError(
            f"openmmtorch cannot be loaded: {error}", cure="`qmml doctor` says which versions belong together"
        ) from error
    # The fuser recompiles after a few calls and then rounds differently: a restarted run would not be the same run.
    torch.jit.set_fusion_strategy([("STATIC", 0), ("DYNAMIC", 0)])
    module = _PotentialModule(ensemble, element_indices(ensemble.card, numbers), periodic).train(False)
    script = torch.jit.script(module)
    for parameter in script.parameters():
        parameter.requires_grad_(False)
    return openmmtorch.TorchForce(script)


@cache
def _load_plugin() -> None:
    """Load the kernels of TorchForce, which OpenMM could not load if it was imported before torch."""
    platforms = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
    for library in sorted((Path(openmm.version.openmm_library_path) / "plugins").glob("*OpenMMTorch*")):
        early = any(Path(name).name == library.name for name in openmm.pluginLoadedLibNames)
        if not early and any(library.stem.endswith(f"Torch{platform}") for platform in platforms):
            openmm.Platform.loadPluginLibrary(str(library))


def _python_force(ensemble: AniEnsemble, numbers: Ints, periodic: bool) -> openmm.Force:
    numbers = np.array(numbers, dtype=np.int64)

    def compute(state: Any) -> tuple[Any, Any]:
        positions = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
        box = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer) if periodic else None
        out = evaluate(ensemble, numbers, np.asarray(positions), None if box is None else np.asarray(box))
        return out.energy, out.forces

    return openmm.PythonForce(compute)
