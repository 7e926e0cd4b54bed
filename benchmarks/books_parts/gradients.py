"""B5: forces are minus the gradient, at cutoffs and box borders too, and do no work around a closed loop.

At a cutoff the energy keeps a continuous first derivative and its second derivative jumps. A difference whose stencil
straddles the cutoff errs by at most J·h/2, where J is the jump along the moved coordinate (see ``differences.py``).
For a radial function of one pair ``J = |∂E/∂G|·¼·exp(−η(r_c − R_s)²)·π²/2r_c²``: for ANI-1x at 5.2 Å and the
outermost shift (4.93 Å, η = 16 Å⁻²) 0.014 Å⁻² of ∂E/∂G. An angular function of a pair at 3.5 Å with a neighbour at
1 Å stands at a mean distance of 2.25 Å, where ``exp(−8(2.25 − 2.2)²)`` is one: ``J ≈ 2·π²/2r_c²`` = 0.8 Å⁻² of ∂E/∂G,
for each triple. With ∂E/∂G of an eV and h = 10⁻⁶ Å the larger of the two is 4·10⁻⁷ eV/Å. It is an error of the
difference, not of the force; some steps below straddle the cutoff on purpose to show how small it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import ase.io
import numpy as np
from figures import Figure

from qmml_md.analysis.probes.differences import STEP_NM, Surface, component_errors, rms, surface_of
from qmml_md.analysis.probes.gradients import GRADIENT_TOLERANCE, LOOP_TOLERANCE_KT, closed_loop
from qmml_md.ensemble import weights
from qmml_md.ensemble.model import AniEnsemble, EnsembleOutput
from qmml_md.records.frames import Floats, Ints
from qmml_md.units import NM_PER_ANGSTROM

DATA = Path(__file__).resolve().parents[2] / "tests" / "data"
TEMPERATURE_K = 300.0
#: Distance of a pair from a cutoff, or of an atom from a border, nm; the middle ones lie inside the stencil.
NEAR_NM = np.array([-1e-4 * NM_PER_ANGSTROM, -0.5 * STEP_NM, 0.0, 0.5 * STEP_NM, 1e-4 * NM_PER_ANGSTROM])
#: So small that five waters meet their images at 2 to 3 Å.
SMALL_BOXES = {
    "cubic": np.diag([0.65, 0.65, 0.65]),
    "oblique": 0.65 * np.array([[1.0, 0, 0], [0.16, 1.04, 0], [-0.08, 0.24, 1.12]]),
}
#: Three cells of 4.5 Å and more along each vector: the other neighbour list.
LARGE_BOX = np.array([[1.7, 0, 0], [0.3, 1.8, 0], [-0.4, 0.5, 1.9]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One configuration and the components to look at, rows (atom, axis)."""

    kind: str
    numbers: Ints
    positions: Floats
    box: Floats | None
    components: Ints


def figures(*, quick: bool) -> list[Figure]:
    """B5.max_rel, B5.cutoff, B5.border, B5.checks, B5.loop, B5.sabotage."""
    rng = np.random.default_rng(20185)
    mini = weights.load(str(DATA / "ani_mini.safetensors"), "double")
    large = weights.load("ani1x", "double")
    worst: dict[str, float] = {}
    count = {"ani-mini": 0, "ani1x": 0}
    for name, model, share in (("ani-mini", mini, 6 if quick else 1), ("ani1x", large, 40 if quick else 3)):
        for number, case in enumerate(cases(model, rng)):
            if number % share:
                continue
            surface = surface_of(model, case.numbers)
            scale = rms(surface(case.positions, case.box).forces)
            errors = np.abs(component_errors(surface, case.positions, case.box, case.components)) / scale
            worst[case.kind] = max(worst.get(case.kind, 0.0), float(errors.max()))
            count[name] += len(errors)
    loop = max(loops(mini, rng, 1 if quick else 6), loops(large, rng, 1 if quick else 2))
    caught = sabotage(surface_of(mini, ethanol(0).numbers), ethanol(0).positions * NM_PER_ANGSTROM)
    return report(worst, count, loop, caught)


def report(worst: dict[str, float], count: dict[str, int], loop: float, caught: bool) -> list[Figure]:
    """The figures from the numbers."""
    largest, checks = max(worst.values()), sum(count.values())
    relative = f"≤ {GRADIENT_TOLERANCE:g}"
    return [
        Figure(
            id="B5.max_rel", what="largest error of −∂E/∂x by differences, over the RMS force of its frame", unit="1",
            value=largest, goal=relative, met=largest <= GRADIENT_TOLERANCE,
        ),
        Figure(
            id="B5.cutoff", what="the same, pairs at the radial and angular cutoff ± 1e-4 Å and steps across it",
            value=worst["cutoff"], unit="1", goal=relative, met=worst["cutoff"] <= GRADIENT_TOLERANCE,
        ),
        Figure(
            id="B5.border", what="the same, atoms at box borders ± 1e-4 Å, cubic and oblique, wrapped and not",
            value=worst["border"], unit="1", goal=relative, met=worst["border"] <= GRADIENT_TOLERANCE,
        ),
        Figure(
            id="B5.checks", unit="1", value=checks, goal="≥ 1000", met=checks >= 1000,
            what=f"components checked, ANI-mini {count['ani-mini']}, ANI-1x {count['ani1x']}; link atoms are not among "
            "them: clusters are whole molecules yet, and no bond is cut",
        ),
        Figure(
            id="B5.loop", what="largest work around a closed loop", value=loop, unit="kT",
            goal=f"≤ {LOOP_TOLERANCE_KT:g}", met=loop <= LOOP_TOLERANCE_KT,
        ),
        Figure(
            id="B5.sabotage", what="a force scaled by 1 + 1e-5 is caught", value=float(caught), unit="of 1", goal="1",
            met=caught,
        ),
    ]  # fmt: skip


