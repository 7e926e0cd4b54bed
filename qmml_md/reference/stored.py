"""A reference that never pays twice: it looks into a store first, and keeps there what it computes."""

from collections.abc import Callable
from dataclasses import replace

from ..errors import BadLabel
from ..region.cluster import Cluster
from .guesses import Guesses, Remembering
from .label import Label, Reference, label_key
from .pending import PendingDensities
from .plausible import bad_label
from .store import LabelStore

#: Says why a label is nothing like what was to be expected; empty where it is.
Judge = Callable[[Label], str]


class StoredReference:
    """A reference that looks into a store before it computes, and puts what it computes there.

    Attributes:
        level: of the reference.
    """

    def __init__(self, reference: Reference, store: LabelStore, pending: PendingDensities | None = None) -> None:
        """Put a store before a reference.

        Args:
            reference: computes.
            store: of labels.
            pending: densities of labels that a killed run may have to start from; None if nothing need be exact.
        """
        self._reference = reference
        self._store = store
        self._pending = pending
        self._occasion = 0
        self._remembered: set[str] = set()
        self.level = reference.level

    def begin(self, occasion: int) -> None:
        """Forget where clusters may start from: densities pass from label to label on one occasion only.

        Args:
            occasion: its number.
        """
        self._occasion = occasion
        self._remembered.clear()
        guesses = self._guesses
        if guesses is not None:
            guesses.forget()

    def label(self, cluster: Cluster) -> Label:
        """The label of a cluster, computed if it is not in the store.

        Raises:
            LabelError: it could not be computed, or is quarantined.
            RunDirectoryError: the store cannot be read or written.
        """
        return self.known(cluster) or self.compute(cluster)

    def known(self, cluster: Cluster) -> Label | None:
        """The label if it is in the store. The same geometry may have been met with other atoms of the system.

        Raises:
            BadLabel: what was computed is quarantined.
            RunDirectoryError: the store cannot be read, or holds something else.
        """
        key = label_key(cluster, self.level)
        found = self._store.get(key)
        if found is None:
            reason = self._store.quarantined(key)
            if reason is not None:
                raise bad_label(key, reason)
            return None
        self._recall(key)
        return replace(found, cluster=cluster)

    def compute(self, cluster: Cluster, judge: Judge | None = None) -> Label:
        """Compute the label and keep it; what must not be used is kept apart.

        Args:
            cluster: not in the store.
            judge: what it says no to is computed once more, from scratch.

        Raises:
            BadLabel: it cannot be right, or the judge said no twice.
            LabelError: it could not be computed.
            RunDirectoryError: the store cannot be written.
        """
        try:
            label = self._judged(cluster, judge)
        except BadLabel as error:
            worst = error.label if isinstance(error.label, Label) else None
            self._store.quarantine(error.key, error.reason, cluster, self.level, worst)
            raise
        guesses = self._guesses
        density = None if guesses is None else guesses.newest()
        # Before the label: what is found in the store is not computed, and the next one needs this to start from.
        if self._pending is not None and density is not None:
            self._pending.put(label.key, density, self._occasion)
        self._remembered.add(label.key)
        self._store.put(label)
        return label

    def _judged(self, cluster: Cluster, judge: Judge | None) -> Label:
        guesses = self._guesses
        before = () if guesses is None else guesses.all()
        label = self._reference.label(cluster)
        reason = "" if judge is None else judge(label)
        if judge is None or not reason:
            return label
        if guesses is not None:
            # From superposed atoms: a wrong state of the electrons would be found again from where it was found.
            guesses.forget()
        try:
            label = self._reference.label(cluster)
        finally:
            # Nothing starts from the density of a label that is not used.
            newest = None if guesses is None else guesses.newest()
            if guesses is not None:
                guesses.put_back(before)
        reason = judge(label)
        if reason:
            raise bad_label(label.key, reason, label)
        if guesses is not None and newest is not None:
            guesses.remember(newest)
        return label

    def _recall(self, key: str) -> None:
        """Start the next cluster from a label that this run computed on this occasion before it was killed."""
        guesses = self._guesses
        if self._pending is None or guesses is None or key in self._remembered:
            return
        density = self._pending.get(key, self._occasion)
        if density is not None:
            self._remembered.add(key)
            guesses.remember(density)

    @property
    def _guesses(self) -> Guesses | None:
        return self._reference.guesses if isinstance(self._reference, Remembering) else None
