"""R2: PySCF converges on clusters cut from proteins, at the level of the weights."""

import tempfile
from pathlib import Path

import numpy as np
from figures import Figure
from proteins import PROTEINS, cluster_at, policy_of, protein_atoms, solvated

from qmml_md.config import Reference
from qmml_md.errors import LabelError
from qmml_md.reference.pyscf import PyscfReference

#: Clusters in all; atoms of each, and reach of the buffer, Å.
SAMPLE, MOST, BUFFER_A = {False: 20, True: 2}, 16, 1.5
QUICK_LEVEL = Reference(method="hf", basis="sto-3g", density_fit=False)


def figures(*, quick: bool) -> list[Figure]:
    """Labels around random atoms of both proteins, link atoms in every cluster."""
    settings = QUICK_LEVEL if quick else Reference()
    reference, rng = PyscfReference(settings), np.random.default_rng(11)
    seconds, forces, converged, tried = [], [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        names = ["chignolin"] if quick else list(PROTEINS)
        for name in names:
            molecules = solvated(name, Path(folder))
            policy, atoms = policy_of(molecules, MOST, BUFFER_A), protein_atoms(molecules)
            wanted = SAMPLE[quick] // len(names)
            for atom in rng.permutation(atoms).tolist():
                _, cluster = cluster_at(atom, molecules, policy)
                if wanted == 0:
                    break
                if not len(cluster.links):
                    continue
                wanted, tried = wanted - 1, tried + 1
                try:
                    label = reference.label(cluster)
                except LabelError as error:
                    print(f"{name}, atom {atom}: {error}")
                    continue
                converged += 1
                seconds.append(label.wall_time)
                forces.append(float(np.abs(label.forces.sum(axis=0)).max()))
    level = f"{settings.method}/{settings.basis}"
    return [
        Figure(
            id="R2.converged", what=f"of {tried} clusters with link atoms, converged at {level}",
            value=100.0 * converged / tried, unit="%", goal="100", met=converged == tried,
        ),
        Figure(id="R2.seconds", what="median time of one", value=float(np.median(seconds)), unit="s"),
        Figure(id="R2.net_force", what="largest net force", value=max(forces), unit="eV/Å"),
    ]  # fmt: skip
