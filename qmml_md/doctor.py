"""``qmml doctor``: does everything work here, and if not, how is it mended?

What can crash the interpreter (a torch of the wrong ABI) is tried in a process of its own.
"""

import importlib.metadata
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table

DISTRIBUTION = "qmml-md"
REINSTALL = "`pip install --force-reinstall qmml-md` in a fresh virtual environment"

#: RHF/STO-3G energy of H2 at 1.4 bohr, with the digits that Szabo and Ostlund print (Modern Quantum Chemistry, 1996).
H2_HARTREE = -1.1167
H2_TOLERANCE_HARTREE = 1e-4
PROBE_TIMEOUT_S = 180
#: One run of the size of the example writes about 0.1 GB.
LEAST_FREE_GB = 1.0

#: Energy x², force −2x of the probe's TorchForce at x = 0.25 nm: exact in single precision.
PROBE_TORCH = """
import sys
import torch
import openmm, openmmtorch
class Square(torch.nn.Module):
    def forward(self, positions):
        return torch.sum(positions**2)
system = openmm.System()
system.addParticle(1.0)
force = openmmtorch.TorchForce(torch.jit.trace(Square(), torch.zeros(1, 3)))
system.addForce(force)
context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(sys.argv[1]))
context.setPositions([[0.25, 0.0, 0.0]])
state = context.getState(getEnergy=True, getForces=True)
energy, force = state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value[0, 0]
if abs(energy - 0.0625) > 1e-6 or abs(force + 0.5) > 1e-6:
    sys.exit(f"x**2 at 0.25 gave energy {energy}, force {force}")
print(f"torch {torch.__version__}, OpenMM {openmm.__version__}")
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the diagnosis.

    Attributes:
        name: what was looked at.
        status: `ok`; `warn` where a run still works; `fail` where it does not.
        detail: what was found.
        cure: how to mend it; empty if there is nothing to mend.
    """

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    cure: str = ""


def diagnose() -> list[Check]:
    """Carry out all checks; a check that breaks is itself a failure with its message."""
    checks = list(check_packages())
    examinations: tuple[tuple[str, Callable[[], Check]], ...] = (
        ("TorchForce", check_torch_force),
        ("OpenMM platforms", check_platforms),
        ("GPU", check_gpu),
        ("weights", check_weights),
        ("PySCF", check_pyscf),
        ("MDTraj", check_mdtraj),
        ("disk", check_disk),
    )
    for name, examine in examinations:
        try:
            checks.append(examine())
        except Exception as error:  # whatever breaks here is the finding
            detail = f"{type(error).__name__}: {error}".splitlines()[0]
            checks.append(Check(name=name, status="fail", detail=detail, cure=REINSTALL))
    return checks


def show_diagnosis(console: Console | None = None) -> int:
    """Print the diagnosis.

    Returns:
        1 if anything failed, else 0.
    """
    out = console or Console()
    checks = diagnose()
    table = Table(title="qmml doctor", title_justify="left")
    for column in ("check", "", "found", "how to mend it"):
        table.add_column(column, overflow="fold")
    colours = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    for check in checks:
        table.add_row(check.name, f"[{colours[check.status]}]{check.status}[/]", check.detail, check.cure)
    out.print(table)
    failed = [check.name for check in checks if check.status == "fail"]
    out.print(f"{len(failed)} of {len(checks)} checks failed: {', '.join(failed)}" if failed else "ready to run")
    return 1 if failed else 0


def check_packages(distribution: str = DISTRIBUTION) -> list[Check]:
    """Python and every required package against the bounds that the installed package declares."""
    try:
        metadata = importlib.metadata.metadata(distribution)
    except importlib.metadata.PackageNotFoundError:
        cure = "`pip install .` in the folder of the sources"
        return [Check(name=distribution, status="fail", detail="is not installed", cure=cure)]
    wanted = str(metadata["Requires-Python"] or "")
    checks = [compare("python", platform.python_version(), wanted, f"use a Python that is {wanted}")]
    for line in importlib.metadata.requires(distribution) or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        cure = f"`pip install '{requirement.name}{requirement.specifier}'`"
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            checks.append(Check(name=requirement.name, status="fail", detail="is not installed", cure=cure))
            continue
        checks.append(compare(requirement.name, found, str(requirement.specifier), cure))
    return checks


