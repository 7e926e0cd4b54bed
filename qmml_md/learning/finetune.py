"""Fine-tuning all members on labels, anchored to themselves where nothing was labelled.

Training to tolerance on the newest label alone makes the coming trajectory worse. The loss of member k is

``⟨|F_k − F_ref|²⟩ + w_E ⟨((E_k − E_ref)/m)²⟩ + w_A ⟨|F_k − F_k^base|² + w_E ((E_k − E_k^base)/m)²⟩_u``

in eV and Å, with means over components and m atoms: each member may learn the labels, and is paid to stay what it was
on unlabelled clusters u, which the run makes for nothing. A system larger than a cluster is held as a bulk, too
(``bulk.py``).
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..config import Learning
from ..ensemble.model import AniEnsemble, self_energy_hartree
from ..reference.label import Label
from ..units import EV_PER_HARTREE
from .bulk import Bulk, bulk_loss
from .features import Features, featurise, member_energies_and_forces

#: Epochs between measurements of the residuals.
MEASURE_EVERY = 5
#: Training stops at this fraction of the tolerances: the saved model is measured again by another route.
STOP_FRACTION = 0.9
#: The learning rate falls to this fraction of its start along a cosine.
FINAL_RATE_FRACTION = 0.05


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """One labelled cluster.

    Attributes:
        features: of the cluster.
        energy: eV, self energies subtracted.
        forces: eV/Å, shape (m, 3).
    """

    features: Features
    energy: float
    forces: Tensor


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The outcome of one fine-tuning.

    Attributes:
        ensemble: the trained model, a new object.
        converged: whether both tolerances were met on the training images.
        epochs: optimiser steps taken.
        curve: rows of (epoch, force RMSE, largest residual) of the ensemble mean, eV/Å.
    """

    ensemble: AniEnsemble
    converged: bool
    epochs: int
    curve: tuple[tuple[int, float, float], ...]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Several clusters whose atoms stand in one block, so that the networks see them all at once."""

    elements: Tensor
    aev: Tensor
    jacobians: tuple[Tensor, ...]
    sizes: list[int]


def make_image(ensemble: AniEnsemble, label: Label) -> Image:
    """Prepare a label for training; self energies are subtracted in float64.

    Raises:
        ElementError: the weights do not know an element.
    """
    numbers = label.cluster.numbers
    return Image(
        features=featurise(ensemble, numbers, label.cluster.positions),
        energy=label.energy - self_energy_hartree(ensemble.card, numbers) * EV_PER_HARTREE,
        forces=torch.tensor(label.forces, dtype=ensemble.dtype),
    )


def make_anchor(base: AniEnsemble, features: Features) -> Anchor:
    """Record what the members of ``base`` say about an unlabelled cluster."""
    energies, forces = member_energies_and_forces(base, features)
    scale = EV_PER_HARTREE
    return Anchor(features=features, energies=(energies * scale).detach(), forces=(forces * scale).detach())


def finetune(
    start: AniEnsemble,
    images: Sequence[Image],
    anchors: Sequence[Anchor],
    settings: Learning,
    rng: np.random.Generator,
    bulk: Sequence[Bulk] = (),
) -> Fit:
    """Train a copy of ``start`` until both tolerances hold on all images, or ``max_epochs`` are over.

    Args:
        start: the model to begin from; not changed.
        images: labelled clusters, at least one.
        anchors: unlabelled clusters; may be empty.
        settings: tolerances, weights, learning rate.
        rng: draws the anchors of each step.
        bulk: snapshots of the whole system, where it is larger than a cluster.

    Raises:
        ValueError: there is no image.
    """
    if not images:
        raise ValueError("fine-tuning needs at least one label")
    model = copy.deepcopy(start)
    optimiser = torch.optim.Adam(model.networks.parameters(), lr=settings.learning_rate)
    batch = _batch([image.features for image in images])
    curve = [(0, *_residuals(model, batch, images))]
    epoch = 0
    while not _within(curve[-1], settings) and epoch < settings.max_epochs:
        _set_rate(optimiser, settings, epoch)
        optimiser.zero_grad()
        loss = _label_loss(model, batch, images, settings.energy_weight)
        if settings.anchor_weight > 0:
            loss = loss + settings.anchor_weight * _stay(model, anchors, bulk, settings, rng)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        epoch += 1
        if epoch % MEASURE_EVERY == 0 or epoch == settings.max_epochs:
            curve.append((epoch, *_residuals(model, batch, images)))
            if not math.isfinite(curve[-1][1]):
                break
    model.zero_grad(set_to_none=True)
    return Fit(ensemble=model, converged=_within(curve[-1], settings), epochs=epoch, curve=tuple(curve))


def residuals(ensemble: AniEnsemble, images: Sequence[Image]) -> tuple[float, float]:
    """Force RMSE and largest force residual of the ensemble mean over all images, eV/Å."""
    return _residuals(ensemble, _batch([image.features for image in images]), images)


def _residuals(ensemble: AniEnsemble, batch: _Batch, images: Sequence[Image]) -> tuple[float, float]:
    _, forces = _predict(ensemble, batch, create_graph=False)
    wrong = torch.cat([(f.mean(0) - i.forces).flatten() for f, i in zip(forces, images, strict=True)]).double()
    return float(wrong.square().mean().sqrt()), float(wrong.abs().max())


def _within(row: tuple[int, float, float], settings: Learning) -> bool:
    rmse_met = row[1] <= STOP_FRACTION * settings.force_rmse_eV_per_A
    return rmse_met and row[2] <= STOP_FRACTION * settings.force_maxresid_eV_per_A


def _set_rate(optimiser: torch.optim.Optimizer, settings: Learning, epoch: int) -> None:
    fall = 0.5 * (1.0 + math.cos(math.pi * epoch / settings.max_epochs))
    for group in optimiser.param_groups:
        group["lr"] = settings.learning_rate * (FINAL_RATE_FRACTION + (1.0 - FINAL_RATE_FRACTION) * fall)


def _stay(
    model: AniEnsemble,
    anchors: Sequence[Anchor],
    bulk: Sequence[Bulk],
    settings: Learning,
    rng: np.random.Generator,
) -> Tensor:
    """What it costs to have moved where nothing was labelled, on a random few of the anchors."""
    loss = torch.zeros((), dtype=model.dtype)
    if anchors:
        loss = loss + _anchor_loss(model, _draw(anchors, settings.anchors_per_step, rng), settings.energy_weight)
    if bulk:
        loss = loss + settings.energy_weight * bulk_loss(model, bulk[int(rng.integers(len(bulk)))], rng)
    return loss


def _draw(anchors: Sequence[Anchor], count: int, rng: np.random.Generator) -> list[Anchor]:
    if len(anchors) <= count:
        return list(anchors)
    return [anchors[i] for i in np.sort(rng.choice(len(anchors), size=count, replace=False))]


def _batch(features: Sequence[Features]) -> _Batch:
    return _Batch(
        elements=torch.cat([f.elements for f in features]),
        aev=torch.cat([f.aev for f in features]),
        jacobians=tuple(f.jacobian for f in features),
        sizes=[f.atoms for f in features],
    )


def _predict(ensemble: AniEnsemble, batch: _Batch, *, create_graph: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Member energies (eV, (K,)) and forces (eV/Å, (K, m, 3)) of each cluster of a batch."""
    g = batch.aev.expand(ensemble.members, -1, -1).clone().requires_grad_(True)
    atomic = ensemble.atomic_energies(batch.elements, g)
    (slopes,) = torch.autograd.grad(atomic.sum(), g, create_graph=create_graph)
    energies = [e.sum(1) * EV_PER_HARTREE for e in torch.split(atomic, batch.sizes, dim=1)]
    forces = [
        -(s.reshape(ensemble.members, -1) @ jacobian).reshape(ensemble.members, -1, 3) * EV_PER_HARTREE
        for s, jacobian in zip(torch.split(slopes, batch.sizes, dim=1), batch.jacobians, strict=True)
    ]
    return energies, forces


def _label_loss(ensemble: AniEnsemble, batch: _Batch, images: Sequence[Image], energy_weight: float) -> Tensor:
    energies, forces = _predict(ensemble, batch, create_graph=True)
    terms = []
    for energy, force, image in zip(energies, forces, images, strict=True):
        per_atom = (energy - image.energy) / image.features.atoms
        terms.append((force - image.forces).square().mean((1, 2)) + energy_weight * per_atom.square())
    return torch.stack(terms).mean(0).sum()


def _anchor_loss(ensemble: AniEnsemble, anchors: Sequence[Anchor], energy_weight: float) -> Tensor:
    energies, forces = _predict(ensemble, _batch([a.features for a in anchors]), create_graph=True)
    terms = []
    for energy, force, anchor in zip(energies, forces, anchors, strict=True):
        per_atom = (energy - anchor.energies) / anchor.features.atoms
        terms.append((force - anchor.forces).square().mean((1, 2)) + energy_weight * per_atom.square())
    return torch.stack(terms).mean(0).sum()
