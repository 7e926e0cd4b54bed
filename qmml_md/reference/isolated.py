"""Labels from a process of their own: what goes wrong in it cannot take the run along.

The process is started with the first label and answers until the run closes it. It has no memory: the densities that
clusters start from stay with the run, and travel with each request, so that another process in its place gives the
same label to the bit.
"""

import weakref
from collections.abc import Callable, Sequence

from .. import config
from ..errors import BadLabel, ConfigError, LabelError, LabelTimeout, NotConverged, OutOfMemory, QmmlError, WorkerDied
from ..region.cluster import Cluster
from .guesses import Density, Guesses
from .label import Label, LevelOfTheory, Reference, check_embedding
from .ladder import RUNGS, check_electrons, check_rungs
from .plausible import check_label
from .process import COMMAND, Patience, Process
from .pyscf import PyscfReference
from .pyscf_setup import check_level, level_of_theory
from .wire import Message, WireError, pack_cluster, pack_density, unpack_density, unpack_label

#: Time for a process to start and load PySCF from a slow disk, s.
START_S = 120.0
#: Time without a sign of life after which a process is taken for stopped, s. Long calls into compiled code that keep
#: Python from giving one take a few seconds.
SILENCE_S = 60.0
#: Time beyond ``reference.time_limit_s``, s, in which a label may notice by itself that it has passed.
GRACE_S = 5.0

#: Failures that an answer can name.
_NAMED: dict[str, type[QmmlError]] = {
    kind.__name__: kind for kind in (ConfigError, LabelError, LabelTimeout, NotConverged, OutOfMemory)
}


