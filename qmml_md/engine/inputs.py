"""What a run is made from, and refusing what cannot be simulated or labelled before anything is written."""

import shutil
from pathlib import Path

import numpy as np

from ..config import Config
from ..ensemble.model import AniEnsemble
from ..ensemble.weights import load, single_member
from ..errors import ConfigError, RegionError, RunDirectoryError
from ..region.patch import Patch, joined
from ..system.archive import Simulated, has_archive, read_archive
from ..system.mixed import read_system
from ..system.molecules import Molecules, atom_name
from ..system.structures import check_structure
from .experience import region_layout
from .propagator import inner_member

#: Disk space that a run takes beside its frames, bytes.
DISK_RESERVE = 200e6
#: Arrays of (n, 3) float64 and one of (n,) in each frame.
BYTES_PER_ATOM_AND_FRAME = 8 * (3 * 3 + 1)
#: Eight members of a published ensemble take 10.5 MB, and as much for checkpoints; a label may bring a model.
BYTES_PER_MODEL = 21e6


def read_simulated(config: Config, folder: Path) -> Simulated:
    """What a configuration simulates; from the run directory itself where a run has begun as a mixture.

    Args:
        config: of the run.
        folder: where its relative paths start.
    """
    if has_archive(folder):
        return read_archive(folder, config.ensemble.platform)
    return read_system(config.system, folder, config.ensemble.platform)


def read_weights(config: Config, folder: Path) -> AniEnsemble:
    """The weights of a configuration, by name or by a path that starts at ``folder``; a single member on request."""
    weights = config.ensemble.weights
    place = str(folder / weights) if weights.endswith(".safetensors") else weights
    ensemble = load(place, config.ensemble.precision)
    return single_member(ensemble, 0) if config.learning.control == "single_member" else ensemble


def read_inner(config: Config, folder: Path, base: AniEnsemble) -> AniEnsemble | None:
    """The inner potential of RESPA from a file; None where it is a member of the ensemble, or there is none.

    Raises:
        ConfigError: neither a member of the ensemble nor a weights file is named.
        WeightsError: the file cannot be read.
    """
    inner = config.dynamics.respa_inner
    if config.dynamics.integrator != "respa":
        return None
    if inner.endswith(".safetensors"):
        return load(str(folder / inner), config.ensemble.precision)
    if inner_member(config.dynamics) >= base.members:
        raise ConfigError(
            f"dynamics.respa_inner: `{inner}` is no inner potential",
            cure=f"give member:0 … member:{base.members - 1}, or the path of a .safetensors file",
        )
    return None


def check_input(config: Config, simulated: Simulated, ensemble: AniEnsemble) -> None:
    """Refuse what cannot be simulated or labelled, before anything is written.

    Raises:
        StructureError, ElementError: the structure is at fault.
        RegionError: no region can hold a molecule of the structure, or its electrons do not pair.
    """
    molecules = simulated.part.molecules
    check_structure(
        molecules,
        symbols=ensemble.card.symbols,
        cutoff_A=ensemble.card.cutoff_A,
        multiplicity=config.reference.multiplicity,
    )
    _check_units(config, molecules)
    if config.reference.embedding != "mechanical" and simulated.field is None:
        raise ConfigError(
            f"reference.embedding is {config.reference.embedding}, but system.ml_atoms `{config.system.ml_atoms}` "
            "leaves no atom to a force field: there are no charges",
            cure="select fewer atoms in system.ml_atoms, or set reference.embedding: mechanical",
        )
    if config.dynamics.pressure_bar is not None and molecules.box is None:
        raise ConfigError("dynamics.pressure_bar is set, but nothing repeats", cure="give a box, or no pressure")
    _check_spin(config, molecules)
    electrons = int(molecules.numbers.sum() - molecules.formal_charge.sum())
    if electrons % 2 and config.reference.multiplicity is None:
        raise ConfigError(
            f"the structure has {electrons} electrons, an odd number, and no multiplicity is given",
            cure="set reference.multiplicity (2 for a radical), or system.formal_charges of the charged residues",
        )


def _check_spin(config: Config, molecules: Molecules) -> None:
    """Refuse a charge and a multiplicity that no cluster of the structure can have.

    Raises:
        ConfigError: so it is.
    """
    charge, multiplicity, protons = config.reference.charge, config.reference.multiplicity, int(molecules.numbers.sum())
    if charge is not None and charge >= protons:
        raise ConfigError(
            f"reference.charge is {charge:+d}, but all atoms together have {protons} protons",
            cure="leave reference.charge out: it is the sum of the formal charges",
        )
    found = np.bincount(molecules.molecule_of, weights=molecules.numbers - molecules.formal_charge)
    # Bonds are cut in pairs of electrons: clusters of closed shells have closed shells.
    if multiplicity is not None and charge is None and multiplicity % 2 == 0 and not (found % 2).any():
        raise ConfigError(
            f"reference.multiplicity {multiplicity} fits no molecule: each has an even number of electrons",
            cure="leave reference.multiplicity out, or give an odd one; or set system.formal_charges",
        )


def _check_units(config: Config, molecules: Molecules) -> None:
    """Refuse what could never be labelled: what must not be cut and yet is larger than a cluster may be."""
    layout, limit = region_layout(config.region, molecules), config.region.max_qm_atoms
    kept = (config.region.solvent_molecules or 0) * layout.solvent_size
    for unit, blocks in enumerate(layout.unit_blocks):
        alone = joined(layout, Patch(), [unit])
        if alone.size + kept > limit and not layout.banned[unit]:
            first = atom_name(molecules, int(np.flatnonzero(layout.block_of == blocks[0])[0]))
            raise RegionError(
                f"what hangs together with {first} has {alone.size} atoms, {alone.links} of them link atoms, and "
                f"{kept} are kept for the solvent; region.max_qm_atoms is {limit}",
                cure="raise max_qm_atoms, take smaller units (region.unit), ask for fewer solvent_molecules, or keep "
                "it out with region.exclude",
            )


def needed_bytes(config: Config, atoms: int) -> float:
    """Rough size of the run directory, bytes: frames, models, and what is written beside them."""
    output, steps = config.output, config.dynamics.steps
    frames = steps / output.frame_every_steps + steps / config.region.shortest_steps + 1
    models = config.reference.max_labels + 1 if config.learning.trains else 1
    return frames * atoms * BYTES_PER_ATOM_AND_FRAME + models * BYTES_PER_MODEL + DISK_RESERVE


def check_disk(config: Config, atoms: int, out: Path) -> None:
    """Refuse a run that cannot fit on the disk.

    Raises:
        RunDirectoryError: there is less space than the run may take.
    """
    needed = needed_bytes(config, atoms)
    folder = next(parent for parent in (out, *out.resolve().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunDirectoryError(
            f"{folder} has {free / 1e9:.2f} GB free; the run may write {needed / 1e9:.2f} GB",
            cure="make room, give a folder on another disk with --out, or store fewer frames "
            "(output.frame_every_steps)",
        )
