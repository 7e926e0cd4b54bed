"""Series of quantum labels, how they are split, unlabelled frames of our own, and training on some of the labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.md.bussi import Bussi
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.units import fs

from qmml_md.config import Learning
from qmml_md.ensemble.model import AniEnsemble, evaluate
from qmml_md.ensemble.weights import load
from qmml_md.learning.base_set import anchor_set
from qmml_md.learning.features import featurise
from qmml_md.learning.finetune import Fit, finetune
from qmml_md.learning.images import Anchor, Image, make_anchor, make_image
from qmml_md.learning.measure import measure
from qmml_md.learning.training_set import bootstrap
from qmml_md.reference.label import Label, LevelOfTheory
from qmml_md.region.cluster import Cluster
from qmml_md.units import EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM, EV_PER_KJ_PER_MOL, NM_PER_ANGSTROM

DATA = Path(__file__).resolve().parents[2] / "tests" / "data" / "quantum"
ETHANOL = DATA / "ethanol_450K_wb97x_631gd.extxyz"
WATER = DATA / "water5_350K_wb97x_631gd.extxyz"
FINE = DATA / "ethanol_300K_fine_wb97x_631gd.extxyz"
#: Temperature of our own unlabelled frames, K; of other series, what is asked for.
TEMPERATURES = {ETHANOL: 450.0, WATER: 350.0, FINE: 300.0}
#: What is labelled lies in this first part of a series, 40 frames of the waters; the rest is looked at last.
FIRST_PART, WATER_FIRST = 5 / 8, 40
#: Unlabelled frames of our own, and steps of 0.5 fs between them. Those of our own series are kept in a folder, a file
#: of positions in Å, shape (FRAMES, N, 3), for each: ``python common.py`` makes them in minutes.
FRAMES, SPACING = 60, 40
KEPT = Path(__file__).parent / "unlabelled"

LEVEL = LevelOfTheory(
    program="pyscf", method="wb97x", basis="6-31g*", cartesian=True, density_fit=True, grid_level=3, grid_response=False
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Series:
    """Labels in the order of time, and unlabelled frames of the same molecules.

    Attributes:
        path: of the file.
        temperature_K: that was asked for.
        name: for a person.
        atoms: the frames.
        labels: one for each.
        images: prepared for training.
        time_fs: of each frame; the number of the frame where the file does not say.
        unlabelled: clusters that our own dynamics made, on the starting model, from the first frame.
    """

    path: Path
    temperature_K: float | None
    name: str
    atoms: list[Atoms]
    labels: list[Label]
    images: list[Image]
    time_fs: np.ndarray
    unlabelled: list[Cluster]

    @property
    def first(self) -> int:
        """Number of frames that may be labelled."""
        return WATER_FIRST if self.path == WATER else int(len(self.labels) * FIRST_PART)

    @property
    def test(self) -> list[int]:
        """Frames that are looked at last."""
        return list(range(self.first, len(self.labels)))


@lru_cache(maxsize=1)
def base() -> AniEnsemble:
    """The starting model."""
    return load("ani1x")


@lru_cache(maxsize=1)
def base_anchors() -> tuple[Anchor, ...]:
    """The starting model on the base set."""
    return tuple(anchor(c) for c in anchor_set(base().card))


def read(path: Path, temperature_K: float | None = None) -> Series:
    """A series from a file, with unlabelled frames made for it; once for all that ask."""
    return _read(path, temperature_K)


@lru_cache(maxsize=8)
def _read(path: Path, temperature_K: float | None) -> Series:
    frames = ase.io.read(path, ":")
    labels = [_label(atoms, f"{path.stem}/{i}") for i, atoms in enumerate(frames)]
    wanted = temperature_K or TEMPERATURES.get(path, 400.0)
    return Series(
        path=path,
        temperature_K=temperature_K,
        name=path.stem.removesuffix("_wb97x_631gd").replace("_", " "),
        atoms=frames,
        labels=labels,
        images=[make_image(base(), label) for label in labels],
        time_fs=np.array([float(atoms.info.get("time_fs", i)) for i, atoms in enumerate(frames)]),
        unlabelled=[as_cluster(atoms) for atoms in _unlabelled(path, frames[0], wanted)],
    )


def _unlabelled(path: Path, start: Atoms, temperature_K: float) -> list[Atoms]:
    """Frames of our own, as they are kept or made now."""
    kept = KEPT / f"{path.stem}.npy"
    if TEMPERATURES.get(path) != temperature_K or not kept.exists():
        return dynamics(start, temperature_K)
    return [Atoms(start.numbers, each) for each in np.load(kept, allow_pickle=False)]


def as_cluster(atoms: Atoms) -> Cluster:
    """A neutral closed-shell molecule of ASE as a cluster."""
    return Cluster(
        numbers=np.array(atoms.numbers, dtype=np.int64),
        positions=np.array(atoms.positions, dtype=np.float64),
        parent=np.arange(len(atoms)),
        links=np.zeros((0, 2), dtype=np.int64),
        charge=0,
        multiplicity=1,
    )


def _label(atoms: Atoms, key: str) -> Label:
    return Label(
        key=key,
        cluster=as_cluster(atoms),
        energy=float(atoms.get_potential_energy()),
        forces=np.array(atoms.get_forces(), dtype=np.float64),
        dipole=np.zeros(3),
        charges=np.zeros(len(atoms)),
        level=LEVEL,
        rung="diis",
        spin_squared=0.0,
        gap=float("nan"),
        wall_time=float("nan"),
    )


def dynamics(start: Atoms, temperature_K: float) -> list[Atoms]:
    """Frames of thermal dynamics on the starting model: what a run makes for nothing."""
    atoms = start.copy()
    atoms.calc = _Surface()
    rng = np.random.default_rng(2018)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature_K, rng=rng)
    mover = Bussi(atoms, 0.5 * fs, temperature_K=temperature_K, taut=100 * fs, rng=rng)
    found = []
    for _ in range(FRAMES):
        mover.run(SPACING)
        found.append(Atoms(atoms.numbers, atoms.get_positions()))
    return found


class _Surface:
    """The starting model for ASE's integrators."""

    def get_forces(self, atoms: Atoms) -> np.ndarray:
        out = evaluate(base(), atoms.numbers, atoms.positions * NM_PER_ANGSTROM, None)
        return out.forces * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM

    def get_potential_energy(self, atoms: Atoms, force_consistent: bool = False) -> float:
        out = evaluate(base(), atoms.numbers, atoms.positions * NM_PER_ANGSTROM, None)
        return out.energy * EV_PER_KJ_PER_MOL


