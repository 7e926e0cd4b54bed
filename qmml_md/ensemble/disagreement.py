"""The doubt of an ensemble: how far its members' forces lie apart.

``σ_i = sqrt((1/K) Σ_k |F_ki − F_i|²)``, eV/Å: the population form, a vector norm. It ranks atoms; before it is taken
for an error it must be calibrated (it is the spread of single members, about twice the error of their mean). Spreads of
per-atom energies are no substitute: those energies are not observables.
"""

import numpy as np
import torch

from ..system.molecules import Floats, Ints
from ..units import EV_PER_HARTREE
from .model import AniEnsemble, element_indices, to_angstrom


def member_forces(ensemble: AniEnsemble, numbers: Ints, positions: Floats, box: Floats | None) -> Floats:
    """Forces of each member, eV/Å, shape (K, n, 3).

    The members share one descriptor, so the gradients of all K energies with respect to it come from one backward pass
    through the stacked networks, and only the descriptor is passed backwards K times.

    Args:
        ensemble: the model.
        numbers: atomic numbers, shape (n,).
        positions: nm, shape (n, 3).
        box: nm, shape (3, 3); None in vacuum.

    Raises:
        ElementError: the weights do not know an element.
    """
    device = ensemble.device
    elements = element_indices(ensemble.card, numbers).to(device)
    x = to_angstrom(positions, device).requires_grad_(True)
    features = ensemble.features(elements, x, None if box is None else to_angstrom(box, device))
    copies = features.detach().expand(ensemble.members, -1, -1).clone().requires_grad_(True)
    (slopes,) = torch.autograd.grad(ensemble.atomic_energies(elements, copies).sum(), copies)
    forces = torch.empty((ensemble.members, len(numbers), 3), dtype=torch.float64, device=device)
    for k in range(ensemble.members):
        (gradient,) = torch.autograd.grad(features, x, slopes[k], retain_graph=k + 1 < ensemble.members)
        forces[k] = -gradient
    result: Floats = forces.cpu().numpy() * EV_PER_HARTREE
    return result


def disagreement(forces: Floats) -> Floats:
    """σ of each atom, eV/Å, shape (n,), from the members' forces in eV/Å, shape (K, n, 3)."""
    deviation = forces - forces.mean(axis=0)
    result: Floats = np.sqrt((deviation**2).sum(axis=2).mean(axis=0))
    return result
