"""A small but real run: ethanol on the tiny ensemble, velocity Verlet, one change of model half way, honest books."""

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

from qmml_md.ensemble.model import AniEnsemble, EnsembleOutput, evaluate
from qmml_md.ensemble.weights import build, load, save, tensors_of
from qmml_md.records.books import Account, Books, Entry
from qmml_md.records.database import Commit, RunDatabase
from qmml_md.records.frames import Frame, Frames, stack
from qmml_md.records.rows import Event, LabelRow, ModelRow, RegionRow, SegmentRow
from qmml_md.records.run_directory import RunDirectory
from qmml_md.records.segment import Particles, write_segment

STEPS, STRIDE, SWAP, TIMESTEP_PS = 80, 4, 40, 0.5e-3
MINI = Path(__file__).parents[2] / "data" / "ani_mini.safetensors"


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
    segment_blends: list[int | None]
    ramp: int = 0
    tables: bool = True

    def every_frame(self, change: Callable[[Frame], Frame]) -> None:
        self.frames = [[change(frame) for frame in block] for block in self.frames]


def topology_json(symbols: list[str]) -> str:
    """One residue without bonds, in MDTraj's form."""
    atoms = [{"index": i, "name": f"{s}{i + 1}", "element": s} for i, s in enumerate(symbols)]
    residue = {"index": 0, "name": "EOH", "resSeq": 1, "segmentID": "", "atoms": atoms}
    bonds = [[0, 1], [1, 2], [2, 3], [0, 4], [0, 5], [1, 6], [1, 7], [1, 8]]
    return json.dumps({"chains": [{"index": 0, "residues": [residue]}], "bonds": bonds})


class Walk:
    """Velocity Verlet from the first model to the second, everything booked.

    Attributes:
        ramp: steps over which the second model is blended in, from SWAP on; 0 for at once.
        heat: factor on the velocities at every step, whose work is booked as heat; 1 for none.
        com_every, redraw_every: steps between removals of the motion of the centre of mass, and between draws.
        stride: steps between frames.
    """

    def __init__(
        self, models, particles, start, *, ramp=0, heat=1.0, com_every=0, redraw_every=0, stride=STRIDE
    ) -> None:
        self.models, self.particles, self.stride = models, particles, stride
        self.ramp, self.heat, self.com_every, self.redraw_every = ramp, heat, com_every, redraw_every
        self.masses, self.rng, self.books = particles.masses[:, None], np.random.default_rng(5), Books()
        self.blocks, self.owners, self.blends = [[]], [0], [None]
        self.active, self.done, self.warmth, self.booked = 0, 0, 0.0, 0.0
        self.x, self.v = start.copy(), self.drawn()
        self.now = self.evaluate()

    def drawn(self):
        found = self.rng.normal(size=(*self.particles.masses.shape, 3)) * np.sqrt(2.494 / self.masses)
        return found if self.com_every else found - (self.masses * found).sum(axis=0) / self.masses.sum()

    def kinetic(self):
        return 0.5 * float((self.masses * self.v**2).sum())

    @property
    def blend(self):
        return self.done / self.ramp if self.blends[-1] is not None else 0.0

    def evaluate(self):
        surfaces = [evaluate(model, self.particles.numbers, self.x, None) for model in self.models]
        if self.blends[-1] is None:
            return surfaces[self.active]
        return EnsembleOutput(
            energy=(1 - self.blend) * surfaces[0].energy + self.blend * surfaces[1].energy,
            forces=(1 - self.blend) * surfaces[0].forces + self.blend * surfaces[1].forces,
            member_energies=surfaces[0].member_energies,
        )

    def post(self, step, account, before, after):
        entry = Entry(
            step=step, time=step * TIMESTEP_PS, account=account, before=before, after=after, cause=str(account)
        )
        self.books.post(entry)

    def run(self) -> None:
        for step in range(STEPS + 1):
            if step % self.stride == 0 or self.blends[-1] is not None:
                self.store(step)
            self.change_model(step)
            self.change_velocities(step)
            half = self.v + 0.5 * TIMESTEP_PS * self.now.forces / self.masses
            self.x = self.x + TIMESTEP_PS * half
            self.now = self.evaluate()
            self.v = half + 0.5 * TIMESTEP_PS * self.now.forces / self.masses
            before, self.v = self.kinetic(), self.v * self.heat
            self.warmth += self.kinetic() - before

    def store(self, step):
        if self.heat != 1.0 and step > 0:
            self.post(step, Account.HEAT, self.booked, self.warmth)
            self.booked = self.warmth
        frame = _frame(step, self.x, self.v, self.now, self.books, self.particles)
        self.blocks[-1].append(dataclasses.replace(frame, blend=self.blend))

    def change_model(self, step):
        first, last = step == SWAP, step == SWAP + self.ramp
        if not SWAP <= step <= SWAP + self.ramp:
            return
        before = self.now.energy
        if last:
            self.active = 1
        if first or last:
            self.blocks.append([])
            self.owners.append(self.active)
            self.blends.append(1 if self.ramp and not last else None)
        self.done = min(self.done + 1, self.ramp)
        self.now = self.evaluate()
        if not last or not self.ramp:
            self.post(step, Account.RAMP if self.ramp else Account.MODEL, before, self.now.energy)

    def change_velocities(self, step):
        before, account = self.kinetic(), None
        if self.redraw_every and 0 < step < STEPS and step % self.redraw_every == 0:
            self.v, account = self.drawn(), Account.VELOCITIES
        elif self.com_every and 0 < step < STEPS and step % self.com_every == 0:
            self.v, account = self.v - (self.masses * self.v).sum(axis=0) / self.masses.sum(), Account.COM
        if account is not None:
            self.post(step, account, before, self.kinetic())


