"""Holding the unlabelled bulk: energies of whole molecules in snapshots of the whole system.

Labels are small clusters in vacuum. What they teach about the energy of a surface molecule, the networks carry over to
every molecule of the bulk, where nothing was labelled: six water molecules can move the energy of a box of water by
1000 kJ/mol. Anchors that are clusters cannot see that. Here the energy of each molecule, summed over its atoms, is held
near what the starting model says, in environments that the run itself visited. It needs no forces and so no Jacobian.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..ensemble.model import AniEnsemble, element_indices, to_angstrom
from ..system.molecules import Molecules
from ..units import EV_PER_HARTREE
from .block import Networks, atomic_energies

#: Atoms looked at in one optimiser step, about.
ATOMS_PER_STEP = 96


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bulk:
    """One snapshot of the whole system.

    Attributes:
        elements: element indices, shape (n,).
        aev: shape (n, D).
        molecule_of: molecule of each atom, shape (n,).
        sizes: atoms of each molecule, shape (M,).
        energies: energy of each molecule by member of the starting model, eV, shape (K, M).
    """

    elements: Tensor
    aev: Tensor
    molecule_of: Tensor
    sizes: Tensor
    energies: Tensor


def make_bulk(base: AniEnsemble, molecules: Molecules) -> Bulk:
    """Record what the members of ``base`` say about every molecule where it is.

    Args:
        base: the starting model.
        molecules: what is simulated, with positions and box as they were.
    """
    elements = element_indices(base.card, molecules.numbers)
    box = None if molecules.box is None else to_angstrom(molecules.box, base.device)
    molecule_of = torch.tensor(molecules.molecule_of)
    with torch.no_grad():
        aev = base.features(elements, to_angstrom(molecules.positions, base.device), box)
        atomic = base.atomic_energies(elements, aev.unsqueeze(0)) * EV_PER_HARTREE
        sizes = torch.bincount(molecule_of)
        energies = atomic.new_zeros(base.members, len(sizes)).index_add(1, molecule_of, atomic)
    return Bulk(elements=elements, aev=aev, molecule_of=molecule_of, sizes=sizes, energies=energies)


def bulk_loss(networks: Networks, columns: Tensor, bulk: Bulk, rng: np.random.Generator) -> Tensor:
    """Mean squared change of the energy per atom of randomly drawn molecules, (eV/atom)², summed over members.

    Args:
        networks: weights of all members, of every element that the bulk holds.
        columns: of the AEV that the networks see; in the others the bulk is zero, too.
        bulk: the snapshot.
        rng: draws the molecules.
    """
    count = min(len(bulk.sizes), max(1, round(ATOMS_PER_STEP / float(bulk.sizes.double().mean()))))
    chosen = torch.tensor(np.sort(rng.choice(len(bulk.sizes), size=count, replace=False)))
    place = torch.full((len(bulk.sizes),), -1)
    place[chosen] = torch.arange(count)
    atoms = (place[bulk.molecule_of] >= 0).nonzero().flatten()
    sums = bulk.energies.new_zeros(len(bulk.energies), count)
    for z, layers in networks.items():
        some = atoms[bulk.elements[atoms] == z]
        energies = atomic_energies(layers, bulk.aev[some][:, columns].unsqueeze(0)) * EV_PER_HARTREE
        sums = sums.index_add(1, place[bulk.molecule_of[some]], energies)
    return ((sums - bulk.energies[:, chosen]) / bulk.sizes[chosen]).square().mean(1).sum()
