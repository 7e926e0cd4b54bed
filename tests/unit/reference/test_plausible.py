"""Laws that every label obeys, how well, and what is caught by them."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest

from qmml_md import config
from qmml_md.errors import BadLabel
from qmml_md.reference.label import Label, label_key
from qmml_md.reference.plausible import (
    FINE_TORQUE_EV,
    NET_FORCE_EV_PER_A,
    TORQUE_EV,
    atoms_hartree,
    check_label,
    implausible,
)
from qmml_md.reference.pyscf import PyscfReference
from qmml_md.region.cluster import Cluster, Surroundings, lone_cluster

_SPEC = importlib.util.spec_from_file_location("bad_worker", Path(__file__).with_name("bad_worker.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
_BAD_WORKER = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_BAD_WORKER)
TURN, WRONG = _BAD_WORKER.TURN, _BAD_WORKER.WRONG

DATA = Path(__file__).parents[2] / "data" / "quantum"
#: Levels with what each allows for the torque of an atom, eV.
LEVELS = {
    "hf": ({"method": "hf", "density_fit": False}, FINE_TORQUE_EV),
    "hf_loose": ({"method": "hf", "density_fit": False, "scf_tolerance_hartree": 1e-6}, FINE_TORQUE_EV),
    "hf_fitted": ({"method": "hf"}, FINE_TORQUE_EV),
    "pbe_0": ({"method": "pbe", "grid_level": 0}, TORQUE_EV[0]),
    "pbe_1": ({"method": "pbe", "grid_level": 1}, TORQUE_EV[1]),
    "pbe_3": ({"method": "pbe", "grid_level": 3}, FINE_TORQUE_EV),
    "wb97x_1": ({"grid_level": 1}, TORQUE_EV[1]),
    "wb97x_3": ({"grid_level": 3}, FINE_TORQUE_EV),
}


def reference(**settings: object) -> PyscfReference:
    return PyscfReference(config.Reference.model_validate({"basis": "sto-3g", **settings}), 1)


def clusters() -> dict[str, Cluster]:
    waters = ase.io.read(DATA / "water5_350K_wb97x_631gd.extxyz", 10)
    ethanol = ase.io.read(DATA / "ethanol_450K_wb97x_631gd.extxyz", 7)
    water, two = (lone_cluster(waters.numbers[:n], waters.positions[:n]) for n in (3, 6))
    hydroxide = replace(lone_cluster(waters.numbers[:2], waters.positions[:2]), charge=-1)
    radical = replace(water, charge=1, multiplicity=2)
    found = {"water": water, "two": two, "hydroxide": hydroxide, "radical": radical}
    return {**found, "ethanol": lone_cluster(ethanol.numbers, ethanol.positions)}


def among_charges(cluster: Cluster, rng: np.random.Generator) -> Cluster:
    positions = cluster.positions.mean(axis=0) + rng.normal(size=(30, 3)) * 6.0
    far = np.linalg.norm(positions[:, None] - cluster.positions, axis=2).min(axis=1) > 1.6
    around = Surroundings(
        positions=positions[far],
        charges=rng.normal(size=far.sum()) * 0.5,
        parent=np.full(far.sum(), -1),
        own=rng.normal(size=cluster.size) * 0.3,
    )
    return replace(cluster, surroundings=around)


def net(label: Label) -> tuple[float, float]:
    """Net force (eV/Å) and torque (eV) for each atom, written down apart from what is tested."""
    positions, forces = label.cluster.positions, label.forces
    if label.embedding is not None and label.cluster.surroundings is not None:
        positions = np.vstack([positions, label.cluster.surroundings.positions])
        forces = np.vstack([label.embedding.forces, label.embedding.on_charges])
    x, y, z = (positions - positions.mean(axis=0)).T
    fx, fy, fz = forces.T
    torque = [(y * fz - z * fy).sum(), (z * fx - x * fz).sum(), (x * fy - y * fx).sum()]
    size = label.cluster.size
    return float(np.abs(forces.sum(axis=0)).max()) / size, float(np.abs(torque).max()) / size


@pytest.mark.parametrize("name", LEVELS)
def test_labels_obey_the_laws_with_room_to_spare(name: str) -> None:
    settings, torque_eV = LEVELS[name]
    cheap = name.startswith("hf") or name.endswith(("_0", "_1"))
    names = ("water", "two", "hydroxide", "radical", "ethanol") if cheap else ("water", "hydroxide")
    program, found = reference(**settings), []
    for cluster in (clusters()[each] for each in names):
        label = program.label(cluster)
        assert implausible(label, cluster, program.level) == ""
        found.append(net(label))
    force, torque = np.array(found).max(axis=0)
    print(f"\n{name}: net force {force:.1e} eV/Å, torque {torque:.1e} eV for each atom")
    assert force < NET_FORCE_EV_PER_A / 10
    assert torque < torque_eV / 3


@pytest.mark.parametrize("name", ["hf", "wb97x_1"])
def test_embedded_labels_obey_them_together_with_the_charges(name: str) -> None:
    settings, torque_eV = LEVELS[name]
    program = reference(embedding="electrostatic", **settings)
    rng = np.random.default_rng(3)
    for each in ("water", "two", "hydroxide"):
        cluster = among_charges(clusters()[each], rng)
        label = program.label(cluster)
        force, torque = net(label)
        assert force < NET_FORCE_EV_PER_A / 10
        assert torque < torque_eV / 3
        # Sabotaged: by itself the cluster is pulled by the charges; and the charges may be of other places.
        assert label.embedding is not None
        assert np.abs(label.embedding.forces.sum(axis=0)).max() > 0.01
        wrong = np.roll(label.embedding.on_charges, 1, axis=0)
        twin = replace(label, embedding=replace(label.embedding, on_charges=wrong))
        assert "turn it" in implausible(twin, cluster, program.level)
        twin = replace(label, forces=label.embedding.forces)
        assert "explicit term" in implausible(twin, cluster, program.level)


@pytest.fixture(scope="module")
def judged() -> tuple[Label, Cluster, PyscfReference]:
    cluster, program = clusters()["ethanol"], reference(**LEVELS["hf"][0])
    return program.label(cluster), cluster, program


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_label_is_caught(fault: str, judged: tuple[Label, Cluster, PyscfReference]) -> None:
    label, cluster, program = judged
    check_label(label, cluster, program.level)
    with pytest.raises(BadLabel) as caught:
        check_label(WRONG[fault](label), cluster, program.level)
    assert caught.value.key == label_key(cluster, program.level)
    assert caught.value.label is not None


@pytest.mark.parametrize(("grid_level", "least"), [(0, 0.4), (1, 1.0), (3, 1.0)])
def test_turned_and_permuted_forces_are_caught(grid_level: int, least: float) -> None:
    """Of thermal water, whose forces are an eV/Å; at rest they could be turned unseen, and little would be wrong.

    The coarsest grid turns water by itself, and hides half.
    """
    cluster, program = clusters()["two"], reference(method="pbe", grid_level=grid_level)
    label, rng = program.label(cluster), np.random.default_rng(4)
    turned = [label.forces @ np.linalg.qr(rng.normal(size=(3, 3)))[0].T for _ in range(40)]
    permuted = [label.forces[order] for order in (np.roll(np.arange(6), k) for k in range(1, 6))]
    caught = [implausible(replace(label, forces=f), cluster, program.level) != "" for f in (*turned, *permuted)]
    print(f"\ngrid level {grid_level}: {sum(caught)} of {len(caught)} caught")
    assert np.mean(caught) >= least


def test_a_label_of_another_charge_shows_it() -> None:
    cluster = clusters()["water"]
    program = reference(**LEVELS["hf"][0])
    for charge, multiplicity in ((2, 1), (-2, 1), (1, 2)):
        other = replace(cluster, charge=charge, multiplicity=multiplicity)
        label, _ = program.compute(other, None)
        assert implausible(label, other, program.level) == ""
        told = implausible(
            replace(label, cluster=cluster, key=label_key(cluster, program.level)), cluster, program.level
        )
        assert "its charges sum to" in told


def test_energies_of_atoms_are_those_of_hartree_fock_within_what_is_said() -> None:
    """Numerical Hartree-Fock limits (Bunge et al., At. Data Nucl. Data Tables 53, 113, 1993), hartree."""
    numbers = np.array([1, 6, 7, 8, 9, 16, 17, 18])
    exact = np.array([-0.5, -37.6886, -54.4009, -74.8094, -99.4093, -397.505, -459.482, -526.818])
    off = np.abs(atoms_hartree(numbers) / exact - 1.0)
    assert off[0] < 1 / 12
    assert off[1:].max() < 0.02
