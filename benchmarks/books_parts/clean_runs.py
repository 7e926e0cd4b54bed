"""A small molecular-dynamics program that keeps honest books, to plant defects in.

Nothing of the engine moves the atoms here, so that the auditor is not tested with the engine's own mistakes: plain
numpy velocity Verlet, BAOAB, stochastic velocity rescaling and a Nosé–Hoover chain on the small test ensemble, with
models that take over at once, over a ramp, or after a rewind. ``Tampering`` says where the dynamics may go wrong; the
record is written by the functions of ``qmml_md.records``.
"""

import copy
import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from books_parts.clean_systems import (
    RELAXATION_PS,
    SEGMENT_STEPS,
    TEMPERATURE_K,
    THERMOSTATS,
    Law,
    Plan,
    Segment,
    Story,
    Tampering,
    configuration,
    honest,
    mini,
    shifted,
    system,
)

from qmml_md.ensemble.model import EnsembleOutput
from qmml_md.records.books import Account, Books, Entry
from qmml_md.records.frames import Frame
from qmml_md.units import BOLTZMANN_KJ_PER_MOL_PER_K, PS_PER_FS


class Walker:
    """One run under way."""

    def __init__(self, plan: Plan, tampering: Tampering) -> None:
        self.plan, self.tampering = plan, tampering
        self.particles, start, self.box = system(plan.system)
        self.rng = np.random.default_rng(plan.seed)
        self.dt = plan.timestep_fs * PS_PER_FS
        self.m = self.particles.masses[:, None]
        models = [mini()] + ([shifted(mini(), plan.seed + 1000, plan.update)] if plan.policy else [])
        self.story = Story(
            plan=plan, particles=self.particles, config=configuration(plan), models=models, taken=[(0, 0, {})]
        )
        self.books = Books()
        self.heat = self.booked = 0.0
        self.chain = np.zeros(3)
        self.model, self.coming, self.weight = 0, None, 0.0
        self.x = start.copy()
        self.v = self.rng.normal(size=start.shape) * np.sqrt(BOLTZMANN_KJ_PER_MOL_PER_K * TEMPERATURE_K / self.m)
        self.v += plan.common * np.array([1.0, 0.0, 0.0]) - (self.m * self.v).sum(axis=0) / self.m.sum()
        self.step = 0
        self.now = self.surface(tampering.law)

    def surface(self, law: Law) -> EnsembleOutput:
        """Energy and forces here, of the model or of the blend."""
        models, numbers = self.story.models, self.particles.numbers
        out = law(models[self.model], numbers, self.x, self.box, self.step)
        if self.coming is None:
            return out
        new = law(models[self.coming], numbers, self.x, self.box, self.step)
        w = self.weight
        return EnsembleOutput(
            energy=(1 - w) * out.energy + w * new.energy,
            forces=(1 - w) * out.forces + w * new.forces,
            member_energies=out.member_energies,
        )

    def kinetic(self) -> float:
        """½ Σ m v², kJ/mol."""
        return 0.5 * float((self.m * self.v**2).sum())

    def post(self, account: Account, before: float, after: float, cause: str) -> None:
        """Book one exchange."""
        time = self.step * self.dt
        self.books.post(Entry(step=self.step, time=time, account=account, before=before, after=after, cause=cause))

    def store(self) -> None:
        """Book the heat and keep a frame."""
        if self.plan.integrator in THERMOSTATS and self.step > 0:
            self.post(Account.HEAT, self.booked, self.heat, "thermostat")
            self.booked = self.heat
        seen = self.surface(honest) if self.tampering.hidden else self.now
        kinetic = self.kinetic()
        frame = Frame(
            step=self.step,
            time=self.step * self.dt,
            positions=self.x.copy(),
            velocities=self.v.copy(),
            forces_used=seen.forces.copy(),
            potential_used=seen.energy,
            kinetic=kinetic,
            conserved=self.books.conserved(kinetic=kinetic, potential=seen.energy),
            entries=self.books.count,
            box=np.zeros((3, 3)) if self.box is None else self.box.copy(),
            region_epoch=0,
            disagreement=np.full(len(self.x), np.nan),
            blend=self.weight,
        )
        segments = self.story.segments
        last = segments[-1] if segments else None
        if last is None or (last.model, last.blend) != (self.model, self.coming) or len(last.frames) >= SEGMENT_STEPS:
            segments.append(Segment(frames=[], model=self.model, blend=self.coming))
        segments[-1].frames.append(frame)

    def switch(self, account: Account, cause: str) -> None:
        """Evaluate again after a change of model, and book the difference."""
        before = self.now.energy
        self.now = self.surface(self.tampering.law)
        self.post(account, before, self.now.energy, cause)

    def advance(self) -> None:
        """One step of dynamics."""
        dt, m = self.dt * self.tampering.clock, self.m * np.reshape(self.tampering.masses, (-1, 1))
        before = self.heat
        if self.plan.integrator == "nose_hoover":
            self.half_chain(dt)
        self.v = self.v + 0.5 * dt * self.now.forces / m
        self.x = self.x + 0.5 * dt * self.v
        if self.plan.integrator == "langevin":
            old = self.kinetic()
            c = math.exp(-self.plan.friction_per_ps * dt)
            width = np.sqrt((1 - c * c) * BOLTZMANN_KJ_PER_MOL_PER_K * TEMPERATURE_K / m)
            self.v = c * self.v + width * self.rng.normal(size=self.v.shape)
            self.heat += self.kinetic() - old
        self.x = self.x + 0.5 * dt * self.v
        self.step += 1
        self.now = self.surface(self.tampering.law)
        self.v = self.v + 0.5 * dt * self.now.forces / m
        if self.plan.integrator == "bussi":
            self.rescale(self.bussi_factor(dt))
        if self.plan.integrator == "nose_hoover":
            self.half_chain(dt)
        self.heat = before + self.tampering.heat(self.heat - before, self.step)

    def rescale(self, factor: float) -> None:
        """Multiply all velocities; the heat is what that gives."""
        old = self.kinetic()
        self.v = self.v * factor
        self.heat += self.kinetic() - old

    def bussi_factor(self, dt: float) -> float:
        """One exact step of the kinetic energy (Bussi, Donadio, Parrinello, 2007, equation A7)."""
        freedom, c = self.particles.degrees_of_freedom, math.exp(-dt / RELAXATION_PS)
        share = BOLTZMANN_KJ_PER_MOL_PER_K * TEMPERATURE_K / (2.0 * self.kinetic())
        first, rest = self.rng.normal(), 2.0 * self.rng.gamma((freedom - 1) / 2)
        square = c + (1 - c) * share * (first**2 + rest) + 2 * first * math.sqrt(c * (1 - c) * share)
        return math.sqrt(square)

    def half_chain(self, dt: float) -> None:
        """Half a step of a chain of three (Martyna, Klein, Tuckerman, 1992), from its end and back."""
        kT = BOLTZMANN_KJ_PER_MOL_PER_K * TEMPERATURE_K
        freedom = self.particles.degrees_of_freedom
        q = kT * RELAXATION_PS**2 * np.array([freedom, 1.0, 1.0])

        def push(j: int) -> None:
            drive = 2 * self.kinetic() - freedom * kT if j == 0 else q[j - 1] * self.chain[j - 1] ** 2 - kT
            damp = math.exp(-dt / 8 * self.chain[j + 1]) if j < 2 else 1.0
            self.chain[j] = (self.chain[j] * damp + dt / 4 * drive / q[j]) * damp

        for j in (2, 1, 0):
            push(j)
        self.rescale(math.exp(-dt / 2 * self.chain[0]))
        for j in (0, 1, 2):
            push(j)


