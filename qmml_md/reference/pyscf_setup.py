"""How PySCF is asked for a level of theory: checks, molecules, mean fields, and counting without computing."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from pyscf import dft, gto, lib, qmmm, scf
from scipy.spatial.distance import cdist, pdist

from .. import config, units
from ..errors import ConfigError, LabelError
from ..region.cluster import Cluster, Surroundings
from ..system.molecules import Floats, Ints
from .label import LevelOfTheory

#: No two nuclei come closer in any molecule, by a factor of seven; no charge of a force field comes so near, either.
MIN_DISTANCE_A = 0.1

#: What PySCF raises for a request that it cannot fulfil (missing basis, unsupported functional, out of memory).
PYSCF_ERRORS = (RuntimeError, KeyError, ImportError, MemoryError, OSError, ValueError, ArithmeticError)


def level_of_theory(settings: config.Reference, *, grid_response: bool = True) -> LevelOfTheory:
    """The level of theory that settings stand for; what Hartree-Fock does not have does not enter it."""
    hf = _is_hf(settings)
    return LevelOfTheory(
        program="pyscf",
        method=settings.method.strip().lower(),
        basis=settings.basis.strip().lower(),
        cartesian=settings.cartesian,
        density_fit=settings.density_fit,
        grid_level=0 if hf else settings.grid_level,
        grid_response=grid_response and not hf,
        embedding=settings.embedding,
    )


def check_level(settings: config.Reference) -> None:
    """Find out, before a run starts, whether PySCF can compute a level of theory.

    Raises:
        ConfigError: the functional or the basis set is unknown, or needs a package that is not installed.
    """
    try:
        if not _is_hf(settings):
            dft.libxc.parse_xc(settings.method.strip() or "nothing")
    except (KeyError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"reference.method: PySCF does not know the functional {settings.method!r} ({error})",
            cure="use `hf` or a functional that PySCF lists, such as wb97x, pbe0 or b3lyp",
        ) from error
    try:
        mean_field = build_mean_field(build_molecule(_spread(np.array([1, 1]), charge=0), settings), settings)
        if mean_field.do_disp():
            mean_field.get_dispersion()
    except PYSCF_ERRORS as error:
        raise ConfigError(
            f"reference: PySCF cannot compute {settings.method}/{settings.basis}: {error}",
            cure="use a basis set that PySCF lists, such as 6-31g* or def2-svp; dispersion needs pyscf-dispersion",
        ) from error


def build_molecule(cluster: Cluster, settings: config.Reference) -> Any:
    """PySCF molecule of a cluster, atoms in the same order, silent.

    Raises:
        LabelError: two atoms coincide, or an atom and a charge of the surroundings.
    """
    _check_distances(cluster)
    symbols = [lib.param.ELEMENTS[z] for z in cluster.numbers]
    basis = settings.basis.strip()
    with without_advertisement():
        molecule = gto.M(
            atom=list(zip(symbols, cluster.positions / units.ANGSTROM_PER_BOHR, strict=True)),
            unit="Bohr",
            basis=basis,
            ecp=_core_potentials(basis, set(symbols)),
            cart=settings.cartesian,
            charge=cluster.charge,
            spin=cluster.multiplicity - 1,
            symmetry=False,
            verbose=0,
            parse_arg=False,
            dump_input=False,
        )
    if molecule.elements != symbols:
        raise LabelError("PySCF holds the atoms in another order", cure="report this with the frame; it is a defect")
    return molecule


def build_mean_field(molecule: Any, settings: config.Reference) -> Any:
    """PySCF mean field at a level of theory; restricted for singlets."""
    if _is_hf(settings):
        mean_field = scf.RHF(molecule) if molecule.spin == 0 else scf.UHF(molecule)
    else:
        method = settings.method.strip()
        mean_field = dft.RKS(molecule, xc=method) if molecule.spin == 0 else dft.UKS(molecule, xc=method)
        mean_field.grids.level = settings.grid_level
    # A label is stored when it is finished; PySCF's file for half of one would stay open until collected as garbage.
    mean_field.chkfile = None
    mean_field._chkfile.close()
    if settings.density_fit:
        mean_field = mean_field.density_fit()
    mean_field.conv_tol = settings.scf_tolerance_hartree
    return mean_field


def embed(mean_field: Any, surroundings: Surroundings | None) -> Any:
    """The mean field among point charges; itself where there are none."""
    if surroundings is None or not len(surroundings.charges):
        return mean_field
    coordinates = surroundings.positions / units.ANGSTROM_PER_BOHR
    return qmmm.add_mm_charges(mean_field, coordinates, surroundings.charges, unit="Bohr")


def count_functions(numbers: Ints, settings: config.Reference) -> tuple[int, int]:
    """Count what a calculation would treat, without computing anything.

    Args:
        numbers: atomic numbers, shape (m,).
        settings: level of theory; its charge, or 0, is the charge.

    Returns:
        Electrons (those replaced by a core potential left out) and basis functions.

    Raises:
        LabelError: the basis set lacks an element.
    """
    try:
        molecule = build_molecule(_spread(numbers, charge=settings.charge or 0), settings)
    except PYSCF_ERRORS as error:
        raise LabelError(
            f"basis set {settings.basis} cannot treat these elements: {error}",
            cure="choose a basis set that has all elements of the structure, such as def2-svp",
        ) from error
    return int(molecule.nelectron), int(molecule.nao)


def _core_potentials(basis: str, symbols: set[str]) -> dict[str, Any]:
    """Core potentials that belong to a basis set, by element; without them it would describe the wrong electrons."""
    try:
        found = {symbol: gto.basis.load_ecp(basis, symbol) for symbol in symbols}
    except (RuntimeError, KeyError):  # PySCF knows no potentials at all under this name
        return {}
    return {symbol: potential for symbol, potential in found.items() if potential}


@contextmanager
def without_advertisement() -> Iterator[None]:
    """Keep PySCF from naming another package whenever it looks for a basis set in vain, be it to do without."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(Basis|ECP) may be available", category=UserWarning)
        yield


def _spread(numbers: Ints, *, charge: int) -> Cluster:
    """Atoms in a row, far apart, with the lowest multiplicity: for questions that need no geometry."""
    m = len(numbers)
    return Cluster(
        numbers=np.asarray(numbers, dtype=np.int64),
        positions=np.outer(np.arange(m), [10.0, 0.0, 0.0]),
        parent=np.arange(m),
        links=np.zeros((0, 2), dtype=np.int64),
        charge=charge,
        multiplicity=1 + (int(np.sum(numbers)) - charge) % 2,
    )


def _is_hf(settings: config.Reference) -> bool:
    return settings.method.strip().lower() == "hf"


def _check_distances(cluster: Cluster) -> None:
    apart = pdist(cluster.positions)
    if apart.size and apart.min() < MIN_DISTANCE_A:
        raise LabelError(
            f"two of the {cluster.size} atoms of a cluster coincide ({apart.min():.3f} Å apart)",
            cure="look at the frame: the structure overlaps with itself, or the dynamics broke down",
        )
    if cluster.surroundings is None or not len(cluster.surroundings.charges):
        return
    nearest: Floats = cdist(cluster.positions, cluster.surroundings.positions)
    if nearest.min() < MIN_DISTANCE_A:
        raise LabelError(
            f"a point charge coincides with an atom of a cluster ({nearest.min():.3f} Å apart)",
            cure="look at the frame: the force field overlaps with the ML part, or a cut bond was not given as one",
        )
