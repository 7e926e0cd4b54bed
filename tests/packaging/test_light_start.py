"""``import qmml_md`` and ``qmml --help`` are at once: they load none of the heavy libraries."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAVY = ("torch", "torchani", "openmm", "openmmtorch", "pyscf", "ase", "mdtraj", "matplotlib", "scipy", "h5py", "numpy")

#: Bare interpreter 0.02 s and typer with rich about 0.2 s here; torch alone takes 2 s. Ten times slower machines pass.
LIMIT_S = 5.0


def heavy_after(code: str, folder: Path) -> tuple[set[str], float]:
    """Heavy libraries that a fresh interpreter holds after some code, and the time it took."""
    tail = f"\nprint('LOADED', *sorted(set(sys.modules) & set({HEAVY!r})))"
    start = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}{tail}"], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    last = result.stdout.splitlines()[-1].split()
    assert last[0] == "LOADED"
    return set(last[1:]), time.monotonic() - start


@pytest.mark.parametrize(
    "code",
    [
        "import qmml_md",
        "from qmml_md.cli import main\nassert main(['--help']) == 0",
        "from qmml_md.cli import main\nassert main(['run', '--help']) == 0",
        "from qmml_md.cli import main\nassert main(['weights', '--help']) == 0",
        "from qmml_md.cli import main\nassert main(['--version']) == 0",
        "from qmml_md.cli import main\nassert main(['template']) == 0",
    ],
)
def test_start_loads_nothing_heavy(code: str, tmp_path: Path) -> None:
    loaded, seconds = heavy_after(code, tmp_path)
    assert loaded == set()
    assert seconds < LIMIT_S


def test_the_check_sees_a_heavy_library(tmp_path: Path) -> None:
    loaded, _ = heavy_after("import h5py", tmp_path)
    assert {"h5py", "numpy"} <= loaded
