"""The ensemble mean as an OpenMM force: TorchForce (default) or PythonForce, behind one function.

Both compute ``U = ⟨E_k⟩`` in kJ/mol, self energies subtracted, and forces by reverse-mode differentiation of it. A
blend of two ensembles is ``U = (1 − λ)⟨E_k⟩_old + λ⟨E_k⟩_new`` with λ the context parameter ``BLEND``.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openmm
import torch
from openmm import unit
from torch import Tensor

from ..errors import InstallationError
from ..system.molecules import Floats, Ints
from ..system.subsystem import passed_on, place_caps
from ..units import ANGSTROM_PER_NM, KJ_PER_MOL_PER_HARTREE
from .model import AniEnsemble, element_indices, evaluate

ForceKind = Literal["torchforce", "pythonforce"]

#: Context parameter of a blend: the weight λ of the model that comes.
BLEND = "blend"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Particles:
    """The particles of a System that the ensemble is on.

    Attributes:
        atoms: their indices, shape (a,).
        links: rows (atom of the part, atom outside): bonds that are cut, each capped with a link atom, shape (l, 2).
        distances_nm: from the atom of the part to its link atom, shape (l,).
    """

    atoms: Ints
    links: Ints = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))
    distances_nm: Floats = field(default_factory=lambda: np.zeros(0))


class _PotentialModule(torch.nn.Module):
    """What OpenMM calls: positions (nm) and box vectors (nm) in, energy (kJ/mol, float64) out."""

    elements: Tensor

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


class _BlendModule(_PotentialModule):
    """What OpenMM calls in vacuum while one model is blended into another: positions (nm) and λ in."""

    def __init__(self, old: AniEnsemble, new: AniEnsemble, elements: Tensor, periodic: bool) -> None:
        super().__init__(old, elements, periodic)
        self.coming = new

    def forward(self, positions: Tensor, blend: Tensor) -> Tensor:  # type: ignore[override]
        return self.mixture(positions, None, blend)

    def mixture(self, positions: Tensor, boxvectors: Tensor | None, blend: Tensor) -> Tensor:
        """Both models on one descriptor."""
        x = positions.to(torch.float64) * self.angstrom_per_nm
        cell: Tensor | None = None
        if boxvectors is not None:
            cell = boxvectors.to(torch.float64) * self.angstrom_per_nm
        features = self.ensemble.features(self.elements, x, cell).unsqueeze(0)
        old = self.ensemble.atomic_energies(self.elements, features).to(torch.float64).sum(1).mean()
        new = self.coming.atomic_energies(self.elements, features).to(torch.float64).sum(1).mean()
        weight = blend.to(torch.float64)
        energy: Tensor = ((1.0 - weight) * old + weight * new) * self.kj_per_mol_per_hartree
        return energy


class _PeriodicBlendModule(_BlendModule):
    """The same in a box: OpenMM hands over the box vectors (nm) before its parameters."""

    def forward(self, positions: Tensor, boxvectors: Tensor, blend: Tensor) -> Tensor:  # type: ignore[override]
        return self.mixture(positions, boxvectors, blend)


class _PartModule(torch.nn.Module):
    """What OpenMM calls where the ensemble is on some particles: all positions in, those of the part handed on.

    Link atoms are placed here, from the ends of their bonds, and differentiated with everything else.
    """

    atoms: Tensor
    hosts: Tensor
    outers: Tensor
    distances: Tensor

    def __init__(self, inner: torch.nn.Module, part: Particles) -> None:
        super().__init__()
        self.inner = inner
        for name, array in (("atoms", part.atoms), ("hosts", part.links[:, 0]), ("outers", part.links[:, 1])):
            self.register_buffer(name, torch.as_tensor(np.array(array, dtype=np.int64)), persistent=False)
        distances = torch.as_tensor(np.array(part.distances_nm, dtype=np.float64))
        self.register_buffer("distances", distances.unsqueeze(1), persistent=False)

    def seen(self, positions: Tensor) -> Tensor:
        """Positions of the atoms of the part, then of its link atoms, nm."""
        chosen = positions.index_select(0, self.atoms)
        if self.hosts.shape[0] == 0:
            return chosen
        hosts = positions.index_select(0, self.hosts).to(torch.float64)
        bonds = positions.index_select(0, self.outers).to(torch.float64) - hosts
        caps = hosts + bonds * (self.distances / torch.linalg.vector_norm(bonds, dim=1, keepdim=True))
        return torch.cat([chosen.to(torch.float64), caps])

    def forward(self, positions: Tensor, boxvectors: Tensor | None = None) -> Tensor:
        energy: Tensor = self.inner(self.seen(positions), boxvectors)
        return energy


class _PartBlendModule(_PartModule):
    """The same for a blend in vacuum."""

    def forward(self, positions: Tensor, blend: Tensor) -> Tensor:  # type: ignore[override]
        energy: Tensor = self.inner(self.seen(positions), blend)
        return energy


class _PeriodicPartBlendModule(_PartModule):
    """The same for a blend in a box."""

    def forward(self, positions: Tensor, boxvectors: Tensor, blend: Tensor) -> Tensor:  # type: ignore[override]
        energy: Tensor = self.inner(self.seen(positions), boxvectors, blend)
        return energy


def build_force(
    ensemble: AniEnsemble,
    numbers: Ints,
    *,
    periodic: bool,
    kind: ForceKind,
    coming: AniEnsemble | None = None,
    part: Particles | None = None,
) -> openmm.Force:
    """An OpenMM force that holds a copy of the ensemble; later changes of its weights are not seen.

    Args:
        ensemble: the model.
        numbers: atomic numbers of the particles that the ensemble is on, then of link atoms, shape (m,).
        periodic: whether to use the System's box.
        kind: which implementation.
        coming: another model on the same descriptor, to be blended in by the context parameter ``BLEND``, at first 0.
        part: which particles these are, and their link atoms; None: they are all there are.

    Raises:
        ElementError: the weights do not know an element.
        InstallationError: openmmtorch cannot be loaded.
    """
    models = [copy.deepcopy(each) for each in (ensemble, coming) if each is not None]
    build = _torch_force if kind == "torchforce" else _python_force
    force = build(models, numbers, periodic, part)
    force.setUsesPeriodicBoundaryConditions(periodic)
    force.setName("ensemble")
    return force


def _module(models: list[AniEnsemble], numbers: Ints, periodic: bool, part: Particles | None) -> torch.nn.Module:
    elements = element_indices(models[0].card, numbers)
    module: _PotentialModule
    around: type[_PartModule]
    if len(models) == 1:
        module, around = _PotentialModule(models[0], elements, periodic), _PartModule
    elif periodic:
        module, around = _PeriodicBlendModule(models[0], models[1], elements, periodic), _PeriodicPartBlendModule
    else:
        module, around = _BlendModule(models[0], models[1], elements, periodic), _PartBlendModule
    return module if part is None else around(module, part)


def _torch_force(models: list[AniEnsemble], numbers: Ints, periodic: bool, part: Particles | None) -> openmm.Force:
    try:
        import openmmtorch

        _load_plugin()
    except (ImportError, openmm.OpenMMException) as error:
        raise InstallationError(
            f"openmmtorch cannot be loaded: {error}", cure="`qmml doctor` says which versions belong together"
        ) from error
    # The fuser recompiles after a few calls and then rounds differently: a restarted run would not be the same run.
    torch.jit.set_fusion_strategy([("STATIC", 0), ("DYNAMIC", 0)])
    script = torch.jit.script(_module(models, numbers, periodic, part).train(False))
    for parameter in script.parameters():
        parameter.requires_grad_(False)
    force = openmmtorch.TorchForce(script)
    if len(models) > 1:
        force.addGlobalParameter(BLEND, 0.0)
    return force


@cache
def _load_plugin() -> None:
    """Load the kernels of TorchForce, which OpenMM could not load if it was imported before torch."""
    platforms = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
    for library in sorted((Path(openmm.version.openmm_library_path) / "plugins").glob("*OpenMMTorch*")):
        early = any(Path(name).name == library.name for name in openmm.pluginLoadedLibNames)
        if not early and any(library.stem.endswith(f"Torch{platform}") for platform in platforms):
            openmm.Platform.loadPluginLibrary(str(library))


def _python_force(models: list[AniEnsemble], numbers: Ints, periodic: bool, part: Particles | None) -> openmm.Force:
    numbers = np.array(numbers, dtype=np.int64)
    parameters = {BLEND: 0.0} if len(models) > 1 else {}

    def surface(positions: Floats, box: Floats | None, parameters: Any) -> tuple[float, Floats]:
        outs = [evaluate(model, numbers, positions, box) for model in models]
        if len(outs) == 1:
            return outs[0].energy, outs[0].forces
        weight = parameters[BLEND]
        old, new = outs
        return (
            (1.0 - weight) * old.energy + weight * new.energy,
            (1.0 - weight) * old.forces + weight * new.forces,
        )

    def compute(state: Any) -> tuple[Any, Any]:
        positions = np.asarray(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
        box = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer) if periodic else None
        box = None if box is None else np.asarray(box)
        if part is None or not len(part.links):
            return surface(positions, box, state.getParameters())
        return _with_caps(part, positions, lambda seen: surface(seen, box, state.getParameters()))

    force = openmm.PythonForce(compute, parameters)
    if part is not None:
        # OpenMM then hands over these positions only, and takes as many forces.
        force.setParticles([int(atom) for atom in (*part.atoms, *part.links[:, 1])])
    return force


def _with_caps(
    part: Particles, positions: Floats, surface: Callable[[Floats], tuple[float, Floats]]
) -> tuple[float, Floats]:
    """A surface on atoms and link atoms, as one on the atoms and the outer ends of cut bonds, in this order."""
    count = len(part.atoms)
    place = {int(atom): k for k, atom in enumerate(part.atoms)}
    hosts = np.array([place[int(host)] for host in part.links[:, 0]], dtype=np.int64)
    bonds = positions[count:] - positions[hosts]
    caps = place_caps(positions[hosts], bonds, part.distances_nm)
    energy, seen = surface(np.concatenate([positions[:count], caps]))
    forces, away = np.zeros_like(positions), passed_on(seen[count:], bonds, part.distances_nm)
    forces[:count] = seen[:count]
    np.add.at(forces, hosts, seen[count:] - away)
    forces[count:] = away
    return energy, forces
