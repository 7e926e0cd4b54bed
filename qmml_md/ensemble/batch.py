"""Several models on several frames at once: what they share is computed once.

Models that share a descriptor (all versions of one ensemble do: learning changes weights, never the descriptor) need
one neighbour list and one descriptor for each frame; only the networks, and the sums on the way back from the
descriptor to the atoms, are each model's own. Frames of small systems are joined into one batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..system.molecules import Floats, Ints
from ..units import ANGSTROM_PER_NM, KJ_PER_MOL_PER_HARTREE
from .descriptor import Descriptor
from .model import AniEnsemble, element_indices, to_angstrom
from .narrow import atomic_energies

# isort: split
from torchani.neighbors import Neighbors

#: Atoms in one batch: enough to hide the cost of calls, few enough for the caches.
BATCH_ATOMS = 700

#: Up to this many atoms it is faster to try all pairs than to sort atoms into cells.
PAIRS_PAY_TO_ATOMS = 1500

#: What of a card makes the descriptor.
DESCRIPTOR = (
    "symbols",
    "radial_cutoff_A",
    "angular_cutoff_A",
    "radial_eta",
    "angular_eta",
    "angular_zeta",
    "radial_shifts",
    "angular_shifts",
    "sections",
    "cutoff_function",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOutput:
    """What one model says about c frames, self energies subtracted.

    Attributes:
        energy: mean over the members, kJ/mol, shape (c,).
        forces: minus the gradient of ``energy``, kJ/mol/nm, shape (c, n, 3); None where they were not asked for.
    """

    energy: Floats
    forces: Floats | None


def evaluate_models(
    models: Sequence[AniEnsemble], numbers: Ints, positions: Floats, boxes: Floats | None, *, forces: bool = True
) -> list[BatchOutput]:
    """Energies, and forces if asked for, of several models on the same frames.

    Agrees with ``evaluate`` to rounding, by another way: the derivative of the descriptor is written out here, and
    found by automatic differentiation there.

    Args:
        models: which share a descriptor or not; those that do are evaluated together.
        numbers: atomic numbers, shape (n,).
        positions: nm, shape (c, n, 3), wrapped or not.
        boxes: nm, shape (c, 3, 3); None in vacuum.
        forces: whether to compute forces.

    Returns:
        One output for each model, in their order.

    Raises:
        ElementError: the weights do not know an element.
    """
    found: dict[int, BatchOutput] = {}
    for group in _by_descriptor(models):
        chosen = [models[k] for k in group]
        parts = [
            _evaluate_chunk(chosen, numbers, positions[rows], None if boxes is None else boxes[rows], forces)
            for rows in _chunks(len(positions), len(numbers))
        ]
        for i, k in enumerate(group):
            found[k] = _joined([part[i] for part in parts], len(numbers), forces)
    return [found[k] for k in range(len(models))]


def same_descriptor(a: AniEnsemble, b: AniEnsemble) -> bool:
    """Whether two models see the same features of the atoms, in the same precision, on the same device."""
    cards = all(getattr(a.card, name) == getattr(b.card, name) for name in DESCRIPTOR)
    return cards and a.dtype == b.dtype and a.device == b.device


def _by_descriptor(models: Sequence[AniEnsemble]) -> list[list[int]]:
    groups: list[list[int]] = []
    for k, model in enumerate(models):
        for group in groups:
            if same_descriptor(models[group[0]], model):
                group.append(k)
                break
        else:
            groups.append([k])
    return groups


def _chunks(frames: int, atoms: int) -> Iterator[slice]:
    size = max(1, BATCH_ATOMS // max(1, atoms))
    return (slice(start, start + size) for start in range(0, frames, size))


def _joined(outputs: Sequence[BatchOutput], atoms: int, forces: bool) -> BatchOutput:
    energy = np.concatenate([np.empty(0), *(out.energy for out in outputs)])
    if not forces:
        return BatchOutput(energy=energy, forces=None)
    rows = [out.forces for out in outputs if out.forces is not None]
    return BatchOutput(energy=energy, forces=np.concatenate([np.empty((0, atoms, 3)), *rows]))


def _evaluate_chunk(
    models: Sequence[AniEnsemble], numbers: Ints, positions: Floats, boxes: Floats | None, forces: bool
) -> list[BatchOutput]:
    first, shape = models[0], positions.shape
    x = to_angstrom(positions, first.device)
    cells = None if boxes is None else to_angstrom(boxes, first.device)
    elements = element_indices(first.card, numbers).to(first.device).repeat(len(positions))
    descriptor = Descriptor(first, elements, _neighbors(first, elements[: len(numbers)], x, cells), slopes=forces)
    features, partners = descriptor.features(), descriptor.partners()
    results = []
    for model in models:
        energy, slopes = _energies(model, elements, features, partners, len(positions), forces)
        force = None
        if slopes is not None:
            gradient = descriptor.gradient(slopes).reshape(shape).cpu().numpy()
            force = -gradient * KJ_PER_MOL_PER_HARTREE * ANGSTROM_PER_NM
        results.append(BatchOutput(energy=energy.cpu().numpy() * KJ_PER_MOL_PER_HARTREE, forces=force))
    return results


def _energies(
    model: AniEnsemble, elements: Tensor, features: Tensor, partners: Tensor, count: int, slopes: bool
) -> tuple[Tensor, Tensor | None]:
    """Mean energies of the frames, hartree, shape (c,), and their slopes by feature, shape (c n, D)."""
    inputs = features.detach().requires_grad_(slopes)
    with torch.set_grad_enabled(slopes):
        atomic = atomic_energies(model, elements, inputs, partners).to(torch.float64)
        energy = atomic.reshape(model.members, count, -1).sum(2).mean(0)
    if not slopes:
        return energy, None
    (gradient,) = torch.autograd.grad(energy.sum(), inputs)
    return energy.detach(), gradient


def _neighbors(model: AniEnsemble, elements: Tensor, positions: Tensor, cells: Tensor | None) -> Neighbors:
    """Pairs of all frames; atom i of frame k has the index ``k n + i``."""
    count, atoms = positions.shape[:2]
    if atoms <= PAIRS_PAY_TO_ATOMS and (cells is None or _wide(cells, model.cutoff)):
        return _all_pairs(model.cutoff, positions, cells)
    each = [model.neighbors(elements, positions[k], None if cells is None else cells[k]) for k in range(count)]
    return Neighbors(
        torch.cat([found.indices + k * atoms for k, found in enumerate(each)], dim=1),
        torch.cat([found.distances for found in each]),
        torch.cat([found.diff_vectors for found in each]),
    )


def _wide(cells: Tensor, cutoff: float) -> bool:
    """Whether every box is at least two cutoffs wide along each of its vectors."""
    widths = 1.0 / torch.linalg.inv(cells).norm(dim=1)
    return bool((widths >= 2.0 * cutoff).all())


def _all_pairs(cutoff: float, positions: Tensor, cells: Tensor | None) -> Neighbors:
    """Pairs by trying all of them, each at its nearest image.

    A vector d shorter than half of each width w of a box has fractional coordinates ``|d·b*| ≤ |d|/w < ½``: rounding
    the fractional coordinates of any image away leaves exactly d.
    """
    atoms = positions.shape[1]
    pairs = torch.triu_indices(atoms, atoms, 1, device=positions.device)
    away = positions.index_select(1, pairs[0]) - positions.index_select(1, pairs[1])
    if cells is not None:
        away = away - torch.round(away @ torch.linalg.inv(cells)) @ cells
    away = away.reshape(-1, 3)
    square = (away * away).sum(1)
    close = (square <= cutoff**2).nonzero().flatten()
    frame, pair = close // max(pairs.shape[1], 1), close % max(pairs.shape[1], 1)
    return Neighbors(pairs[:, pair] + frame * atoms, square[close].sqrt(), away[close])
