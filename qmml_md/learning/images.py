"""What training compares the members with: labelled clusters, and unlabelled ones on which they are to stay."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..ensemble.model import AniEnsemble, self_energy_hartree
from ..reference.label import Label
from ..units import EV_PER_HARTREE
from .boundary import atom_weights
from .features import Features, featurise, member_energies_and_forces


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """One labelled cluster.

    Attributes:
        features: of the cluster.
        energy: eV, self energies subtracted.
        forces: eV/Å, shape (m, 3).
        weights: what each atom counts, shape (m,).
    """

    features: Features
    energy: float
    forces: Tensor
    weights: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Anchor:
    """One unlabelled cluster and what each member of the starting model said about it.

    Attributes:
        features: of the cluster.
        energies: eV, self energies subtracted, shape (K,).
        forces: eV/Å, shape (K, m, 3).
    """

    features: Features
    energies: Tensor
    forces: Tensor


def make_image(
    ensemble: AniEnsemble, label: Label, features: Features | None = None, *, boundary_weight: float = 1.0
) -> Image:
    """Prepare a label for training; self energies are subtracted in float64.

    Args:
        ensemble: the model that is to learn it.
        label: energy and forces of a cluster.
        features: of the cluster, if they are known.
        boundary_weight: what atoms count that lack something within the model's cutoff.

    Raises:
        ElementError: the weights do not know an element.
    """
    numbers = label.cluster.numbers
    return Image(
        features=features or featurise(ensemble, numbers, label.cluster.positions),
        energy=label.energy - self_energy_hartree(ensemble.card, numbers) * EV_PER_HARTREE,
        forces=torch.tensor(label.forces, dtype=ensemble.dtype),
        weights=torch.tensor(atom_weights(label.cluster, boundary_weight), dtype=ensemble.dtype),
    )


def make_anchor(base: AniEnsemble, features: Features) -> Anchor:
    """Record what the members of ``base`` say about an unlabelled cluster."""
    energies, forces = member_energies_and_forces(base, features)
    scale = EV_PER_HARTREE
    return Anchor(features=features, energies=(energies * scale).detach(), forces=(forces * scale).detach())
