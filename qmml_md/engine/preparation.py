"""From a structure to step 0: minimise, equilibrate, and collect the first unlabelled clusters on the way."""

from ..errors import StoppedEarly
from ..region.sampling import clusters_around, random_atom
from ..system.molecules import Floats
from .parts import Parts
from .propagator import seed_for_openmm, thermal_velocities
from .signals import StopWish
from .simulation import Simulation
from .state import State
from .teller import Teller

#: Friction of the equilibration, 1/ps: minimised atoms give half of their heat to the bonds and want it back soon.
WARM_FRICTION_PER_PS = 20.0


def prepare(parts: Parts, state: State, wish: StopWish) -> None:
    """Minimise, equilibrate with a thermostat, and hand positions and velocities to the run's own integrator.

    Raises:
        StoppedEarly: somebody asked to stop before step 0.
        DynamicsError: the dynamics exploded.
    """
    molecules, dynamics = parts.molecules, parts.config.dynamics
    teller = Teller(parts.progress, state, steps=dynamics.steps, timestep_fs=dynamics.timestep_fs)
    with parts.journal.timings.measure("preparation"):
        warm = _warm_simulation(parts)
        if dynamics.minimise:
            teller.tell("minimise", state, 0, force=True)
            warm.minimise()
        visited = _equilibrate(parts, warm, teller, state, wish)
        instant = warm.instant()
        velocities = instant.velocities
        if dynamics.keeps_centre_of_mass:
            velocities = velocities - molecules.masses @ velocities / molecules.masses.sum()
        parts.simulation.place(instant.positions, velocities)
        if visited:
            _first_anchors(parts, visited)


def _warm_simulation(parts: Parts) -> Simulation:
    config, molecules, dynamics = parts.config, parts.molecules, parts.config.dynamics
    friction = max(dynamics.friction_per_ps, WARM_FRICTION_PER_PS)
    bath = dynamics.model_copy(update={"integrator": "langevin", "friction_per_ps": friction})
    thermostat, seed = config.model_copy(update={"dynamics": bath}), seed_for_openmm(parts.rng)
    freedom = 3 * molecules.size
    base = parts.learner.base
    warm = Simulation(thermostat, molecules, parts.potential, base, seed=seed, degrees_of_freedom=freedom)
    warm.place(molecules.positions, thermal_velocities(molecules.masses, dynamics.temperature_K, parts.rng))
    return warm


def _equilibrate(parts: Parts, warm: Simulation, teller: Teller, state: State, wish: StopWish) -> list[Floats]:
    """Positions (nm) visited on the way, one for each interval of frames."""
    visited = []
    for step in range(1, parts.config.dynamics.equilibration_steps + 1):
        if wish:
            raise StoppedEarly(
                f"stopped by {wish.why} before step 0; nothing was written", cure="start the run again when it suits"
            )
        warm.step()
        if step % parts.config.output.frame_every_steps == 0:
            teller.tell("equilibrate", state, 0)
            visited.append(warm.instant().positions)
    return visited


def _first_anchors(parts: Parts, visited: list[Floats]) -> None:
    """Offer, from each position on the way, the cluster where doubt is largest and one around a random atom."""
    molecules, learner = parts.molecules, parts.learner
    sigma = parts.of_part(parts.potential.disagreement(learner.base, visited[-1], molecules.box))
    for positions in visited:
        then = parts.part(molecules.at(positions, molecules.box))
        learner.pool.visit(then, parts.rng)
        wanted = (parts.policy.hottest(sigma), random_atom(parts.kinds, parts.rng))
        for cluster in clusters_around(wanted, then, parts.policy):
            learner.pool.offer(cluster, parts.rng)
