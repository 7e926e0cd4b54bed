"""One surface and its members: K neural-network potentials that share one descriptor, as one torch module.

The weights of all members are stacked along a first axis, so that one batched product serves prediction, disagreement
and training alike. The descriptor is TorchANI's atomic environment vector (AEV; Smith, Isayev, Roitberg, Chem. Sci. 8,
3192, 2017, doi:10.1039/C6SC05720A).

Precision: distances and difference vectors come from float64 positions, whatever the precision of features and
networks, and atomic energies are summed in float64. Self energies never enter: they are a constant of the composition,
and in float32 they alone would cost 0.1 … 8 kJ/mol of rounding.
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import ElementError
from ..system.molecules import Floats, Ints
from ..units import ANGSTROM_PER_NM, KJ_PER_MOL_PER_HARTREE
from .card import EnsembleCard

os.environ.setdefault("TORCHANI_NO_WARN_EXTENSIONS", "1")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchani.aev import AEVComputer
    from torchani.neighbors import AllPairs, CellList, Neighbors, setup_grid

DTYPES = {"single": torch.float32, "double": torch.float64}

#: Below this many atoms the quadratic neighbour list is faster than cells in vacuum.
CELLS_PAY_FROM_ATOMS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleOutput:
    """What an ensemble says about one configuration, self energies subtracted.

    Attributes:
        energy: mean over the members, kJ/mol.
        forces: minus the gradient of ``energy``, kJ/mol/nm, shape (n, 3).
        member_energies: kJ/mol, shape (K,).
    """

    energy: float
    forces: Floats
    member_energies: Floats


def activation(x: Tensor) -> Tensor:
    """CELU(0.1).

    In double precision torch's own has a derivative that is wrong by 1.5e-8, the rounding of α to single precision: a
    force would not be minus the gradient to better than that. Scaled ELU is the same function without this error.
    """
    if x.dtype == torch.float64:
        return torch.nn.functional.elu(x / 0.1) * 0.1
    return torch.nn.functional.celu(x, alpha=0.1)


class StackedLinear(torch.nn.Module):
    """K linear layers of equal shape side by side.

    Attributes:
        weight: shape (K, in, out).
        bias: shape (K, 1, out).
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight)
        self.bias = torch.nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply layer k to ``x[k]``; x has shape (K, atoms, in)."""
        return torch.baddbmm(self.bias, x, self.weight)


class ElementNetworks(torch.nn.Module):
    """The networks of all members for one element: linear layers with CELU(0.1) between."""

    def __init__(self, layers: Sequence[StackedLinear]) -> None:
        super().__init__()
        self.hidden = torch.nn.ModuleList(layers[:-1])
        self.last = layers[-1]

    def forward(self, features: Tensor) -> Tensor:
        """Atomic energies in hartree, shape (K, atoms), from features of shape (K, atoms, D)."""
        x = features
        for layer in self.hidden:
            x = activation(layer(x))
        energies: Tensor = self.last(x).squeeze(-1)
        return energies


class AniEnsemble(torch.nn.Module):
    """K ANI-style potentials on one AEV.

    Attributes:
        card: elements, cutoffs, self energies, provenance.
        members: K.
    """

    def __init__(self, card: EnsembleCard, networks: Sequence[ElementNetworks], dtype: torch.dtype) -> None:
        super().__init__()
        self.members = card.members
        self.cutoff = float(card.radial_cutoff_A)
        self.cells_pay_from = CELLS_PAY_FROM_ATOMS
        self.aev = build_aev(card)
        self.networks = torch.nn.ModuleList(networks)
        self.cells = CellList()
        self.pairs = AllPairs()
        self.register_buffer("pbc", torch.tensor([True, True, True]), persistent=False)
        self.to(dtype)
        self._card = [card]

    @property
    @torch.jit.unused
    def card(self) -> EnsembleCard:
        """Everything about the ensemble that is not a weight."""
        return self._card[0]

    @property
    @torch.jit.unused
    def dtype(self) -> torch.dtype:
        """Precision of features and networks."""
        return next(self.parameters()).dtype

    @property
    @torch.jit.unused
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def neighbors(self, elements: Tensor, positions: Tensor, cell: Tensor | None) -> Neighbors:
        """Pairs within the cutoff in float64.

        Args:
            elements: element indices, shape (n,).
            positions: Å, float64, shape (n, 3), anywhere in space.
            cell: Å, float64, shape (3, 3); None in vacuum.
        """
        z, x = elements.unsqueeze(0), positions.unsqueeze(0)
        if cell is None:
            if elements.shape[0] < self.cells_pay_from:
                return self.pairs(self.cutoff, z, x, None, None)
            return self.cells(self.cutoff, z, x, None, None)
        # A cell list that has fewer than three cells along a vector would count pairs twice.
        if bool((setup_grid(cell, self.cutoff) >= 3).all()):
            return self.cells(self.cutoff, z, x, cell, self.pbc)
        return self.pairs(self.cutoff, z, x, cell, self.pbc)

    def features(self, elements: Tensor, positions: Tensor, cell: Tensor | None) -> Tensor:
        """AEV of each atom, shape (n, D), in the precision of the networks; arguments as for ``neighbors``."""
        found = self.neighbors(elements, positions, cell)
        dtype = self.aev.radial.shifts.dtype
        cast = Neighbors(found.indices, found.distances.to(dtype), found.diff_vectors.to(dtype))
        z, x = elements.unsqueeze(0), positions.unsqueeze(0)
        features: Tensor = self.aev.compute_from_neighbors(z, x, cast).squeeze(0)
        return features

    def atomic_energies(self, elements: Tensor, features: Tensor) -> Tensor:
        """Energies of the atoms by member, hartree, shape (K, n).

        Args:
            elements: element indices, shape (n,).
            features: shape (K, n, D), one block for each member, or (1, n, D) for all.
        """
        features = features.expand(self.members, -1, -1)
        out = features.new_zeros(self.members, features.shape[1])
        for index, network in enumerate(self.networks):
            atoms = (elements == index).nonzero().flatten()
            if atoms.numel() > 0:
                out = out.index_copy(1, atoms, network(features.index_select(1, atoms)))
        return out

    def forward(self, elements: Tensor, positions: Tensor, cell: Tensor | None) -> Tensor:
        """Energies of the members, hartree, float64, shape (K,); arguments as for ``neighbors``."""
        features = self.features(elements, positions, cell)
        return self.atomic_energies(elements, features.unsqueeze(0)).to(torch.float64).sum(1)


def build_aev(card: EnsembleCard) -> AEVComputer:
    """TorchANI's descriptor with the constants of a card."""
    return AEVComputer.from_constants(
        radial_cutoff=card.radial_cutoff_A,
        angular_cutoff=card.angular_cutoff_A,
        radial_eta=card.radial_eta,
        radial_shifts=card.radial_shifts,
        angular_eta=card.angular_eta,
        angular_zeta=card.angular_zeta,
        angular_shifts=card.angular_shifts,
        sections=card.sections,
        num_species=len(card.symbols),
        cutoff_fn=card.cutoff_function,
        strategy="pyaev",
    )


