"""R4: how large a region must be: what a label says of its core, against the buffer around it.

A cluster around one atom grows with the buffer. On the core, the fragment or molecule of that atom, four errors say
what is still missing: of the model's forces against those in the whole system; of the quantum forces, and of what a
label teaches (the cancellation residual F_QM − F_ML), against the largest cluster whose label takes a minute. The
residual itself is given too: it is what learning must remove.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from figures import Figure
from scenes import Scene, forces, peptide, surface, water

from qmml_md.config import Reference
from qmml_md.learning.gate import cluster_forces
from qmml_md.reference.pyscf import PyscfReference
from qmml_md.region.cluster import Cluster, cut_cluster
from qmml_md.region.policy import ThresholdPolicy
from qmml_md.region.sampling import region_around
from qmml_md.system.molecules import Molecules

BUFFERS_A = (2.0, 3.0, 4.0, 5.0, 6.0)
#: Most atoms of a cluster that is labelled, of the peptide and of water: about a minute on two idle cores.
MOST = (30, 36)
#: On busy ones it may take longer, s.
PATIENCE_S = 3600.0
#: Alpha carbons that are scanned, by residue; oxygens of waters, by their number among the waters.
RESIDUES, WATERS = (2, 8), (3, 60)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cut:
    """One cluster and its forces on the core, eV/Å, shape (c, 3); quantum forces where it was labelled."""

    buffer_A: float
    cluster: Cluster
    model: np.ndarray
    quantum: np.ndarray | None


def figures(*, quick: bool) -> list[Figure]:
    """Of every buffer, over the centres of each scene."""
    if quick:
        reference = PyscfReference(Reference(method="hf", basis="sto-3g"))
        scene = peptide(4, 2)
        return _scan(scene, _alpha_carbons(scene, RESIDUES[:1]), reference, buffers=(0.0, 2.0), most=20)
    reference = PyscfReference(Reference(time_limit_s=PATIENCE_S))
    chain, box = peptide(4, 25), water(1, 40)
    oxygens = box.centres[list(WATERS)].tolist()
    return [
        *_scan(chain, _alpha_carbons(chain, RESIDUES), reference, buffers=BUFFERS_A, most=MOST[0]),
        *_scan(box, oxygens, reference, buffers=BUFFERS_A, most=MOST[1]),
    ]


def _alpha_carbons(scene: Scene, residues: Sequence[int]) -> list[int]:
    atoms = scene.frames[-1].topology.atoms
    return [atom.index for atom in atoms if atom.name == "CA" and atom.residue.resSeq in residues]


def _scan(
    scene: Scene, centres: Sequence[int], reference: PyscfReference, *, buffers: Sequence[float], most: int
) -> list[Figure]:
    frame = scene.frames[-1]
    whole, found = forces(surface(), frame), []
    fragments = [np.flatnonzero(frame.fragment_of == frame.fragment_of[atom]) for atom in centres]
    scans = [_cuts(frame, atom, core, reference, buffers, most) for atom, core in zip(centres, fragments, strict=True)]
    for k, buffer in enumerate(buffers):
        here = [cuts[k] for cuts, _ in scans]
        name, at = f"R4.{scene.name}.{buffer:g}", f"{scene.name}, buffer {buffer:g} Å"
        sizes = [cut.cluster.size for cut in here]
        found.append(
            Figure(id=f"{name}.atoms", what=f"{at}: atoms, link atoms included", value=np.mean(sizes), unit="")
        )
        missing = [cut.model - whole[core] for cut, core in zip(here, fragments, strict=True)]
        what = f"{at}: the model's forces on the core, against the whole system"
        found.append(Figure(id=f"{name}.model", what=what, value=_rmse(missing), unit="eV/Å"))
        if all(cut.quantum is not None for cut in here):
            found += _quantum(name, at, here, [largest for _, largest in scans])
    largest = [one for _, one in scans]
    sizes = [one.cluster.size for one in largest]
    name, at = f"R4.{scene.name}.largest", f"{scene.name}, largest that is labelled"
    found.append(Figure(id=f"{name}.atoms", what=f"{at}: atoms", value=np.mean(sizes), unit=""))
    what = f"{at}: cancellation residual on the core"
    residual = [one.quantum - one.model for one in largest]
    return [*found, Figure(id=f"{name}.residual", what=what, value=_rmse(residual), unit="eV/Å")]


def _quantum(name: str, at: str, here: Sequence[Cut], largest: Sequence[Cut]) -> list[Figure]:
    residual = [cut.quantum - cut.model for cut in here]
    shift = [cut.quantum - most.quantum for cut, most in zip(here, largest, strict=True)]
    taught = [r - (most.quantum - most.model) for r, most in zip(residual, largest, strict=True)]
    rows = {
        "residual": ("cancellation residual on the core", residual),
        "quantum": ("quantum forces on the core, against the largest", shift),
        "taught": ("cancellation residual on the core, against the largest", taught),
    }
    return [
        Figure(id=f"{name}.{key}", what=f"{at}: {what}", value=_rmse(wrong), unit="eV/Å")
        for key, (what, wrong) in rows.items()
    ]


def _cuts(
    frame: Molecules, atom: int, core: np.ndarray, reference: PyscfReference, buffers: Sequence[float], most: int
) -> tuple[list[Cut], Cut]:
    """Clusters of all buffers, those of up to so many atoms with quantum forces; and the largest one that has them."""
    cuts = [_cut(frame, atom, core, buffer, frame.size, reference, most) for buffer in buffers]
    largest = _cut(frame, atom, core, max(buffers), most, reference, most)
    return cuts, largest


def _cut(
    frame: Molecules, atom: int, core: np.ndarray, buffer: float, limit: int, reference: PyscfReference, most: int
) -> Cut:
    # A limit one below the system's size: a molecule that would fit whole is still cut into its fragments.
    policy = ThresholdPolicy(
        enter_eV_per_A=1.0, stay_eV_per_A=1.0, buffer_A=buffer, max_atoms=min(limit, frame.size - 1)
    )
    cluster = cut_cluster(frame, frame.positions, region_around(atom, frame, policy).atoms)
    inside = np.isin(cluster.parent, core)
    quantum = reference.label(cluster).forces[inside] if cluster.size <= most else None
    return Cut(buffer_A=buffer, cluster=cluster, model=cluster_forces(surface(), cluster)[inside], quantum=quantum)


def _rmse(wrong: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(np.mean(np.square(np.concatenate(wrong)))))
