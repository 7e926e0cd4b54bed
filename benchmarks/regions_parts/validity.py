"""R1: every cluster that is cut from a protein in water is a sound molecule."""

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from figures import Figure
from proteins import PROTEINS, SIZES, centres, cluster_at, policy_of, solvated
from scipy.spatial.distance import pdist

from qmml_md.errors import QmmlError
from qmml_md.region.cluster import Cluster
from qmml_md.region.policy import Region
from qmml_md.system.charges import infer_charges
from qmml_md.system.molecules import Molecules

CENTRES = {False: 300, True: 12}
#: No two atoms come closer than this, Å.
CLOSEST_A = 0.7
QUESTIONS = {
    "cut": "clusters that could be cut",
    "valence": "every atom keeps its number of bonds, link atoms counted",
    "charge": "the charge is that which valences give the capped cluster by itself",
    "electrons": "the number of electrons is even",
    "clash": "no two atoms closer than 0.7 Å",
    "size": "at most max_qm_atoms atoms, link atoms counted",
    "same": "the same again, bit for bit",
}


def answers(cluster: Cluster, molecules: Molecules, most: int) -> dict[str, bool]:
    """What holds of one cluster."""
    bonds = cluster_bonds(cluster, molecules)
    real = cluster.parent >= 0
    degree = np.bincount(bonds.ravel(), minlength=cluster.size)
    meant = np.bincount(molecules.bonds.ravel(), minlength=molecules.size)[cluster.parent]
    residues = [molecules.topology.atom(int(p)).residue.name if p >= 0 else "cap" for p in cluster.parent]
    told = infer_charges(cluster.numbers, bonds, residues)
    return {
        "valence": bool((degree[real] == meant[real]).all() and (degree[~real] == 1).all()),
        "charge": not len(told.undecided) and int(told.charge.sum()) == cluster.charge,
        "electrons": (int(cluster.numbers.sum()) - cluster.charge) % 2 == 0 and cluster.multiplicity == 1,
        "clash": cluster.size == 1 or float(pdist(cluster.positions).min()) >= CLOSEST_A,
        "size": cluster.size <= most,
    }


def cluster_bonds(cluster: Cluster, molecules: Molecules) -> np.ndarray:
    """Bonds of a cluster, those to link atoms included: pairs of its atoms, shape (b, 2)."""
    place = np.full(molecules.size, -1)
    real = np.flatnonzero(cluster.parent >= 0)
    place[cluster.parent[real]] = real
    within = place[molecules.bonds]
    return np.concatenate([within[(within >= 0).all(axis=1)], cluster.links]).astype(np.int64)


def figures(*, quick: bool) -> list[Figure]:
    """Clusters of three sizes around random centres of both proteins."""
    tally: Counter[str] = Counter()
    links, total, charged = [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for name in ["chignolin"] if quick else list(PROTEINS):
            molecules = solvated(name, Path(folder))
            chosen = centres(molecules, CENTRES[quick], np.random.default_rng(7))
            for most, buffer in SIZES:
                policy = policy_of(molecules, most, buffer)
                for atom in chosen.tolist():
                    total += 1
                    try:
                        region, cluster = cluster_at(atom, molecules, policy)
                    except QmmlError as error:
                        print(f"{name}, atom {atom}, {most} atoms: {error}")
                        continue
                    found = {"cut": True, **answers(cluster, molecules, most)}
                    found["same"] = _same(cluster_at(atom, molecules, policy), region, cluster)
                    tally.update(question for question, holds in found.items() if holds)
                    links.append(len(cluster.links))
                    charged += cluster.charge != 0
    rows = [
        Figure(
            id=f"R1.{question}", what=what, value=100.0 * tally[question] / total, unit="%", goal="100",
            met=tally[question] == total,
        )
        for question, what in QUESTIONS.items()
    ]  # fmt: skip
    return [
        Figure(
            id="R1.clusters", what="clusters tried", value=total, unit="", goal="" if quick else "≥ 1500",
            met=None if quick else total >= 1500,
        ),
        *rows,
        Figure(id="R1.linked", what="of them with link atoms", value=100.0 * np.mean(np.array(links) > 0), unit="%"),
        Figure(id="R1.links", what="most link atoms of one", value=max(links), unit=""),
        Figure(id="R1.charged", what="of them charged", value=100.0 * charged / total, unit="%"),
    ]  # fmt: skip


def _same(again: tuple[Region, Cluster], region: Region, cluster: Cluster) -> bool:
    return bool(
        np.array_equal(again[0].atoms, region.atoms)
        and again[1].geometry == cluster.geometry
        and np.array_equal(again[1].parent, cluster.parent)
    )
