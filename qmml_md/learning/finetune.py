"""Fine-tuning all members on labels, held to themselves where nothing was labelled.

Training to tolerance on the newest label alone makes the coming trajectory worse. Here the loss of n labels is

``c K L(⟨F⟩, ⟨E⟩) + (1 - c) Σ_k L_k(F_k, E_k) + w_A/√n · Σ_k ⟨|F_k - F_k^base|² + w_E ((E_k - E_k^base)/m)²⟩_u``

with ``L = ⟨w |F - F_ref|²⟩ + w_E ⟨w̄ ((E - E_ref)/m)²⟩`` in eV and Å, means over components and labels, m atoms, w what
each atom counts and w̄ its mean (``boundary.py``; one where the cluster ends beyond the model's cutoff): the
committee learns together, each member also for itself and with its own bootstrap weights, and all are paid to stay what
they were on unlabelled clusters u, which the run makes for nothing. A system larger than a cluster is held as a bulk,
too (``bulk.py``).

While labels are few, the model goes only part of the way from the starting model to the trained one
(``step_length``). With one to five labels half the way costs next to nothing where learning helps, and takes the harm
out of it where it does not: of 30 random sets of labels of five waters 18 worsened the error by more than 2 % with the
whole step, none with half.

Each member trains its own fixed part of the weights (``TRAINED_FRACTION``): with few labels a sparse correction
generalises better than one of all weights (benchmarks/learning.py), and members stay different.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..config import Learning
from ..ensemble.model import AniEnsemble
from ..system.molecules import Floats
from .block import Networks, bare_networks, make_block, predict, put_back, used_columns
from .bulk import Bulk, bulk_loss
from .features import Features
from .images import Anchor, Image
from .loss import anchor_targets, draw, joined, label_targets, loss_on

#: Epochs between measurements of the residuals.
MEASURE_EVERY = 10
#: Training stops at this fraction of the tolerances: the saved model is measured again by another route.
STOP_FRACTION = 0.9
#: The learning rate falls to this fraction of its start along a cosine.
FINAL_RATE_FRACTION = 0.02
#: Labels looked at in one optimiser step; with more, a random part in turn.
LABELS_PER_STEP = 24
#: Molecules of the base set looked at in one optimiser step.
BASE_PER_STEP = 2
#: Up to so many labels half a step is taken.
FEW_LABELS = 5
#: Part of the weights that each member trains, and the seed of the choice: it is the same in all updates.
TRAINED_FRACTION = 0.3
TRAINED_SEED = 241740


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The outcome of one fine-tuning.

    Attributes:
        ensemble: the trained model, a new object.
        converged: whether training met both tolerances on its images.
        epochs: optimiser steps taken.
        curve: rows of (epoch, force RMSE, largest residual) of the ensemble mean, eV/Å.
    """

    ensemble: AniEnsemble
    converged: bool
    epochs: int
    curve: tuple[tuple[int, float, float], ...]