def compare(name: str, found: str, bounds: str, cure: str) -> Check:
    """A version against its bounds, such as `>=2.9,<2.10`. Local parts such as `+cu128` do not count."""
    if Requirement(f"x{bounds}").specifier.contains(found, prereleases=True):
        return Check(name=name, status="ok", detail=f"{found} ({bounds or 'any'})")
    return Check(name=name, status="fail", detail=f"{found}, but {bounds} is needed", cure=cure)


def check_torch_force(platform_name: str = "Reference") -> Check:
    """A TorchForce whose energy and force are known: the proof that torch and openmmtorch fit each other."""
    command = [sys.executable, "-W", "ignore", "-c", PROBE_TORCH, platform_name]
    result = subprocess.run(  # noqa: S603 - our own interpreter, our own text
        command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, cwd=tempfile.gettempdir(), check=False
    )
    if result.returncode == 0:
        return Check(name="TorchForce", status="ok", detail=f"energy and force exact ({result.stdout.strip()})")
    lines = result.stderr.strip().splitlines()
    detail = lines[-1] if lines else f"the process died with code {result.returncode}"
    cure = (
        "openmmtorch 1.5 links the CUDA build of torch 2.9 and no other, also on machines without a GPU: "
        "`pip install --force-reinstall 'torch>=2.9,<2.10' openmmtorch==1.5 'openmm>=8.6.1,<8.7'` from PyPI, "
        "not from a CPU-only index"
    )
    return Check(name="TorchForce", status="fail", detail=detail, cure=cure)


def check_platforms() -> Check:
    """The platforms that OpenMM can use, and whether its plugins loaded."""
    import openmm

    names = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
    if "CPU" not in names:
        return Check(name="OpenMM platforms", status="warn", detail=", ".join(names), cure=REINSTALL)
    return Check(name="OpenMM platforms", status="ok", detail=", ".join(names))


def check_gpu() -> Check:
    """Whether a GPU can be used: torch and OpenMM must both see it."""
    import openmm
    import torch

    platforms = {openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())}
    if not torch.cuda.is_available():
        return Check(name="GPU", status="ok", detail="none; runs use the CPU")
    name = torch.cuda.get_device_name(0)
    if "CUDA" not in platforms:
        cure = "`pip install 'qmml-md[cuda]'`"
        return Check(name="GPU", status="warn", detail=f"{name}, but OpenMM has no CUDA platform", cure=cure)
    return Check(name="GPU", status="ok", detail=name)


def check_weights() -> Check:
    """Which published weights are on this machine."""
    from .ensemble.weights import available, cache_folder

    cached = [row.name for row in available() if row.cached]
    if "ani1x" in cached:
        return Check(name="weights", status="ok", detail=f"{', '.join(cached)} in {cache_folder()}")
    cure = "the first run fetches them; `qmml weights fetch ani1x` does it now, while there is a network"
    return Check(name="weights", status="warn", detail=f"ani1x is not in {cache_folder()}", cure=cure)


def check_pyscf() -> Check:
    """A Hartree-Fock energy that is known."""
    from pyscf import gto, scf

    energy = scf.RHF(gto.M(atom="H 0 0 0; H 0 0 1.4", unit="bohr", basis="sto-3g", verbose=0)).kernel()
    if abs(energy - H2_HARTREE) > H2_TOLERANCE_HARTREE:
        detail = f"H2 gives {energy:.6f} hartree, not {H2_HARTREE}"
        return Check(name="PySCF", status="fail", detail=detail, cure="`pip install --force-reinstall pyscf`")
    return Check(name="PySCF", status="ok", detail=f"H2, RHF/STO-3G: {energy:.6f} hartree")


def check_mdtraj() -> Check:
    """Whether MDTraj imports, with the file formats that it knows."""
    from mdtraj.formats.registry import FormatRegistry

    return Check(name="MDTraj", status="ok", detail=f"{len(FormatRegistry.loaders)} file formats")


def check_disk(folder: Path | None = None) -> Check:
    """Room where a run would be written: the present folder."""
    where = folder or Path.cwd()
    free = shutil.disk_usage(where).free / 1e9
    if free < LEAST_FREE_GB:
        cure = "make room, or start runs on another disk (`qmml run --out`)"
        return Check(name="disk", status="warn", detail=f"{free:.1f} GB free in {where}", cure=cure)
    return Check(name="disk", status="ok", detail=f"{free:.0f} GB free in {where}")
