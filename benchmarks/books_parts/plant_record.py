"""Defects of the record: they are put into an honest run after it was made."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from books_parts.clean_runs import run
from books_parts.clean_systems import Plan, Segment, Story, mini, shifted
from books_parts.plant_dynamics import Ground

from qmml_md.records.books import Account, Entry
from qmml_md.records.frames import Frame


def record(change: Callable[[Frame], Frame], plan: Plan, scope: str = "all") -> Story:
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


def forces_times(factor: float) -> Callable[[Ground, str], Story]:
    """Stored forces times a factor."""
    return lambda ground, scope: record(lambda f: replace(f, forces_used=f.forces_used * factor), ground.plain, scope)


def energies_times(factor: float) -> Callable[[Ground, str], Story]:
    """Stored energies times a factor."""

    def change(f: Frame) -> Frame:
        return replace(f, potential_used=f.potential_used * factor)

    return lambda ground, scope: record(change, ground.plain, scope)


def velocities_times(factor: float) -> Callable[[Ground, str], Story]:
    """Stored velocities times a factor; the kinetic energy was computed before."""
    return lambda ground, scope: record(lambda f: replace(f, velocities=f.velocities * factor), ground.plain, scope)


def velocities_and_kinetic(ground: Ground, factor: float) -> Story:
    """Velocities in another unit, and everything computed from them."""

    def change(f: Frame) -> Frame:
        kinetic = f.kinetic * factor**2
        more = kinetic - f.kinetic
        return replace(f, velocities=f.velocities * factor, kinetic=kinetic, conserved=f.conserved + more)

    return record(change, ground.plain)


def positions_times(factor: float) -> Callable[[Ground, str], Story]:
    """Stored positions times a factor."""
    return lambda ground, scope: record(lambda f: replace(f, positions=f.positions * factor), ground.plain, scope)


def exchange(change: Callable[[list[Entry]], list[Entry]], plan: Plan) -> Story:
    """Entries of models are changed; frames count and subtract what the changed ledger says, as an engine would."""
    story = run(plan)
    models = [e for e in story.entries if e.account in (Account.MODEL, Account.RAMP)]
    others = [e for e in story.entries if e.account not in (Account.MODEL, Account.RAMP)]
    story.entries = sorted([*others, *change(models)], key=lambda e: (e.step, e.account != Account.HEAT))
    _recount(story)
    return story


def _recount(story: Story) -> None:
    """Frames as an engine with this ledger would have stored them: entries after a frame of their own step."""

    def change(f: Frame) -> Frame:
        heat = Account.HEAT
        count = sum(e.step < f.step or (e.step == f.step and e.account == heat) for e in story.entries)
        total = math.fsum(e.amount for e in story.entries[:count])
        return replace(f, entries=count, conserved=f.kinetic + f.potential_used - total)

    story.change(change)


def unbooked_update(ground: Ground, size: float) -> Story:
    """No entry for the change of model."""
    return exchange(lambda found: [], replace(ground.updated, update=size))


def twice(ground: Ground, size: float) -> Story:
    """The change of model is booked twice."""
    return exchange(lambda found: [*found, *found], replace(ground.updated, update=size))


def wrong_amount(ground: Ground, amount: float) -> Story:
    """ΔU is wrong by an amount, in the ledger and in H̃."""
    return exchange(lambda found: [replace(e, after=e.after + amount) for e in found], ground.updated)


def wrong_step(ground: Ground, steps: int) -> Story:
    """ΔU is booked so many steps late."""

    def late(e: Entry) -> Entry:
        return replace(e, step=e.step + steps, time=e.time * (e.step + steps) / e.step)

    return exchange(lambda found: [late(e) for e in found], ground.updated)


def ramp_without(ground: Ground, count: int) -> Story:
    """Some entries of a ramp are missing."""
    return exchange(lambda found: found[: len(found) - count], ground.ramped)


def voided_counted(ground: Ground, kept: int) -> Story:
    """Entries of a discarded stretch still count: here those of an update in it."""
    story = run(ground.rewound)
    first = story.entries[0]
    ghost = replace(first, after=first.before + 0.5 * kept, cause="update of the discarded stretch")
    story.entries = [*([ghost] * kept), *story.entries]
    _recount(story)
    return story


def rounded_sum(ground: Ground, constant: float) -> Story:
    """Energies summed in single precision together with a constant."""

    def change(f: Frame) -> Frame:
        return replace(f, potential_used=float(np.float32(f.potential_used - constant)) + constant)

    return record(change, ground.plain)


def grid_positions(ground: Ground, spacing: float) -> Story:
    """Positions rounded: to single precision (0), or to a spacing in nm."""

    def change(f: Frame) -> Frame:
        x = np.float64(np.float32(f.positions)) if spacing == 0 else np.round(f.positions / spacing) * spacing
        return replace(f, positions=x)

    return record(change, ground.plain)


def coarse_forces(ground: Ground, kind: str) -> Story:
    """Forces stored in few digits."""

    def change(f: Frame) -> Frame:
        if kind == "half":
            return replace(f, forces_used=np.float64(np.float16(f.forces_used)))
        if kind == "single":
            return replace(f, forces_used=np.float64(np.float32(f.forces_used)))
        return replace(f, forces_used=np.round(f.forces_used, 2))

    return record(change, ground.plain)


def dropped(ground: Ground, count: int) -> Story:
    """Frames in the middle are missing."""
    story = run(ground.plain)
    del story.segments[1].frames[5 : 5 + count]
    return story


def duplicated(ground: Ground, count: int) -> Story:
    """A frame is stored again in the place of the next ones, under their steps."""
    story = run(ground.plain)
    frames = story.segments[1].frames
    for k in range(6, 6 + count):
        frames[k] = replace(frames[5], step=frames[k].step, time=frames[k].time)
    return story


def reordered(ground: Ground, apart: int) -> Story:
    """Two frames have changed places under their steps."""
    story = run(ground.plain)
    frames = story.segments[1].frames
    a, b = frames[4], frames[4 + apart]
    frames[4] = replace(b, step=a.step, time=a.time)
    frames[4 + apart] = replace(a, step=b.step, time=b.time)
    return story


def swapped_atoms(ground: Ground, scope: str) -> Story:
    """Two hydrogens of one carbon have changed places, with all that belongs to them."""
    hydrogens = [int(i) for i in np.flatnonzero(run(ground.plain).particles.numbers == 1)][-2:]

    def change(f: Frame) -> Frame:
        order = np.arange(len(f.positions))
        order[hydrogens] = hydrogens[::-1]
        return replace(
            f, positions=f.positions[order], velocities=f.velocities[order], forces_used=f.forces_used[order]
        )

    return record(change, ground.plain, scope)


def stale_positions(ground: Ground, scope: str) -> Story:
    """Positions are those of the frame before."""
    story = run(ground.plain)
    before = [f.positions for f in story.frames]
    chosen = {"all": range(1, 61), "a quarter": range(15, 30), "one": range(20, 21)}[scope]
    number = iter(range(len(before)))

    def change(f: Frame) -> Frame:
        i = next(number)
        return replace(f, positions=before[i - 1]) if i in chosen else f

    story.change(change)
    return story


def other_box(ground: Ground, size: float) -> Story:
    """In a few frames the box is that of other frames, whose volume differs."""
    return record(lambda f: replace(f, box=f.box * (1.0 + size)), ground.boxed, "one")


def wrong_segment(ground: Ground, size: float) -> Story:
    """A segment that ran on the first model names the second as its model."""
    story = run(replace(ground.updated, update=size))
    story.segments[0] = Segment(frames=story.segments[0].frames, model=1)
    return story


def perturbed(ground: Ground, size: float) -> Story:
    """The model that is kept is not the one that moved the atoms."""
    story = run(ground.plain)
    story.models[0] = shifted(mini(), 77, size)
    return story


def leap_frog(ground: Ground, timestep_fs: float) -> Story:
    """Velocities of half a step before, as a leap-frog integrator holds them, and the kinetic energy of those."""
    plan = replace(ground.plain, timestep_fs=timestep_fs)
    story = run(plan)
    masses, dt = story.particles.masses[:, None], timestep_fs * 1e-3

    def change(f: Frame) -> Frame:
        v = f.velocities - 0.5 * dt * f.forces_used / masses
        kinetic = 0.5 * float((masses * v * v).sum())
        return replace(f, velocities=v, kinetic=kinetic, conserved=f.conserved + kinetic - f.kinetic)

    story.change(change)
    return story


def damaged(ground: Ground, root: Path, what: str) -> None:
    """A file is not what it was."""
    path = sorted((root / "segments").glob("*.h5"))[1]
    data = bytearray(path.read_bytes())
    at = data.find(np.float64(run(ground.plain).frames[25].positions[0, 0]).tobytes())
    data[at + (7 if what == "exponent" else 0 if what == "last bit" else 4)] ^= 1
    path.write_bytes(bytes(data))
