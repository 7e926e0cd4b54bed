"""What an audit looks at besides the books: whether the surface is a gradient and the motion is physics.

Every probe speaks for itself (``Kind.PHYSICS``). One that fails makes the verdict fail; one that cannot decide does not
make it undecided: how many independent frames a run has is a question of its length, not of its books.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...config import THERMOSTATS
from ...ensemble.weights import load
from ...errors import AuditError
from ...records.frames import Floats, Frames
from ...records.run_directory import RunDirectory
from ..findings import Check, Kind, Part, Status
from ..record import Record
from .differences import surface_of
from .equipartition import equipartition_part
from .gradients import gradient_part
from .kinetic import kinetic_part
from .momentum import momentum_part, total_momentum
from .reweighting import reweighting_part
from .sanity import Sanity

#: Systems of so many atoms have their gradient probed in every audit; in larger ones it takes seconds and is asked for.
PROBED_ATOMS = 64
#: Frames whose gradient is probed: in every audit, and in a thorough one.
GRADIENT_FRAMES, THOROUGH_FRAMES = 1, 4
#: Most frames for equipartition, and most numbers that they may hold.
EVEN_FRAMES, EVEN_NUMBERS = 400, 2_000_000


@dataclass(slots=True)
class Motions:
    """What is gathered of the motion, block by block."""

    momentum: Floats
    sanity: Sanity

    def add(self, start: int, block: Frames, masses: Floats) -> None:
        """Look at a block whose first frame has number ``start``."""
        self.momentum[start : start + len(block)] = total_momentum(block.velocities, masses)
        self.sanity.add(block)


def watch(record: Record) -> Motions:
    """Ready to look at every frame of a record."""
    return Motions(np.empty((len(record), 3)), Sanity(record.particles))


def probe_parts(
    run: RunDirectory, record: Record, motions: Motions, kinetic: Floats, potential_final: Floats, *, thorough: bool
) -> list[Part]:
    """Every probe that a record can bear.

    Args:
        run: the run.
        record: what it wrote down.
        motions: gathered from every frame.
        kinetic: recomputed, kJ/mol, shape (f,).
        potential_final: of the final model, kJ/mol, shape (f,).
        thorough: also what takes long.
    """
    dynamics, particles = record.config.dynamics, record.particles
    temperature, integrator = dynamics.temperature_K, dynamics.integrator
    rng = np.random.default_rng(np.random.SeedSequence([dynamics.seed, len(record)]))

    def kinetic_probe() -> Part:
        freedom = particles.degrees_of_freedom
        return kinetic_part(
            kinetic, degrees_of_freedom=freedom, temperature_K=temperature, integrator=integrator, rng=rng
        )

    def equipartition_probe() -> Part:
        frames = even_sample(record)
        return equipartition_part(
            frames.positions,
            frames.velocities,
            frames.box,
            particles=particles,
            temperature_K=temperature,
            integrator=integrator,
            rng=rng,
            centre_of_mass_at_rest=dynamics.keeps_centre_of_mass,
        )

    def momentum_probe() -> Part:
        mass = float(particles.masses.sum())
        return momentum_part(motions.momentum, total_mass=mass, temperature_K=temperature, integrator=integrator)

    def reweighting_probe() -> Part:
        used = record.series.potential_used
        return reweighting_part(used, potential_final, temperature_K=temperature, canonical=integrator in THERMOSTATS)

    return [
        attempt("gradient", lambda: _gradient_probe(run, record, rng, thorough=thorough)),
        attempt("momentum", momentum_probe),
        attempt("sanity", motions.sanity.part),
        attempt("kinetic_distribution", kinetic_probe),
        attempt("equipartition", equipartition_probe),
        attempt("reweighting", reweighting_probe),
    ]


def attempt(name: str, probe: Callable[[], Part]) -> Part:
    """A probe, or why the record cannot bear it."""
    try:
        return probe()
    except AuditError as error:
        check = Check(name=name, kind=Kind.PHYSICS, status=Status.NOT_APPLICABLE, why=error.what)
        return Part(checks=(check,))


def even_sample(record: Record) -> Frames:
    """Evenly spaced frames, as many as memory should hold."""
    most = max(2, min(EVEN_FRAMES, EVEN_NUMBERS // (6 * record.atoms)))
    stride = -(-len(record) // most)
    return record.rows(np.arange(0, len(record), stride))


def _gradient_probe(run: RunDirectory, record: Record, rng: np.random.Generator, *, thorough: bool) -> Part:
    if record.atoms > PROBED_ATOMS and not thorough:
        why = f"{record.atoms} atoms: differences of energies take long; `qmml audit --thorough` makes them"
        return Part(checks=(Check(name="gradient", kind=Kind.PHYSICS, status=Status.NOT_APPLICABLE, why=why),))
    mixed = record.mixed is not None
    model = load(str(run.model(record.final_model)), "double")
    return gradient_part(
        # Differences of energies would show the rounding of the field alone.
        surface_of(model, record.potential.in_double()),
        particles=record.particles,
        frames=record.sample(THOROUGH_FRAMES if thorough else GRADIENT_FRAMES, rng),
        periodic=record.particles.periodic,
        rng=rng,
        temperature_K=record.config.dynamics.temperature_K,
        loop=thorough and not mixed,
        net=not mixed,
    )
