"""One run in motion: what is due at a step, and doing it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import Config
from ..ensemble.disagreement import disagreement, member_forces
from ..ensemble.model import AniEnsemble
from ..errors import LabelError, RegionError
from ..records.books import Account, Entry
from ..records.database import Event, ModelRow, RegionRow
from ..records.frames import Frame
from ..region.cluster import Cluster, cut_cluster
from ..region.policy import RegionPolicy
from ..region.sampling import cluster_around, random_atom
from ..system.molecules import Floats, Ints, Molecules
from ..units import BOLTZMANN_KJ_PER_MOL_PER_K, PS_PER_FS
from .checkpoint import Checkpoint
from .journal import Journal
from .learner import Learner, Update, failure
from .progress import Progress
from .simulation import Instant, Simulation
from .state import State, pack
from .teller import Teller


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a run is made of."""

    config: Config
    molecules: Molecules
    simulation: Simulation
    journal: Journal
    learner: Learner
    policy: RegionPolicy
    progress: Progress
    rng: np.random.Generator
    degrees_of_freedom: int
    kinds: tuple[Ints, ...]


class Run:
    """A run in motion.

    Attributes:
        state: what changes and is kept in checkpoints.
    """

    def __init__(self, parts: Parts, state: State, ensemble: AniEnsemble) -> None:
        self._parts = parts
        self.state = state
        self._ensemble = ensemble
        dynamics = parts.config.dynamics
        self._teller = Teller(parts.progress, state, steps=dynamics.steps, timestep_fs=dynamics.timestep_fs)

    @property
    def time_ps(self) -> float:
        """Simulated time, ps."""
        return self.state.step * self._parts.config.dynamics.timestep_fs * PS_PER_FS

    def advance(self) -> None:
        """One step of dynamics."""
        with self._parts.journal.timings.measure("md"):
            self._parts.simulation.step()
        self.state.step += 1
        self._tell("md")

    def due(self) -> bool:
        """Whether anything is to be done at this step."""
        return self._frame_due() or self._check_due() or self._commit_due()

    def attend(self) -> None:
        """Do everything that is due at this step: look, store, learn, commit."""
        with self._parts.journal.timings.measure("md", 0):
            instant = self._parts.simulation.instant()
        sigma = self._look(instant) if self._check_due() else None
        if self._frame_due() or self._check_due():
            self._store_frame(instant, sigma)
        labels = len(self._parts.learner.labels)
        updated = sigma is not None and self._learn(instant, sigma)
        self._gather_anchors(instant.positions, labelled=len(self._parts.learner.labels) > labels)
        if updated or self._commit_due():
            self.commit()

    def note(self, kind: str, message: str, data: dict[str, Any] | None = None) -> None:
        """Write down something that happened, and tell whoever watches."""
        event = Event(step=self.state.step, time=self.time_ps, kind=kind, message=message, data=data or {})
        self._parts.journal.event(event)
        self._parts.progress.event(event)

    def finish(self, kind: str, message: str) -> None:
        """Commit what is left with a last event."""
        self.note(kind, message)
        self.commit()
        self._tell("done", force=True)

    def commit(self) -> None:
        """Make everything up to this step true."""
        self._tell("io", force=True)
        parts, learner = self._parts, self._parts.learner
        exact, portable = parts.simulation.checkpoint()
        checkpoint = Checkpoint(
            step=self.state.step,
            openmm=exact,
            openmm_xml=portable,
            state=pack(self.state, [label.key for label in learner.labels], parts.rng, learner.pool),
            clusters=(*learner.pool.training.kept, *learner.pool.held_out.kept),
            snapshots=np.array(learner.pool.snapshots.kept, dtype=np.float64),
        )
        parts.journal.commit(checkpoint)

    def close(self) -> None:
        """Release the database."""
        self._parts.journal.close()

    def _every(self, steps: int) -> bool:
        return self.state.step % steps == 0

    def _frame_due(self) -> bool:
        config = self._parts.config
        return self._every(config.output.frame_every_steps) or self.state.step == config.dynamics.steps

    def _check_due(self) -> bool:
        return self._every(self._parts.config.region.check_every_steps)

    def _commit_due(self) -> bool:
        return self._every(self._parts.config.output.commit_every_steps)

    def _tell(self, stage: str, *, force: bool = False) -> None:
        self._teller.tell(stage, self.state, len(self._parts.learner.labels), force=force)

    def _look(self, instant: Instant) -> Floats:
        """Disagreement now; moves the region."""
        self._tell("disagreement", force=True)
        parts, before = self._parts, self.state.region
        with parts.journal.timings.measure("disagreement"):
            box = None if parts.molecules.box is None else instant.box
            sigma = disagreement(member_forces(self._ensemble, parts.molecules.numbers, instant.positions, box))
        self.state.hottest = int(sigma.argmax())
        region = parts.policy.select(sigma, before, instant.positions, parts.molecules)
        if region.epoch != before.epoch:
            self.state.region = region
            core, atoms = tuple(region.core.tolist()), tuple(region.atoms.tolist())
            parts.journal.region(RegionRow(epoch=region.epoch, step=self.state.step, core=core, atoms=atoms))
            message = f"{len(core)} core of {len(atoms)} atoms; largest disagreement {sigma.max():.2f} eV/Å"
            self.note("region", message, {"largest_sigma_eV_per_A": float(sigma.max())})
        return sigma

    def _store_frame(self, instant: Instant, sigma: Floats | None) -> None:
        journal, state = self._parts.journal, self.state
        self._book_heat()
        conserved = journal.books.conserved(kinetic=instant.kinetic, potential=instant.potential)
        if state.first_conserved is None:
            state.first_conserved = conserved
        self._teller.drift_kj_per_mol = conserved - state.first_conserved
        freedom = self._parts.degrees_of_freedom
        self._teller.temperature_K = 2.0 * instant.kinetic / (freedom * BOLTZMANN_KJ_PER_MOL_PER_K)
        frame = Frame(
            step=state.step,
            time=self.time_ps,
            positions=instant.positions,
            velocities=instant.velocities,
            forces_used=instant.forces,
            potential_used=instant.potential,
            kinetic=instant.kinetic,
            conserved=conserved,
            entries=journal.books.count,
            box=instant.box,
            region_epoch=state.region.epoch,
            disagreement=np.full(len(instant.positions), np.nan) if sigma is None else sigma,
        )
        journal.frame(frame, state.model_id)

    def _book_heat(self) -> None:
        if self._parts.config.dynamics.integrator != "langevin" or self.state.step == 0:
            return
        total = self._parts.simulation.heat()
        self._post(Account.HEAT, self.state.heat_booked, total, "thermostat since the last frame")
        self.state.heat_booked = total

    def _post(self, account: Account, before: float, after: float, cause: str) -> None:
        step, time = self.state.step, self.time_ps
        entry = Entry(step=step, time=time, account=account, before=before, after=after, cause=cause)
        self._parts.journal.post(entry)

    def _gather_anchors(self, positions: Floats, *, labelled: bool) -> None:
        """Offer to the anchor pool the cluster where the region is, unless it was labelled, and one at random."""
        parts, core = self._parts, self.state.region.core
        centre = int(core[0]) if len(core) else self.state.hottest
        anywhere = random_atom(parts.kinds, parts.rng)
        with parts.journal.timings.measure("anchors"):
            parts.learner.pool.visit(positions, parts.rng)
            for atom in (anywhere,) if labelled else (centre, anywhere):
                cluster = cluster_around(atom, positions, parts.molecules, parts.policy)
                parts.learner.pool.offer(cluster, parts.rng)

    def _learn(self, instant: Instant, sigma: Floats) -> bool:
        """Label the region if there is one, score the label, train on it. Returns whether the model changed."""
        parts, region = self._parts, self.state.region
        # A model that comes at the last step would never move an atom.
        last = self.state.step == parts.config.dynamics.steps
        if last or not len(region.core) or len(parts.learner.labels) >= parts.config.reference.max_labels:
            return False
        self._tell("qm", force=True)
        try:
            cluster = self._cut(instant)
            label, reused = parts.learner.label(cluster)
        except (LabelError, RegionError) as error:
            self.state.failed += 1
            self.note("label_failed", failure(error), {"atoms": region.atoms.tolist()})
            return False
        row = parts.learner.score(label, self._ensemble, self.state.model_id, sigma, region, self.state.step, reused)
        parts.journal.label(row)
        source = "from the store" if reused else f"{label.wall_time:.0f} s"
        rmse, start, worst = (row.data[key] for key in ("force_rmse", "force_rmse_start", "force_maxresid"))
        message = (
            f"{cluster.size} atoms, {source}; before training: force RMSE {rmse:.4f} "
            f"(starting model {start:.4f}), largest {worst:.3f} eV/Å"
        )
        self.note("label", message, {"key": label.key})
        if not parts.config.learning.enabled:
            parts.learner.remember(label)
            return False
        self._tell("training", force=True)
        return self._decide(parts.learner.train(label, self._ensemble))

    def _cut(self, instant: Instant) -> Cluster:
        settings = self._parts.config.reference
        charge, multiplicity = settings.charge, settings.multiplicity
        molecules, atoms = self._parts.molecules, self.state.region.atoms
        return cut_cluster(molecules, instant.positions, atoms, charge=charge, multiplicity=multiplicity)

    def _decide(self, update: Update) -> bool:
        """Swap to an accepted model and book it; note a refused one. Returns whether the model changed."""
        keys = [label.key for label in self._parts.learner.labels]
        data, verdict = update.data(keys), update.verdict
        if update.model_id == self.state.model_id:
            self.note("update_unneeded", "the model is within tolerance of all labels as it is")
            return False
        if not verdict.accepted:
            self.state.refused += 1
            self.note("update_refused", "; ".join(verdict.reasons), {**data, "model": update.model_id})
            return False
        self._tell("swap", force=True)
        with self._parts.journal.timings.measure("swap"):
            before, after = self._parts.simulation.swap(update.ensemble)
        delta = after - before
        old, self.state.model_id, self._ensemble = self.state.model_id, update.model_id, update.ensemble
        self.state.accepted += 1
        data["delta_u_kj_per_mol"] = delta
        self._post(Account.MODEL, before, after, f"model {old[:12]} → {update.model_id[:12]}")
        self._parts.journal.model(ModelRow(id=update.model_id, step=self.state.step, parent=old, data=data))
        message = (
            f"{update.fit.epochs} epochs on {len(keys)} labels: force RMSE {verdict.force_rmse:.4f}, "
            f"largest {verdict.force_maxresid:.3f} eV/Å; ΔU {delta:+.3f} kJ/mol"
        )
        self.note("update_accepted", message, {**data, "model": update.model_id})
        return True
