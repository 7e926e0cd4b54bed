"""Every kind of component that fails: how it is made to fail, and which outcomes are allowed.

Faults of the process for labels are made by ``tests/unit/reference/bad_worker.py`` in its place; all others in the
process of the run.
"""

import functools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qmml_md import config as settings
from qmml_md.engine import learner, setup
from qmml_md.engine.journal import Journal
from qmml_md.engine.run import Run
from qmml_md.engine.simulation import Simulation
from qmml_md.reference.isolated import IsolatedReference
from qmml_md.reference.pending import PendingDensities
from qmml_md.reference.store import LabelStore

BAD_WORKER = Path(__file__).resolve().parents[2] / "tests" / "unit" / "reference" / "bad_worker.py"
#: Where a fault strikes: at this label, look or call, counted from 0.
PLACES = (0, 1, 2)
#: Time without a sign of life after which a process is replaced here, s.
SILENCE_S = 12.0
LIMIT_S = 40.0

#: File that says that a fault was made; the process for labels writes a line for each request instead.
STRUCK, SEEN = "struck", "seen"

Inject = Callable[[int, Path], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of fault.

    Attributes:
        name: of it.
        allowed: outcomes that are right: `retried`, `skipped`, `refused`, `rewound`, `stopped`, `unharmed`.
        inject: makes it, in the process of the run; takes the place and a folder for notes.
        changes: of the configuration.
    """

    name: str
    allowed: tuple[str, ...]
    inject: Inject
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)


def _worker(fault: str, limit_s: float = LIMIT_S) -> Inject:
    def inject(place: int, folder: Path) -> None:
        faults = "," * place + fault if not fault.endswith("…") else fault
        command = (sys.executable, str(BAD_WORKER), faults, str(folder / SEEN))

        def opened(reference: settings.Reference, threads: int | None, *, stop: Any = None) -> IsolatedReference:
            limited = reference.model_copy(update={"time_limit_s": limit_s, "isolate": True})
            return IsolatedReference(limited, threads, stop=stop, command=command, silence_s=SILENCE_S, grace_s=1.0)

        setup.open_reference = opened  # type: ignore[assignment]

    return inject


def _at_call(owner: Any, name: str, strike: Callable[..., Any], often: int = len(PLACES)) -> Inject:
    """At the call with the number of the place, do something else: it gets the real function and its arguments.

    Where a run calls it only ``often`` times, the last place is the first one again.
    """

    def inject(place: int, folder: Path) -> None:
        real, calls = getattr(owner, name), [0]
        place %= often

        @functools.wraps(real)
        def call(*args: Any, **options: Any) -> Any:
            number, calls[0] = calls[0], calls[0] + 1
            if number != place:
                return real(*args, **options)
            (folder / STRUCK).touch()
            return strike(real, *args, **options)

        setattr(owner, name, call)

    return inject


def _no_memory(real: Callable[..., Any], *args: Any, **options: Any) -> Any:
    raise MemoryError


def _diverges(real: Callable[..., Any], *args: Any, **options: Any) -> Any:
    fit = real(*args, **options)
    for network in fit.ensemble.networks:
        network.last.weight.data.mul_(1e3)
    return fit


def _gives_nan(real: Callable[..., Any], *args: Any, **options: Any) -> Any:
    fit = real(*args, **options)
    fit.ensemble.networks[0].last.weight.data.fill_(float("nan"))
    return fit


def _explodes(factor: float) -> Inject:
    def inject(place: int, folder: Path) -> None:
        real, done = Run.advance, [False]

        def advance(run: Run) -> None:
            real(run)
            if run.state.step == (3, 8, 14)[place] and not done[0]:
                done[0] = True
                (folder / STRUCK).touch()
                simulation: Simulation = run._parts.simulation
                instant = simulation.instant()
                box = instant.box if instant.box.any() else None
                simulation.place(instant.positions, instant.velocities * factor, box)

        Run.advance = advance  # type: ignore[method-assign]

    return inject


def _clock(names: tuple[str, ...], hours: float) -> Inject:
    """From the label of the place on, clocks are off by some hours."""

    def inject(place: int, folder: Path) -> None:
        real_put, puts = LabelStore.put, [0]

        def put(store: LabelStore, label: Any) -> None:
            if puts[0] == place:
                (folder / STRUCK).touch()
                for name in names:
                    true = getattr(time, name)
                    setattr(time, name, lambda true=true: true() + 3600.0 * hours)
            puts[0] += 1
            real_put(store, label)

        LabelStore.put = put  # type: ignore[method-assign]

    return inject


def _full(real: Callable[..., Any], store: LabelStore, *args: Any, **options: Any) -> Any:
    connect = store._database._connect

    def limited() -> Any:
        connection = connect()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={max(1, pages)}")
        return connection

    store._database._connect = limited
    try:
        # As many rows as a page may still hold.
        for number in range(100):
            real(store, *args, **options) if number == 0 else store.quarantine(
                f"{number:064x}", "fills the page", args[0].cluster, args[0].level, None
            )
    finally:
        del store._database._connect


def _no_folder(real: Callable[..., Any], pending: PendingDensities, *args: Any, **options: Any) -> Any:
    true = pending._folder
    pending._folder = Path("/proc/nowhere")
    try:
        return real(pending, *args, **options)
    finally:
        pending._folder = true


def _later(real: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Half a second late: a slow disk."""
    time.sleep(0.5)
    return real(*args, **options)


ONCE = ("retried",)
WRONG_LABELS = (
    "nan_energy", "infinite_energy", "nan_force", "positive_energy", "misordered_atoms", "permuted_forces",
    "rotated_forces", "missing_atom", "shifted_force", "wrong_charge", "other_level", "other_key",
)  # fmt: skip
BROKEN = ("truncated", "garbage", "huge", "later", "empty", "exits", "killed", "crashes", "stops", "hangs")
HARMLESS = ("earlier", "twice", "noise")

KINDS = (
    *(Kind(name=name, allowed=ONCE, inject=_worker(name)) for name in (*WRONG_LABELS, *BROKEN)),
    *(Kind(name=name, allowed=("unharmed",), inject=_worker(name)) for name in HARMLESS),
    *(
        Kind(name=name, allowed=("skipped",), inject=_worker(name))
        for name in ("not_converged", "unexpected", "out_of_memory_on_stderr")
    ),
    Kind(name="slow", allowed=("skipped",), inject=_worker("slow", limit_s=4.0)),
    Kind(name="always_dead", allowed=("skipped",), inject=_worker("killed,…")),
    Kind(name="always_turned", allowed=("skipped",), inject=_worker("rotated_forces,…")),
    Kind(name="training_diverges", allowed=("refused",), inject=_at_call(learner, "finetune", _diverges, 2)),
    Kind(name="training_gives_nan", allowed=("refused",), inject=_at_call(learner, "finetune", _gives_nan, 2)),
    Kind(name="no_memory_to_train", allowed=("stopped",), inject=_at_call(learner, "finetune", _no_memory, 2)),
    Kind(name="no_memory_to_commit", allowed=("stopped",), inject=_at_call(Journal, "commit", _no_memory)),
    Kind(name="no_memory_to_store", allowed=("stopped",), inject=_at_call(LabelStore, "put", _no_memory)),
    Kind(name="no_memory_to_step", allowed=("stopped",), inject=_at_call(Simulation, "step", _no_memory)),
    Kind(name="atoms_explode", allowed=("rewound", "stopped"), inject=_explodes(1e4)),
    Kind(name="atoms_nan", allowed=("rewound", "stopped"), inject=_explodes(float("nan"))),
    Kind(name="clock_forward", allowed=("unharmed",), inject=_clock(("time",), 5.0)),
    Kind(name="clock_back", allowed=("unharmed",), inject=_clock(("time",), -5.0)),
    Kind(name="all_clocks_forward", allowed=("unharmed",), inject=_clock(("time", "monotonic", "perf_counter"), 5.0)),
    Kind(name="store_full", allowed=("stopped",), inject=_at_call(LabelStore, "put", _full)),
    Kind(name="no_room_for_a_density", allowed=("stopped",), inject=_at_call(PendingDensities, "put", _no_folder)),
    Kind(name="slow_disk", allowed=("unharmed",), inject=_at_call(Journal, "commit", _later)),
)

#: What the quick form measures.
QUICK = ("rotated_forces", "killed", "not_converged", "training_diverges", "no_memory_to_store", "clock_forward")
