"""Bringing a run to life: from a configuration, or from its last commit."""

import shutil
from pathlib import Path

import numpy as np

from ..config import Config
from ..config_file import dump_config
from ..ensemble.model import AniEnsemble, set_threads
from ..ensemble.weights import load, store
from ..errors import RunDirectoryError
from ..records.database import ModelRow, RunDatabase
from ..records.run_directory import RunDirectory
from ..records.segment import Particles
from ..reference.label import Reference
from ..reference.pyscf import PyscfReference
from ..region.policy import ThresholdPolicy
from ..region.sampling import molecules_by_kind
from ..system.molecules import Molecules, topology_json
from .checkpoint import read_checkpoint
from .inputs import check_disk, check_input, read_molecules, read_weights
from .journal import Journal
from .learner import Learner
from .preparation import prepare
from .progress import Progress
from .run import Parts, Run
from .signals import StopWish
from .simulation import Simulation, seed_for_openmm
from .state import State, refill, unpack


def begin(config: Config, config_dir: Path, directory: RunDirectory, progress: Progress, wish: StopWish) -> Run:
    """Check everything, make the run directory, equilibrate, and stand at step 0.

    Raises:
        QmmlError: bad input, or asked to stop before step 0; the run directory is not made, or removed again.
    """
    set_threads(config.ensemble.threads)
    molecules, base = read_molecules(config, config_dir), read_weights(config, config_dir)
    check_input(config, molecules, base)
    reference = PyscfReference(config.reference, config.ensemble.threads)
    check_disk(config, molecules.size, directory.root)
    directory.create()
    try:
        base_id, _ = store(base, directory.models)
        resolved = localise(config, config_dir, directory, base_id)
        directory.config.write_text(dump_config(resolved))
        database = RunDatabase(directory.database, create=True)
        rng = np.random.default_rng(np.random.SeedSequence(config.dynamics.seed))
        simulation = Simulation(config, molecules, base, seed=seed_for_openmm(rng))
        parts = _assemble(resolved, directory, database, molecules, base, reference, simulation, progress, rng)
        state = State(model_id=base_id)
        run = Run(parts, state, base)
        parts.journal.model(ModelRow(id=base_id, step=0, parent="", data={"name": base.card.name}))
        run.note("start", f"{molecules.size} atoms on {base.card.name} ({simulation.platform_name})")
        prepare(parts, state, wish)
        run.attend()
        run.commit()
    except BaseException:
        # Nothing is committed yet: leave nothing half-written behind.
        shutil.rmtree(directory.root, ignore_errors=True)
        raise
    return run


def go_on(config: Config, directory: RunDirectory, progress: Progress) -> Run:
    """Stand where the last commit left off.

    Raises:
        RunDirectoryError: there is no commit, or something of it is damaged.
    """
    set_threads(config.ensemble.threads)
    database = directory.open_database()
    last = database.last_checkpoint()
    if last is None:
        raise RunDirectoryError(
            f"the run in {directory.root} ended before its first commit", cure="delete the folder and start it again"
        )
    checkpoint = read_checkpoint(directory.checkpoint(last[0]))
    state = unpack(checkpoint.state, checkpoint.step)
    precision = config.ensemble.precision
    base = load(str(directory.model(database.models()[0].id)), precision)
    current = load(str(directory.model(state.model_id)), precision)
    molecules = read_molecules(config, directory.root)
    rng = np.random.default_rng()
    rng.bit_generator.state = checkpoint.state["rng"]
    reference = PyscfReference(config.reference, config.ensemble.threads)
    simulation = Simulation(config, molecules, current, seed=1)
    simulation.restore(checkpoint.openmm)
    parts = _assemble(config, directory, database, molecules, base, reference, simulation, progress, rng)
    parts.learner.recall(checkpoint.state["label_keys"])
    refill(parts.learner.pool, checkpoint)
    run = Run(parts, state, current)
    run.note("resume", f"from the commit at step {state.step} ({simulation.platform_name})")
    return run


def localise(config: Config, config_dir: Path, directory: RunDirectory, base_id: str) -> Config:
    """Copy the structure into the run directory; the configuration that stands there points to the copy."""
    source = config_dir / config.system.structure
    copy = Path(f"structure{source.suffix}")
    shutil.copyfile(source, directory.root / copy)
    weights = config.ensemble.weights
    if weights.endswith(".safetensors"):
        weights = str(directory.model(base_id).relative_to(directory.root))
    return config.model_copy(
        update={
            "system": config.system.model_copy(update={"structure": copy}),
            "ensemble": config.ensemble.model_copy(update={"weights": weights}),
        }
    )


def particles(config: Config, molecules: Molecules) -> Particles:
    """What stays the same in all frames. Without a thermostat the centre of mass stays at rest."""
    at_rest = 3 if config.dynamics.integrator == "verlet" else 0
    return Particles(
        numbers=molecules.numbers,
        masses=molecules.masses,
        topology_json=topology_json(molecules),
        periodic=molecules.box is not None,
        degrees_of_freedom=3 * molecules.size - at_rest,
    )


def _assemble(
    config: Config,
    directory: RunDirectory,
    database: RunDatabase,
    molecules: Molecules,
    base: AniEnsemble,
    reference: Reference,
    simulation: Simulation,
    progress: Progress,
    rng: np.random.Generator,
) -> Parts:
    """Put together what a run is made of, new or resumed."""
    settings = config.region
    atoms = particles(config, molecules)
    journal = Journal(directory, database, atoms)
    policy = ThresholdPolicy(
        enter_eV_per_A=settings.enter_eV_per_A,
        stay_eV_per_A=settings.stay_eV_per_A,
        buffer_A=settings.buffer_A,
        max_atoms=settings.max_qm_atoms,
    )
    return Parts(
        config=config,
        molecules=molecules,
        simulation=simulation,
        journal=journal,
        learner=Learner(config, directory, base, reference, journal.timings, rng, molecules),
        policy=policy,
        progress=progress,
        rng=rng,
        degrees_of_freedom=atoms.degrees_of_freedom,
        kinds=molecules_by_kind(molecules),
    )
