"""What regions are tried on: a peptide in vacuum and a solute in a periodic box of water, with frames of dynamics."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from qmml_md.ensemble.model import AniEnsemble, evaluate
from qmml_md.ensemble.weights import load, single_member
from qmml_md.system.molecules import Molecules
from qmml_md.system.structures import read_structure
from qmml_md.units import BOLTZMANN_KJ_PER_MOL_PER_K, EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM

ROOT = Path(__file__).parents[2]
PEPTIDE = ROOT / "tests" / "data" / "structures" / "chignolin_1uao_model1.pdb"
WATER = ROOT / "examples" / "nma_in_water" / "nma_in_water.pdb"
TEMPERATURE_K, TIMESTEP_PS, FRICTION_PER_PS = 300.0, 0.0005, 5.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """A system at several times, and where in it labels are taken.

    Attributes:
        name: for a person.
        frames: in the order of time.
        centres: atoms that clusters are cut around, shape (c,).
    """

    name: str
    frames: tuple[Molecules, ...]
    centres: np.ndarray


@lru_cache(maxsize=1)
def surface() -> AniEnsemble:
    """The published ensemble."""
    return load("ani1x")


def forces(model: AniEnsemble, frame: Molecules) -> np.ndarray:
    """Of the mean in the whole system, eV/Å, shape (n, 3)."""
    out = evaluate(model, frame.numbers, frame.positions, frame.box)
    return out.forces * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM


@lru_cache(maxsize=4)
def peptide(count: int, spacing: int) -> Scene:
    """Chignolin in vacuum, as the ML part of a mixed system is; centres are its carbon, nitrogen and oxygen atoms."""
    start = read_structure(PEPTIDE)
    return Scene(name="chignolin", frames=dynamics(start, count, spacing), centres=np.flatnonzero(start.numbers > 1))


@lru_cache(maxsize=4)
def water(count: int, spacing: int) -> Scene:
    """N-methylacetamide in 213 waters, periodic; centres are the oxygen atoms of the waters."""
    start = read_structure(WATER)
    _, sizes = np.unique(start.molecule_of, return_counts=True)
    lone = (start.numbers == 8) & (sizes[start.molecule_of] == 3)
    return Scene(name="water", frames=dynamics(start, count, spacing), centres=np.flatnonzero(lone))


def dynamics(start: Molecules, count: int, spacing: int) -> tuple[Molecules, ...]:
    """So many frames of Langevin dynamics (BAOAB) on one member, so many steps apart and after the first structure."""
    model, rng = single_member(surface(), 0), np.random.default_rng(2018)
    mass, kt = start.masses[:, None], TEMPERATURE_K * BOLTZMANN_KJ_PER_MOL_PER_K
    keep = np.exp(-FRICTION_PER_PS * TIMESTEP_PS)
    x = start.positions.copy()
    v = rng.normal(size=x.shape) * np.sqrt(kt / mass)
    found, force = [], evaluate(model, start.numbers, x, start.box).forces
    for step in range(1, count * spacing + 1):
        v += 0.5 * TIMESTEP_PS * force / mass
        x = x + 0.5 * TIMESTEP_PS * v
        v = keep * v + np.sqrt((1.0 - keep**2) * kt / mass) * rng.normal(size=x.shape)
        x = x + 0.5 * TIMESTEP_PS * v
        force = evaluate(model, start.numbers, x, start.box).forces
        v += 0.5 * TIMESTEP_PS * force / mass
        if step % spacing == 0:
            found.append(start.at(x, start.box))
    return tuple(found)
