"""Several clusters as one block, and the networks as bare tensors: all members on all clusters in a few products.

Training touches nothing but weights. Columns of the AEV that belong to absent elements are left out, with their rows of
the first layer: exact, since they are zero with all their derivatives. Atoms stand sorted by element, so that each
network is called once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..ensemble.model import AniEnsemble, StackedLinear, activation
from ..units import EV_PER_HARTREE
from .features import Features

#: By element index, the weights and biases of all members, layer by layer: (K, in, out), (K, 1, out).
Networks = dict[int, list[Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """Clusters for one call.

    Attributes:
        aev: of each element index, shape (atoms of the element, d), in the order of the clusters.
        place: position of each atom, in the order of the clusters, among the atoms sorted by element.
        cluster: cluster of each atom sorted by element.
        sizes: atoms of each cluster, shape (n,).
        jacobians: for each number of atoms m: clusters of that size, and their ∂AEV/∂x, shape (g, m · d, 3 m), 1/Å.
    """

    aev: Mapping[int, Tensor]
    place: Tensor
    cluster: Tensor
    sizes: Tensor
    jacobians: tuple[tuple[Tensor, Tensor], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Lean:
    """Features without the columns that are left out: element indices (m,), AEV (m, d), Jacobian (m · d, 3 m)."""

    elements: Tensor
    aev: Tensor
    jacobian: Tensor


def used_columns(aevs: Sequence[Tensor]) -> Tensor:
    """Columns of AEVs, shape (·, D) each, that are not zero in all of them, sorted."""
    used = torch.zeros(aevs[0].shape[1], dtype=torch.bool)
    for aev in aevs:
        used |= (aev != 0).any(dim=0)
    return used.nonzero().flatten()


def lean(features: Features, columns: Tensor) -> Lean:
    """Keep these columns only."""
    m, width = features.aev.shape
    jacobian = features.jacobian.reshape(m, width, -1)[:, columns].reshape(m * len(columns), -1)
    return Lean(features.elements, features.aev[:, columns], jacobian)


def make_block(clusters: Sequence[Lean]) -> Block:
    """Put clusters together."""
    elements = torch.cat([c.elements for c in clusters])
    aev = torch.cat([c.aev for c in clusters])
    order = torch.argsort(elements, stable=True)
    sizes = torch.tensor([len(c.elements) for c in clusters])
    groups: dict[int, list[int]] = {}
    for i, size in enumerate(sizes.tolist()):
        groups.setdefault(size, []).append(i)
    return Block(
        aev={int(z): aev[order[elements[order] == z]] for z in torch.unique(elements)},
        place=torch.argsort(order),
        cluster=torch.repeat_interleave(torch.arange(len(clusters)), sizes)[order],
        sizes=sizes,
        jacobians=tuple(
            (torch.tensor(members), torch.stack([clusters[i].jacobian for i in members])) for members in groups.values()
        ),
    )


def bare_networks(model: AniEnsemble, elements: Sequence[int], columns: Tensor) -> Networks:
    """Copies of the weights of these elements, rows of absent columns left out."""
    found: Networks = {}
    for z in elements:
        layers = [p.detach().clone() for layer in _layers(model, z) for p in (layer.weight, layer.bias)]
        layers[0] = layers[0][:, columns].clone()
        found[z] = layers
    return found


def put_back(networks: Networks, columns: Tensor, model: AniEnsemble) -> None:
    """Write weights into a model; what was left out there stays."""
    with torch.no_grad():
        for z, layers in networks.items():
            for i, layer in enumerate(_layers(model, z)):
                if i == 0:
                    layer.weight[:, columns] = layers[0]
                else:
                    layer.weight.copy_(layers[2 * i])
                layer.bias.copy_(layers[2 * i + 1])


def _layers(model: AniEnsemble, element: int) -> list[StackedLinear]:
    return [layer for layer in model.networks[element].modules() if isinstance(layer, StackedLinear)]


def predict(networks: Networks, block: Block, *, create_graph: bool) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Energies and forces of all members.

    Args:
        networks: weights of K members.
        block: of n clusters.
        create_graph: keep what a gradient with respect to the weights needs.

    Returns:
        Energies, eV, shape (K, n), and for each number of atoms m the clusters (g,) and their forces, eV/Å, shape
        (g, K, 3 m).
    """
    members = next(iter(networks.values()))[0].shape[0]
    inputs = [aev.expand(members, -1, -1).clone().requires_grad_(True) for aev in block.aev.values()]
    atomic = torch.cat([atomic_energies(networks[z], g) for z, g in zip(block.aev, inputs, strict=True)], dim=1)
    slopes = torch.autograd.grad(atomic.sum(), inputs, create_graph=create_graph)
    energies = atomic.new_zeros(members, len(block.sizes)).index_add(1, block.cluster, atomic) * EV_PER_HARTREE
    # Sorted by element → in the order of the clusters.
    by_cluster = torch.split(torch.cat(slopes, dim=1)[:, block.place], block.sizes.tolist(), dim=1)
    forces = []
    for chosen, jacobian in block.jacobians:
        pull = torch.stack([by_cluster[i].reshape(members, -1) for i in chosen.tolist()])
        forces.append((chosen, torch.bmm(pull, jacobian) * -EV_PER_HARTREE))
    return energies, forces


def atomic_energies(layers: Sequence[Tensor], features: Tensor) -> Tensor:
    """Atomic energies of one element, hartree, shape (K, a), from features of shape (K, a, d) or (1, a, d)."""
    x = features.expand(len(layers[0]), -1, -1)
    for i in range(0, len(layers) - 2, 2):
        x = activation(torch.baddbmm(layers[i + 1], x, layers[i]))
    return torch.baddbmm(layers[-1], x, layers[-2]).squeeze(-1)
