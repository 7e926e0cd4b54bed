"""Networks on the features that are there: an atom without a neighbour of some element has none of that element.

In a solution most atoms see only the solvent: in water 128 of the 384 features of ANI-1x. The rest of their features
are exact zeros, so leaving them out, and the rows of the first layers that they would meet, changes nothing but the
order of sums.
"""

import torch
from torch import Tensor

from .model import AniEnsemble, ElementNetworks, StackedLinear


def atomic_energies(model: AniEnsemble, elements: Tensor, features: Tensor, partners: Tensor) -> Tensor:
    """Energies of the atoms by member, hartree, shape (K, N), as ``AniEnsemble.atomic_energies`` gives them.

    Args:
        model: the ensemble.
        elements: element indices, shape (N,).
        features: shape (N, D).
        partners: whether an atom has a neighbour of each element, shape (N, elements).
    """
    out = features.new_zeros(model.members, len(elements))
    code = (partners * 2 ** torch.arange(partners.shape[1], device=partners.device)).sum(1)
    for index, network in enumerate(model.networks):
        atoms = (elements == index).nonzero().flatten()
        if not len(atoms):
            continue
        # The most frequent surroundings apart from all others, which take every feature.
        common = int(code[atoms].mode().values)
        usual = code[atoms] == common
        columns = _columns(model, common, features.device)
        for chosen, part, weights in (
            (atoms[usual], columns, _narrowed(network, columns)),
            (atoms[~usual], None, network),
        ):
            if len(chosen):
                x = features.index_select(0, chosen)
                x = x if part is None else x.index_select(1, part)
                out = out.index_copy(1, chosen, weights(x.unsqueeze(0).expand(model.members, -1, -1)))
    return out


def _columns(model: AniEnsemble, code: int, device: torch.device) -> Tensor:
    """Numbers of the features of atoms whose neighbours are of these elements only."""
    aev = model.aev
    here = [bool(code >> k & 1) for k in range(aev.num_species)]
    radial = torch.tensor(here).repeat_interleave(aev.radial.num_feats)
    pairs = torch.zeros(aev.num_species_pairs, dtype=torch.bool)
    for i in range(aev.num_species):
        for j in range(i, aev.num_species):
            pairs[int(aev.triu_index[i, j])] = here[i] and here[j]
    return torch.cat((radial, pairs.repeat_interleave(aev.angular.num_feats))).nonzero().flatten().to(device)


def _narrowed(network: torch.nn.Module, columns: Tensor) -> torch.nn.Module:
    """The same networks without the rows of the first layers that only meet zeros."""
    layers: list[StackedLinear] = [layer for layer in network.modules() if isinstance(layer, StackedLinear)]
    first = layers[0]
    if len(columns) == first.weight.shape[1]:
        return network
    return ElementNetworks([StackedLinear(first.weight.detach()[:, columns], first.bias.detach()), *layers[1:]])
