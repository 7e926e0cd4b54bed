"""Cached features of isolated clusters: the AEV and its Jacobian do not depend on weights, so they are computed once.

With them, member forces are dense algebra: ``F_k = −(∂E_k/∂G) · (∂G/∂x)``, where G is the AEV, and training needs no
pass through the descriptor at all. The Jacobian is exact: TorchANI's own radial and angular terms are differentiated in
forward mode, one pass for a pair distance and six for the two vectors of a triple, and scattered to the atoms.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchani.aev import AEVComputer
from torchani.neighbors import Neighbors, Triples, discard_outside_cutoff, neighbors_to_triples

from ..ensemble.model import AniEnsemble, element_indices
from ..system.molecules import Flags, Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Features:
    """The features of one cluster of m atoms.

    Attributes:
        elements: element indices, shape (m,).
        aev: shape (m, D).
        jacobian: ∂AEV/∂x, 1/Å, shape (m · D, 3 m).
    """

    elements: Tensor
    aev: Tensor
    jacobian: Tensor

    @property
    def atoms(self) -> int:
        """Number of atoms."""
        return int(self.elements.shape[0])

    @property
    def bytes(self) -> int:
        """Memory held, in bytes."""
        return sum(t.numel() * t.element_size() for t in (self.elements, self.aev, self.jacobian))


def featurise(ensemble: AniEnsemble, numbers: Ints, positions: Floats) -> Features:
    """Features of an isolated cluster.

    Args:
        ensemble: the model whose descriptor and precision are used.
        numbers: atomic numbers, shape (m,).
        positions: Å, shape (m, 3).

    Raises:
        ElementError: the weights do not know an element.
    """
    elements = element_indices(ensemble.card, numbers)
    x = torch.tensor(positions, dtype=torch.float64)
    with torch.no_grad():
        found = ensemble.neighbors(elements, x, None)
        dtype = ensemble.dtype
        pairs = Neighbors(found.indices, found.distances.to(dtype), found.diff_vectors.to(dtype))
        aev = ensemble.aev.compute_from_neighbors(elements.unsqueeze(0), x.unsqueeze(0), pairs).squeeze(0)
        triples_from = discard_outside_cutoff(pairs, ensemble.aev.angular.cutoff)
        radial = _radial_jacobian(ensemble.aev, elements, pairs)
        angular = _angular_jacobian(ensemble.aev, elements, triples_from, neighbors_to_triples(triples_from))
    m = len(elements)
    jacobian = torch.cat([radial, angular], dim=1).reshape(m * aev.shape[1], 3 * m).contiguous()
    return Features(elements=elements, aev=aev.contiguous(), jacobian=jacobian)


def of_atoms(features: Features, kept: Flags) -> Features:
    """The features of some atoms, shape (m,), without derivatives: to compare environments by."""
    chosen = torch.from_numpy(kept)
    return Features(
        elements=features.elements[chosen],
        aev=features.aev[chosen],
        jacobian=features.jacobian.new_zeros(0, 0),
    )


def _radial_jacobian(aev: AEVComputer, elements: Tensor, pairs: Neighbors) -> Tensor:
    """∂(radial AEV)/∂x, shape (m, species · S, m, 3)."""
    m, species = len(elements), aev.num_species
    _, slope = torch.func.jvp(aev.radial, (pairs.distances,), (torch.ones_like(pairs.distances),))
    direction = pairs.diff_vectors / pairs.distances.unsqueeze(1)
    gradient = slope.unsqueeze(2) * direction.unsqueeze(1)
    width = slope.shape[1]
    out: Tensor = gradient.new_zeros(m * species * m, width, 3)
    first, second = pairs.indices
    for centre, other in ((first, second), (second, first)):
        row = (centre * species + elements[other]) * m
        out.index_add_(0, row + first, gradient)
        out.index_add_(0, row + second, -gradient)
    return out.reshape(m, species, m, width, 3).permute(0, 1, 3, 2, 4).reshape(m, species * width, m, 3)


def _angular_jacobian(aev: AEVComputer, elements: Tensor, pairs: Neighbors, triples: Triples) -> Tensor:
    """∂(angular AEV)/∂x, shape (m, species pairs · A, m, 3)."""
    m, width = len(elements), aev.angular.num_feats
    slots = aev.num_species_pairs
    gradient = _angular_gradient(aev, triples.diff_vectors)
    ends = pairs.indices[:, triples.side_idxs]
    sides = torch.where(triples.diff_signs == 1, ends[1], ends[0])
    row = (triples.central_idxs * slots + aev.triu_index[elements[sides[0]], elements[sides[1]]]) * m
    out: Tensor = gradient.new_zeros(m * slots * m, width, 3)
    # diff_vectors point from a side to the centre.
    out.index_add_(0, row + triples.central_idxs, gradient[0] + gradient[1])
    for side in (0, 1):
        out.index_add_(0, row + sides[side], -gradient[side])
    return out.reshape(m, slots, m, width, 3).permute(0, 1, 3, 2, 4).reshape(m, slots * width, m, 3)


def _angular_gradient(aev: AEVComputer, vectors: Tensor) -> Tensor:
    """Gradient of the angular terms with respect to both vectors of each triple, shape (2, triples, A, 3)."""

    def terms(v: Tensor) -> Tensor:
        result: Tensor = aev.angular(v.norm(dim=-1), v)
        return result

    columns = []
    for side in (0, 1):
        for axis in (0, 1, 2):
            tangent = torch.zeros_like(vectors)
            tangent[side, :, axis] = 1.0
            columns.append(torch.func.jvp(terms, (vectors,), (tangent,))[1])
    stacked = torch.stack(columns, dim=-1)
    return torch.stack([stacked[..., :3], stacked[..., 3:]])


def member_energies_and_forces(
    ensemble: AniEnsemble, features: Features, *, create_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """Energies (hartree, shape (K,)) and forces (hartree/Å, shape (K, m, 3)) of all members on a cached cluster.

    Args:
        ensemble: the model.
        features: of the cluster, made with the same descriptor.
        create_graph: keep what a gradient with respect to the weights needs.
    """
    g = features.aev.expand(ensemble.members, -1, -1).detach().clone().requires_grad_(True)
    energies = ensemble.atomic_energies(features.elements, g).sum(1)
    (slopes,) = torch.autograd.grad(energies.sum(), g, create_graph=create_graph)
    forces = -(slopes.reshape(ensemble.members, -1) @ features.jacobian)
    return energies, forces.reshape(ensemble.members, features.atoms, 3)
