"""Are the forces minus the gradient of the energy? Differences, a closed loop, net force and torque at a few frames.

All probes evaluate a surface in float64. They take any function of positions and box, so that a planted defect goes
through the same code as the real model. The differences are those of ``differences.py``.

**Closed loop.** ``W = ∮ F·dx`` vanishes for a gradient (Stokes), whatever E is. It is integrated by the trapezoid rule,
which converges exponentially on a smooth periodic integrand; the kinks of F leave an error of order 1/N², which is
estimated from half of the points.
"""

from dataclasses import dataclass

import numpy as np

from ...ensemble.model import AniEnsemble
from ...errors import AuditError
from ...records.frames import Floats, Frames, Ints
from ...records.segment import Particles
from ...units import BOLTZMANN_KJ_PER_MOL_PER_K, NM_PER_ANGSTROM
from ..findings import Check, Finding, Kind, Part, Status
from .differences import (
    Surface,
    component_errors,
    directional_derivative,
    net_force,
    net_torque,
    rms,
    rounding_error,
    surface_of,
)

#: Largest error of a component over the RMS force component of its frame.
GRADIENT_TOLERANCE = 1e-6
#: Net force over Σ|F|, net torque over Σ|r||F|. A force is a sum of up to 10⁴ terms of pairs and triples, each rounded
#: at 10⁻¹⁶ and up to a hundred times larger than the sum; rounding in single precision would leave 10⁻⁷ and more.
NET_TOLERANCE = 1e-10
#: Work around a loop, kT.
LOOP_TOLERANCE_KT = 1e-7
#: Radius of the loop for each moving component, nm: kinks of F cost about a^2.5, see the page on the gradient.
LOOP_RADIUS_NM = 1e-3 * NM_PER_ANGSTROM
#: Atoms that a loop moves.
LOOP_ATOMS = 12
LOOP_POINTS, MOST_LOOP_POINTS = 64, 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """Work around one closed loop.

    Attributes:
        work: ``∮ F·dx`` in kT; 0 for a gradient.
        error: of the quadrature, kT: difference to the rule with half of the points.
        points: evaluations spent.
    """

    work: float
    error: float
    points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What one frame gave.

    Attributes:
        step: of the frame.
        component_error: error of each sampled component over the RMS force component, shape (k,).
        direction_error: error of the derivative along one random direction of all atoms over the norm of the force.
        rounding: expected rounding of a component error.
        net_force: |Σ F| / Σ|F|.
        net_torque: |Σ r × F| / Σ|r||F| about the centroid.
    """

    step: int
    component_error: Floats
    direction_error: float
    rounding: float
    net_force: float
    net_torque: float


def closed_loop(
    surface: Surface,
    positions: Floats,
    *,
    box: Floats | None,
    rng: np.random.Generator,
    temperature_K: float,
    radius: float = LOOP_RADIUS_NM,
    tolerance: float = LOOP_TOLERANCE_KT,
) -> Loop:
    """Work of the force around an ellipse ``x + a(u(cos θ − 1) + v sin θ)`` in the space of a few random atoms.

    Points are doubled until the estimated error of the quadrature is below a fifth of the tolerance, at most to 1024.

    Args:
        surface: energy and forces; the energy is not looked at.
        positions: nm, shape (n, 3).
        box: nm, shape (3, 3); None in vacuum.
        rng: draws atoms and the axes u and v.
        temperature_K: of the kT that the work is given in.
        radius: a, nm.
        tolerance: kT.
    """
    n = len(positions)
    moving = rng.choice(n, size=min(n, LOOP_ATOMS), replace=False)
    u, v = np.zeros((2, n, 3))
    u[moving], v[moving] = rng.normal(size=(2, len(moving), 3))

    def sample(angles: Floats) -> float:
        return sum(
            float(np.sum(surface(positions + radius * (u * (np.cos(t) - 1.0) + v * np.sin(t)), box).forces * tangent))
            for t, tangent in ((t, radius * (v * np.cos(t) - u * np.sin(t))) for t in angles)
        )

    unit = BOLTZMANN_KJ_PER_MOL_PER_K * temperature_K
    points, total, before = LOOP_POINTS // 2, 0.0, np.inf
    total = sample(2.0 * np.pi * np.arange(points) / points)
    work = total * 2.0 * np.pi / points / unit
    while abs(work - before) > 0.2 * tolerance and points < MOST_LOOP_POINTS:
        # The points in between make the next finer rule.
        total += sample(2.0 * np.pi * (np.arange(points) + 0.5) / points)
        points *= 2
        before, work = work, total * 2.0 * np.pi / points / unit
    return Loop(work=work, error=abs(work - before), points=points)


def probe(
    surface: Surface, positions: Floats, box: Floats | None, step: int, components: Ints, direction: Floats
) -> Probe:
    """Examine one configuration.

    Args:
        surface: energy and forces.
        positions: nm, shape (n, 3).
        box: nm, shape (3, 3); None in vacuum.
        step: what to call it.
        components: rows (atom, axis), shape (k, 2).
        direction: of length one, shape (n, 3).
    """
    output = surface(positions, box)
    # Where every force is zero there is nothing to relate an error to; it then stands in kJ/mol/nm.
    scale = rms(output.forces) or 1.0
    errors = component_errors(surface, positions, box, components)
    slope = directional_derivative(surface, positions, box, direction)
    missed = -slope - float(np.sum(output.forces * direction))
    return Probe(
        step=step,
        component_error=np.abs(errors) / scale,
        direction_error=abs(missed) / (scale * np.sqrt(output.forces.size)),
        rounding=rounding_error(output.energy, len(positions)) / scale,
        net_force=net_force(output.forces),
        net_torque=net_torque(positions, output.forces) if box is None else 0.0,
    )


def gradient_part(
    model: AniEnsemble | Surface,
    *,
    particles: Particles,
    frames: Frames,
    periodic: bool,
    rng: np.random.Generator,
    temperature_K: float,
    checks_per_frame: int = 6,
    loop: bool = True,
    net: bool = True,
) -> Part:
    """The checks ``gradient``, ``net_force``, ``net_torque`` and, on request, ``closed_loop`` on a few frames.

    The components are drawn at random; one random direction of all atoms is added in each frame, so that no atom stays
    unseen. The loop starts from one of the frames.

    Args:
        model: the final model in float64, or any surface.
        particles: the atoms.
        frames: a few frames; ``4·checks_per_frame + 6`` evaluations are spent on each.
        periodic: whether the box of the frames counts.
        rng: draws components, directions and the loop.
        temperature_K: of the kT of the loop.
        checks_per_frame: components for each frame.
        loop: whether to go around a closed loop, which takes up to a thousand evaluations.
        net: whether net force and torque must vanish; with a particle mesh they do only as far as it is fine.

    Raises:
        AuditError: there is no frame with finite positions.
    """
    surface = surface_of(model, particles.numbers) if isinstance(model, AniEnsemble) else model
    usable = [i for i in range(len(frames)) if np.isfinite(frames.positions[i]).all()]
    if not usable:
        raise AuditError("no frame with finite positions to take differences at", cure="see the check `order`")
    probes = []
    for i in usable:
        atoms, axes = np.divmod(rng.choice(3 * frames.atoms, min(checks_per_frame, 3 * frames.atoms), replace=False), 3)
        direction = rng.normal(size=(frames.atoms, 3))
        direction /= np.linalg.norm(direction)
        box = frames.box[i] if periodic else None
        components = np.stack([atoms, axes], axis=1)
        probes.append(probe(surface, frames.positions[i], box, int(frames.step[i]), components, direction))
    checks = (_gradient_check(probes), *(_net_checks(probes, periodic) if net else ()))
    if not loop:
        return Part(checks=checks, findings=tuple(_findings(probes)))
    start = int(rng.choice(usable))
    box = frames.box[start] if periodic else None
    around = closed_loop(surface, frames.positions[start], box=box, rng=rng, temperature_K=temperature_K)
    return Part(checks=(*checks, _loop_check(around)), findings=(*_findings(probes), _loop_finding(around)))


def _gradient_check(probes: list[Probe]) -> Check:
    worst = max(probes, key=lambda p: np.nan_to_num(max(p.component_error.max(), p.direction_error), nan=np.inf))
    count = sum(len(p.component_error) for p in probes)
    largest = float(max(worst.component_error.max(), worst.direction_error))
    rounding = max(p.rounding for p in probes)
    shown = (
        f"−∂E/∂x by central differences and the force differ by at most {largest:.2g} of the RMS force "
        f"({count} components and {len(probes)} directions in {len(probes)} frames, worst at step {worst.step})"
    )
    if rounding > GRADIENT_TOLERANCE / 3.0 and not largest <= GRADIENT_TOLERANCE:
        why = f"{shown}; rounding of the energy alone makes {rounding:.2g}, too much to judge by"
        return Check(name="gradient", kind=Kind.PHYSICS, status=Status.UNDECIDED, why=why)
    fine = largest <= GRADIENT_TOLERANCE
    cause = "" if fine else ": the forces are not the gradient of the energy"
    why = f"{shown}; allowed {GRADIENT_TOLERANCE:g}{cause}"
    return Check(name="gradient", kind=Kind.PHYSICS, status=Status.PASS if fine else Status.FAIL, why=why)


def _net_checks(probes: list[Probe], periodic: bool) -> tuple[Check, Check]:
    force = _net_check("net_force", "Σ F", probes, [p.net_force for p in probes])
    if not periodic:
        return force, _net_check("net_torque", "Σ r × F", probes, [p.net_torque for p in probes])
    why = "a periodic box is not the same when turned, so the net torque need not vanish"
    return force, Check(name="net_torque", kind=Kind.PHYSICS, status=Status.NOT_APPLICABLE, why=why)


def _net_check(name: str, what: str, probes: list[Probe], values: list[float]) -> Check:
    worst = int(np.argmax(np.nan_to_num(values, nan=np.inf)))
    fine = values[worst] <= NET_TOLERANCE
    why = f"{what} is at most {values[worst]:.2g} of its terms (step {probes[worst].step}); allowed {NET_TOLERANCE:g}"
    return Check(name=name, kind=Kind.PHYSICS, status=Status.PASS if fine else Status.FAIL, why=why)


def _loop_check(loop: Loop) -> Check:
    shown = f"the work around a closed loop is {loop.work:.2g} kT (quadrature {loop.error:.1g}, {loop.points} points)"
    if abs(loop.work) <= LOOP_TOLERANCE_KT:
        status, judgement = Status.PASS, f"allowed {LOOP_TOLERANCE_KT:g}"
    elif abs(loop.work) > LOOP_TOLERANCE_KT + 3.0 * loop.error or not np.isfinite(loop.work):
        status, judgement = Status.FAIL, f"allowed {LOOP_TOLERANCE_KT:g}: the forces are not a gradient"
    else:
        status, judgement = Status.UNDECIDED, f"too coarse to judge against {LOOP_TOLERANCE_KT:g}"
    return Check(name="closed_loop", kind=Kind.PHYSICS, status=status, why=f"{shown}; {judgement}")


def _findings(probes: list[Probe]) -> list[Finding]:
    rows = [
        ("gradient_max_error", max(float(p.component_error.max()) for p in probes)),
        ("gradient_direction_max_error", max(p.direction_error for p in probes)),
        ("net_force_max", max(p.net_force for p in probes)),
        ("net_torque_max", max(p.net_torque for p in probes)),
    ]
    found = [Finding(name=name, value=value, expected=0.0, unit="1") for name, value in rows]
    return [*found, Finding(name="gradient_rounding", value=max(p.rounding for p in probes), unit="1")]


def _loop_finding(loop: Loop) -> Finding:
    return Finding(name="closed_loop_work", value=loop.work, expected=0.0, standard_error=loop.error, unit="kT")
