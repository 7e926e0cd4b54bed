"""Many small clusters under several models at once, by the route that moves atoms.

The gate looks at hundreds of unlike clusters of few atoms. Here the atoms of many clusters stand in one list, with
pairs inside a cluster only, so that the descriptor is computed once for all models and the networks see all atoms
together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..ensemble.batch import same_descriptor
from ..ensemble.descriptor import Descriptor
from ..ensemble.model import AniEnsemble, element_indices
from ..ensemble.narrow import atomic_energies
from ..system.molecules import Floats, Ints
from ..units import EV_PER_HARTREE

# isort: split
from torchani.neighbors import Neighbors

#: Atoms in one batch.
BATCH_ATOMS = 700


class Geometry(Protocol):
    """Atoms in vacuum: ``region.cluster.Cluster`` is one."""

    @property
    def numbers(self) -> Ints:
        """Atomic numbers, shape (m,)."""
        ...

    @property
    def positions(self) -> Floats:
        """Å, shape (m, 3)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the mean of one model says about c geometries, self energies subtracted.

    Attributes:
        energies: eV, shape (c,).
        forces: eV/Å, one array of shape (m, 3) for each geometry; empty where they were not asked for.
    """

    energies: Floats
    forces: tuple[Floats, ...]


def measure(models: Sequence[AniEnsemble], geometries: Sequence[Geometry], *, forces: bool = True) -> list[Measured]:
    """Energies, and forces if asked for, of several models on isolated geometries.

    Args:
        models: all with one descriptor, as the versions of one ensemble have.
        geometries: of any size and composition.
        forces: whether to compute forces.

    Returns:
        One result for each model, in their order.

    Raises:
        ElementError: the weights do not know an element.
        ValueError: the models do not share a descriptor.
    """
    if any(not same_descriptor(models[0], model) for model in models[1:]):
        raise ValueError("the gate compares models with different descriptors")
    energies: list[list[Floats]] = [[] for _ in models]
    found: list[list[Floats]] = [[] for _ in models]
    for chunk in _chunks(geometries):
        for k, (energy, force) in enumerate(_measure_chunk(models, chunk, forces)):
            energies[k].append(energy)
            found[k].extend(force)
    return [
        Measured(energies=np.concatenate([np.empty(0), *e]), forces=tuple(f))
        for e, f in zip(energies, found, strict=True)
    ]


def _chunks(geometries: Sequence[Geometry]) -> Iterator[list[Geometry]]:
    chunk: list[Geometry] = []
    atoms = 0
    for geometry in geometries:
        if chunk and atoms + len(geometry.numbers) > BATCH_ATOMS:
            yield chunk
            chunk, atoms = [], 0
        chunk.append(geometry)
        atoms += len(geometry.numbers)
    if chunk:
        yield chunk


def _measure_chunk(
    models: Sequence[AniEnsemble], chunk: Sequence[Geometry], forces: bool
) -> list[tuple[Floats, list[Floats]]]:
    first = models[0]
    sizes = np.array([len(g.numbers) for g in chunk])
    owner = torch.as_tensor(np.repeat(np.arange(len(chunk)), sizes), device=first.device)
    positions = torch.as_tensor(np.concatenate([g.positions for g in chunk]), dtype=torch.float64, device=first.device)
    elements = element_indices(first.card, np.concatenate([g.numbers for g in chunk])).to(first.device)
    descriptor = Descriptor(first, elements, _pairs(sizes, positions, first.cutoff), slopes=forces)
    features, partners = descriptor.features(), descriptor.partners()
    results = []
    for model in models:
        inputs = features.detach().requires_grad_(forces)
        with torch.set_grad_enabled(forces):
            atomic = atomic_energies(model, elements, inputs, partners).to(torch.float64).mean(0)
        energy = atomic.detach().new_zeros(len(chunk)).index_add(0, owner, atomic.detach()) * EV_PER_HARTREE
        split: list[Floats] = []
        if forces:
            (slopes,) = torch.autograd.grad(atomic.sum(), inputs)
            flat = -descriptor.gradient(slopes).reshape(-1, 3).cpu().numpy() * EV_PER_HARTREE
            split = np.split(flat, np.cumsum(sizes)[:-1])
        results.append((energy.cpu().numpy(), split))
    return results


def _pairs(sizes: Ints, positions: Tensor, cutoff: float) -> Neighbors:
    """Pairs within the cutoff inside each geometry."""
    starts = np.cumsum(sizes) - sizes
    triangles = {int(m): np.stack(np.triu_indices(int(m), 1)) for m in np.unique(sizes)}
    both = np.concatenate([triangles[int(m)] + start for m, start in zip(sizes, starts, strict=True)], axis=1)
    pairs = torch.as_tensor(both, device=positions.device)
    away = positions[pairs[0]] - positions[pairs[1]]
    square = (away * away).sum(1)
    close = (square <= cutoff**2).nonzero().flatten()
    return Neighbors(pairs[:, close], square[close].sqrt(), away[close])
