from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def data() -> Path:
    """Structures to test against."""
    return ROOT / "tests" / "data" / "structures"


@pytest.fixture(scope="session")
def examples() -> Path:
    """The examples of the repository."""
    return ROOT / "examples"
