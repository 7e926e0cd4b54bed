"""Published ANI ensembles, turned from their own formats into a card and stacked tensors."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import WeightsError
from .card import EnsembleCard

CITATION_1X = "Smith, Nebgen, Lubbers, Isayev, Roitberg, J. Chem. Phys. 148, 241733 (2018), doi:10.1063/1.5023802"
CITATION_1CCX = "Smith et al., Nat. Commun. 10, 2903 (2019), doi:10.1038/s41467-019-10827-4"
CITATION_2X = "Devereux et al., J. Chem. Theory Comput. 16, 4192 (2020), doi:10.1021/acs.jctc.0c00121"


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is known of a published ensemble before it is fetched."""

    level_of_theory: str
    source: str
    citation: str
    folder: str


ABOUT = {
    "ani1x": About(
        level_of_theory="wB97X/6-31G(d), Cartesian d functions",
        source="PyPI wheel torchani==2.0",
        citation=CITATION_1X,
        folder="ani-1x_8x",
    ),
    "ani1ccx": About(
        level_of_theory="CCSD(T)*/CBS by transfer from wB97X/6-31G(d)",
        source="PyPI wheel torchani==2.0",
        citation=CITATION_1CCX,
        folder="ani-1ccx_8x",
    ),
    "ani2x": About(
        level_of_theory="wB97X/6-31G(d), Cartesian d functions",
        source="TorchANI's downloader",
        citation=CITATION_2X,
        folder="",
    ),
}
MEMBERS = 8


def from_neurochem(name: str, resources: Path) -> tuple[EnsembleCard, dict[str, torch.Tensor]]:
    """Read an ensemble in NeuroChem format, as the TorchANI 2.0 wheel holds it.

    Args:
        name: `ani1x` or `ani1ccx`.
        resources: the wheel's ``torchani/resources`` folder, its hash already checked.

    Raises:
        WeightsError: the folder does not hold the ensemble.
    """
    from torchani import neurochem

    folder = resources / ABOUT[name].folder
    try:
        (constants_file,) = folder.glob("*.params")
        constants, symbols = neurochem.load_aev_constants_and_symbols(constants_file)
        ensemble = neurochem.load_ensemble(symbols, folder / "train", MEMBERS)
        # neurochem.load_sae would round to float32, that is to 2 µhartree for oxygen.
        self_energies = _self_energies(folder / "sae_linfit.dat", symbols)
    except (OSError, ValueError, neurochem.NeurochemParseError) as error:
        raise WeightsError(f"the fetched wheel does not hold {name} as expected: {error}") from error
    card = _card(
        name,
        symbols=tuple(symbols),
        self_energies=self_energies,
        radial_cutoff_A=constants.radial_cutoff,
        angular_cutoff_A=constants.angular_cutoff,
        radial_eta=constants.radial_eta,
        angular_eta=constants.angular_eta,
        angular_zeta=constants.angular_zeta,
        radial_shifts=constants.radial_shifts,
        angular_shifts=constants.angular_shifts,
        sections=constants.sections,
        cutoff_function="cosine",
    )
    return card, stack_networks(ensemble, card.symbols)


def from_torchani(name: str) -> tuple[EnsembleCard, dict[str, torch.Tensor]]:
    """Take an ensemble through TorchANI's own downloader.

    Raises:
        WeightsError: TorchANI cannot download it here.
    """
    from torchani import models

    try:
        model = models.ANI2x()
    except Exception as error:  # TorchANI lets through whatever its downloader raises
        raise WeightsError(
            f"TorchANI could not download {name}: {type(error).__name__}: {error}".splitlines()[0],
            cure="run `python -c 'import torchani; torchani.models.ANI2x()'` where a network is, and copy the cache "
            "folder of qmml-md; or choose `ani1x`, which needs only pip",
        ) from error
    return convert_torchani(name, model)


def convert_torchani(name: str, model: Any) -> tuple[EnsembleCard, dict[str, torch.Tensor]]:
    """Turn a TorchANI ``ANI`` model into a card and stacked tensors.

    Args:
        name: `ani2x`.
        model: a TorchANI model with an ensemble of networks.
    """
    aev = model.aev_computer
    symbols = tuple(model.symbols)
    card = _card(
        name,
        symbols=symbols,
        self_energies=tuple(float(e) for e in model.energy_shifter.self_energies),
        radial_cutoff_A=float(aev.radial.cutoff),
        angular_cutoff_A=float(aev.angular.cutoff),
        radial_eta=float(aev.radial.eta),
        angular_eta=float(aev.angular.eta),
        angular_zeta=float(aev.angular.zeta),
        radial_shifts=tuple(aev.radial.shifts.tolist()),
        angular_shifts=tuple(aev.angular.shifts.tolist()),
        sections=tuple(aev.angular.sections.tolist()),
        cutoff_function="smooth" if "smooth" in type(aev.radial.cutoff_fn).__name__.lower() else "cosine",
    )
    return card, stack_networks(model.neural_networks, symbols)


def stack_networks(ensemble: Any, symbols: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Stack the networks of a ``torchani.nn.Ensemble`` along a first axis of members.

    Raises:
        WeightsError: the members do not have equal shapes.
    """
    tensors = {}
    for symbol in symbols:
        networks = [member.atomics[symbol] for member in ensemble.members]
        for i in range(len(networks[0].layers) + 1):
            layers = [[*network.layers, network.final_layer][i] for network in networks]
            if len({tuple(layer.weight.shape) for layer in layers}) != 1:
                raise WeightsError(f"the members' networks of {symbol} differ in shape and cannot be stacked")
            tensors[f"{symbol}.{i}.weight"] = torch.stack([layer.weight.detach().T.contiguous() for layer in layers])
            tensors[f"{symbol}.{i}.bias"] = torch.stack([layer.bias.detach().unsqueeze(0) for layer in layers])
    return tensors


def _card(name: str, *, symbols: tuple[str, ...], self_energies: tuple[float, ...], **constants: Any) -> EnsembleCard:
    about = ABOUT[name]
    return EnsembleCard(
        name=name,
        symbols=symbols,
        members=MEMBERS,
        self_energies_hartree=self_energies,
        level_of_theory=about.level_of_theory,
        source=about.source,
        license="MIT",
        citation=about.citation,
        **constants,
    )


def _self_energies(path: Path, symbols: tuple[str, ...]) -> tuple[float, ...]:
    found = {}
    for line in path.read_text().splitlines():
        if "=" in line:
            left, value = line.split("=")
            found[left.split(",")[0].strip()] = float(value)
    return tuple(found[symbol] for symbol in symbols)