def set_threads(threads: int | None) -> None:
    """Let torch use so many threads; None leaves its default, all cores."""
    if threads is not None:
        torch.set_num_threads(threads)


def element_indices(card: EnsembleCard, numbers: Ints) -> Tensor:
    """Indices of the elements in the order of the card, shape (n,), int64.

    Raises:
        ElementError: the weights do not know an element.
    """
    known = {number: index for index, number in enumerate(card.numbers)}
    unknown = sorted({int(z) for z in numbers} - known.keys())
    if unknown:
        raise ElementError(
            f"the weights `{card.name}` know {', '.join(card.symbols)}, not the elements with atomic numbers {unknown}",
            cure="choose weights that cover them (`qmml weights list`), or take those atoms out of the structure",
        )
    return torch.tensor([known[int(z)] for z in numbers], dtype=torch.int64)


def self_energy_hartree(card: EnsembleCard, numbers: Ints) -> float:
    """Sum of the self energies of a composition, hartree."""
    index = element_indices(card, numbers).numpy()
    return float(np.asarray(card.self_energies_hartree, dtype=np.float64)[index].sum())


def to_angstrom(array: Floats, device: torch.device) -> Tensor:
    """A float64 tensor in Å from an array in nm."""
    return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float64, device=device) * ANGSTROM_PER_NM


def evaluate(ensemble: AniEnsemble, numbers: Ints, positions: Floats, box: Floats | None) -> EnsembleOutput:
    """Energy and forces of one configuration.

    Args:
        ensemble: the model.
        numbers: atomic numbers, shape (n,).
        positions: nm, shape (n, 3), wrapped or not.
        box: nm, shape (3, 3), rows are box vectors; None in vacuum.

    Raises:
        ElementError: the weights do not know an element.
    """
    device = ensemble.device
    elements = element_indices(ensemble.card, numbers).to(device)
    x = to_angstrom(positions, device).requires_grad_(True)
    members = ensemble(elements, x, None if box is None else to_angstrom(box, device))
    (gradient,) = torch.autograd.grad(members.mean(), x)
    scale = KJ_PER_MOL_PER_HARTREE
    return EnsembleOutput(
        energy=float(members.detach().mean()) * scale,
        forces=-gradient.cpu().numpy() * scale * ANGSTROM_PER_NM,
        member_energies=members.detach().cpu().numpy() * scale,
    )
