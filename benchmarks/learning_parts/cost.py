"""L6: wall time of an update, training and gate, against that of the labels that caused it, side by side."""

import time

from ase import Atoms
from common import ETHANOL, WATER, anchors_for, as_cluster, base, read, train
from figures import Figure

from qmml_md.config import Learning
from qmml_md.config import Reference as ReferenceSettings
from qmml_md.learning.base_set import probe_set
from qmml_md.learning.evidence import Evidence
from qmml_md.learning.gate import judge
from qmml_md.reference.pyscf import PyscfReference

#: Labels of one trigger, as a run has it by default, and labels that a run had before.
TRIGGER, EARLIER = 3, (0, 21)


def figures(*, quick: bool) -> list[Figure]:
    """Update after the first trigger, and after the eighth."""
    found = []
    for path in (ETHANOL,) if quick else (ETHANOL, WATER):
        series = read(path)
        one = _label(series.atoms[0])
        for earlier in EARLIER[:1] if quick else EARLIER:
            known = list(range(earlier))
            start = train(series, known).ensemble if known else base()
            seconds = _update(series, [*known, *range(earlier, earlier + TRIGGER)], start)
            share = seconds / (TRIGGER * one)
            what = f"{series.name}: update with {earlier + TRIGGER} labels ({seconds:.1f} s) / {TRIGGER} labels"
            name = f"L6.{'water' if path == WATER else 'ethanol'}.{earlier + TRIGGER}"
            found.append(
                Figure(id=name, what=f"{what} of {one:.1f} s", value=share, unit="", goal="≤ 0.10", met=share <= 0.10)
            )
    return found


def _label(atoms: Atoms) -> float:
    """Time of one label at the run's default level, s; the second one, since the first also loads libraries."""
    reference = PyscfReference(ReferenceSettings(), None)
    reference.label(as_cluster(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])))
    began = time.perf_counter()
    reference.label(as_cluster(atoms))
    return time.perf_counter() - began


def _update(series, labelled: list[int], start) -> float:
    train(series, [0], settings=Learning(max_epochs=2))
    # In a run, anchors and their features are there before the labels come.
    anchors = anchors_for(series, labelled)
    began = time.perf_counter()
    fit = train(series, labelled, start=start, anchors=anchors)
    evidence = Evidence(
        labels=[series.labels[i] for i in labelled],
        unlabelled=series.unlabelled[3::4][:12],
        probes=probe_set(base().card),
    )
    judge(fit.ensemble, start, base(), evidence, Learning())
    return time.perf_counter() - began
