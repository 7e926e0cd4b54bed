"""Planted defects: how each is planted, in three sizes, and the class of cause that must be named.

The smallest size of each kind is what the auditor claims to detect in a run that stores every step.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from books_parts.clean_runs import run
from books_parts.clean_systems import Plan, Story
from books_parts.plant_dynamics import (
    Ground,
    clamped,
    heat,
    long_step,
    lost_image,
    noisy,
    other_masses,
    scaled_forces,
    stale_list,
    touched,
)
from books_parts.plant_record import (
    coarse_forces,
    damaged,
    dropped,
    duplicated,
    energies_times,
    forces_times,
    grid_positions,
    leap_frog,
    other_box,
    perturbed,
    positions_times,
    ramp_without,
    reordered,
    rounded_sum,
    stale_positions,
    swapped_atoms,
    twice,
    unbooked_update,
    velocities_and_kinetic,
    velocities_times,
    voided_counted,
    wrong_amount,
    wrong_segment,
    wrong_step,
)

from qmml_md.analysis.causes.classes import Cause
from qmml_md.units import EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM, EV_PER_KJ_PER_MOL, KJ_PER_KCAL, KJ_PER_MOL_PER_HARTREE

#: The runs that the signatures were developed on.
HOME = Ground(
    plain=Plan(seed=11),
    hot=Plan(seed=12, integrator="langevin"),
    updated=Plan(seed=13, policy="abrupt"),
    ramped=Plan(seed=14, policy="ramp"),
    rewound=Plan(seed=15, policy="rewind"),
    boxed=Plan(seed=16, system="box", steps=40),
)
#: Other molecules, thermostats and seeds than those that the signatures were written for. At the first look 119 of the
#: 123 causes were named: two clamps lay above every force, and heat was read off steps of an unbooked ramp. Both were
#: mended, so that what is measured here now is not blind.
ELSEWHERE = Ground(
    plain=Plan(seed=31, system="waters"),
    hot=Plan(seed=32, system="waters", integrator="nose_hoover"),
    updated=Plan(seed=33, system="waters", integrator="bussi", policy="abrupt"),
    ramped=Plan(seed=34, system="waters", integrator="langevin", policy="ramp"),
    rewound=Plan(seed=35, system="waters", policy="rewind"),
    boxed=Plan(seed=36, system="box", steps=60, timestep_fs=0.5),
)
#: As most runs are stored: one frame in ten, so that no two frames are one step apart.
SPARSE = Ground(
    plain=Plan(seed=51, every=10, steps=600),
    hot=Plan(seed=52, integrator="langevin", every=10, steps=600),
    updated=Plan(seed=53, policy="abrupt", every=10, steps=600),
    ramped=Plan(seed=54, policy="ramp", every=10, steps=600),
    rewound=Plan(seed=55, policy="rewind", every=10, steps=600),
    boxed=Plan(seed=56, system="box", every=10, steps=400),
)
SCOPES = (("all frames", "all"), ("a quarter of the frames", "a quarter"), ("one frame", "one"))


@dataclass(frozen=True, kw_only=True)
class Defect:
    """One kind of defect.

    Attributes:
        name: for a person.
        cause: that must be named first.
        sizes: three, from large to small, with their words.
        plant: makes the spoilt run from honest ones and a size.
        after: spoils the run directory, if that is where the defect lies.
    """

    name: str
    cause: Cause
    sizes: tuple[tuple[str, Any], ...]
    plant: Callable[[Ground, Any], Story]
    after: Callable[[Ground, Path, Any], None] | None = None


KINDS: tuple[Defect, ...] = (
    Defect(name="sign of forces", cause=Cause.NOT_GRADIENT, sizes=(("9 atoms", 9), ("3 atoms", 3), ("1 atom", 1)),
           plant=lambda g, n: scaled_forces(g, -1.0, n)),
    Defect(name="forces × −0.5", cause=Cause.NOT_GRADIENT, sizes=(("9 atoms", 9), ("3 atoms", 3), ("1 atom", 1)),
           plant=lambda g, n: scaled_forces(g, -0.5, n)),
    Defect(name="forces × 2", cause=Cause.NOT_GRADIENT, sizes=(("9 atoms", 9), ("3 atoms", 3), ("1 atom", 1)),
           plant=lambda g, n: scaled_forces(g, 2.0, n)),
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
           sizes=(("whole run", 60), ("half", 30), ("5 steps", 5)), plant=lambda g, n: heat(g, 0.0, n)),
    Defect(name="heat of the wrong sign", cause=Cause.HEAT,
           sizes=(("whole run", 60), ("half", 30), ("5 steps", 5)), plant=lambda g, n: heat(g, -1.0, n)),
    Defect(name="half of the heat", cause=Cause.HEAT,
           sizes=(("whole run", 60), ("half", 30), ("5 steps", 5)), plant=lambda g, n: heat(g, 0.5, n)),
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
           sizes=(("0.3 nm/ps", 0.3), ("0.02", 0.02), ("1e-4", 1e-4)), plant=lambda g, v: touched(g, v, "com")),
    Defect(name="velocities rescaled, not booked", cause=Cause.NOT_BOOKED,
           sizes=(("× 1.05", 1.05), ("× 1.001", 1.001), ("× 1.00001", 1.00001)),
           plant=lambda g, f: touched(g, f, "rescale")),
    Defect(name="forces clamped", cause=Cause.NOT_GRADIENT,
           sizes=(("at 0.3 of the largest", 0.3), ("at 0.7", 0.7), ("at 0.95", 0.95)),
           plant=lambda g, x: clamped(g, x, hidden=False)),
    Defect(name="forces clamped, record honest", cause=Cause.NOT_GRADIENT,
           sizes=(("at 0.3 of the largest", 0.3), ("at 0.7", 0.7), ("at 0.95", 0.95)),
           plant=lambda g, x: clamped(g, x, hidden=True)),
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
    Defect(name="atoms swapped", cause=Cause.FRAMES, sizes=(("the last half", "half"), *SCOPES[1:]),
           plant=swapped_atoms),
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
           plant=lambda g, what: run(g.plain), after=damaged),
)  # fmt: skip
