"""Equipartition: does every kind of motion, and every element, have the temperature of the thermostat?

The kinetic energy of a molecule falls into translation of its centre of mass, rotation ``½ L·I⁻¹·L`` about it, and the
rest, internal motion; the division is that of physical_validation (Merz, Shirts, PLoS ONE 13, e0202764, 2018,
doi:10.1371/journal.pone.0202764), for all molecules of a frame at once. A thermostat that feeds one kind of motion from
another ("flying ice cube") and degrees of freedom that are frozen or counted twice show here while the total
temperature is right.
"""

import numpy as np

from ...ensemble.card import SYMBOLS
from ...errors import AuditError
from ...records.frames import Floats, Ints
from ...records.segment import Particles
from ...system.molecules import molecules_of, unwrap
from ..findings import Check, Kind, Part, Status
from .kinetic import judge_temperatures, measure, temperature_findings
from .momentum import KEEPING, RESCALING
from .sanity import topology_bonds

MOTIONS = ("translation", "rotation", "internal motion")


def partition(positions: Floats, velocities: Floats, masses: Floats, molecule: Ints) -> Floats:
    """Kinetic energy of translation, rotation and internal motion, summed over molecules, kJ/mol, shape (3,).

    Args:
        positions: nm, molecules whole, shape (n, 3).
        velocities: nm/ps, shape (n, 3).
        masses: Da, shape (n,).
        molecule: of each atom, numbered from 0 without gaps, shape (n,).
    """
    count = int(molecule.max()) + 1

    def total(per_atom: Floats) -> Floats:
        out = np.zeros((count, *per_atom.shape[1:]))
        np.add.at(out, molecule, per_atom)
        return out

    m = masses[:, None]
    mass = total(m)
    centre, drift = total(m * positions) / mass, total(m * velocities) / mass
    arm, motion = positions - centre[molecule], velocities - drift[molecule]
    spin = total(m * np.cross(arm, motion))
    squared = np.einsum("ni,ni->n", arm, arm)
    inertia = total(masses[:, None, None] * (squared[:, None, None] * np.eye(3) - arm[:, :, None] * arm[:, None, :]))
    # A single atom and a diatomic have axes without inertia, and no angular momentum about them.
    rate = np.einsum("kij,kj->ki", np.linalg.pinv(inertia, rcond=1e-10, hermitian=True), spin)
    translation = 0.5 * float(np.sum(mass * drift**2))
    rotation = 0.5 * float(np.sum(spin * rate))
    return np.array([translation, rotation, 0.5 * float(np.sum(m * velocities**2)) - translation - rotation])


def freedoms(molecule: Ints, *, at_rest: int, constraints: int) -> Floats:
    """Degrees of freedom of the three motions, shape (3,).

    Args:
        molecule: of each atom, shape (n,).
        at_rest: degrees of freedom of the whole that are kept at rest, 0 or 3; taken from translation.
        constraints: constrained distances, all within molecules; taken from internal motion.
    """
    sizes = np.bincount(molecule)
    translation = 3.0 * len(sizes) - at_rest
    rotation = 3.0 * float((sizes > 2).sum()) + 2.0 * float((sizes == 2).sum())
    return np.array([translation, rotation, 3.0 * len(molecule) - at_rest - constraints - translation - rotation])


def by_element(velocities: Floats, particles: Particles, at_rest: int) -> dict[str, tuple[Floats, float]]:
    """Kinetic energies, kJ/mol, shape (f,), and degrees of freedom of each element.

    Keeping the centre of mass at rest costs an atom the share m/M of three degrees of freedom: its velocity then has
    the variance ``kT (1/m − 1/M)``.
    """
    energy = 0.5 * particles.masses * np.einsum("fni,fni->fn", velocities, velocities)
    rows = {}
    for number in sorted({int(z) for z in particles.numbers}):
        mine = particles.numbers == number
        share = float(particles.masses[mine].sum() / particles.masses.sum())
        rows[SYMBOLS.get(number, f"Z{number}")] = (energy[:, mine].sum(axis=1), 3.0 * mine.sum() - at_rest * share)
    return rows


def equipartition_part(
    positions: Floats,
    velocities: Floats,
    boxes: Floats,
    *,
    particles: Particles,
    temperature_K: float,
    integrator: str,
    rng: np.random.Generator,
    centre_of_mass_at_rest: bool | None = None,
) -> Part:
    """The check ``equipartition`` on sampled frames, by kind of motion and, without constraints, by element.

    Args:
        positions: nm, wrapped or not, shape (f, n, 3), of evenly spaced frames.
        velocities: nm/ps, on-step, shape (f, n, 3).
        boxes: nm, shape (f, 3, 3); not looked at in vacuum.
        particles: the atoms, with bonds in their topology.
        temperature_K: of the thermostat.
        integrator: as in the configuration.
        rng: seeds the bootstrap.
        centre_of_mass_at_rest: by default for all integrators but Langevin; what else is lacking are constraints.

    Raises:
        AuditError: shapes differ, the degrees of freedom do not fit, or numbers are not finite.
    """
    if positions.shape != velocities.shape or len(boxes) != len(positions):
        raise AuditError(f"positions {positions.shape}, velocities {velocities.shape} and boxes {boxes.shape} differ")
    why = _exempt(integrator, particles.periodic)
    if why:
        return Part(checks=(Check(name="equipartition", kind=Kind.PHYSICS, status=Status.NOT_APPLICABLE, why=why),))
    n = len(particles.numbers)
    lacking = 3 * n - particles.degrees_of_freedom
    at_rest = 3 if (integrator != "langevin" if centre_of_mass_at_rest is None else centre_of_mass_at_rest) else 0
    if lacking < at_rest:
        raise AuditError(f"{particles.degrees_of_freedom} degrees of freedom of {n} atoms leave no centre at rest")
    bonds = topology_bonds(particles)
    molecule = molecules_of(bonds, n)
    series = np.array(
        [
            partition(unwrap(x, box if particles.periodic else None, bonds), v, particles.masses, molecule)
            for x, v, box in zip(positions, velocities, boxes, strict=True)
        ]
    )
    freedom_of = freedoms(molecule, at_rest=at_rest, constraints=lacking - at_rest)
    rows = {name: (series[:, k], float(freedom_of[k])) for k, name in enumerate(MOTIONS)}
    if lacking == at_rest:
        rows |= by_element(velocities, particles, at_rest)
    found = [
        measure(name, kinetic, degrees_of_freedom=freedom, temperature_K=temperature_K, rng=rng)
        for name, (kinetic, freedom) in rows.items()
        if freedom > 0.5
    ]
    return Part(
        checks=(judge_temperatures("equipartition", found, temperature_K),),
        findings=tuple(temperature_findings("equipartition", found, temperature_K)),
    )


def _exempt(integrator: str, periodic: bool) -> str:
    if integrator in KEEPING:
        return "at constant energy no part of the motion has a given temperature"
    if integrator in RESCALING and not periodic:
        return f"`{integrator}` scales all velocities alike, so that in vacuum the rotation of the whole is as it began"
    return ""
