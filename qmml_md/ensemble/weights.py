"""Weights: reading and writing them, and taking the published ones from where they were published.

A weights file is safetensors; its card (``EnsembleCard``) is its metadata and stands beside it as JSON for a person.
The SHA-256 of the file is therefore the identity of the whole model. ``ani1x`` and ``ani1ccx`` come from the wheel
``torchani==2.0`` (MIT licence), fetched once with the user's own pip configuration, checked against a fixed hash, and
read with ``torchani.neurochem``; ``ani2x`` comes through TorchANI's own downloader. All are cached in the user's cache
folder (``QMML_CACHE`` overrides).
"""

import hashlib
import json
import os
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from platformdirs import user_cache_path
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes

from ..errors import WeightsError
from ..records.durable import write_durably
from . import published
from .card import EnsembleCard, card_from_json
from .model import DTYPES, AniEnsemble, ElementNetworks, StackedLinear
from .wheel import download_wheel, unpack

Precision = Literal["single", "double"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A published ensemble: its name, what it was trained on, where it comes from, and its file if it is cached."""

    name: str
    level_of_theory: str
    source: str
    cached: Path | None


def cache_folder() -> Path:
    """Where fetched weights are kept: ``$QMML_CACHE``, else the platform's cache folder for ``qmml-md``."""
    chosen = os.environ.get("QMML_CACHE")
    return Path(chosen) if chosen else user_cache_path("qmml-md")


def available() -> list[Published]:
    """The published ensembles, cached or not."""
    rows = []
    for name, about in published.ABOUT.items():
        path = _cached(name)
        rows.append(
            Published(
                name=name,
                level_of_theory=about.level_of_theory,
                source=about.source,
                cached=path if path.exists() else None,
            )
        )
    return rows


def load(name_or_path: str, precision: Precision = "single") -> AniEnsemble:
    """An ensemble by published name (fetched on first use) or from a weights file.

    Args:
        name_or_path: `ani1x`, `ani1ccx`, `ani2x`, or the path of a .safetensors file.
        precision: of features and networks.

    Raises:
        WeightsError: unknown name, missing or damaged file, or weights that cannot be fetched.
    """
    return build(*_read(_find(name_or_path)), precision)


def load_as_stored(name_or_path: str) -> tuple[AniEnsemble, str]:
    """An ensemble in the precision of its file, and the SHA-256 of the file; arguments and errors as for ``load``."""
    path = _find(name_or_path)
    card, tensors = _read(path)
    double = any(tensor.dtype == torch.float64 for tensor in tensors.values())
    return build(card, tensors, "double" if double else "single"), hashlib.sha256(path.read_bytes()).hexdigest()


def _find(name_or_path: str) -> Path:
    path = fetch(name_or_path) if name_or_path in published.ABOUT else Path(name_or_path)
    if not path.is_file():
        raise WeightsError(
            f"weights `{name_or_path}` are neither a known name ({', '.join(published.ABOUT)}) nor a file",
            cure="`qmml weights list` shows the names; a path is relative to the folder of the configuration",
        )
    return path


def _read(path: Path) -> tuple[EnsembleCard, dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise WeightsError(
            f"{path} cannot be read as safetensors: {error!s:.200}", cure="delete it and fetch it again, or restore it"
        ) from error
    if "card" not in metadata:
        raise WeightsError(f"{path} carries no card", cure="write weights with qmml_md.ensemble.weights.save")
    return card_from_json(metadata["card"], str(path)), tensors


def build(card: EnsembleCard, tensors: dict[str, torch.Tensor], precision: Precision = "single") -> AniEnsemble:
    """Assemble an ensemble from stacked tensors ``<symbol>.<layer>.weight`` (K, in, out) and ``.bias`` (K, 1, out).

    Raises:
        WeightsError: a layer is missing, or a shape does not fit the card.
    """
    networks = []
    for symbol in card.symbols:
        depth = sum(1 for key in tensors if re.fullmatch(rf"{symbol}\.\d+\.weight", key))
        try:
            layers = [
                StackedLinear(tensors[f"{symbol}.{i}.weight"].clone(), tensors[f"{symbol}.{i}.bias"].clone())
                for i in range(depth)
            ]
        except KeyError as error:
            raise WeightsError(f"weights `{card.name}`: {error} is missing") from error
        if not layers or any(layer.weight.shape[0] != card.members for layer in layers):
            raise WeightsError(f"weights `{card.name}`: the networks of {symbol} do not have {card.members} members")
        networks.append(ElementNetworks(layers))
    ensemble = AniEnsemble(card, networks, DTYPES[precision])
    width = ensemble.aev.out_dim
    for symbol, network in zip(card.symbols, networks, strict=True):
        found = layers_of(network)[0].weight.shape[1]
        if found != width:
            raise WeightsError(f"weights `{card.name}`: {symbol} takes {found} features, the descriptor has {width}")
    return ensemble.train(False)


def single_member(ensemble: AniEnsemble, k: int) -> AniEnsemble:
    """Member k alone, as an ensemble of one.

    Raises:
        WeightsError: there is no such member.
    """
    if not 0 <= k < ensemble.members:
        raise WeightsError(
            f"member {k} of `{ensemble.card.name}` does not exist", cure=f"name one from 0 to {ensemble.members - 1}"
        )
    card = replace(ensemble.card, name=f"{ensemble.card.name}, member {k}", members=1)
    tensors = {key: tensor[k : k + 1].clone() for key, tensor in tensors_of(ensemble).items()}
    return build(card, tensors, precision_of(ensemble))


def precision_of(ensemble: AniEnsemble) -> Precision:
    """Precision of features and networks."""
    return "double" if ensemble.dtype == torch.float64 else "single"


def tensors_of(ensemble: AniEnsemble) -> dict[str, torch.Tensor]:
    """The stacked weights by the names that ``build`` takes."""
    out = {}
    for symbol, network in zip(ensemble.card.symbols, ensemble.networks, strict=True):
        for i, layer in enumerate(layers_of(network)):
            out[f"{symbol}.{i}.weight"] = layer.weight.detach().cpu().contiguous()
            out[f"{symbol}.{i}.bias"] = layer.bias.detach().cpu().contiguous()
    return out


def layers_of(network: torch.nn.Module) -> list[StackedLinear]:
    """The layers of one element's networks from the first to the last."""
    return [layer for layer in network.modules() if isinstance(layer, StackedLinear)]


def serialise(ensemble: AniEnsemble) -> tuple[bytes, str]:
    """The bytes of the weights file and their SHA-256 in hexadecimal: the identity of the model."""
    data = safetensors_bytes(tensors_of(ensemble), metadata={"card": ensemble.card.to_json()})
    return data, hashlib.sha256(data).hexdigest()


def save(ensemble: AniEnsemble, path: Path) -> str:
    """Write a weights file and its card beside it.

    Args:
        ensemble: the model.
        path: ends in .safetensors; its folder must exist.

    Returns:
        SHA-256 of the file: the identity of the model.
    """
    data, digest = serialise(ensemble)
    _write(path, data, digest, ensemble.card)
    return digest


def store(ensemble: AniEnsemble, folder: Path) -> tuple[str, bool]:
    """Write a weights file that is named by its identity.

    Returns:
        The identity, and whether the file was new; one that is there already is left alone.
    """
    data, digest = serialise(ensemble)
    path = folder / f"{digest}.safetensors"
    if path.exists():
        return digest, False
    _write(path, data, digest, ensemble.card)
    return digest, True


def _write(path: Path, data: bytes, digest: str, about: EnsembleCard) -> None:
    """The card first: where a weights file stands, its card does, whenever a kill comes between."""
    card = {**json.loads(about.to_json()), "sha256": digest}
    write_durably(path.with_suffix(".json"), json.dumps(card, indent=1).encode())
    write_durably(path, data)


def fetch(name: str) -> Path:
    """The file of a published ensemble, taken from where it was published if it is not cached.

    Raises:
        WeightsError: unknown name, no network, or a download with the wrong hash.
    """
    if name not in published.ABOUT:
        raise WeightsError(f"no published weights are called `{name}`", cure="`qmml weights list` shows the names")
    path = _cached(name)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    if name == "ani2x":
        card, tensors = published.from_torchani(name)
        save(build(card, tensors), path)
        return path
    with tempfile.TemporaryDirectory() as folder:
        resources = unpack(download_wheel(Path(folder)), Path(folder))
        for each in ("ani1x", "ani1ccx"):
            card, tensors = published.from_neurochem(each, resources)
            save(build(card, tensors), _cached(each))
    return path


def _cached(name: str) -> Path:
    return cache_folder() / "weights" / f"{name}.safetensors"
