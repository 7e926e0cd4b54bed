"""What honest runs are made of: molecules, models, a configuration, and the story that a run tells."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qmml_md.ensemble import weights
from qmml_md.ensemble.model import AniEnsemble, EnsembleOutput, evaluate
from qmml_md.records.books import Entry
from qmml_md.records.frames import Frame
from qmml_md.records.segment import Particles
from qmml_md.system.molecules import Molecules, topology_json
from qmml_md.system.structures import read_structure

Floats = NDArray[np.float64]
#: Model, atomic numbers, positions (nm), box (nm or None), step: energy and forces.
Law = Callable[[AniEnsemble, NDArray[np.int64], Floats, Floats | None, int], EnsembleOutput]

DATA = Path(__file__).resolve().parents[2] / "tests" / "data"
STARTS = {
    "ethanol": "ethanol_300K_fine_wb97x_631gd.extxyz",
    "waters": "water5_350K_wb97x_631gd.extxyz",
    "box": "water5_350K_wb97x_631gd.extxyz",
}
#: Edge of the periodic box, nm: a little more than twice the cutoff, so that atoms see each other across the border.
EDGE_NM = 0.93
TEMPERATURE_K, FRICTION_PER_PS, RELAXATION_PS = 300.0, 5.0, 0.02
THERMOSTATS = ("langevin", "bussi", "nose_hoover")
SEGMENT_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run.

    Attributes:
        system: `ethanol`, `waters` (five, in vacuum) or `box` (ten, periodic).
        integrator: as in a configuration.
        policy: `` (no update), `abrupt`, `ramp` or `rewind`, at half of the steps.
        steps: number of steps.
        every: steps between frames.
        timestep_fs: time step.
        seed: of velocities, thermostat and the new model.
        update: relative size of the change of the weights.
        friction_per_ps: of Langevin dynamics.
        common: velocity of the centre of mass, nm/ps.
    """

    system: str = "ethanol"
    integrator: str = "verlet"
    policy: str = ""
    steps: int = 60
    every: int = 1
    timestep_fs: float = 0.25
    seed: int = 1
    update: float = 0.01
    friction_per_ps: float = FRICTION_PER_PS
    common: float = 0.0


def honest(model: AniEnsemble, numbers: NDArray[np.int64], x: Floats, box: Floats | None, step: int) -> EnsembleOutput:
    """The law that the record claims."""
    return evaluate(model, numbers, x, box)


@dataclass(frozen=True, kw_only=True)
class Tampering:
    """Where the dynamics goes wrong; by default nowhere.

    Attributes:
        law: energies and forces that move the atoms.
        hidden: whether the record holds the honest energies and forces instead.
        touch: changes velocities after the frame of a step, unbooked.
        clock: actual time step over the recorded one.
        masses: actual masses over the recorded ones, shape (n,), or one number.
        heat: what the ledger books of the heat of one step, kJ/mol, by step.
    """

    law: Law = honest
    hidden: bool = False
    touch: Callable[[Floats, Floats, int], Floats] | None = None
    clock: float = 1.0
    masses: Any = 1.0
    heat: Callable[[float, int], float] = lambda amount, step: amount


@dataclass(kw_only=True)
class Segment:
    """Frames on one model, or on a blend of two; models by number."""

    frames: list[Frame]
    model: int
    blend: int | None = None


