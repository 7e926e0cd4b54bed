"""B8: what an audit costs beside the dynamics, and that its memory does not grow with the number of frames.

A run of the engine without learning is audited as it is: every frame was moved by the final model, and needs one
evaluation. Then a model of slightly other weights is entered as the one that takes over at the last step, as an update
would be: every frame was moved by an earlier model, and needs two. One force call is that of an OpenMM context with the
same model and precision, on the same frames and threads, timed in turn with the auditor's blocks.

Shares are wall time of the whole audit, tolerance and report of numbers included, over the wall time of the dynamics
alone, with one stored frame in ten steps; energies are always evaluated on every stored frame.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import openmm
import torch
from figures import Figure

from qmml_md.analysis.audit import audit
from qmml_md.analysis.record import Record, read_record
from qmml_md.analysis.truth.replay import Replayer
from qmml_md.config import Config
from qmml_md.config_file import load_config
from qmml_md.engine.inputs import read_simulated
from qmml_md.engine.loop import start
from qmml_md.engine.progress import Silent
from qmml_md.ensemble import weights
from qmml_md.ensemble.force import build_force
from qmml_md.ensemble.model import evaluate
from qmml_md.records.books import Account, Entry
from qmml_md.records.database import Commit, RunDatabase
from qmml_md.records.rows import ModelRow, SegmentRow
from qmml_md.records.run_directory import RunDirectory
from qmml_md.records.segment import write_segment
from qmml_md.system.build import build_system

ROOT = Path(__file__).resolve().parents[2]
MINI = ROOT / "tests" / "data" / "ani_mini.safetensors"
PER_FRAME, SHARE_10, SHARE_30, MEMORY = 1.1, 12.0, 5.0, 5.0
FRAME_EVERY, TIMES = 10, 4
PLATFORM = "CPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is run: an example, with these weights (its own if empty), for so many steps."""

    name: str
    example: str
    weights: str
    steps: int


QUICK = (Case(name="ethanol_mini", example="ethanol_nve", weights=str(MINI), steps=300),)
FULL = (
    Case(name="nma_in_water", example="nma_in_water", weights="", steps=2000),
    Case(name="ethanol", example="ethanol_nve", weights="", steps=4000),
)


def figures(*, quick: bool) -> list[Figure]:
    """B8.cost_per_frame, B8.share_10, B8.share_30, B8.memory; the first system without, others with their name."""
    rows = []
    for k, case in enumerate(QUICK if quick else FULL):
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(case, Path(folder), suffix=f".{case.name}" if k else "", quick=quick)
    return rows


def measure(case: Case, folder: Path, *, suffix: str, quick: bool) -> list[Figure]:
    """All figures of one system."""
    run, md = simulate(case, folder / "run")

    def row(name: str, what: str, value: float, unit: str, goal: float) -> Figure:
        # The quick form is too short and its model too small for goals that speak of real ones.
        met = None if quick else value <= goal
        text = "" if quick else f"≤ {goal:g}"
        return Figure(id=f"B8.{name}{suffix}", what=f"{case.name}: {what}", value=value, unit=unit, goal=text, met=met)

    one = cost_per_frame(run)
    shares = [100.0 * wall(lambda every=every: audit(run, forces_every=every)) / md for every in (1, 3)]
    growth, peak = memory_growth(run, folder)
    take_over(run)
    two = cost_per_frame(run)
    later = 100.0 * wall(lambda: audit(run)) / md
    return [
        row("cost_per_frame", "energies and forces of a frame, in force calls", one, "calls", PER_FRAME),
        row("cost_per_frame_updated", "the same on an earlier model: two surfaces", two, "calls", PER_FRAME),
        row("share_10", "audit over dynamics, all forces", shares[0], "%", SHARE_10),
        row("share_10_updated", "the same on an earlier model", later, "%", SHARE_10),
        row("share_30", "audit over dynamics, forces on one frame in three", shares[1], "%", SHARE_30),
        row("memory", f"growth of the peak ({peak:.0f} MiB) for {TIMES} × the frames", growth, "%", MEMORY),
    ]


def simulate(case: Case, out: Path) -> tuple[RunDirectory, float]:
    """A run without learning, and the wall time of its dynamics, s."""
    source = ROOT / "examples" / case.example
    plain = load_config(source / "config.yaml").model_dump()
    plain["system"]["structure"] = source / plain["system"]["structure"]
    plain["ensemble"] |= {"threads": torch.get_num_threads(), "platform": PLATFORM}
    plain["ensemble"] |= {"weights": case.weights} if case.weights else {}
    plain["dynamics"] |= {"steps": case.steps, "equilibration_steps": 20}
    plain["region"] |= {"check_every_steps": case.steps, "enter_eV_per_A": 1e3, "stay_eV_per_A": 1e3}
    plain["reference"] |= {"max_labels": 0}
    plain["learning"] |= {"enabled": False}
    plain["output"] |= {"frame_every_steps": FRAME_EVERY, "commit_every_steps": 100}
    run = start(Config.model_validate(plain), config_dir=source, out=out, progress=Silent())
    database = run.open_database()
    try:
        return run, database.timings()["md"][0]
    finally:
        database.close()


