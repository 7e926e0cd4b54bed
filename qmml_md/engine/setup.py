"""Bringing a run to life: from a configuration, or from its last commit."""

import shutil
from pathlib import Path

import numpy as np

from ..config import Config
from ..config_file import dump_config
from ..ensemble.model import AniEnsemble, set_threads
from ..ensemble.weights import load, save
from ..errors import ConfigError, RegionError, RunDirectoryError
from ..records.database import ModelRow, RunDatabase
from ..records.run_directory import RunDirectory
from ..records.segment import Particles
from ..reference.pyscf import PyscfReference
from ..region.policy import ThresholdPolicy
from ..system.molecules import Floats, Molecules, topology_json
from ..system.structures import check_structure, read_structure
from .checkpoint import read_checkpoint
from .journal import Journal
from .learner import Learner
from .progress import Progress
from .run import Parts, Run
from .sampling import cluster_around
from .simulation import Simulation, thermal_velocities
from .state import State, refill, unpack
from .teller import Teller

#: Disk space that a frame takes beside its arrays, and that a run takes beside its frames, bytes.
DISK_RESERVE = 200e6
#: Friction of the equilibration, 1/ps: minimised atoms give half of their heat to the bonds and want it back soon.
WARM_FRICTION_PER_PS = 20.0
#: Arrays of (n, 3) float64 and one of (n,) in each frame.
BYTES_PER_ATOM_AND_FRAME = 80


def begin(config: Config, config_dir: Path, directory: RunDirectory, progress: Progress) -> Run:
    """Check everything, make the run directory, equilibrate, and stand at step 0.

    Raises:
        QmmlError: bad input; the run directory is not made, or removed again.
    """
    set_threads(config.ensemble.threads)
    molecules, base = read_input(config, config_dir)
    check_input(config, molecules, base)
    reference = PyscfReference(config.reference, config.ensemble.threads)
    check_disk(config, molecules, directory.root)
    directory.create()
    try:
        base_id = save(base, directory.root / "models" / "base.safetensors")
        _rename_base(directory, base_id)
        resolved = localise(config, config_dir, directory, base_id)
        directory.config.write_text(dump_config(resolved))
        database = RunDatabase(directory.database, create=True)
        rng = np.random.default_rng(np.random.SeedSequence(config.dynamics.seed))
        journal = Journal(directory, database, particles(config, molecules))
        learner = Learner(config, directory, base, reference, journal.timings, rng)
        simulation = Simulation(config, molecules, base, seed=_seed(rng))
        parts = _parts(resolved, molecules, simulation, journal, learner, progress, rng)
        state = State(model_id=base_id)
        run = Run(parts, state, base)
        journal.model(ModelRow(id=base_id, step=0, parent="", data={"name": base.card.name}))
        run.note("start", f"{molecules.size} atoms on {base.card.name} ({simulation.platform_name})")
        prepare(parts, state)
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
    molecules, _ = read_input(config, directory.root)
    rng = np.random.default_rng()
    rng.bit_generator.state = checkpoint.state["rng"]
    journal = Journal(directory, database, particles(config, molecules))
    reference = PyscfReference(config.reference, config.ensemble.threads)
    learner = Learner(config, directory, base, reference, journal.timings, rng)
    learner.recall(checkpoint.state["label_keys"])
    refill(learner.pool, checkpoint.state, checkpoint.clusters)
    simulation = Simulation(config, molecules, current, seed=1)
    simulation.restore(checkpoint.openmm)
    run = Run(_parts(config, molecules, simulation, journal, learner, progress, rng), state, current)
    run.note("resume", f"from the commit at step {state.step} ({simulation.platform_name})")
    return run


def read_input(config: Config, folder: Path) -> tuple[Molecules, AniEnsemble]:
    """Structure and weights; relative paths start at ``folder``."""
    structure = folder / config.system.structure
    molecules = read_structure(structure, periodic=config.system.periodic, formal_charges=config.system.formal_charges)
    return molecules, load(weights_path(config, folder), config.ensemble.precision)


def weights_path(config: Config, folder: Path) -> str:
    """The weights' name, or their path from where the process stands."""
    weights = config.ensemble.weights
    return str(folder / weights) if weights.endswith(".safetensors") else weights