def cases(model: AniEnsemble, rng: np.random.Generator) -> Iterator[Case]:
    """Ordinary frames, pairs at the cutoffs, and atoms at the borders of boxes."""
    for number in range(16):
        for atoms in (ethanol(5 * number), waters(2 * number)):
            x = atoms.positions * NM_PER_ANGSTROM
            yield Case(kind="inside", numbers=atoms.numbers, positions=x, box=None, components=some(len(x), 16, rng))
    yield from at_cutoffs(model, rng)
    yield from at_borders(rng)


def at_cutoffs(model: AniEnsemble, rng: np.random.Generator) -> Iterator[Case]:
    """Two molecules, turned at random, with one pair of atoms at a cutoff; both atoms of the pair are looked at."""
    for cutoff in (model.card.radial_cutoff_A, model.card.angular_cutoff_A):
        for number in range(4):
            first, second = ethanol(number), waters(number)[:3]
            for near in NEAR_NM:
                turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
                a = first.positions * NM_PER_ANGSTROM
                b = (second.positions - second.positions[0]) @ turn.T * NM_PER_ANGSTROM
                # The axis points away from the first molecule, so that the pair is the nearest contact.
                axis = a[8] - a.mean(axis=0)
                b += a[8] + (cutoff * NM_PER_ANGSTROM + near) * axis / np.linalg.norm(axis)
                components = np.array([(atom, k) for atom in (8, 9) for k in range(3)])
                numbers = np.concatenate([first.numbers, second.numbers])
                yield Case(kind="cutoff", numbers=numbers, positions=np.vstack([a, b]), box=None, components=components)


def at_borders(rng: np.random.Generator) -> Iterator[Case]:
    """Five waters with one atom at a border or an edge of the box; wrapped, or scattered over boxes."""
    for box in (*SMALL_BOXES.values(), LARGE_BOX):
        for k, near in enumerate(NEAR_NM):
            for wrapped in (True, False):
                atoms = waters(7 * k)
                x = atoms.positions * NM_PER_ANGSTROM
                atom = int(rng.integers(len(x)))
                # Two fractional coordinates are put to the border, the third is left anywhere.
                target = np.array([0.0, float(rng.random()), 0.0]) @ box + near
                x = x - x[atom] + target
                cells = np.floor(x @ np.linalg.inv(box)) if wrapped else rng.integers(-2, 3, size=x.shape)
                components = np.array([(atom, axis) for axis in range(3)])
                components = np.vstack([components, some(len(x), 5, rng)])
                yield Case(
                    kind="border", numbers=atoms.numbers, positions=x - cells @ box, box=box, components=components
                )


def loops(model: AniEnsemble, rng: np.random.Generator, count: int) -> float:
    """Largest |∮ F·dx| in kT, in vacuum and in a box with atoms at its border, in turn."""
    found = 0.0
    for number in range(count):
        atoms = (ethanol, waters)[number % 2](3 * number)
        box = SMALL_BOXES["oblique"] if number % 2 else None
        x = atoms.positions * NM_PER_ANGSTROM
        surface = surface_of(model, atoms.numbers)
        loop = closed_loop(surface, x - x[0], box=box, rng=rng, temperature_K=TEMPERATURE_K)
        found = max(found, abs(loop.work))
    return found


def sabotage(honest: Surface, positions: Floats) -> bool:
    """Whether a force that is too large by one part in a hundred thousand exceeds the tolerance."""

    def scaled(x: Floats, box: Floats | None) -> EnsembleOutput:
        out = honest(x, box)
        return replace(out, forces=out.forces * (1.0 + 1e-5))

    components = np.array([(atom, axis) for atom in range(len(positions)) for axis in range(3)])
    errors = component_errors(scaled, positions, None, components)
    return float(np.abs(errors).max() / rms(honest(positions, None).forces)) > GRADIENT_TOLERANCE


def some(atoms: int, count: int, rng: np.random.Generator) -> Ints:
    """Random components."""
    return np.stack(np.divmod(rng.choice(3 * atoms, size=count, replace=False), 3), axis=1)


def ethanol(number: int) -> ase.Atoms:
    """A frame of ethanol at 450 K."""
    return ase.io.read(DATA / "quantum" / "ethanol_450K_wb97x_631gd.extxyz", number)


def waters(number: int) -> ase.Atoms:
    """A frame of five waters at 350 K."""
    return ase.io.read(DATA / "quantum" / "water5_350K_wb97x_631gd.extxyz", number)
