"""A small but real run: ethanol on a random ensemble, velocity Verlet, one change of model half way, honest books."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase.build import molecule

from qmml_md.ensemble.card import EnsembleCard
from qmml_md.ensemble.model import AniEnsemble, build_aev, evaluate
from qmml_md.ensemble.weights import build, save, tensors_of
from qmml_md.records.books import Account, Books, Entry
from qmml_md.records.database import Commit, Event, LabelRow, ModelRow, RegionRow, RunDatabase, SegmentRow
from qmml_md.records.frames import Frame, Frames, stack
from qmml_md.records.run_directory import RunDirectory
from qmml_md.records.segment import Particles, write_segment

STEPS, STRIDE, SWAP, TIMESTEP_PS = 80, 4, 40, 0.5e-3
MEMBERS, WIDTH = 3, 8


def card() -> EnsembleCard:
    """A descriptor of few columns."""
    return EnsembleCard(
        name="random test ensemble",
        symbols=("H", "C", "N", "O"),
        members=MEMBERS,
        radial_cutoff_A=4.5,
        angular_cutoff_A=3.5,
        radial_eta=4.0,
        angular_eta=4.0,
        angular_zeta=8.0,
        radial_shifts=(0.9, 1.6, 2.3, 3.0),
        angular_shifts=(0.9, 2.0),
        sections=(0.4, 1.2, 2.0, 2.7),
        cutoff_function="cosine",
        self_energies_hartree=(-0.6, -38.1, -54.7, -75.2),
        level_of_theory="none",
        source="random numbers",
        license="MIT",
        citation="none",
    )


def random_ensemble(seed: int) -> AniEnsemble:
    """An ensemble of random smooth surfaces, some 0.01 hartree deep."""
    rng = np.random.default_rng(seed)
    inputs = build_aev(card()).out_dim
    tensors = {}
    for symbol in card().symbols:
        for layer, (rows, columns) in enumerate([(inputs, WIDTH), (WIDTH, 1)]):
            scale = 0.5 / np.sqrt(rows) if layer == 0 else 0.02
            weight = rng.normal(size=(MEMBERS, rows, columns)) * scale
            tensors[f"{symbol}.{layer}.weight"] = torch.tensor(weight, dtype=torch.float32)
            tensors[f"{symbol}.{layer}.bias"] = torch.zeros((MEMBERS, 1, columns))
    return build(card(), tensors)


def shifted(ensemble: AniEnsemble, seed: int, size: float) -> AniEnsemble:
    """The same ensemble with every weight moved a little, as training would."""
    rng = np.random.default_rng(seed)
    moved = {
        key: tensor + torch.tensor(rng.normal(size=tuple(tensor.shape)) * size, dtype=torch.float32)
        for key, tensor in tensors_of(ensemble).items()
    }
    return build(ensemble.card, moved)


@dataclass
class Story:
    """A run that has not been written yet; tests may spoil it first."""

    frames: list[list[Frame]]
    segment_models: list[int]
    entries: list[Entry]
    models: list[AniEnsemble]
    swaps: list[int]
    config: dict[str, object]
    particles: Particles
    tables: bool = True

    def every_frame(self, change: Callable[[Frame], Frame]) -> None:
        self.frames = [[change(frame) for frame in block] for block in self.frames]


def topology_json(symbols: list[str]) -> str:
    """One residue without bonds, in MDTraj's form."""
    atoms = [{"index": i, "name": f"{s}{i + 1}", "element": s} for i, s in enumerate(symbols)]
    residue = {"index": 0, "name": "EOH", "resSeq": 1, "segmentID": "", "atoms": atoms}
    bonds = [[0, 1], [1, 2], [2, 3], [0, 4], [0, 5], [1, 6], [1, 7], [1, 8]]
    return json.dumps({"chains": [{"index": 0, "residues": [residue]}], "bonds": bonds})


