"""Defects of the dynamics: they act while the small program runs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from books_parts.clean_runs import run
from books_parts.clean_systems import Floats, Plan, Story, Tampering

from qmml_md.ensemble.model import EnsembleOutput, element_indices, evaluate, to_angstrom
from qmml_md.units import ANGSTROM_PER_NM, KJ_PER_MOL_PER_HARTREE, KJ_PER_MOL_PER_NM_PER_EV_PER_ANGSTROM


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The honest runs that defects are planted in.

    Attributes:
        plain: velocity Verlet without an update.
        hot: with a thermostat.
        updated: a model that takes over at once.
        ramped: over a ramp.
        rewound: after a rewind.
        boxed: periodic.
    """

    plain: Plan
    hot: Plan
    updated: Plan
    ramped: Plan
    rewound: Plan
    boxed: Plan


def law(
    change: Callable[[EnsembleOutput, Floats, int], tuple[float, Floats]], plan: Plan, hidden: bool = False
) -> Story:
    """A run whose energies and forces are changed after they were computed."""

    def moved(model: Any, numbers: Any, x: Floats, box: Floats | None, step: int) -> EnsembleOutput:
        out = evaluate(model, numbers, x, box)
        energy, forces = change(out, x, step)
        return EnsembleOutput(energy=energy, forces=forces, member_energies=out.member_energies)

    return run(plan, Tampering(law=moved, hidden=hidden))


def scaled_forces(ground: Ground, factor: float, atoms: int) -> Story:
    """Forces of the first atoms times a factor, in the dynamics."""

    def change(out: EnsembleOutput, x: Floats, step: int) -> tuple[float, Floats]:
        forces = out.forces.copy()
        forces[:atoms] *= factor
        return out.energy, forces

    return law(change, ground.plain)


def clamped(ground: Ground, part: float, *, hidden: bool) -> Story:
    """No force component above a part of the largest that the honest run meets."""
    limit = part * max(float(np.abs(frame.forces_used).max()) for frame in run(ground.plain).frames)
    return law(lambda out, x, step: (out.energy, np.clip(out.forces, -limit, limit)), ground.plain, hidden)


def noisy(ground: Ground, size_eV_per_A: float) -> Story:
    """Gaussian noise on every force component."""
    rng, size = np.random.default_rng(5), size_eV_per_A * KJ_PER_MOL_PER_NM_PER_EV_PER_ANGSTROM
    return law(lambda out, x, step: (out.energy, out.forces + size * rng.normal(size=x.shape)), ground.plain)


def stale_list(ground: Ground, refresh: int) -> Story:
    """A neighbour list without skin that is made anew only every so many steps."""
    import torch

    kept: dict[str, Any] = {}

    def moved(model: Any, numbers: Any, x: Floats, box: Floats | None, step: int) -> EnsembleOutput:
        elements, cell = element_indices(model.card, numbers), to_angstrom(box, model.device)
        positions = to_angstrom(x, model.device).requires_grad_(True)
        if step % refresh == 0 or not kept:
            found = model.neighbors(elements, positions.detach(), cell)
            i, j = found.indices
            shift = found.diff_vectors - (positions[i] - positions[j]).detach()
            kept.update(indices=found.indices, shift=shift, kind=type(found))
        i, j = kept["indices"]
        difference = positions[i] - positions[j] + kept["shift"]
        listed = kept["kind"](kept["indices"], difference.norm(dim=-1), difference)
        features = model.aev.compute_from_neighbors(elements.unsqueeze(0), positions.unsqueeze(0), listed).squeeze(0)
        members = model.atomic_energies(elements, features.unsqueeze(0)).sum(1)
        (gradient,) = torch.autograd.grad(members.mean(), positions)
        scale = KJ_PER_MOL_PER_HARTREE
        return EnsembleOutput(
            energy=float(members.detach().mean()) * scale,
            forces=-gradient.numpy() * scale * ANGSTROM_PER_NM,
            member_energies=members.detach().numpy() * scale,
        )

    return run(ground.boxed, Tampering(law=moved))


def lost_image(ground: Ground, axes: int) -> Story:
    """Atoms do not see each other across the border along the first axes."""

    def moved(model: Any, numbers: Any, x: Floats, box: Floats | None, step: int) -> EnsembleOutput:
        edges = np.array([1.0 if k >= axes else 3.0 for k in range(3)])
        wrapped = x - np.floor(x / box.diagonal()) * box.diagonal() if box is not None else x
        return evaluate(model, numbers, wrapped, None if box is None else box * edges[:, None])

    return run(ground.boxed, Tampering(law=moved))


def heat(ground: Ground, factor: float, until: int) -> Story:
    """The ledger books another multiple of the heat, up to a step."""
    return run(
        ground.hot, Tampering(heat=lambda amount, step: amount * (factor if step <= until * ground.hot.every else 1.0))
    )


def touched(ground: Ground, size: float, what: str) -> Story:
    """Velocities are changed once, in the middle of the run, and nobody books it."""

    def touch(v: Floats, m: Floats, step: int) -> Floats:
        if step != ground.plain.steps // 2:
            return v
        if what == "rescale":
            return v * size
        return v - (m * v).sum(axis=0) / m.sum()

    plan = replace(ground.plain, common=size) if what == "com" else ground.plain
    return run(plan, Tampering(touch=touch))


def long_step(ground: Ground, timestep_fs: float) -> Story:
    """An honest run at too long a step."""
    return run(replace(ground.plain, timestep_fs=timestep_fs, steps=100))


def other_masses(ground: Ground, factor: float) -> Story:
    """The hydrogens were heavier than the record says."""
    numbers = run(replace(ground.plain, steps=1)).particles.numbers
    return run(ground.plain, Tampering(masses=np.where(numbers == 1, factor, 1.0)))
