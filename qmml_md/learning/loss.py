"""The loss of fine-tuning: of the mean and the members on labels, and of moving where nothing was labelled."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..system.molecules import Floats
from .block import Lean, Networks, lean, make_block, predict
from .images import Anchor, Image

#: c: how much of the label loss is that of the committee's mean.
MEAN_FRACTION = 0.7


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What K members are compared with on n clusters.

    Attributes:
        clusters: their features.
        energies: eV, shape (K, n).
        forces: eV/Å, shape (K, 3 m) for each cluster.
        mean: weight of the committee's mean on each cluster, shape (n,).
        members: weight of each member on each cluster, shape (K, n).
        components: what each force component counts, shape (3 m,) for each cluster.
        energy: what the energy of each cluster counts, shape (n,).
    """

    clusters: list[Lean]
    energies: Tensor
    forces: list[Tensor]
    mean: Tensor
    members: Tensor
    components: list[Tensor]
    energy: Tensor


def label_targets(images: Sequence[Image], columns: Tensor, weights: Floats | None, members: int) -> Targets:
    """Labels, and how often each member counts each, shape (K, n); once by default."""
    dtype = images[0].forces.dtype
    times = np.ones((members, len(images))) if weights is None else weights
    energies = torch.tensor([image.energy for image in images], dtype=dtype)
    return Targets(
        clusters=[lean(image.features, columns) for image in images],
        energies=energies.expand(members, -1),
        forces=[image.forces.reshape(1, -1).expand(members, -1) for image in images],
        mean=torch.full_like(energies, MEAN_FRACTION * members),
        members=(1.0 - MEAN_FRACTION) * torch.tensor(times, dtype=dtype),
        components=[image.weights.repeat_interleave(3) for image in images],
        energy=torch.stack([image.weights.mean() for image in images]),
    )


def anchor_targets(anchors: Sequence[Anchor], columns: Tensor) -> Targets:
    """What each member of the starting model says about unlabelled clusters."""
    energies = torch.stack([anchor.energies for anchor in anchors], dim=1)
    return Targets(
        clusters=[lean(anchor.features, columns) for anchor in anchors],
        energies=energies,
        forces=[anchor.forces.flatten(1) for anchor in anchors],
        mean=torch.zeros_like(energies[0]),
        members=torch.ones_like(energies),
        components=[torch.ones_like(anchor.forces[0].flatten()) for anchor in anchors],
        energy=torch.ones_like(energies[0]),
    )


def joined(parts: Sequence[Targets]) -> Targets:
    """Several targets as one, in their order."""
    return Targets(
        clusters=[cluster for part in parts for cluster in part.clusters],
        energies=torch.cat([part.energies for part in parts], dim=1),
        forces=[force for part in parts for force in part.forces],
        mean=torch.cat([part.mean for part in parts]),
        members=torch.cat([part.members for part in parts], dim=1),
        components=[each for part in parts for each in part.components],
        energy=torch.cat([part.energy for part in parts]),
    )


def loss_on(networks: Networks, targets: Targets, chosen: Sequence[int], share: Tensor, energy_weight: float) -> Tensor:
    """``Σ_i s_i (c_i L_i(mean) + Σ_k w_ki L_i(k))``, with L the squared error of forces and of energy per atom.

    Within L each component is multiplied by what it counts; the mean is over all of them (``boundary.py``).

    Args:
        networks: weights of all members.
        targets: of n clusters.
        chosen: the clusters that count, indices into n.
        share: s, one for each of them.
        energy_weight: of the energy per atom, (eV/Å)²/(eV/atom)².
    """
    block = make_block([targets.clusters[i] for i in chosen])
    energies, groups = predict(networks, block, create_graph=True)
    wrong = (energies - targets.energies[:, chosen]) / block.sizes
    members = energy_weight * targets.energy[chosen] * wrong.square()
    mean = energy_weight * targets.energy[chosen] * wrong.mean(0).square()
    for places, forces in groups:
        here = [chosen[i] for i in places.tolist()]
        off = forces - torch.stack([targets.forces[i] for i in here])
        counts = torch.stack([targets.components[i] for i in here])
        members = members.index_add(1, places, (counts.unsqueeze(1) * off.square()).mean(2).T)
        mean = mean.index_add(0, places, (counts * off.mean(1).square()).mean(1))
    each = targets.mean[chosen] * mean + (targets.members[:, chosen] * members).sum(0)
    return (share * each).sum()


def draw(available: int, count: int, rng: np.random.Generator) -> list[int]:
    """So many of those available, in order; all of them if there are no more."""
    if available <= count:
        return list(range(available))
    drawn: list[int] = np.sort(rng.choice(available, size=count, replace=False)).tolist()
    return drawn