def run(plan: Plan, tampering: Tampering | None = None) -> Story:
    """Run a plan and keep its books; honest runs are made once, and each caller gets a copy to spoil."""
    if tampering is not None:
        return _run(plan, tampering)
    story = _honest(plan)
    return replace(
        story,
        config=copy.deepcopy(story.config),
        models=list(story.models),
        taken=list(story.taken),
        segments=[replace(segment, frames=list(segment.frames)) for segment in story.segments],
        entries=list(story.entries),
        voided_segments=list(story.voided_segments),
        voided_entries=list(story.voided_entries),
    )


@lru_cache(maxsize=16)
def _honest(plan: Plan) -> Story:
    return _run(plan, Tampering())


def _run(plan: Plan, tampering: Tampering) -> Story:
    walker = Walker(plan, tampering)
    swap, ramp_steps = plan.steps // 2, 10
    good, kept, rewound = plan.steps // 4, None, False
    while True:
        step = walker.step
        if step % plan.every == 0 or step in (plan.steps, swap) or walker.coming is not None:
            walker.store()
        if plan.policy == "rewind" and step == good and not rewound:
            kept = _keep(walker)
        if plan.policy == "abrupt" and step == swap:
            _take_over(walker, {"policy": "abrupt"})
        if plan.policy == "rewind" and step == swap and kept is not None and not rewound:
            rewound = True
            _rewind(walker, kept)
        if plan.policy == "ramp" and swap <= step <= swap + ramp_steps:
            _ramp(walker, swap, ramp_steps)
        if walker.step >= plan.steps:
            break
        if walker.tampering.touch is not None:
            walker.v = walker.tampering.touch(walker.v, walker.m, walker.step)
        walker.advance()
    walker.story.entries = list(walker.books.entries)
    return walker.story


def _take_over(walker: Walker, data: dict[str, Any]) -> None:
    walker.model = 1
    walker.switch(Account.MODEL, "update")
    walker.story.taken.append((1, walker.step, data))


def _ramp(walker: Walker, first: int, steps: int) -> None:
    done = walker.step - first
    if done == steps:
        walker.model, walker.coming, walker.weight = 1, None, 0.0
        walker.story.taken.append((1, walker.step, {"policy": "ramp", "ramp_from_step": first, "ramp_steps": steps}))
        return
    walker.coming, walker.weight = 1, (done + 1) / steps
    walker.switch(Account.RAMP, f"{done + 1} of {steps}")


def _keep(walker: Walker) -> tuple[Any, ...]:
    # A commit: the segment ends here, so that what comes later can be discarded whole.
    walker.story.segments.append(Segment(frames=[], model=walker.model))
    place = (len(walker.story.segments) - 1, walker.books.count)
    state = (walker.x.copy(), walker.v.copy(), walker.now, walker.heat, walker.booked, walker.chain.copy())
    return walker.step, place, state


def _rewind(walker: Walker, kept: tuple[Any, ...]) -> None:
    step, (segments, entries), state = kept
    story = walker.story
    story.voided_segments = story.segments[segments:]
    story.segments = story.segments[:segments]
    story.voided_entries, story.voided_from = list(walker.books.entries[entries:]), entries
    walker.books = Books(walker.books.entries[:entries])
    walker.step = step
    walker.x, walker.v, walker.now, walker.heat, walker.booked, walker.chain = state
    _take_over(walker, {"policy": "rewind"})