def finetune(
    start: AniEnsemble,
    images: Sequence[Image],
    anchors: Sequence[Anchor],
    settings: Learning,
    rng: np.random.Generator,
    bulk: Sequence[Bulk] = (),
    weights: Floats | None = None,
    base_set: Sequence[Anchor] = (),
    base: AniEnsemble | None = None,
) -> Fit:
    """Train a copy of ``start`` until both tolerances hold on all images, or ``max_epochs`` are over.

    Images none of whose atoms counts are left out; where none is left, the copy stays as it is.

    Args:
        start: the model to begin from; not changed.
        images: labelled clusters, at least one.
        anchors: unlabelled clusters; may be empty.
        settings: tolerances, weights, learning rate.
        rng: draws labels and anchors of each step.
        bulk: snapshots of the whole system, where it is larger than a cluster.
        weights: how often each member counts each image, shape (K, n); once by default.
        base_set: small molecules on which the members are held as on the anchors.
        base: the starting model of the run, from which the step is measured; ``start`` by default. The whole step is
            taken where ``settings.require_tolerance`` asks for what was fitted.

    Raises:
        ValueError: there is no image, or the weights do not fit.
    """
    if not images:
        raise ValueError("fine-tuning needs at least one label")
    if weights is not None and weights.shape != (start.members, len(images)):
        raise ValueError(
            f"bootstrap weights of shape {weights.shape} for {start.members} members, {len(images)} labels"
        )
    images, weights = _telling(images, weights)
    if not images:
        return Fit(ensemble=copy.deepcopy(start), converged=False, epochs=0, curve=())
    work = _Work(start, images, anchors, settings, weights, base_set, bulk)
    optimiser = torch.optim.Adam(work.parameters, lr=settings.learning_rate, fused=True)
    curve = [(0, *work.residuals())]
    epoch = 0
    while not _within(curve[-1], settings) and epoch < settings.max_epochs:
        _set_rate(optimiser, settings, epoch)
        loss = work.loss(rng)
        if bulk and settings.anchor_weight > 0:
            snapshot = bulk[int(rng.integers(len(bulk)))]
            hold = work.anchor_weight * settings.energy_weight
            loss = loss + hold * bulk_loss(work.networks, work.columns, snapshot, rng)
        work.step(optimiser, loss)
        epoch += 1
        if epoch % MEASURE_EVERY == 0 or epoch == settings.max_epochs:
            curve.append((epoch, *work.residuals()))
            if not math.isfinite(curve[-1][1]):
                break
    model = copy.deepcopy(start)
    put_back(work.networks, work.columns, model)
    if not settings.require_tolerance:
        _go_part_of_the_way(base or start, model, step_length(len(images)))
    return Fit(ensemble=model, converged=_within(curve[-1], settings), epochs=epoch, curve=tuple(curve))


def _telling(images: Sequence[Image], weights: Floats | None) -> tuple[Sequence[Image], Floats | None]:
    """The images of which some atom counts, and their bootstrap weights."""
    kept = [i for i, image in enumerate(images) if bool(image.weights.any())]
    return [images[i] for i in kept], None if weights is None else weights[:, kept]


def step_length(labels: int) -> float:
    """Part of the way from the starting model that n labels are good for: ½ up to five, then more."""
    return 1.0 - 0.5 * math.sqrt(FEW_LABELS / max(FEW_LABELS, labels))


def _go_part_of_the_way(base: AniEnsemble, trained: AniEnsemble, part: float) -> None:
    with torch.no_grad():
        for old, new in zip(base.networks.parameters(), trained.networks.parameters(), strict=True):
            # Written so that weights that did not move stay equal to the bit.
            new.sub_((new - old) * (1.0 - part))