def check_input(config: Config, molecules: Molecules, ensemble: AniEnsemble) -> None:
    """Refuse what cannot be simulated or labelled, before anything is written.

    Raises:
        StructureError, ElementError: the structure is at fault.
        RegionError: no region can hold a molecule of the structure, or its electrons do not pair.
    """
    check_structure(molecules, symbols=ensemble.card.symbols, cutoff_A=ensemble.card.cutoff_A)
    limit = config.region.max_qm_atoms
    sizes = np.bincount(molecules.molecule_of)
    if sizes.max() > limit:
        raise RegionError(
            f"molecule {int(sizes.argmax())} has {int(sizes.max())} atoms, region.max_qm_atoms is {limit}",
            cure="raise max_qm_atoms: a region holds whole molecules, bonds are not cut",
        )
    electrons = int(molecules.numbers.sum() - molecules.formal_charge.sum())
    if electrons % 2 and config.reference.multiplicity is None:
        raise ConfigError(
            f"the structure has {electrons} electrons, an odd number, and no multiplicity is given",
            cure="set reference.multiplicity (2 for a radical), or system.formal_charges of the charged residues",
        )


def check_disk(config: Config, molecules: Molecules, out: Path) -> None:
    """Refuse a run that cannot fit on the disk.

    Raises:
        RunDirectoryError: there is less space than the frames will take.
    """
    frames = (
        config.dynamics.steps / config.output.frame_every_steps
        + config.dynamics.steps / config.region.check_every_steps
    )
    needed = frames * molecules.size * BYTES_PER_ATOM_AND_FRAME + DISK_RESERVE
    folder = next(parent for parent in (out, *out.resolve().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunDirectoryError(
            f"the run needs about {needed / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB free",
            cure="free some space, give another folder with --out, or raise output.frame_every_steps",
        )


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


def prepare(parts: Parts, state: State) -> None:
    """Minimise, equilibrate with a thermostat, and hand positions and velocities to the run's own integrator."""
    config, molecules, rng = parts.config, parts.molecules, parts.rng
    dynamics = config.dynamics
    teller = Teller(parts.progress, state, steps=dynamics.steps, timestep_fs=dynamics.timestep_fs)
    friction = max(dynamics.friction_per_ps, WARM_FRICTION_PER_PS)
    bath = dynamics.model_copy(update={"integrator": "langevin", "friction_per_ps": friction})
    thermostat = config.model_copy(update={"dynamics": bath})
    warm = Simulation(thermostat, molecules, parts.learner.base, seed=_seed(rng))
    velocities = thermal_velocities(molecules.masses, config.dynamics.temperature_K, rng)
    warm.place(molecules.positions, velocities)
    if config.dynamics.minimise:
        teller.tell("minimise", state, 0, force=True)
        with parts.journal.timings.measure("preparation"):
            warm.minimise()
    visited = _equilibrate(parts, warm, teller, state)
    instant = warm.instant()
    velocities = instant.velocities
    if config.dynamics.integrator == "verlet":
        velocities = velocities - molecules.masses @ velocities / molecules.masses.sum()
    parts.simulation.place(instant.positions, velocities)
    for positions in visited:
        atom = int(rng.integers(molecules.size))
        parts.learner.pool.offer(cluster_around(atom, positions, molecules, parts.policy), rng)


def _equilibrate(parts: Parts, warm: Simulation, teller: Teller, state: State) -> list[Floats]:
    """Positions (nm) visited on the way, one for each interval of frames."""
    visited = []
    with parts.journal.timings.measure("preparation"):
        for step in range(1, parts.config.dynamics.equilibration_steps + 1):
            warm.step()
            if step % parts.config.output.frame_every_steps == 0:
                teller.tell("equilibrate", state, 0)
                visited.append(warm.instant().positions)
    return visited


def _parts(
    config: Config,
    molecules: Molecules,
    simulation: Simulation,
    journal: Journal,
    learner: Learner,
    progress: Progress,
    rng: np.random.Generator,
) -> Parts:
    settings = config.region
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
        learner=learner,
        policy=policy,
        progress=progress,
        rng=rng,
        degrees_of_freedom=particles(config, molecules).degrees_of_freedom,
    )


def _rename_base(directory: RunDirectory, base_id: str) -> None:
    for suffix in (".safetensors", ".json"):
        (directory.root / "models" / f"base{suffix}").rename(directory.model(base_id).with_suffix(suffix))


def _seed(rng: np.random.Generator) -> int:
    """A seed for OpenMM, which takes 0 for one from the clock."""
    return int(rng.integers(1, 2**31 - 1))
