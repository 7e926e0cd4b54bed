"""Bringing a run back to life: where its last commit left off, exactly where that is possible."""

import numpy as np
import openmm

from ..config import Config
from ..ensemble.model import AniEnsemble, set_threads
from ..ensemble.potential import potential_of
from ..ensemble.weights import load
from ..errors import RunDirectoryError
from ..records.database import RunDatabase
from ..records.limits import check_labels, inside, sound
from ..records.run_directory import RunDirectory
from ..records.segment import Particles
from ..records.verify import refuse_changed
from ..system.archive import Simulated
from .checkpoint import Checkpoint, read_checkpoint
from .inputs import read_inner, read_simulated
from .journal import Journal
from .parts import Surface
from .progress import Progress
from .propagator import seed_for_openmm
from .run import Run
from .setup import assemble, particles
from .signals import StopWish
from .simulation import Simulation
from .state import State, refill, unpack
from .stretch import refill as refill_stretch


def go_on(config: Config, directory: RunDirectory, progress: Progress, wish: StopWish) -> Run:
    """Stand where the last commit left off.

    Args:
        config: of the run; another platform than before is possible, and then the restart is not exact.
        directory: of the run, locked.
        progress: told where the run stands.
        wish: of somebody to stop.

    Raises:
        RunDirectoryError: there is no commit, or something of it is damaged.
    """
    set_threads(config.ensemble.threads)
    database = directory.open_database()
    last = database.last_checkpoint()
    if last is None:
        raise RunDirectoryError(
            f"the run in {directory.root} ended before its first commit", cure="start it again with `qmml run`"
        )
    refuse_changed(directory, database)
    _refuse_incomplete(config, directory, database)
    checkpoint = read_checkpoint(directory.checkpoint(last.id), last.sha256)
    state = unpack(checkpoint.state, checkpoint.step)
    precision, base_id = config.ensemble.precision, database.models()[0].id
    base, *others = (
        load(str(directory.whole_model(each)), precision)
        for each in (base_id, state.model_id, *(() if state.ramp is None else (state.ramp.model_id,)))
    )
    surface = Surface(ensemble=others[0], coming=others[1] if len(others) > 1 else None)
    simulated, rng = read_simulated(config, directory.root), np.random.default_rng()
    with sound(f"the random stream of the checkpoint of step {state.step}"):
        rng.bit_generator.state = checkpoint.state["rng"]
    atoms = particles(config, simulated)
    inner = read_inner(config, directory.root, base)
    simulation, inexact = _stand(config, simulated, surface, inner, checkpoint, state, atoms)
    journal = Journal(directory, database, atoms)
    parts = assemble(
        config, directory, journal, simulated, (base, base_id), surface, simulation, progress, rng, wish=wish
    )
    parts.learner.recall(checkpoint.state["label_keys"], checkpoint.state["held_out_keys"])
    parts.experience.absorb(database.labels())
    refill(parts.learner.pool, checkpoint, simulated.part.molecules)
    refill_stretch(parts.stretch, database.segments(), directory.root, state.rhythm.looked, simulated.molecules)
    run = Run(parts, state)
    how = f"; not exact: {inexact}" if inexact else ""
    run.note(
        "resume", f"from the commit at step {state.step} ({simulation.platform_name}){how}", {"exact": not inexact}
    )
    return run


def _refuse_incomplete(config: Config, directory: RunDirectory, database: RunDatabase) -> None:
    """Find what is missing, or leads out of the run, before anything is built that takes long."""
    inside(directory.root, str(config.system.structure), f"{directory.config}, system.structure")
    database.entries()
    if not database.models():
        raise RunDirectoryError(f"{directory.database} names no model", cure="restore it from a copy of the run")
    if directory.labels.exists():
        check_labels(directory.labels)
    elif database.labels():
        raise RunDirectoryError(
            f"{directory.labels} is missing, with the labels that the run has learned from",
            cure="restore it from a copy of the run directory",
        )


def _stand(
    config: Config,
    simulated: Simulated,
    surface: Surface,
    inner: AniEnsemble | None,
    checkpoint: Checkpoint,
    state: State,
    atoms: Particles,
) -> tuple[Simulation, str]:
    """A simulation that stands at a checkpoint, and why it does so only nearly; empty if exactly."""

    def simulation(seed: int) -> Simulation:
        return Simulation(
            config,
            simulated.molecules,
            potential_of(simulated),
            surface.ensemble,
            seed=seed,
            degrees_of_freedom=atoms.degrees_of_freedom,
            inner=inner,
            coming=surface.coming,
        )

    blend = 0.0 if state.ramp is None else state.ramp.done / state.ramp.steps
    exact = simulation(1)
    made_by, here = checkpoint.state.get("made_by", exact.made_by), exact.made_by
    if made_by == here:
        try:
            exact.restore(checkpoint.openmm, blend=blend)
        except openmm.OpenMMException as error:
            why = f"OpenMM cannot read its checkpoint here ({error})"
        else:
            return exact, ""
    else:
        why = f"the commit was made by {made_by}, this is {here}"
    # The thermostat's random stream is lost: another one, the same for whoever resumes here.
    nearly = simulation(seed_for_openmm(np.random.default_rng([config.dynamics.seed, state.step])))
    nearly.restore_portable(checkpoint.openmm_xml, blend=blend)
    return nearly, why
