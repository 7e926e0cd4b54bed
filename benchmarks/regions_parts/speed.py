"""R3: how long it takes to select a region and cut its clusters in ten thousand atoms."""

import tempfile
import time
from pathlib import Path

import numpy as np
from figures import Figure
from proteins import SIZES, centres, policy_of, solvated

from qmml_md.region.cluster import cut_cluster
from qmml_md.region.policy import empty_region

CENTRES = {False: 100, True: 3}
#: Of each centre the best of so many: the machine's other work is no cost of ours.
REPEATS = 3
#: Width of the doubt around each centre, nm: about twenty core atoms.
DOUBT_NM = 0.45
GOAL_MS = 5.0


def figures(*, quick: bool) -> list[Figure]:
    """Select and cut around random centres of a protein in water, about twenty atoms in doubt at once."""
    times, cores = [], []
    with tempfile.TemporaryDirectory() as folder:
        molecules = solvated("chignolin" if quick else "crambin", Path(folder))
        for most, buffer in SIZES:
            policy = policy_of(molecules, most, buffer)
            for atom in centres(molecules, CENTRES[quick], np.random.default_rng(3)).tolist():
                away = np.linalg.norm(molecules.positions - molecules.positions[atom], axis=1)
                doubt = np.exp(-((away / DOUBT_NM) ** 2)) + 1e-3
                found = []
                for _ in range(REPEATS):
                    began = time.perf_counter()
                    region = policy.select(doubt, empty_region(), molecules.positions, molecules)
                    for place in region.hot_places:
                        cut_cluster(molecules, molecules.positions, place.atoms, multiplicity=None, cutoff_A=5.2)
                    found.append(1e3 * (time.perf_counter() - began))
                times.append(min(found))
                cores.append(len(region.core))
    worst = max(times)
    what = f"select and cut, {molecules.size} atoms, the slowest of {len(times)}"
    goal = {} if quick else {"goal": "≤ 5", "met": worst <= GOAL_MS}
    return [
        Figure(id="R3.worst", what=what, value=worst, unit="ms", **goal),
        Figure(id="R3.median", what="the median of them", value=float(np.median(times)), unit="ms"),
        Figure(id="R3.core", what="core atoms, median", value=float(np.median(cores)), unit=""),
    ]
