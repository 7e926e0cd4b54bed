"""A small ensemble, quantum labels of ethanol, and what training needs of them."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch

from qmml_md.ensemble import weights
from qmml_md.reference.label import Label, LevelOfTheory
from qmml_md.region.cluster import Cluster

DATA = Path(__file__).parents[2] / "data"
LEVEL = LevelOfTheory(
    program="pyscf",
    method="wb97x",
    basis="6-31g*",
    cartesian=True,
    density_fit=True,
    grid_level=3,
    grid_response=False,
)


def as_cluster(atoms) -> Cluster:
    """An ASE molecule as a cluster."""
    return Cluster(
        numbers=np.array(atoms.numbers),
        positions=np.array(atoms.positions),
        parent=np.arange(len(atoms)),
        links=np.zeros((0, 2), dtype=np.int64),
        charge=0,
        multiplicity=1,
    )


def as_label(atoms, key: str) -> Label:
    """An ASE molecule with energy and forces as a label."""
    return Label(
        key=key,
        cluster=as_cluster(atoms),
        energy=atoms.get_potential_energy(),
        forces=atoms.get_forces(),
        dipole=np.zeros(3),
        charges=np.zeros(len(atoms)),
        level=LEVEL,
        rung="diis",
        spin_squared=0.0,
        gap=8.0,
        wall_time=1.0,
    )


@pytest.fixture(scope="session")
def frames():
    """Ethanol at 300 K, 24 frames 2 fs apart, then 24 frames 10 fs apart."""
    return ase.io.read(DATA / "quantum" / "ethanol_300K_fine_wb97x_631gd.extxyz", ":")


@pytest.fixture(scope="session")
def hot():
    """Ethanol at 450 K."""
    return ase.io.read(DATA / "quantum" / "ethanol_450K_wb97x_631gd.extxyz", ":40")


@pytest.fixture(scope="session")
def ani1x():
    """The published ensemble, on one thread."""
    torch.set_num_threads(1)
    return weights.load("ani1x")


@pytest.fixture
def mini():
    """The tiny ensemble in double precision."""
    return weights.load(str(DATA / "ani_mini.safetensors"), "double")


@pytest.fixture(scope="session")
def cluster_of():
    """Makes a cluster of an ASE molecule."""
    return as_cluster


@pytest.fixture(scope="session")
def label_of():
    """Makes a label of an ASE molecule that carries energy and forces."""
    return as_label