@dataclass(kw_only=True)
class Story:
    """A run that has not been written yet; a defect may spoil it first.

    Attributes:
        plan: what was run.
        particles: the atoms.
        config: as a run writes it.
        models: every model.
        taken: the models that moved the atoms: number, step and data of their rows.
        segments: frames by segment.
        entries: of the ledger.
        voided_segments, voided_entries: what a rewind discarded.
        voided_from: number of entries that stood before that.
    """

    plan: Plan
    particles: Particles
    config: dict[str, Any]
    models: list[AniEnsemble]
    taken: list[tuple[int, int, dict[str, Any]]]
    segments: list[Segment] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    voided_segments: list[Segment] = field(default_factory=list)
    voided_entries: list[Entry] = field(default_factory=list)
    voided_from: int = 0

    @property
    def frames(self) -> list[Frame]:
        """All frames in order."""
        return [frame for segment in self.segments for frame in segment.frames]

    def change(self, change: Callable[[Frame], Frame], chosen: Callable[[int], bool] = lambda i: True) -> None:
        """Replace the frames whose numbers are chosen."""
        number = 0
        for segment in self.segments:
            for k, frame in enumerate(segment.frames):
                if chosen(number):
                    segment.frames[k] = change(frame)
                number += 1


@cache
def mini() -> AniEnsemble:
    """The small ensemble in double precision."""
    torch.set_num_threads(1)
    return weights.load(str(DATA / "ani_mini.safetensors"), "double")


@cache
def system(name: str) -> tuple[Particles, Floats, Floats | None]:
    """Atoms, positions in nm and box."""
    molecules = read_structure(DATA / "quantum" / STARTS[name], periodic=False)
    box = np.eye(3) * EDGE_NM if name == "box" else None
    if name == "box":
        molecules = _twice(molecules)
    particles = Particles(
        numbers=molecules.numbers,
        masses=molecules.masses,
        topology_json=topology_json(molecules),
        periodic=box is not None,
        degrees_of_freedom=3 * molecules.size - 3,
    )
    return particles, molecules.positions, box


def _twice(molecules: Molecules) -> Molecules:
    """The same molecules again in the middle of the box: no two of them closer than before, all across the border."""
    topology = molecules.topology.copy().join(molecules.topology)

    def again(numbered: np.ndarray) -> np.ndarray:
        """Numbers of what an atom belongs to: the copies count on."""
        return np.concatenate([numbered, numbered + int(numbered.max()) + 1])

    return replace(
        molecules,
        topology=topology,
        numbers=np.tile(molecules.numbers, 2),
        masses=np.tile(molecules.masses, 2),
        positions=np.concatenate([molecules.positions, molecules.positions + EDGE_NM / 2]),
        bonds=np.concatenate([molecules.bonds, molecules.bonds + molecules.size]),
        molecule_of=again(molecules.molecule_of),
        residue_of=again(molecules.residue_of),
        fragment_of=again(molecules.fragment_of),
        formal_charge=np.tile(molecules.formal_charge, 2),
    )


def shifted(model: AniEnsemble, seed: int, size: float) -> AniEnsemble:
    """The same ensemble with every weight moved by a relative amount, as training would."""
    rng = np.random.default_rng(seed)
    moved = {
        key: tensor * (1.0 + size * torch.tensor(rng.normal(size=tuple(tensor.shape))))
        for key, tensor in weights.tensors_of(model).items()
    }
    return weights.build(model.card, moved, "double")


def configuration(plan: Plan) -> dict[str, Any]:
    """The configuration as a run writes it; force tolerances are wide, since the final model may differ on purpose.

    The drift of so short a run can be told to some 100 kT/ns/dof; a tolerance below that would leave every run
    undecided.
    """
    return {
        "title": f"{plan.system}, {plan.integrator}",
        "system": {"structure": "structure.pdb"},
        "ensemble": {"precision": "double"},
        "dynamics": {
            "integrator": plan.integrator,
            "timestep_fs": plan.timestep_fs,
            "steps": plan.steps,
            "temperature_K": TEMPERATURE_K,
            "friction_per_ps": plan.friction_per_ps,
            "relaxation_fs": RELAXATION_PS * 1e3,
        },
        "learning": {"update_policy": plan.policy or "abrupt", "ramp_steps": 10},
        "output": {"frame_every_steps": plan.every, "commit_every_steps": SEGMENT_STEPS},
        "audit": {
            "force_rmse_eV_per_A": 5.0,
            "force_maxresid_eV_per_A": 20.0,
            "drift_kT_per_ns_per_dof": 300.0,
        },
    }
