"""Bringing a run to life from a configuration; ``resumption.py`` does it from the last commit."""

import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..config import Config
from ..config_file import dump_config
from ..ensemble.migration import match_level
from ..ensemble.model import AniEnsemble, set_threads
from ..ensemble.potential import potential_of
from ..ensemble.weights import store
from ..errors import RunDirectoryError
from ..integrators.freedom import degrees_of_freedom
from ..learning.calibration import fit_calibration
from ..records.database import Commit, RunDatabase
from ..records.durable import sha256_of
from ..records.lock import locked
from ..records.rows import ModelRow
from ..records.run_directory import RunDirectory
from ..records.segment import Particles
from ..reference.isolated import open_reference
from ..reference.label import Reference
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
from .state import Rhythm, State, refill
from .stretch import Stretch
from .whole import charges_of

#: What a run says where nothing keeps two processes apart.
NO_LOCKS = "this file system has no locks: make sure that only one process works on the run"


def begin(
    config: Config,
    config_dir: Path,
    directory: RunDirectory,
    progress: Progress,
    wish: StopWish,
    held: ExitStack,
    origin: Origin | None = None,
) -> Run:
    """Check everything, make the run directory, equilibrate, and commit step 0 before anything is due at it.

    Args:
        config: as validated.
        config_dir: where its relative paths start.
        directory: to be made.
        progress: told where the run stands.
        wish: of somebody to stop.
        held: takes the lock of the run.
        origin: the frame of another run to begin from.

    Raises:
        QmmlError: bad input, or asked to stop before step 0; nothing of a run is left in the directory.
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
    directory.refuse_used()
    directory.root.mkdir(parents=True, exist_ok=True)
    locks = held.enter_context(locked(directory.lock))
    directory.create()
    try:
        if origin is not None:
            copy_labels(origin, directory)
        parts, run = _make(config, config_dir, directory, progress, wish, simulated, base, inner)
        whence = "" if origin is None else f", from {origin.name()}"
        run.note("start", f"{_told(simulated)} on {base.card.name} ({parts.simulation.platform_name}){whence}")
        if level:
            run.note("level", level)
        if not locks:
            run.note("lock", NO_LOCKS)
        if origin is None:
            prepare(parts, run.state, wish)
        else:
            parts.simulation.place(origin.positions, origin.velocities, simulated.molecules.box)
            if origin.checkpoint is not None:
                # Labels without anchors would be learned by heart.
                refill(parts.learner.pool, read_checkpoint(origin.checkpoint), learned)
            parts.learner.recall(origin.labels, origin.held_out)
        run.begin()
    except BaseException:
        # Nothing is committed yet: leave nothing half-written behind.
        with suppress(OSError):
            directory.remove()
        raise
    return run


def _make(
    config: Config,
    config_dir: Path,
    directory: RunDirectory,
    progress: Progress,
    wish: StopWish,
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
    database.commit(Commit(meta={"files": file_hashes(directory)}))
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
    parts = assemble(
        resolved, directory, journal, simulated, (base, base_id), surface, simulation, progress, rng, wish=wish
    )
    parts.journal.model(ModelRow(id=base_id, step=0, parent="", data={"name": base.card.name}))
    return parts, Run(parts, State(model_id=base_id, rhythm=Rhythm(interval=config.region.check_every_steps)))


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


def file_hashes(directory: RunDirectory) -> dict[str, str]:
    """SHA-256 of what is written once at the beginning, by name: configuration, structure, system."""
    return {path.name: sha256_of(path) for path in sorted(directory.root.iterdir()) if path.is_file() and _once(path)}


def _once(path: Path) -> bool:
    return path.suffix in (".yaml", ".json", ".xml") or path.stem == "structure"


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


def _reference(config: Config, stop: Callable[[], bool] | None = None) -> Callable[[], Reference]:
    """Makes the program that computes labels; ``stop`` says when not to wait for one."""
    return lambda: open_reference(config.reference, config.ensemble.threads, stop=stop)


def assemble(
    config: Config,
    directory: RunDirectory,
    journal: Journal,
    simulated: Simulated,
    start: tuple[AniEnsemble, str],
    surface: Surface,
    simulation: Simulation,
    progress: Progress,
    rng: np.random.Generator,
    *,
    wish: StopWish,
) -> Parts:
    """Put together what a run is made of, new or resumed; ``start`` is its first model with its identity."""
    base, base_id = start
    program, run_id = _reference(config, lambda: wish.urgent), journal.run_id
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
        learner=Learner(config, directory, base, base_id, program, journal.timings, rng, learned, run_id=run_id),
        experience=Experience(config=config, layout=layout),
        stretch=Stretch(),
        barostat=barostat,
        progress=progress,
        rng=rng,
        degrees_of_freedom=journal.particles.degrees_of_freedom,
        kinds=molecules_by_kind(learned, layout.open_atoms & (simulated.part.outer >= 0)),
        charges=charges_of(config, simulated),
    )
