"""One run in motion: what is due at a step, and doing it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import DynamicsError, NoRoom
from ..records.frames import Frame
from ..records.rows import RegionRow
from ..region.sampling import clusters_around, random_atom
from ..system.molecules import Floats, Molecules
from ..units import BOLTZMANN_KJ_PER_MOL_PER_K
from . import cycle, exchanges, recovery, rhythm
from .checkpoint import Checkpoint
from .instant import Instant
from .parts import Parts
from .state import State, pack
from .takeover import ramp_on
from .teller import Teller


class Run:
    """A run in motion.

    Attributes:
        state: what changes and is kept in checkpoints.
    """

    def __init__(self, parts: Parts, state: State) -> None:
        self._parts = parts
        self.state = state
        dynamics = parts.config.dynamics
        self._teller = Teller(parts.progress, state, steps=dynamics.steps, timestep_fs=dynamics.timestep_fs)

    def onward(self) -> None:
        """The next step and what is due at it; what was due at this one, if a commit came before that.

        Raises:
            DynamicsError: the dynamics have exploded, and learning does not help; the last commit is whole.
        """
        try:
            if self.state.attended:
                self.advance()
            if not self.state.attended or self.due():
                self.attend()
        except DynamicsError as error:
            with self._parts.journal.timings.measure("recovery"):
                why = recovery.recover(self._parts, self.state, error, self._stage)
            if why:
                self.finish("stop", f"{error.what}; {why}")
                raise DynamicsError(f"{error.what} at step {self.state.exploded_at}; {why}", cure=error.cure) from error
            # Where it stands now is a commit already; the model is new.
            self.commit(scheduled=False)

    def advance(self) -> None:
        """One step of dynamics."""
        with self._parts.journal.timings.measure("md"):
            self._parts.simulation.step()
        self.state.step += 1
        self._tell("md")

    def due(self) -> bool:
        """Whether anything is to be done at this step."""
        return self._frame_due() or self._check_due() or self._commit_due() or exchanges.due(self._parts, self.state)

    def attend(self) -> None:
        """Do everything that is due at this step: look, store, learn, exchange, commit."""
        parts, state = self._parts, self.state
        state.attended = True
        with parts.journal.timings.measure("md", 0):
            instant = parts.simulation.instant()
        now = parts.molecules.at(instant.positions, instant.box)
        sigma = self._look(now) if self._check_due() else None
        if self._frame_due() or sigma is not None:
            self._store_frame(instant, sigma)
        step, labels, ramping = state.step, parts.learner.known, state.ramp is not None
        updated = ramp_on(parts, state)
        if sigma is None:
            self._remember(now)
        elif ramping:
            rhythm.looked(parts, state)
            parts.stretch.clear()
        else:
            updated = cycle.turn(parts, state, now, sigma, self._stage)
        if state.step != step:
            # Gone back: what lies behind is not to be learned from, and the place stood at is committed as it was.
            self.commit()
            return
        self._gather_anchors(now, labelled=parts.learner.known > labels)
        exchanges.make(parts, state, instant)
        if updated or self._commit_due():
            self.commit()

    def note(self, kind: str, message: str, data: Mapping[str, Any] | None = None) -> None:
        """Write down something that happened, and tell whoever watches."""
        self._parts.note(self.state, kind, message, data)

    def finish(self, kind: str, message: str) -> None:
        """Commit what is left with a last event."""
        self.note(kind, message)
        # Where somebody happened to stop is no place to go back to: an uninterrupted run would not know it.
        self.commit(scheduled=False)
        self._tell("done", force=True)

    def commit(self, *, scheduled: bool = True) -> None:
        """Make everything up to this step true."""
        self._tell("io", force=True)
        parts, state = self._parts, self.state
        # In a ramp the atoms move on a blend, which a rewind could not bring back.
        if scheduled and state.trusted and state.ramp is None and state.step > state.good_step:
            state.good, state.good_step, state.rewinds = parts.journal.next_checkpoint, state.step, 0
        if state.step >= state.exploded_at:
            state.explosions = 0
        exact, portable = parts.simulation.checkpoint()
        pool, learner = parts.learner.pool, parts.learner
        keys = ([label.key for label in learner.labels], [label.key for label in learner.held_out])
        checkpoint = Checkpoint(
            step=state.step,
            openmm=exact,
            openmm_xml=portable,
            state={**pack(state, keys, parts.rng, pool, parts.journal.place()), "made_by": parts.simulation.made_by},
            clusters=(*pool.training.kept, *pool.held_out.kept),
            snapshots=np.array([each.positions for each in pool.snapshots.kept], dtype=np.float64),
            boxes=np.array([_box(each) for each in pool.snapshots.kept], dtype=np.float64).reshape(-1, 3, 3),
        )
        parts.journal.commit(checkpoint, good=state.good)
        learner.committed()
        learner.shadows.prune(state.shadow)

    def begin(self) -> None:
        """The first commit, before anything is labelled: nothing that is paid for can be lost.

        Raises:
            DynamicsError: the structure is one that no dynamics can begin from.
        """
        self._parts.simulation.instant()
        self.commit(scheduled=False)

    def close(self) -> None:
        """Release the database, and end the process that computes labels."""
        self._parts.learner.close()
        self._parts.journal.close()

    def _every(self, steps: int) -> bool:
        return self.state.step % steps == 0

    def _frame_due(self) -> bool:
        config, state = self._parts.config, self.state
        regular = self._every(config.output.frame_every_steps) or state.step == config.dynamics.steps
        # Each switch of a ramp can be recomputed if the frame that it was made at is stored.
        return regular or state.ramp is not None

    def _check_due(self) -> bool:
        return rhythm.due(self.state)

    def _commit_due(self) -> bool:
        return self._every(self._parts.config.output.commit_every_steps)

    def _tell(self, stage: str, *, force: bool = False) -> None:
        self._teller.tell(stage, self.state, self._parts.learner.known, force=force)

    def _stage(self, stage: str) -> None:
        self._tell(stage, force=True)

    def _remember(self, now: Molecules) -> None:
        """A stored frame between two looks may be chosen for a label at the next one."""
        if self._frame_due():
            self._parts.stretch.offer(self.state.step, now)

    def _look(self, now: Molecules) -> Floats:
        """Disagreement of what is on the ensemble now, eV/Å; moves the region."""
        self._tell("disagreement", force=True)
        parts, before = self._parts, self.state.region
        sigma, part = parts.doubt(now), parts.part(now)
        self.state.hottest = parts.policy.hottest(sigma)
        time_fs, surface = self.state.step * parts.config.dynamics.timestep_fs, self.state.model_id
        try:
            region, self.state.memory = parts.policy.look(
                sigma, self.state.memory, before, part.positions, part, time_fs=time_fs, surface=surface
            )
        except NoRoom as error:
            # Link atoms ask for room by where the atoms are: at another look there may be enough.
            self.note("region_failed", f"the region stays where it was: {error.what}")
            return sigma
        self.state.region = region
        if region.epoch != before.epoch:
            whole = parts.whole_region(region)
            core, atoms = tuple(whole.core.tolist()), tuple(whole.atoms.tolist())
            parts.journal.region(RegionRow(epoch=region.epoch, step=self.state.step, core=core, atoms=atoms))
            message = f"{len(core)} core of {len(atoms)} atoms; largest disagreement {sigma.max():.2f} eV/Å"
            self.note("region", message, {"largest_sigma_eV_per_A": float(sigma.max())})
        return sigma

    def _store_frame(self, instant: Instant, sigma: Floats | None) -> None:
        parts, journal, state = self._parts, self._parts.journal, self.state
        exchanges.book_heat(parts, state)
        conserved = journal.books.conserved(kinetic=instant.kinetic, potential=instant.potential)
        if state.first_conserved is None:
            state.first_conserved = conserved
        self._teller.drift_kj_per_mol = conserved - state.first_conserved
        self._teller.temperature_K = 2.0 * instant.kinetic / (parts.degrees_of_freedom * BOLTZMANN_KJ_PER_MOL_PER_K)
        frame = Frame(
            step=state.step,
            time=state.step * parts.timestep_ps,
            positions=instant.positions,
            velocities=instant.velocities,
            forces_used=instant.forces,
            potential_used=instant.potential,
            kinetic=instant.kinetic,
            conserved=conserved,
            entries=journal.books.count,
            box=instant.box,
            region_epoch=state.region.epoch,
            disagreement=np.full(len(instant.positions), np.nan) if sigma is None else parts.of_whole(sigma),
            blend=parts.simulation.blend,
        )
        journal.frame(frame, state.model_id, "" if state.ramp is None else state.ramp.model_id)

    def _gather_anchors(self, now: Molecules, *, labelled: bool) -> None:
        """Offer to the anchor pool the cluster where the region is, unless it was labelled, and one at random."""
        parts, core = self._parts, self.state.region.core
        centre = int(core[0]) if len(core) else self.state.hottest
        anywhere = random_atom(parts.kinds, parts.rng)
        with parts.journal.timings.measure("anchors"):
            part = parts.part(now)
            parts.learner.pool.visit(part, parts.rng)
            for cluster in clusters_around((anywhere,) if labelled else (centre, anywhere), part, parts.policy):
                parts.learner.offer_anchor(cluster)


def _box(molecules: Molecules) -> Floats:
    return np.zeros((3, 3)) if molecules.box is None else molecules.box