def propagate(models: list[AniEnsemble], particles: Particles, start: np.ndarray) -> Story:
    """Velocity Verlet with the second model from SWAP on; everything booked."""
    masses, numbers = particles.masses[:, None], particles.numbers
    rng = np.random.default_rng(5)
    x, v = start.copy(), rng.normal(size=start.shape) * np.sqrt(2.494 / masses)
    v -= (masses * v).sum(axis=0) / masses.sum()
    books, blocks, active = Books(), [[]], 0
    now = evaluate(models[0], numbers, x, None)
    for step in range(STEPS + 1):
        if step % STRIDE == 0:
            blocks[-1].append(_frame(step, x, v, now, books, particles))
        if step == SWAP:
            after = evaluate(models[1], numbers, x, None)
            books.post(
                Entry(
                    step=step,
                    time=step * TIMESTEP_PS,
                    account=Account.MODEL,
                    before=now.energy,
                    after=after.energy,
                    cause="update",
                )
            )
            now, active = after, 1
            blocks.append([])
        half = v + 0.5 * TIMESTEP_PS * now.forces / masses
        x = x + TIMESTEP_PS * half
        now = evaluate(models[active], numbers, x, None)
        v = half + 0.5 * TIMESTEP_PS * now.forces / masses
    return Story(
        frames=blocks,
        segment_models=[0, 1],
        entries=list(books.entries),
        models=models,
        swaps=[0, SWAP],
        config=config(),
        particles=particles,
    )


def _frame(step: int, x: np.ndarray, v: np.ndarray, now: object, books: Books, particles: Particles) -> Frame:
    kinetic = 0.5 * float((particles.masses[:, None] * v**2).sum())
    return Frame(
        step=step,
        time=step * TIMESTEP_PS,
        positions=x.copy(),
        velocities=v.copy(),
        forces_used=now.forces.copy(),
        potential_used=now.energy,
        kinetic=kinetic,
        conserved=books.conserved(kinetic=kinetic, potential=now.energy),
        entries=books.count,
        box=np.zeros((3, 3)),
        region_epoch=0 if step < 20 else 1 if step < 60 else 2,
        disagreement=np.full(len(x), 0.2 if step % 20 == 0 else np.nan),
    )


def config() -> dict[str, object]:
    """A resolved configuration; the tolerances of forces are wide, since a random model moves far in one update."""
    return {
        "title": "Ethanol on a random ensemble",
        "system": {"structure": "structure.pdb"},
        "dynamics": {"integrator": "verlet", "timestep_fs": 0.5, "steps": STEPS, "temperature_K": 300.0},
        "audit": {
            "force_rmse_eV_per_A": 5.0,
            "force_maxresid_eV_per_A": 20.0,
            "drift_kT_per_ns_per_dof": 1e6,
        },
    }


REGIONS = [
    RegionRow(epoch=0, step=0, core=(), atoms=()),
    RegionRow(epoch=1, step=20, core=(2,), atoms=(1, 2, 3)),
    RegionRow(epoch=2, step=60, core=(0,), atoms=(0, 1, 4, 5)),
]


def label_rows(model: str) -> list[LabelRow]:
    """Prequential scores as the engine writes them."""
    rng = np.random.default_rng(9)
    rows = []
    for k, step in enumerate((20, 40, 60)):
        sigma = rng.uniform(0.1, 0.5, 9)
        data = {
            "parents": list(range(9)),
            "core": [i == 2 for i in range(9)],
            "sigma": sigma.tolist(),
            "error": (0.5 * sigma * rng.uniform(0.5, 1.5, 9)).tolist(),
            "force_rmse": 0.06 / (k + 1),
            "force_maxresid": 0.2 / (k + 1),
            "energy_error_eV": 0.01,
            "wall_time_s": 4.0,
            "rung": "diis",
            "reused": False,
        }
        rows.append(LabelRow(key=f"{k:064x}", step=step, model=model, region_epoch=1, data=data))
    return rows


