"""What a run is made from, and refusing what cannot be simulated or labelled before anything is written."""

import shutil
from pathlib import Path

import numpy as np

from ..config import Config
from ..ensemble.model import AniEnsemble
from ..ensemble.weights import load
from ..errors import ConfigError, RegionError, RunDirectoryError
from ..system.molecules import Molecules
from ..system.structures import check_structure, read_structure

#: Disk space that a run takes beside its frames, bytes.
DISK_RESERVE = 200e6
#: Arrays of (n, 3) float64 and one of (n,) in each frame.
BYTES_PER_ATOM_AND_FRAME = 8 * (3 * 3 + 1)


def read_input(config: Config, folder: Path) -> tuple[Molecules, AniEnsemble]:
    """Structure and weights; relative paths start at ``folder``."""
    structure = folder / config.system.structure
    molecules = read_structure(structure, periodic=config.system.periodic, formal_charges=config.system.formal_charges)
    return molecules, load(weights_path(config, folder), config.ensemble.precision)


def weights_path(config: Config, folder: Path) -> str:
    """The weights' name, or their path from where the process stands."""
    weights = config.ensemble.weights
    return str(folder / weights) if weights.endswith(".safetensors") else weights


def check_input(config: Config, molecules: Molecules, ensemble: AniEnsemble) -> None:
    """Refuse what cannot be simulated or labelled, before anything is written.

    Raises:
        StructureError, ElementError: the structure is at fault.
        RegionError: no region can hold a molecule of the structure, or its electrons do not pair.
    """
    check_structure(molecules, symbols=ensemble.card.symbols, cutoff_A=ensemble.card.cutoff_A)
    limit = config.region.max_qm_atoms
    sizes = np.bincount(molecules.molecule_of)
    if sizes.max() > limit:
        raise RegionError(
            f"molecule {int(sizes.argmax())} has {int(sizes.max())} atoms, region.max_qm_atoms is {limit}",
            cure="raise max_qm_atoms: a region holds whole molecules, bonds are not cut",
        )
    electrons = int(molecules.numbers.sum() - molecules.formal_charge.sum())
    if electrons % 2 and config.reference.multiplicity is None:
        raise ConfigError(
            f"the structure has {electrons} electrons, an odd number, and no multiplicity is given",
            cure="set reference.multiplicity (2 for a radical), or system.formal_charges of the charged residues",
        )


def check_disk(config: Config, molecules: Molecules, out: Path) -> None:
    """Refuse a run that cannot fit on the disk.

    Raises:
        RunDirectoryError: there is less space than the frames will take.
    """
    frames = (
        config.dynamics.steps / config.output.frame_every_steps
        + config.dynamics.steps / config.region.check_every_steps
    )
    needed = frames * molecules.size * BYTES_PER_ATOM_AND_FRAME + DISK_RESERVE
    folder = next(parent for parent in (out, *out.resolve().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunDirectoryError(
            f"the run needs about {needed / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB free",
            cure="free some space, give another folder with --out, or raise output.frame_every_steps",
        )