def wall(work: Callable[[], object]) -> float:
    """Wall time, s."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def cost_per_frame(run: RunDirectory) -> float:
    """Time of the auditor's evaluations of a frame over the time of one force call of OpenMM on it."""
    record = read_record(run)
    call = force_call(record, run)
    replayer = Replayer(run, record, 1)
    ours, theirs, done = 0.0, 0.0, 0
    for k, block in enumerate(record.blocks()):
        if k == 0:
            # Models are loaded and code is compiled at first use.
            Replayer(run, record, 1).block(0, block)
            for i in range(min(len(block), 6)):
                call(block.positions[i])
        ours += wall(lambda block=block, done=done: replayer.block(done, block))
        theirs += sum(wall(lambda x=x: call(x)) for x in block.positions)
        done += len(block)
    return ours / theirs


def force_call(record: Record, run: RunDirectory) -> Callable[[np.ndarray], object]:
    """Energy and forces by OpenMM at positions in nm."""
    molecules = read_simulated(record.config, Path(run.root)).molecules
    system = build_system(molecules)
    model = weights.load(str(run.model(record.models[0].id)), record.config.ensemble.precision)
    kind = record.config.ensemble.force
    system.addForce(build_force(model, molecules.numbers, periodic=record.particles.periodic, kind=kind))
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(PLATFORM))

    def call(positions: np.ndarray) -> object:
        context.setPositions(positions)
        return context.getState(getEnergy=True, getForces=True)

    return call


def take_over(run: RunDirectory) -> None:
    """Enter a model of slightly other weights as the one that took over at the last step."""
    record = read_record(run)
    last = record.rows(np.array([len(record) - 1]))
    old = weights.load(str(run.model(record.models[-1].id)), record.config.ensemble.precision)
    tensors = {key: tensor * 1.001 for key, tensor in weights.tensors_of(old).items()}
    new = weights.build(old.card, tensors, record.config.ensemble.precision)
    name, _ = weights.store(new, run.models)
    box = last.box[0] if record.particles.periodic else None
    before, after = (evaluate(model, record.particles.numbers, last.positions[0], box).energy for model in (old, new))
    step, when = int(last.step[0]), float(last.time[0])
    entry = Entry(step=step, time=when, account=Account.MODEL, before=before, after=after, cause="other weights")
    row = ModelRow(id=name, step=step, parent=record.models[-1].id, data={"policy": "abrupt"})
    database = run.open_database()
    database.commit(Commit(entries=[entry], models=[row]))
    database.close()


def memory_growth(run: RunDirectory, folder: Path) -> tuple[float, float]:
    """How much more memory an audit of so many times the frames takes at its peak, %; and the peak, MiB."""
    peaks = []
    for times in (1, TIMES):
        longer = repeated(run, folder / f"times_{times}", times)
        code = (
            "import sys, torch\n"
            f"torch.set_num_threads({torch.get_num_threads()})\n"
            "from pathlib import Path\n"
            "from qmml_md.analysis.audit import audit\n"
            "from qmml_md.records.run_directory import RunDirectory\n"
            "audit(RunDirectory(Path(sys.argv[1])))\n"
            # Not ru_maxrss: a new process inherits that of its parent.
            "lines = Path('/proc/self/status').read_text().splitlines()\n"
            "print(next(line.split()[1] for line in lines if line.startswith('VmHWM')))\n"
        )
        command = [sys.executable, "-P", "-c", code, str(longer.root)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(float(done.stdout.split()[-1]) / 1024.0)
    return 100.0 * (peaks[1] / peaks[0] - 1.0), peaks[1]


def repeated(run: RunDirectory, root: Path, times: int) -> RunDirectory:
    """The frames of a run so many times over, in segments like its own: no trajectory, but as much to read."""
    record = read_record(run)
    longer = RunDirectory(root)
    longer.create()
    longer.config.write_bytes(run.config.read_bytes())
    for path in run.models.iterdir():
        (longer.models / path.name).write_bytes(path.read_bytes())
    database = RunDatabase(longer.database, create=True)
    first = record.models[0]
    database.commit(Commit(models=[replace(first, step=0)]))
    length, number = int(record.series.step[-1]) + FRAME_EVERY, 0
    for k in range(times):
        for block in record.blocks():
            step = block.step + k * length
            moved = replace(block, step=step, time=step * record.timestep_ps, entries=np.zeros_like(step))
            path = longer.segment(number)
            digest = write_segment(path, moved, record.particles)
            row = SegmentRow(
                id=number, first_step=int(step[0]), last_step=int(step[-1]), frames=len(moved), model=first.id,
                file=str(path.relative_to(root)), sha256=digest,
            )  # fmt: skip
            database.commit(Commit(segment=row))
            number += 1
    database.close()
    return longer