def events() -> list[Event]:
    refused = {"learning_curve": [[1, 0.06, 0.2], [200, 0.02, 0.1]], "force_rmse": 0.02, "force_maxresid": 0.1}
    rows = [
        (0, "start", "run begins", {}),
        (20, "label", "cluster of 9 atoms <labelled>", {}),
        (20, "update_refused", "the anchors moved by 0.2 eV/Å, more than 0.1", refused),
        (SWAP, "update_accepted", "model replaced", {}),
        (STEPS, "finish", "all steps done", {}),
    ]
    return [Event(step=s, time=s * TIMESTEP_PS, kind=k, message=m, data=d) for s, k, m, d in rows]


def write(story: Story, root: Path) -> RunDirectory:
    """Write a story as a run directory, through the same functions as the engine."""
    run = RunDirectory(root)
    run.create()
    run.config.write_text(yaml.safe_dump(story.config))
    ids = []
    for model in story.models:
        temporary = root / "models" / "new.safetensors"
        ids.append(save(model, temporary))
        temporary.replace(run.model(ids[-1]))
        temporary.with_suffix(".json").replace(run.model(ids[-1]).with_suffix(".json"))
    database = RunDatabase(run.database, create=True)
    for number, (block, model) in enumerate(zip(story.frames, story.segment_models, strict=True)):
        frames: Frames = stack(block, ids[model])
        digest = write_segment(run.segment(number), frames, story.particles)
        name = str(run.segment(number).relative_to(root))
        row = SegmentRow(
            id=number, first_step=int(frames.step[0]), last_step=int(frames.step[-1]), frames=len(frames),
            model=ids[model], file=name, sha256=digest,
        )  # fmt: skip
        database.commit(Commit(segment=row))
    curve = [[1, 0.06, 0.2], [100, 0.01, 0.06], [300, 0.004, 0.03]]
    data = {
        "delta_u_kj_per_mol": 1.0,
        "learning_curve": curve,
        "force_rmse": 0.004,
        "force_maxresid": 0.03,
        "epochs": 300,
    }
    models = [
        ModelRow(id=name, step=story.swaps[k], parent=ids[k - 1] if k else "", data=data if k else {})
        for k, name in enumerate(ids)
    ]
    timings = {"md": (3.0, 80), "qm": (12.0, 3), "training": (5.0, 2), "swap": (0.5, 1)}
    if story.tables:
        database.commit(Commit(regions=REGIONS, labels=label_rows(ids[0]), events=events(), timings=timings))
    else:
        database.commit(Commit(regions=[REGIONS[0], RegionRow(epoch=1, step=20, core=(), atoms=())]))
    database.commit(Commit(entries=story.entries, models=models))
    database.close()
    return run


@pytest.fixture(scope="session")
def told() -> Story:
    """The run in memory, made once; use ``story`` to change it."""
    torch.set_num_threads(1)
    atoms = molecule("CH3CH2OH")
    particles = Particles(
        numbers=atoms.numbers.astype(np.int64),
        masses=atoms.get_masses(),
        topology_json=topology_json(list(atoms.get_chemical_symbols())),
        periodic=False,
        degrees_of_freedom=24,
    )
    first = random_ensemble(1)
    return propagate([first, shifted(first, 2, 0.01)], particles, atoms.positions * 0.1)


@pytest.fixture
def story(told: Story) -> Story:
    """A copy of the run that a test may spoil."""
    return dataclasses.replace(
        told, frames=[list(block) for block in told.frames], entries=list(told.entries), config=config(),
        models=list(told.models), segment_models=list(told.segment_models), swaps=list(told.swaps),
    )  # fmt: skip


@pytest.fixture
def tell(tmp_path: Path) -> Callable[[Story], RunDirectory]:
    """Writes a story to a fresh folder."""
    return lambda story: write(story, tmp_path / "run")


@pytest.fixture
def run(told: Story, tmp_path: Path) -> RunDirectory:
    """The honest run on disk."""
    return write(told, tmp_path / "run")


@pytest.fixture
def shift() -> Callable[[AniEnsemble, int, float], AniEnsemble]:
    """Makes another ensemble by moving every weight a little."""
    return shifted