class _Work:
    """What one fine-tuning works on: bare weights, what is trained of them, and all targets."""

    def __init__(
        self,
        start: AniEnsemble,
        images: Sequence[Image],
        anchors: Sequence[Anchor],
        settings: Learning,
        weights: Floats | None,
        base_set: Sequence[Anchor],
        bulk: Sequence[Bulk],
    ) -> None:
        held = [*anchors, *base_set] if settings.anchor_weight > 0 else []
        clusters = [*(image.features for image in images), *(anchor.features for anchor in held)]
        everything: list[Features | Bulk] = [*clusters, *bulk]
        self.columns = used_columns([each.aev for each in everything])
        elements = torch.unique(torch.cat([each.elements for each in everything])).tolist()
        self.networks: Networks = bare_networks(start, elements, self.columns)
        # An element without a label has nothing to learn from.
        labelled = torch.unique(torch.cat([image.features.elements for image in images])).tolist()
        learning = {z: layers for z, layers in self.networks.items() if z in labelled}
        self.parameters = [p.requires_grad_(True) for layers in learning.values() for p in layers]
        self._trained = trained_part(start, learning, self.columns)
        self._settings = settings
        self.anchor_weight = settings.anchor_weight / math.sqrt(len(images))
        self._labels = label_targets(images, self.columns, weights, start.members)
        self._everything = make_block(self._labels.clusters)
        parts = [self._labels]
        #: Of each kind of cluster: how many there are, are drawn, and what it weighs.
        self._kinds = [(len(images), LABELS_PER_STEP, 1.0)]
        for count, kind in ((settings.anchors_per_step, anchors), (BASE_PER_STEP, base_set)):
            if kind and held:
                parts.append(anchor_targets(kind, self.columns))
                self._kinds.append((len(kind), count, self.anchor_weight))
        self._targets = joined(parts)

    def residuals(self) -> tuple[float, float]:
        """Force RMSE and largest force residual of the ensemble mean over all images, eV/Å."""
        _, groups = predict(self.networks, self._everything, create_graph=False)
        wrong = [f.mean(1) - torch.stack([self._labels.forces[i][0] for i in chosen]) for chosen, f in groups]
        flat = torch.cat([w.detach().flatten() for w in wrong]).double()
        counts = torch.cat([self._labels.components[i] for chosen, _ in groups for i in chosen.tolist()]).double()
        rmse = ((counts * flat.square()).mean() / counts.mean()).sqrt()
        return float(rmse), float((counts.sqrt() * flat.abs()).max())

    def loss(self, rng: np.random.Generator) -> Tensor:
        """Of one optimiser step, bulk left out: clusters of each kind are drawn anew."""
        chosen: list[int] = []
        share: list[float] = []
        first = 0
        for available, count, weight in self._kinds:
            drawn = draw(available, count, rng)
            chosen += [first + i for i in drawn]
            share += [weight / len(drawn)] * len(drawn)
            first += available
        shares = torch.tensor(share, dtype=self._targets.mean.dtype)
        return loss_on(self.networks, self._targets, chosen, shares, self._settings.energy_weight)

    def step(self, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
        """Go down the gradient with what is trained."""
        for p, gradient, part in zip(
            self.parameters, torch.autograd.grad(loss, self.parameters), self._trained, strict=True
        ):
            # The fused optimiser reads memory as it lies.
            p.grad = (gradient * part).contiguous()
        optimiser.step()


def trained_part(start: AniEnsemble, networks: Networks, columns: Tensor) -> list[Tensor]:
    """Which weights each member trains, 1 or 0, in the order of the parameters; the same for every update."""
    found = []
    for z, layers in networks.items():
        rng = np.random.default_rng(np.random.SeedSequence([TRAINED_SEED, z]))
        for i, layer in enumerate(layers):
            shape = list(layer.shape)
            if i == 0:
                shape[1] = start.aev.out_dim
            part = torch.from_numpy(rng.random(shape, dtype=np.float32) < TRAINED_FRACTION)
            found.append((part[:, columns] if i == 0 else part).to(layer.dtype))
    return found


def residuals(ensemble: AniEnsemble, images: Sequence[Image]) -> tuple[float, float]:
    """Force RMSE and largest force residual of the ensemble mean over all images, eV/Å."""
    return _Work(ensemble, images, (), Learning(), None, (), ()).residuals()


def _within(row: tuple[int, float, float], settings: Learning) -> bool:
    rmse_met = row[1] <= STOP_FRACTION * settings.force_rmse_eV_per_A
    return rmse_met and row[2] <= STOP_FRACTION * settings.force_maxresid_eV_per_A


def _set_rate(optimiser: torch.optim.Optimizer, settings: Learning, epoch: int) -> None:
    fall = 0.5 * (1.0 + math.cos(math.pi * epoch / settings.max_epochs))
    for group in optimiser.param_groups:
        group["lr"] = settings.learning_rate * (FINAL_RATE_FRACTION + (1.0 - FINAL_RATE_FRACTION) * fall)
