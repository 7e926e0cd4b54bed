"""Bringing a run to life: from a configuration, or from its last commit."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..config import Config
from ..config_file import dump_config
from ..ensemble.migration import match_level
from ..ensemble.model import AniEnsemble, set_threads
from ..ensemble.potential import potential_of
from ..ensemble.weights import load, store
from ..errors import RunDirectoryError
from ..integrators.freedom import degrees_of_freedom
from ..learning.calibration import fit_calibration
from ..records.database import RunDatabase
from ..records.rows import ModelRow
from ..records.run_directory import RunDirectory
from ..records.segment import Particles
from ..reference.label import Reference
from ..reference.pyscf import PyscfReference
from ..region.policy import ThresholdPolicy
from ..region.sampling import molecules_by_kind
from ..system.archive import Simulated, write_archive
from ..system.molecules import Molecules, topology_json
from ..units import NM_PER_ANGSTROM
from .barostat import Barostat
from .checkpoint import read_checkpoint
from .experience import Experience, region_layout, thresholds
from .inputs import check_disk, check_input, read_inner, read_simulated, read_weights
from .journal import Journal
from .learner import Learner
from .origin import Origin, continued, copy_labels
from .parts import Parts, Surface
from .preparation import prepare
from .progress import Progress
from .propagator import seed_for_openmm
from .run import Run
from .signals import StopWish
from .simulation import Simulation, particles_of
from .state import Rhythm, State, refill, unpack
from .stretch import Stretch
from .stretch import refill as refill_stretch
from .whole import charges_of


def begin(
    config: Config,
    config_dir: Path,
    directory: RunDirectory,
    progress: Progress,
    wish: StopWish,
    origin: Origin | None = None,
) -> Run:
    """Check everything, make the run directory, equilibrate, and stand at step 0.

    Args:
        config: as validated.
        config_dir: where its relative paths start.
        directory: to be made.
        progress: told where the run stands.
        wish: of somebody to stop.
        origin: the frame of another run to begin from.

    Raises:
        QmmlError: bad input, or asked to stop before step 0; the run directory is not made, or removed again.
    """
    set_threads(config.ensemble.threads)
    if origin is not None:
        config = continued(config, origin)
    simulated, base = read_simulated(config, config_dir), read_weights(config, config_dir)
    if origin is not None:
        simulated = _at_origin(simulated, origin)
    inner = read_inner(config, config_dir, base)
    check_input(config, simulated, base)
    learned = simulated.part.molecules
    level = match_level(base.card, config.reference, config.learning, learned.numbers, learned.molecule_of)
    _reference(config)()
    check_disk(config, simulated.molecules.size, directory.root)
    directory.create()
    try:
        if origin is not None:
            copy_labels(origin, directory)
        parts, run = _make(config, config_dir, directory, progress, simulated, base, inner)
        whence = "" if origin is None else f", from {origin.name()}"
        run.note("start", f"{_told(simulated)} on {base.card.name} ({parts.simulation.platform_name}){whence}")
        if level:
            run.note("level", level)
        if origin is None:
            prepare(parts, run.state, wish)
        else:
            parts.simulation.place(origin.positions, origin.velocities, simulated.molecules.box)
            if origin.checkpoint is not None:
                # Labels without anchors would be learned by heart.
                refill(parts.learner.pool, read_checkpoint(origin.checkpoint), learned)
            parts.learner.recall(origin.labels, origin.held_out)
        run.attend()
    except BaseException:
        # Nothing is committed yet: leave nothing half-written behind.
        shutil.rmtree(directory.root, ignore_errors=True)
        raise
    return run


def _make(
    config: Config,
    config_dir: Path,
    directory: RunDirectory,
    progress: Progress,
    simulated: Simulated,
    base: AniEnsemble,
    inner: AniEnsemble | None,
) -> tuple[Parts, Run]:
    """A run that has not moved yet, in a directory that was just made."""
    base_id, _ = store(base, directory.models)
    resolved = localise(config, config_dir, directory, base_id, inner)
    directory.config.write_text(dump_config(resolved))
    write_archive(directory.root, simulated)
    database = RunDatabase(directory.database, create=True)
    rng = np.random.default_rng(np.random.SeedSequence(config.dynamics.seed))
    atoms = particles(config, simulated)
    simulation = Simulation(
        config,
        simulated.molecules,
        potential_of(simulated),
        base,
        seed=seed_for_openmm(rng),
        degrees_of_freedom=atoms.degrees_of_freedom,
        inner=inner,
    )
    surface, journal = Surface(ensemble=base), Journal(directory, database, atoms)
    parts = _assemble(resolved, directory, journal, simulated, (base, base_id), surface, simulation, progress, rng)
    parts.journal.model(ModelRow(id=base_id, step=0, parent="", data={"name": base.card.name}))
    return parts, Run(parts, State(model_id=base_id, rhythm=Rhythm(interval=config.region.check_every_steps)))


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
    base_id = database.models()[0].id
    base = load(str(directory.model(base_id)), precision)
    surface = Surface(ensemble=load(str(directory.model(state.model_id)), precision))
    if state.ramp is not None:
        surface.coming = load(str(directory.model(state.ramp.model_id)), precision)
    simulated = read_simulated(config, directory.root)
    rng = np.random.default_rng()
    rng.bit_generator.state = checkpoint.state["rng"]
    atoms = particles(config, simulated)
    simulation = Simulation(
        config,
        simulated.molecules,
        potential_of(simulated),
        surface.ensemble,
        seed=1,
        degrees_of_freedom=atoms.degrees_of_freedom,
        inner=read_inner(config, directory.root, base),
        coming=surface.coming,
    )
    blend = 0.0 if state.ramp is None else state.ramp.done / state.ramp.steps
    simulation.restore(checkpoint.openmm, blend=blend)
    journal = Journal(directory, database, atoms)
    parts = _assemble(config, directory, journal, simulated, (base, base_id), surface, simulation, progress, rng)
    parts.learner.recall(checkpoint.state["label_keys"], checkpoint.state["held_out_keys"])
    parts.experience.absorb(database.labels())
    refill(parts.learner.pool, checkpoint, simulated.part.molecules)
    refill_stretch(parts.stretch, database.segments(), directory.root, state.rhythm.looked, simulated.molecules)
    run = Run(parts, state)
    run.note("resume", f"from the commit at step {state.step} ({simulation.platform_name})")
    return run


def _told(simulated: Simulated) -> str:
    """How many atoms there are, in words."""
    part, n = simulated.part, simulated.molecules.size
    if simulated.field is None:
        return f"{n} atoms"
    links = f" and {len(part.links)} link atoms" if len(part.links) else ""
    return f"{n} atoms in a force field, {len(part.atoms)} of them{links}"


def _at_origin(simulated: Simulated, origin: Origin) -> Simulated:
    molecules = simulated.molecules
    if molecules.size != len(origin.positions):
        raise RunDirectoryError(
            f"the structure has {molecules.size} atoms, the frame of {origin.name()} {len(origin.positions)}",
            cure="give a configuration of the same atoms in the same order, or none beside --from",
        )
    return replace(simulated, molecules=molecules.at(origin.positions, origin.box))


def localise(
    config: Config, config_dir: Path, directory: RunDirectory, base_id: str, inner: AniEnsemble | None
) -> Config:
    """Copy structure and inner potential into the run directory; the configuration there points to the copies."""
    source = config_dir / config.system.structure
    copy = Path(f"structure{source.suffix}")
    shutil.copyfile(source, directory.root / copy)
    weights = config.ensemble.weights
    if weights.endswith(".safetensors"):
        weights = str(directory.model(base_id).relative_to(directory.root))
    dynamics = config.dynamics
    if inner is not None:
        inner_id, _ = store(inner, directory.models)
        place = directory.model(inner_id).relative_to(directory.root)
        dynamics = dynamics.model_copy(update={"respa_inner": str(place)})
    return config.model_copy(
        update={
            "dynamics": dynamics,
            "system": config.system.model_copy(update={"structure": copy}),
            "ensemble": config.ensemble.model_copy(update={"weights": weights}),
        }
    )


def particles(config: Config, simulated: Simulated) -> Particles:
    """What stays the same in all frames. Only Langevin dynamics moves a centre of mass that was at rest."""
    at_rest, molecules = config.dynamics.keeps_centre_of_mass, simulated.molecules
    system = particles_of(molecules, potential_of(simulated))
    return Particles(
        numbers=molecules.numbers,
        masses=molecules.masses,
        topology_json=topology_json(molecules),
        periodic=molecules.box is not None,
        degrees_of_freedom=degrees_of_freedom(system, centre_of_mass_at_rest=at_rest),
    )


def region_policy(config: Config, simulated: Simulated) -> ThresholdPolicy:
    """How the region of a configuration is chosen before anything was labelled."""
    return policy_for(config, simulated.part.molecules)


def policy_for(config: Config, learned: Molecules) -> ThresholdPolicy:
    """The same, for what is on the ensemble."""
    return thresholds(config.region, fit_calibration(()), region_layout(config.region, learned))


def _reference(config: Config) -> Callable[[], Reference]:
    """Makes the program that computes labels, with no memory of earlier ones."""
    return lambda: PyscfReference(config.reference, config.ensemble.threads)


def _assemble(
    config: Config,
    directory: RunDirectory,
    journal: Journal,
    simulated: Simulated,
    start: tuple[AniEnsemble, str],
    surface: Surface,
    simulation: Simulation,
    progress: Progress,
    rng: np.random.Generator,
) -> Parts:
    """Put together what a run is made of, new or resumed; ``start`` is its first model with its identity."""
    base, base_id = start
    learned = simulated.part.molecules
    layout = region_layout(config.region, learned)
    pressure = config.dynamics.pressure_bar
    barostat = None
    if pressure is not None:
        cutoff, temperature = base.card.cutoff_A * NM_PER_ANGSTROM, config.dynamics.temperature_K
        barostat = Barostat(pressure_bar=pressure, temperature_K=temperature, cutoff_nm=cutoff)
    return Parts(
        config=config,
        simulated=simulated,
        potential=potential_of(simulated),
        surface=surface,
        simulation=simulation,
        journal=journal,
        learner=Learner(config, directory, base, base_id, _reference(config), journal.timings, rng, learned),
        experience=Experience(config=config, layout=layout),
        stretch=Stretch(),
        barostat=barostat,
        progress=progress,
        rng=rng,
        degrees_of_freedom=journal.particles.degrees_of_freedom,
        kinds=molecules_by_kind(learned, layout.open_atoms & (simulated.part.outer >= 0)),
        charges=charges_of(config, simulated),
    )