def anchor(cluster: Cluster) -> Anchor:
    """The starting model on an unlabelled cluster."""
    return make_anchor(base(), featurise(base(), cluster.numbers, cluster.positions))


@lru_cache(maxsize=8)
def _anchors(path: Path, temperature_K: float | None) -> tuple[list[Anchor], list[Anchor]]:
    """Our own unlabelled frames that may be trained on, and all frames of a series."""
    series = read(path, temperature_K)
    own = [anchor(cluster) for i, cluster in enumerate(series.unlabelled) if i % 4 != 3]
    return own, [make_anchor(base(), image.features) for image in series.images]


def anchors_for(series: Series, labelled: Sequence[int], *, frames: bool = True) -> list[Anchor]:
    """Unlabelled frames: our own, and those of the first part that were not labelled.

    Args:
        series: with labels.
        labelled: frames whose labels are trained on.
        frames: whether the series' own unlabelled frames count: not where the run has not been there yet.
    """
    taken = set(labelled)
    own, all_frames = _anchors(series.path, series.temperature_K)
    return [*own, *(all_frames[i] for i in range(series.first) if frames and i not in taken)]


def train(
    series: Series,
    labelled: Sequence[int],
    *,
    start: AniEnsemble | None = None,
    anchors: Sequence[Anchor] | None = None,
    settings: Learning | None = None,
    seed: int = 0,
) -> Fit:
    """Fine-tune as a run does, with its defaults, on the labels of these frames."""
    settings = settings or Learning()
    return finetune(
        start or base(),
        [series.images[i] for i in labelled],
        anchors_for(series, labelled) if anchors is None else anchors,
        settings,
        np.random.default_rng(seed),
        weights=bootstrap([series.labels[i].key for i in labelled], base().members, seed)
        if settings.bootstrap
        else None,
        base_set=base_anchors(),
        base=base(),
    )


def force_rmse(model: AniEnsemble, series: Series, frames: Sequence[int]) -> float:
    """Of the mean, in run precision, eV/Å."""
    (out,) = measure([model], [series.labels[i].cluster for i in frames])
    wrong = [f - series.labels[i].forces for f, i in zip(out.forces, frames, strict=True)]
    return float(np.sqrt(np.mean(np.square(np.concatenate([w.ravel() for w in wrong])))))


def energy_mae(model: AniEnsemble, series: Series, frames: Sequence[int]) -> float:
    """Of the mean, meV/atom."""
    (out,) = measure([model], [series.labels[i].cluster for i in frames], forces=False)
    wrong = [
        (e - series.images[i].energy) / series.labels[i].cluster.size for e, i in zip(out.energies, frames, strict=True)
    ]
    return float(np.mean(np.abs(wrong)) * 1000.0)


def spread(count: int, frames: int) -> list[int]:
    """So many frames of the first ones, evenly in time."""
    return np.unique(np.round(np.linspace(0, frames - 1, min(count, frames))).astype(int)).tolist()


def keep() -> None:
    """Make the unlabelled frames of our own series anew."""
    KEPT.mkdir(exist_ok=True)
    for path, temperature_K in TEMPERATURES.items():
        made = dynamics(ase.io.read(path, 0), temperature_K)
        np.save(KEPT / f"{path.stem}.npy", np.array([atoms.positions for atoms in made]), allow_pickle=False)


if __name__ == "__main__":
    keep()
