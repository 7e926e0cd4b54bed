"""Clusters for the tests of the reference."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from qmml_md.region.cluster import Cluster


def _cluster(
    numbers: Sequence[int],
    positions: object,
    *,
    parent: Sequence[int] | None = None,
    links: object = (),
    charge: int = 0,
    multiplicity: int = 1,
) -> Cluster:
    return Cluster(
        numbers=np.array(numbers, dtype=np.int64),
        positions=np.array(positions, dtype=np.float64),
        parent=np.arange(len(numbers)) if parent is None else np.array(parent, dtype=np.int64),
        links=np.array(links, dtype=np.int64).reshape(-1, 2),
        charge=charge,
        multiplicity=multiplicity,
    )


@pytest.fixture(scope="session")
def make_cluster() -> Callable[..., Cluster]:
    return _cluster


@pytest.fixture(scope="session")
def water() -> Cluster:
    return _cluster([8, 1, 1], [[0.0, 0.0, 0.12], [0.0, 0.78, -0.47], [0.05, -0.76, -0.45]])


@pytest.fixture(scope="session")
def two_waters() -> Cluster:
    """The water of the other fixture, and a second one that it gives a hydrogen bond to."""
    return _cluster(
        [8, 1, 1, 8, 1, 1],
        [
            [0.0, 0.0, 0.12], [0.0, 0.78, -0.47], [0.05, -0.76, -0.45],
            [0.0, 2.45, -1.55], [0.7, 3.0, -1.2], [-0.7, 3.0, -1.3],
        ],
    )  # fmt: skip
