"""The process for labels with something wrong: ``python bad_worker.py FAULTS FILE PARENT``.

It is the real worker but for its answers. FAULTS has a name for each request for a label, separated by commas and
counted over processes in FILE; what comes after them is right, or like the last one if FAULTS ends in ``…``.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from qmml_md.errors import NotConverged
from qmml_md.reference import worker
from qmml_md.reference.label import Label, label_key
from qmml_md.reference.pyscf import PyscfReference
from qmml_md.reference.wire import Message, frame

TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def _permuted(label: Label) -> Label:
    cluster = label.cluster
    order = np.roll(np.arange(cluster.size), 1)
    numbers, positions = cluster.numbers[order], cluster.positions[order]
    return replace(label, cluster=replace(cluster, numbers=numbers, positions=positions), forces=label.forces[order])


#: What is wrong with a label that looks like one.
WRONG: dict[str, Callable[[Label], Label]] = {
    "nan_energy": lambda x: replace(x, energy=float("nan")),
    "infinite_energy": lambda x: replace(x, energy=float("-inf")),
    "nan_force": lambda x: replace(x, forces=np.where(np.arange(x.cluster.size)[:, None] == 1, np.nan, x.forces)),
    "positive_energy": lambda x: replace(x, energy=-x.energy),
    "energy_in_kj": lambda x: replace(x, energy=x.energy * 96.485),
    "misordered_atoms": _permuted,
    "permuted_forces": lambda x: replace(x, forces=np.roll(x.forces, 1, axis=0)),
    "rotated_forces": lambda x: replace(x, forces=x.forces @ TURN.T),
    "missing_atom": lambda x: replace(x, forces=x.forces[:-1]),
    "shifted_force": lambda x: replace(x, forces=x.forces + np.eye(x.cluster.size, 3)),
    "other_level": lambda x: replace(x, level=replace(x.level, basis="6-31g")),
    "other_key": lambda x: replace(x, key="0" * 64),
}


class BadReference(PyscfReference):
    """Gives labels that are wrong."""

    fault = ""

    def compute(self, cluster, start):  # type: ignore[no-untyped-def]
        if self.fault == "not_converged":
            raise NotConverged("the SCF goes round in circles", cure="none")
        if self.fault == "out_of_memory":
            hog = []
            while True:
                hog.append(np.zeros(10**7))
        if self.fault == "out_of_memory_on_stderr":
            print("terminate called after throwing an instance of 'std::bad_alloc'", file=sys.stderr, flush=True)
            os.abort()
        if self.fault == "unexpected":
            raise AssertionError("nobody thought of this")
        if self.fault == "slow":
            time.sleep(600.0)
        if self.fault == "noise":
            os.write(1, b"converged SCF energy = -74.9\n" * 4000)
            print("rubbish", flush=True)
        if self.fault == "wrong_charge":
            other = replace(cluster, charge=cluster.charge - 2)
            label, density = super().compute(other, None)
            key = label_key(cluster, self.level)
            return replace(label, cluster=cluster, key=key), replace(density, cluster=cluster)
        label, density = super().compute(cluster, start)
        return WRONG.get(self.fault, lambda x: x)(label), density


class BadLine(worker.Line):
    """Sends what is no answer."""

    fault = ""
    earlier: Message | None = None

    def send(self, message: Message) -> None:
        if message.kind != "label":
            if self.fault in ("hangs", "garbage") and message.kind == "beat":
                return
            super().send(message)
            return
        raw, number = frame(message), self._descriptor
        if self.fault == "truncated":
            os.write(number, raw[: len(raw) // 2])
            os._exit(0)
        elif self.fault == "garbage":
            os.write(number, b"\x00\xff" * 500)
        elif self.fault == "huge":
            os.write(number, b"QML1" + b"\xff" * 12)
        elif self.fault == "earlier":
            super().send(replace(message, id=message.id - 1))
            super().send(message)
        elif self.fault == "earlier_only":
            super().send(replace(message, id=message.id - 1))
        elif self.fault == "later":
            super().send(replace(message, id=message.id + 7))
        elif self.fault == "twice":
            super().send(message)
            super().send(message)
        elif self.fault == "empty":
            super().send(replace(message, arrays={}))
        else:
            super().send(message)


def strike(fault: str) -> None:
    """What happens to the process as a whole while it computes."""
    if fault == "exits":
        sys.exit(3)
    if fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if fault == "stops":
        os.kill(os.getpid(), signal.SIGSTOP)
    if fault == "hangs":
        time.sleep(600.0)


def main() -> int:
    faults, file = sys.argv[1].split(","), Path(sys.argv[2])
    del sys.argv[1:3]
    if faults[0] == "never_starts":
        return 3
    true_answer = worker._answer

    def answer(reference: PyscfReference, request: Message) -> Message:
        with file.open("a") as seen:
            seen.write(f"{os.getpid()}\n")
        number = len(file.read_text().splitlines()) - 1
        if faults[-1] == "…":
            number = min(number, len(faults) - 2)
        now = faults[number] if number < len(faults) else ""
        BadReference.fault = BadLine.fault = now
        strike(now)
        return true_answer(reference, request)

    worker._answer = answer
    worker.PyscfReference = BadReference  # type: ignore[misc]
    worker.Line = BadLine  # type: ignore[misc]
    return worker.main()


if __name__ == "__main__":
    sys.exit(main())
