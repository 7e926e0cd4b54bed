"""How a run comes by labels: from the store if anybody paid for them, else from a process of their own."""

from ..records.run_directory import RunDirectory
from ..reference.isolated import IsolatedReference
from ..reference.label import Label, LevelOfTheory, Reference
from ..reference.pending import PENDING, PendingDensities
from ..reference.store import LabelStore
from ..reference.stored import Judge, StoredReference
from ..region.cluster import Cluster
from .journal import Timings


class Labelling:
    """Labels of one run.

    Attributes:
        store: of all labels, those of other runs included.
        level: of theory.
    """

    def __init__(self, run: RunDirectory, program: Reference, timings: Timings, run_id: str = "") -> None:
        """Open the store; nothing is computed yet.

        Args:
            run: where labels and pending densities are kept.
            program: computes labels.
            timings: of the run.
            run_id: name of the run in the store, so that it knows which labels it has paid for.
        """
        self.store = LabelStore(run.labels, owner=run_id)
        self.level: LevelOfTheory = program.level
        self._program = program
        self._timings = timings
        self._pending = PendingDensities(run.root / PENDING)
        self._reference = StoredReference(program, self.store, self._pending)

    def begin_trigger(self, occasion: int) -> None:
        """Forget converged densities: guesses pass from label to label within a trigger only.

        A checkpoint does not hold them, and a label carries its first guess in its last digits.

        Args:
            occasion: tells triggers between two commits apart.
        """
        self._reference.begin(occasion)

    def label(self, cluster: Cluster, judge: Judge | None = None) -> tuple[Label, bool]:
        """The label of a cluster, and whether another run has paid for it.

        Args:
            cluster: what to label.
            judge: asked whether a label that was just computed is sane.

        Raises:
            BadLabel: it is quarantined.
            LabelError: it could not be computed.
            LabelAbandoned: somebody wants to stop.
            RunDirectoryError: labels cannot be read or written.
        """
        found = self._reference.known(cluster)
        if found is not None:
            return found, not self.store.paid(found.key)
        with self._timings.measure("qm"):
            return self._reference.compute(cluster, judge), False

    def faults(self) -> list[str]:
        """What went wrong with labels since this was last asked, and was tried again."""
        if not isinstance(self._program, IsolatedReference):
            return []
        found, self._program.faults = self._program.faults, []
        return found

    def committed(self) -> None:
        """What was labelled is true now: no label that a killed run would compute again starts from it.

        Raises:
            RunDirectoryError: pending densities cannot be removed.
        """
        self._pending.clear()

    def close(self) -> None:
        """End the process that computes labels."""
        if isinstance(self._program, IsolatedReference):
            self._program.close()
