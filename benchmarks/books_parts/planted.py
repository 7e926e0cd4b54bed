"""Planted defects: how each is planted, in three sizes, and the class of cause that must be named.

Defects of the dynamics act while the small program runs; defects of the record are put into an honest record. The
smallest size of each kind is what the auditor claims to detect in a run that stores every step.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from books_parts.clean_runs import Floats, Plan, Segment, Story, Tampering, mini, run, shifted

from qmml_md.analysis.cause_classes import Cause
from qmml_md.analysis.foreign_units import KJ_PER_KCAL
from qmml_md.ensemble.model import EnsembleOutput, evaluate
from qmml_md.records.books import Entry
from qmml_md.records.frames import Frame
from qmml_md.units import (
    EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM,
    EV_PER_KJ_PER_MOL,
    KJ_PER_MOL_PER_HARTREE,
    KJ_PER_MOL_PER_NM_PER_EV_PER_ANGSTROM,
)

PLAIN = Plan(seed=11)
HOT = Plan(seed=12, integrator="langevin")
UPDATED = Plan(seed=13, policy="abrupt")
RAMPED = Plan(seed=14, policy="ramp")
REWOUND = Plan(seed=15, policy="rewind")
BOXED = Plan(seed=16, system="box", steps=40)


@dataclass(frozen=True, kw_only=True)
class Defect:
    """One kind of defect.

    Attributes:
        name: for a person.
        cause: that must be named first.
        sizes: three, from large to small, with their words.
        plant: makes the spoilt run from a size.
        after: spoils the run directory, if that is where the defect lies.
    """

    name: str
    cause: Cause
    sizes: tuple[tuple[str, Any], ...]
    plant: Callable[[Any], Story]
    after: Callable[[Path, Any], None] | None = None


def law(
    change: Callable[[EnsembleOutput, Floats, int], tuple[float, Floats]], plan: Plan, hidden: bool = False
) -> Story:
    """A run whose energies and forces are changed after they were computed."""

    def moved(model: Any, numbers: Any, x: Floats, box: Floats | None, step: int) -> EnsembleOutput:
        out = evaluate(model, numbers, x, box)
        energy, forces = change(out, x, step)
        return EnsembleOutput(energy=energy, forces=forces, member_energies=out.member_energies)

    return run(plan, Tampering(law=moved, hidden=hidden))


def scaled_forces(factor: float, atoms: int) -> Story:
    """Forces of the first atoms times a factor, in the dynamics."""

    def change(out: EnsembleOutput, x: Floats, step: int) -> tuple[float, Floats]:
        forces = out.forces.copy()
        forces[:atoms] *= factor
        return out.energy, forces

    return law(change, PLAIN)


def clamped(limit_eV_per_A: float, *, hidden: bool) -> Story:
    """No force component above a limit."""
    limit = limit_eV_per_A * KJ_PER_MOL_PER_NM_PER_EV_PER_ANGSTROM
    return law(lambda out, x, step: (out.energy, np.clip(out.forces, -limit, limit)), PLAIN, hidden)


def noisy(size_eV_per_A: float) -> Story:
    """Gaussian noise on every force component."""
    rng, size = np.random.default_rng(5), size_eV_per_A * KJ_PER_MOL_PER_NM_PER_EV_PER_ANGSTROM
    return law(lambda out, x, step: (out.energy, out.forces + size * rng.normal(size=x.shape)), PLAIN)


def stale_list(refresh: int) -> Story:
    """A neighbour list without skin that is made anew only every so many steps."""
    import torch

    from qmml_md.ensemble.model import element_indices, to_angstrom
    from qmml_md.units import ANGSTROM_PER_NM, KJ_PER_MOL_PER_HARTREE

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

    return run(BOXED, Tampering(law=moved))


def lost_image(axes: int) -> Story:
    """Atoms do not see each other across the border along the first axes."""

    def moved(model: Any, numbers: Any, x: Floats, box: Floats | None, step: int) -> EnsembleOutput:
        edges = np.array([1.0 if k >= axes else 3.0 for k in range(3)])
        wrapped = x - np.floor(x / box.diagonal()) * box.diagonal() if box is not None else x
        return evaluate(model, numbers, wrapped, None if box is None else box * edges[:, None])

    return run(BOXED, Tampering(law=moved))


def heat(factor: float, until: int) -> Story:
    """The ledger books another multiple of the heat, up to a step."""
    return run(HOT, Tampering(heat=lambda amount, step: amount * (factor if step <= until else 1.0)))


def touched(size: float, what: str) -> Story:
    """Velocities are changed once, in the middle of the run, and nobody books it."""

    def touch(v: Floats, m: Floats, step: int) -> Floats:
        if step != 30:
            return v
        if what == "rescale":
            return v * size
        return v - (m * v).sum(axis=0) / m.sum()

    plan = replace(PLAIN, common=size) if what == "com" else PLAIN
    return run(plan, Tampering(touch=touch))


def record(change: Callable[[Frame], Frame], scope: str = "all", plan: Plan = PLAIN) -> Story:
    """An honest run whose frames are changed: all of them, a quarter, or one."""
    story = run(plan)
    count = len(story.frames)
    chosen = {
        "all": range(count),
        "half": range(count // 2, count),
        "a quarter": range(count // 4, count // 2),
        "one": range(20, 21),
    }[scope]
    story.change(change, lambda i: i in chosen)
    return story


SCOPES = (("all frames", "all"), ("a quarter of the frames", "a quarter"), ("one frame", "one"))


def forces_times(factor: float) -> Callable[[str], Story]:
    """Stored forces times a factor."""
    return lambda scope: record(lambda f: replace(f, forces_used=f.forces_used * factor), scope)


def energies_times(factor: float) -> Callable[[str], Story]:
    """Stored energies times a factor."""
    return lambda scope: record(lambda f: replace(f, potential_used=f.potential_used * factor), scope)


def velocities_times(factor: float) -> Callable[[str], Story]:
    """Stored velocities times a factor; the kinetic energy was computed before."""
    return lambda scope: record(lambda f: replace(f, velocities=f.velocities * factor), scope)


def velocities_and_kinetic(factor: float) -> Story:
    """Velocities in another unit, and everything computed from them."""

    def change(f: Frame) -> Frame:
        kinetic = f.kinetic * factor**2
        more = kinetic - f.kinetic
        return replace(f, velocities=f.velocities * factor, kinetic=kinetic, conserved=f.conserved + more)

    return record(change)


def positions_times(factor: float) -> Callable[[str], Story]:
    """Stored positions times a factor."""
    return lambda scope: record(lambda f: replace(f, positions=f.positions * factor), scope)


def exchange(change: Callable[[Story, list[Entry]], list[Entry]], plan: Plan, *, consistent: bool) -> Story:
    """Entries are changed; with ``consistent`` the frames count and subtract what the changed ledger says."""
    story = run(plan)
    before = list(story.entries)
    story.entries = change(story, before)
    if consistent:
        _recount(story)
    return story


def _recount(story: Story) -> None:
    """Frames as an engine with this ledger would have stored them: entries after a frame of their own step."""
    at = {id(entry): k for k, entry in enumerate(story.entries)}

    def change(f: Frame) -> Frame:
        posted = [e for e in story.entries if e.step < f.step or (e.step == f.step and e.account == "heat")]
        count = 0 if not posted else 1 + max(at[id(e)] for e in posted)
        total = math.fsum(e.amount for e in story.entries[:count])
        return replace(f, entries=count, conserved=f.kinetic + f.potential_used - total)

    story.change(change)


def unbooked_update(size: float) -> Story:
    """No entry for the change of model."""
    return exchange(lambda story, entries: [], replace(UPDATED, update=size), consistent=True)


def twice(size: float) -> Story:
    """The change of model is booked twice."""
    return exchange(lambda story, entries: [*entries, *entries], replace(UPDATED, update=size), consistent=True)


def wrong_amount(amount: float) -> Story:
    """ΔU is wrong by an amount, in the ledger and in H̃."""
    return exchange(
        lambda story, entries: [replace(e, after=e.after + amount) for e in entries], UPDATED, consistent=True
    )


def wrong_step(steps: int) -> Story:
    """ΔU is booked so many steps late."""
    return exchange(
        lambda story, entries: [
            replace(e, step=e.step + steps, time=e.time * (e.step + steps) / e.step) for e in entries
        ],
        UPDATED,
        consistent=True,
    )


def ramp_without(count: int) -> Story:
    """Some entries of a ramp are missing."""
    return exchange(lambda story, entries: entries[: len(entries) - count], RAMPED, consistent=True)


def voided_counted(kept: int) -> Story:
    """Entries of a discarded stretch still count: here those of an update in it."""
    story = run(REWOUND)
    first = story.entries[0]
    ghost = replace(first, after=first.before + 0.5 * kept, cause="update of the discarded stretch")
    story.entries = [*([ghost] * kept), *story.entries]
    _recount(story)
    return story


def rounded_sum(constant: float) -> Story:
    """Energies summed in single precision together with a constant."""
    return record(lambda f: replace(f, potential_used=float(np.float32(f.potential_used - constant)) + constant))


def grid_positions(spacing: float) -> Story:
    """Positions rounded: to single precision (0), or to a spacing in nm."""

    def change(f: Frame) -> Frame:
        x = np.float64(np.float32(f.positions)) if spacing == 0 else np.round(f.positions / spacing) * spacing
        return replace(f, positions=x)

    return record(change)


def coarse_forces(kind: str) -> Story:
    """Forces stored in few digits."""

    def change(f: Frame) -> Frame:
        if kind == "half":
            return replace(f, forces_used=np.float64(np.float16(f.forces_used)))
        if kind == "single":
            return replace(f, forces_used=np.float64(np.float32(f.forces_used)))
        return replace(f, forces_used=np.round(f.forces_used, 2))

    return record(change)


def dropped(count: int) -> Story:
    """Frames in the middle are missing."""
    story = run(PLAIN)
    del story.segments[1].frames[5 : 5 + count]
    return story


def duplicated(count: int) -> Story:
    """A frame is stored again in the place of the next ones, under their steps."""
    story = run(PLAIN)
    frames = story.segments[1].frames
    for k in range(6, 6 + count):
        frames[k] = replace(frames[5], step=frames[k].step, time=frames[k].time)
    return story


def reordered(apart: int) -> Story:
    """Two frames have changed places under their steps."""
    story = run(PLAIN)
    frames = story.segments[1].frames
    a, b = frames[4], frames[4 + apart]
    frames[4] = replace(b, step=a.step, time=a.time)
    frames[4 + apart] = replace(a, step=b.step, time=b.time)
    return story


def swapped_atoms(scope: str) -> Story:
    """Two hydrogens of one carbon have changed places, with all that belongs to them."""
    hydrogens = [int(i) for i in np.flatnonzero(run(PLAIN).particles.numbers == 1)][-2:]

    def change(f: Frame) -> Frame:
        order = np.arange(len(f.positions))
        order[hydrogens] = hydrogens[::-1]
        return replace(
            f, positions=f.positions[order], velocities=f.velocities[order], forces_used=f.forces_used[order]
        )

    return record(change, scope)


def stale_positions(scope: str) -> Story:
    """Positions are those of the frame before."""
    story = run(PLAIN)
    before = [f.positions for f in story.frames]
    chosen = {"all": range(1, 61), "a quarter": range(15, 30), "one": range(20, 21)}[scope]
    number = iter(range(len(before)))

    def change(f: Frame) -> Frame:
        i = next(number)
        return replace(f, positions=before[i - 1]) if i in chosen else f

    story.change(change)
    return story


def other_box(size: float) -> Story:
    """In a few frames the box is that of other frames, whose volume differs."""
    return record(lambda f: replace(f, box=f.box * (1.0 + size)), "one", BOXED)


def wrong_segment(size: float) -> Story:
    """A segment that ran on the first model names the second as its model."""
    story = run(replace(UPDATED, update=size))
    story.segments[0] = Segment(frames=story.segments[0].frames, model=1)
    return story


def perturbed(size: float) -> Story:
    """The model that is kept is not the one that moved the atoms."""
    story = run(PLAIN)
    story.models[0] = shifted(mini(), 77, size)
    return story


def leap_frog(timestep_fs: float) -> Story:
    """Velocities of half a step before, as a leap-frog integrator holds them, and the kinetic energy of those."""
    plan = replace(PLAIN, timestep_fs=timestep_fs)
    story = run(plan)
    masses, dt = story.particles.masses[:, None], timestep_fs * 1e-3

    def change(f: Frame) -> Frame:
        v = f.velocities - 0.5 * dt * f.forces_used / masses
        kinetic = 0.5 * float((masses * v * v).sum())
        return replace(f, velocities=v, kinetic=kinetic, conserved=f.conserved + kinetic - f.kinetic)

    story.change(change)
    return story


def long_step(timestep_fs: float) -> Story:
    """An honest run at too long a step."""
    return run(replace(PLAIN, timestep_fs=timestep_fs, steps=100))


def other_masses(factor: float) -> Story:
    """The hydrogens were heavier than the record says."""
    numbers = run(replace(PLAIN, steps=1)).particles.numbers
    return run(PLAIN, Tampering(masses=np.where(numbers == 1, factor, 1.0)))


def damaged(root: Path, what: str) -> None:
    """A file is not what it was."""
    path = sorted((root / "segments").glob("*.h5"))[1]
    data = bytearray(path.read_bytes())
    at = data.find(np.float64(run(PLAIN).frames[25].positions[0, 0]).tobytes())
    data[at + (7 if what == "exponent" else 0 if what == "last bit" else 4)] ^= 1
    path.write_bytes(bytes(data))


KINDS: tuple[Defect, ...] = (
    Defect(name="sign of forces", cause=Cause.NOT_GRADIENT, sizes=(("9 atoms", 9), ("3 atoms", 3), ("1 atom", 1)),
           plant=lambda n: scaled_forces(-1.0, n)),
    Defect(name="forces × −0.5", cause=Cause.NOT_GRADIENT, sizes=(("9 atoms", 9), ("3 atoms", 3), ("1 atom", 1)),
           plant=lambda n: scaled_forces(-0.5, n)),
    Defect(name="forces × 2", cause=Cause.NOT_GRADIENT, sizes=(("9 atoms", 9), ("3 atoms", 3), ("1 atom", 1)),
           plant=lambda n: scaled_forces(2.0, n)),
    Defect(name="forces in eV/Å", cause=Cause.UNIT, sizes=SCOPES,
           plant=forces_times(EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM)),
    Defect(name="forces in kcal/mol/Å", cause=Cause.UNIT, sizes=SCOPES, plant=forces_times(0.1 / KJ_PER_KCAL)),
    Defect(name="energies in eV", cause=Cause.UNIT, sizes=SCOPES, plant=energies_times(EV_PER_KJ_PER_MOL)),
    Defect(name="energies in hartree", cause=Cause.UNIT, sizes=SCOPES,
           plant=energies_times(1.0 / KJ_PER_MOL_PER_HARTREE)),
    Defect(name="velocities in Å/ps", cause=Cause.UNIT, sizes=SCOPES, plant=velocities_times(10.0)),
    Defect(name="velocities and K in another unit", cause=Cause.UNIT,
           sizes=(("Å/ps", 10.0), ("Å/fs", 0.01), ("ASE's unit", 1.0 / math.sqrt(1.0 / EV_PER_KJ_PER_MOL))),
           plant=velocities_and_kinetic),
    Defect(name="positions in Å", cause=Cause.UNIT, sizes=SCOPES, plant=positions_times(10.0)),
    Defect(name="stale neighbour list", cause=Cause.NOT_GRADIENT,
           sizes=(("never renewed", 10**6), ("every 20 steps", 20), ("every 5 steps", 5)), plant=stale_list),
    Defect(name="lost periodic images", cause=Cause.NOT_GRADIENT,
           sizes=(("three axes", 3), ("two axes", 2), ("one axis", 1)), plant=lost_image),
    Defect(name="heat not booked", cause=Cause.HEAT,
           sizes=(("whole run", 60), ("half", 30), ("5 steps", 5)), plant=lambda n: heat(0.0, n)),
    Defect(name="heat of the wrong sign", cause=Cause.HEAT,
           sizes=(("whole run", 60), ("half", 30), ("5 steps", 5)), plant=lambda n: heat(-1.0, n)),
    Defect(name="half of the heat", cause=Cause.HEAT,
           sizes=(("whole run", 60), ("half", 30), ("5 steps", 5)), plant=lambda n: heat(0.5, n)),
    Defect(name="update not booked", cause=Cause.NOT_BOOKED,
           sizes=(("weights moved by 1e-2", 1e-2), ("1e-3", 1e-3), ("1e-5", 1e-5)), plant=unbooked_update),
    Defect(name="update booked twice", cause=Cause.NOT_BOOKED,
           sizes=(("weights moved by 1e-2", 1e-2), ("1e-3", 1e-3), ("1e-5", 1e-5)), plant=twice),
    Defect(name="ΔU wrong", cause=Cause.NOT_BOOKED,
           sizes=(("1 kJ/mol", 1.0), ("1e-2", 1e-2), ("1e-5", 1e-5)), plant=wrong_amount),
    Defect(name="ΔU booked at another step", cause=Cause.NOT_BOOKED,
           sizes=(("20 steps late", 20), ("5", 5), ("1", 1)), plant=wrong_step),
    Defect(name="ramp entries missing", cause=Cause.NOT_BOOKED, sizes=(("all 10", 10), ("3", 3), ("1", 1)),
           plant=ramp_without),
    Defect(name="entries of a discarded stretch counted", cause=Cause.NOT_BOOKED,
           sizes=(("3", 3), ("2", 2), ("1", 1)), plant=voided_counted),
    Defect(name="centre of mass stopped, not booked", cause=Cause.NOT_BOOKED,
           sizes=(("0.3 nm/ps", 0.3), ("0.02", 0.02), ("1e-4", 1e-4)), plant=lambda v: touched(v, "com")),
    Defect(name="velocities rescaled, not booked", cause=Cause.NOT_BOOKED,
           sizes=(("× 1.05", 1.05), ("× 1.001", 1.001), ("× 1.00001", 1.00001)), plant=lambda f: touched(f, "rescale")),
    Defect(name="forces clamped", cause=Cause.NOT_GRADIENT,
           sizes=(("at 1 eV/Å", 1.0), ("at 2", 2.0), ("at 2.8", 2.8)), plant=lambda x: clamped(x, hidden=False)),
    Defect(name="forces clamped, record honest", cause=Cause.NOT_GRADIENT,
           sizes=(("at 1 eV/Å", 1.0), ("at 2", 2.0), ("at 2.8", 2.8)), plant=lambda x: clamped(x, hidden=True)),
    Defect(name="noise on forces", cause=Cause.NOT_GRADIENT,
           sizes=(("0.1 eV/Å", 0.1), ("0.01", 0.01), ("0.001", 0.001)), plant=noisy),
    Defect(name="single-precision sum with self energies", cause=Cause.PRECISION,
           sizes=(("4e5 kJ/mol", 4.05e5), ("4e4", 4.05e4), ("4e3", 4.05e3)), plant=rounded_sum),
    Defect(name="positions rounded", cause=Cause.PRECISION,
           sizes=(("to 1e-4 nm", 1e-4), ("to 1e-6 nm", 1e-6), ("to singles", 0.0)), plant=grid_positions),
    Defect(name="forces rounded", cause=Cause.PRECISION,
           sizes=(("to halves", "half"), ("to 2 decimals", "decimals"), ("to singles", "single")), plant=coarse_forces),
    Defect(name="frames dropped", cause=Cause.FRAMES, sizes=(("5", 5), ("2", 2), ("1", 1)), plant=dropped),
    Defect(name="frame duplicated", cause=Cause.FRAMES, sizes=(("5 times", 5), ("twice", 2), ("once", 1)),
           plant=duplicated),
    Defect(name="frames reordered", cause=Cause.FRAMES, sizes=(("10 apart", 10), ("3", 3), ("1", 1)), plant=reordered),
    Defect(name="atoms swapped", cause=Cause.FRAMES, sizes=(("the last half", "half"), *SCOPES[1:]), plant=swapped_atoms),
    Defect(name="positions of the frame before", cause=Cause.FRAMES, sizes=SCOPES, plant=stale_positions),
    Defect(name="box of another frame", cause=Cause.FRAMES,
           sizes=(("1e-2", 1e-2), ("1e-3", 1e-3), ("1e-5", 1e-5)), plant=other_box),
    Defect(name="wrong model for a segment", cause=Cause.WRONG_MODEL,
           sizes=(("weights moved by 1e-2", 1e-2), ("1e-3", 1e-3), ("1e-5", 1e-5)), plant=wrong_segment),
    Defect(name="weights perturbed", cause=Cause.WRONG_MODEL,
           sizes=(("by 1e-2", 1e-2), ("1e-3", 1e-3), ("1e-4", 1e-4)), plant=perturbed),
    Defect(name="leap-frog velocities", cause=Cause.OFF_STEP,
           sizes=(("0.5 fs", 0.5), ("0.25 fs", 0.25), ("0.05 fs", 0.05)), plant=leap_frog),
    Defect(name="time step too long", cause=Cause.TIMESTEP,
           sizes=(("2 fs", 2.0), ("1.9 fs", 1.9), ("1.75 fs", 1.75)), plant=long_step),
    Defect(name="hydrogens of another mass", cause=Cause.MASSES,
           sizes=(("× 2", 2.0), ("× 1.01", 1.01), ("× 1.0001", 1.0001)), plant=other_masses),
    Defect(name="file damaged", cause=Cause.FILE,
           sizes=(("an exponent", "exponent"), ("a middle bit", "middle"), ("the last bit", "last bit")),
           plant=lambda what: run(PLAIN), after=damaged),
)  # fmt: skip