class IsolatedReference:
    """PySCF in a process of its own.

    Attributes:
        level: level of theory of every label.
        guesses: densities that the next clusters may start from.
        faults: what went wrong and was tried again, one line each; whoever tells of it clears it.
    """

    def __init__(
        self,
        settings: config.Reference,
        threads: int | None = None,
        *,
        stop: Callable[[], bool] | None = None,
        command: Sequence[str] = COMMAND,
        silence_s: float = SILENCE_S,
        grace_s: float = GRACE_S,
        rungs: tuple[str, ...] = RUNGS,
    ) -> None:
        """Check that PySCF knows the level; nothing is started yet.

        Args:
            settings: level of theory and limits.
            threads: OpenMP threads of a label; None leaves PySCF's default, all cores.
            stop: asked while waiting, at least twice a second; when it says so, the label is abandoned.
            command: what to start.
            silence_s: time without a sign of life after which the process is replaced, s.
            grace_s: time beyond the limit of a label after which its process is ended, s.
            rungs: rungs of the SCF ladder to use, in order.

        Raises:
            ConfigError: the method or basis is unknown to PySCF.
        """
        check_level(settings)
        self.level: LevelOfTheory = level_of_theory(settings)
        self.guesses = Guesses()
        self.faults: list[str] = []
        self._settings, self._threads, self._rungs = settings, threads, check_rungs(rungs)
        self._stop, self._command = stop, tuple(command)
        self._silence_s, self._grace_s = silence_s, grace_s
        self._requests = 0
        self._process: Process | None = None
        self._ending: weakref.finalize | None = None  # type: ignore[type-arg]

    def label(self, cluster: Cluster) -> Label:
        """Compute a label; where the process fails, or what it says cannot be right, ask another one.

        Args:
            cluster: atoms in vacuum, or among point charges where the level is embedded.

        Raises:
            WorkerDied: no process gave an answer, in ``reference.retries`` further tries.
            BadLabel: what they gave cannot be right.
            OutOfMemory: memory ran out, or the limit for it; not tried again.
            LabelTimeout: the time limit has passed; not tried again.
            LabelAbandoned: somebody wants to stop.
            LabelError: as for ``PyscfReference.compute``.
        """
        check_electrons(cluster)
        check_embedding(cluster, self.level)
        start = self.guesses.best(cluster)
        for left in range(self._settings.retries, -1, -1):
            try:
                label, density = self._compute(cluster, start)
                check_label(label, cluster, self.level)
                break
            except (WorkerDied, BadLabel) as error:
                self.close()
                if not left:
                    raise
                self.faults.append(f"{type(error).__name__}: {error.what}")
        self.guesses.remember(density)
        return label

    def _compute(self, cluster: Cluster, start: Density | None) -> tuple[Label, Density]:
        process = self._ready_process()
        plain, arrays = pack_cluster(cluster)
        if start is not None:
            more, matrices = pack_density(start)
            plain, arrays = plain | more, arrays | matrices
        limit_s = self._settings.time_limit_s + self._grace_s
        answer = self._ask(
            process, Message(kind="label", id=self._next(), plain=plain, arrays=arrays), limit_s, self._silence_s
        )
        if answer.kind == "error":
            raise self._named(answer)
        try:
            label, density = unpack_label(answer.plain, answer.arrays), unpack_density(answer.plain, answer.arrays)
            if density is None or density.cluster.geometry != cluster.geometry:
                raise WireError("the density of another cluster, or none")
        except WireError as error:
            raise WorkerDied(f"the process for labels sent {error}", cure="it is replaced; `qmml doctor`") from error
        return label, density

    def _ready_process(self) -> Process:
        """The process that answers; a new one if there is none or if it ended since."""
        if self._process is not None and self._process.alive:
            return self._process
        if self._process is not None:
            self.faults.append("WorkerDied: the process for labels ended while it had nothing to do")
            self.close()
        process = Process(self._command)
        self._process, self._ending = process, weakref.finalize(self, process.end)
        plain = {
            "settings": self._settings.model_dump(mode="json"),
            "threads": self._threads,
            "grid_response": True,
            "rungs": list(self._rungs),
            "memory_limit_GB": self._settings.memory_limit_GB,
        }
        try:
            ready = self._ask(process, Message(kind="set up", id=self._next(), plain=plain), START_S, START_S)
        except LabelTimeout as error:
            raise WorkerDied(
                f"the process for labels did not start within {START_S:g} s", cure="`qmml doctor`"
            ) from error
        if ready.kind == "error":
            raise self._named(ready)
        if ready.plain.get("level") != self.level.fingerprint:
            raise WorkerDied("the process for labels works at another level of theory", cure="reinstall qmml-md")
        return process

    def _ask(self, process: Process, request: Message, limit_s: float, silence_s: float) -> Message:
        try:
            return process.ask(request, Patience(limit_s=limit_s, silence_s=silence_s, stop=self._stop))
        except BaseException:
            # Nothing is left of it.
            self.close()
            raise

    def _named(self, answer: Message) -> QmmlError:
        name, what, cure = (str(answer.plain.get(part, "")) for part in ("name", "what", "cure"))
        kind = _NAMED.get(name, LabelError)
        if kind is OutOfMemory:
            # What it holds is given back; the next label starts with all that there is.
            self.close()
        return kind(what or "the label failed", cure=cure)

    def _next(self) -> int:
        self._requests += 1
        return self._requests

    def close(self) -> None:
        """End the process; the next label starts another one."""
        if self._ending is not None:
            self._ending()
        self._process = self._ending = None


def open_reference(
    settings: config.Reference, threads: int | None = None, *, stop: Callable[[], bool] | None = None
) -> Reference:
    """The program that computes labels, in a process of its own or in this one.

    Args:
        settings: level of theory and limits.
        threads: OpenMP threads of a label; None leaves PySCF's default, all cores.
        stop: see ``IsolatedReference``; without a process of its own a label is finished first.

    Raises:
        ConfigError: the method or basis is unknown to PySCF.
    """
    if settings.isolate:
        return IsolatedReference(settings, threads, stop=stop)
    return PyscfReference(settings, threads)