def propagate(models: list[AniEnsemble], particles: Particles, start: np.ndarray, **options: float) -> Story:
    """The story of a walk."""
    walk = Walk(models, particles, start, **options)
    walk.run()
    return Story(
        frames=walk.blocks,
        segment_models=walk.owners,
        segment_blends=walk.blends,
        entries=list(walk.books.entries),
        models=models,
        swaps=[0, SWAP + walk.ramp],
        ramp=walk.ramp,
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
    """A resolved configuration; tolerances of forces are wide: weights that are moved at random move forces far."""
    return {
        "title": "Ethanol on a tiny ensemble",
        "system": {"structure": "structure.pdb"},
        "dynamics": {"integrator": "verlet", "timestep_fs": 0.5, "steps": STEPS, "temperature_K": 300.0},
        "output": {"frame_every_steps": STRIDE},
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
        blend = "" if story.segment_blends[number] is None else ids[story.segment_blends[number]]
        frames: Frames = stack(block, ids[model], blend)
        digest = write_segment(run.segment(number), frames, story.particles)
        name = str(run.segment(number).relative_to(root))
        row = SegmentRow(
            id=number, first_step=int(frames.step[0]), last_step=int(frames.step[-1]), frames=len(frames),
            model=ids[model], blend=blend, file=name, sha256=digest,
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
    if story.ramp:
        data |= {"policy": "ramp", "ramp_from_step": story.swaps[1] - story.ramp, "ramp_steps": story.ramp}
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
def walk() -> Callable[..., Story]:
    """Makes a run in memory; options as of ``Walk``."""
    torch.set_num_threads(1)
    atoms = molecule("CH3CH2OH")
    particles = Particles(
        numbers=atoms.numbers.astype(np.int64),
        masses=atoms.get_masses(),
        topology_json=topology_json(list(atoms.get_chemical_symbols())),
        periodic=False,
        degrees_of_freedom=24,
    )
    first = load(str(MINI))
    return lambda **options: propagate([first, shifted(first, 2, 0.01)], particles, atoms.positions * 0.1, **options)


@pytest.fixture(scope="session")
def write_story() -> Callable[[Story, Path], RunDirectory]:
    """Writes a story to a folder."""
    return write


@pytest.fixture(scope="session")
def told(walk: Callable[..., Story]) -> Story:
    """The run in memory, made once; use ``story`` to change it."""
    return walk()


def copied(told: Story) -> Story:
    """A copy of a run that a test may spoil."""
    return dataclasses.replace(
        told, frames=[list(block) for block in told.frames], entries=list(told.entries),
        config={key: dict(part) if isinstance(part, dict) else part for key, part in told.config.items()},
        models=list(told.models), segment_models=list(told.segment_models), swaps=list(told.swaps),
        segment_blends=list(told.segment_blends),
    )  # fmt: skip


@pytest.fixture
def story(told: Story) -> Story:
    """A copy of the run that a test may spoil."""
    return copied(told)


@pytest.fixture(scope="session")
def ramp_told(walk: Callable[..., Story]) -> Story:
    """The same run with a ramp of six steps."""
    told = walk(ramp=6)
    told.config["learning"] = {"update_policy": "ramp", "ramp_steps": 6}
    return told


@pytest.fixture
def ramp_story(ramp_told: Story) -> Story:
    """A copy of the run with a ramp that a test may spoil."""
    return copied(ramp_told)


@pytest.fixture(scope="session")
def dense_told(walk: Callable[..., Story]) -> Story:
    """The same run with a frame at every step."""
    return walk(stride=1)


@pytest.fixture
def dense_story(dense_told: Story) -> Story:
    """A copy of the run with a frame at every step that a test may spoil."""
    return copied(dense_told)


@pytest.fixture(scope="session")
def warm_told(walk: Callable[..., Story]) -> Story:
    """The same run with heat at every step, and the motion of the centre of mass removed now and then."""
    told = walk(heat=1.001, com_every=20)
    told.config["dynamics"] |= {"integrator": "bussi", "remove_com_every_steps": 20}
    return told


@pytest.fixture
def warm_story(warm_told: Story) -> Story:
    """A copy of the run with a thermostat that a test may spoil."""
    return copied(warm_told)


@pytest.fixture
def few_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Audits without differences of energies: they take longer than all the rest, and have tests of their own."""
    monkeypatch.setattr("qmml_md.analysis.probes.probing.PROBED_ATOMS", 0)


@pytest.fixture
def tell(tmp_path: Path, few_probes: None) -> Callable[[Story], RunDirectory]:
    """Writes a story to a fresh folder."""
    return lambda story: write(story, tmp_path / "run")


@pytest.fixture
def run(told: Story, tmp_path: Path, few_probes: None) -> RunDirectory:
    """The honest run on disk."""
    return write(told, tmp_path / "run")


@pytest.fixture
def shift() -> Callable[[AniEnsemble, int, float], AniEnsemble]:
    """Makes another ensemble by moving every weight a little."""
    return shifted
