"""Whether a label can be right, judged by itself before it is stored.

What holds for every isolated system, whatever the method: forces sum to zero and exert no torque, and charges sum to
the total charge. Forces that were permuted or turned against the positions keep their sum and have a torque of the
order of force times size, some eV; a calculation of another charge shows it in the sum of the charges.

How near to zero net force and torque come was measured with PySCF 2.14 (Hartree-Fock, PBE and ωB97X; OH⁻, one and
three waters, ethanol and its cation at 450 K, in vacuum and among 30 charges);
``tests/unit/reference/test_plausible.py`` measures the cheaper half of it again:

- Net force: moving everything changes neither an integral nor, with its response, the grid. The largest were 2·10⁻¹²
  eV/Å (Hartree-Fock), 8·10⁻¹⁰ (PBE) and 1.4·10⁻⁶ (ωB97X). Forces without the response sum to 10⁻² at grid level 3.
- Torque: turning everything turns the basis functions of an atom among themselves, so that it vanishes only as far as
  the SCF is converged; and the angular grids do not turn with the atoms. Each atom adds what its own grid is off,
  wherever it stands, so that the allowance grows with the number of atoms. The largest were, for each atom, 0.085 eV
  (grid level 0), 0.003 (1), 0.0011 (3), and without a grid 1·10⁻⁵ (2·10⁻⁴ at an SCF tolerance of 10⁻⁶ hartree).
"""

import numpy as np

from ..errors import BadLabel
from ..region.cluster import Cluster
from ..system.molecules import Floats, Ints
from ..units import EV_PER_HARTREE
from .embedding import explicit_term
from .label import Label, LevelOfTheory, label_key

#: Largest net force for each atom, eV/Å: a hundred times what was measured.
NET_FORCE_EV_PER_A = 5e-5
#: Without the response of the grid, eV/Å for each atom.
NET_FORCE_WITHOUT_RESPONSE_EV_PER_A = 0.05
#: Largest net torque for each atom, eV, by grid level: three times what was measured and more.
TORQUE_EV = {0: 0.3, 1: 0.03, 2: 0.03}
#: At finer grids and without any.
FINE_TORQUE_EV = 0.006
#: Mulliken charges sum to the charge as well as a density matrix holds its electrons: 10⁻¹³ e were measured.
CHARGE_E = 1e-6
#: Energies may lie this much below those of the separate atoms: chemical bonds are less than a hundredth of it, and the
#: formula for atoms is right to a twentieth.
BINDING = 1.2
#: Forces on the cluster must be what the charges leave of the quantum ones, relative to rounding of their sum.
EXPLICIT_RELATIVE = 1e-9


def check_label(label: Label, cluster: Cluster, level: LevelOfTheory) -> None:
    """Refuse a label that cannot be right.

    Args:
        label: as it was computed.
        cluster: what was asked for.
        level: at which level of theory.

    Raises:
        BadLabel: the label answers another question, holds numbers that are not finite, or breaks a law that every
            isolated system obeys; it carries the label.
    """
    reason = implausible(label, cluster, level)
    if reason:
        raise bad_label(label_key(cluster, level), reason, label)


def bad_label(key: str, reason: str, label: Label | None = None) -> BadLabel:
    """The error that tells of a label that is not to be used.

    Args:
        key: of what was asked for.
        reason: why, in words.
        label: as it was computed; None where it is not at hand.
    """
    return BadLabel(
        f"the label {key[:12]} is not used: {reason}",
        key=key,
        reason=reason,
        label=label,
        cure="it is kept in labels.db with its reason under `quarantined` and never trained on; to have it computed "
        "again, delete its row with `ase db labels.db id=ROW --delete`",
    )


def implausible(label: Label, cluster: Cluster, level: LevelOfTheory) -> str:
    """Why a label cannot be right; empty if nothing speaks against it. Arguments as for ``check_label``."""
    return (
        _another_question(label, cluster, level)
        or _misshapen(label)
        or _not_finite(label)
        or _impossible(label, cluster)
        or _not_isolated(label, cluster, level)
    )


def _another_question(label: Label, cluster: Cluster, level: LevelOfTheory) -> str:
    if label.level != level:
        return "it is of another level of theory"
    if not np.array_equal(label.cluster.numbers, cluster.numbers):
        return "its atoms are others, or in another order"
    if label.cluster.geometry != cluster.geometry:
        return "its atoms stand elsewhere, or in another order"
    if label.key != label_key(cluster, level):
        return "its key is that of another cluster"
    return ""


def _misshapen(label: Label) -> str:
    m, embedded = label.cluster.size, label.embedding
    shapes = {"forces": (m, 3), "dipole": (3,), "charges": (m,)}
    found = {name: getattr(label, name).shape for name in shapes}
    around = label.cluster.surroundings
    if (embedded is None) != (around is None):
        return "what the charges around it do is missing"
    if embedded is not None and around is not None:
        shapes |= {"embedding.forces": (m, 3), "embedding.on_charges": (len(around.charges), 3)}
        found |= {"embedding.forces": embedded.forces.shape, "embedding.on_charges": embedded.on_charges.shape}
    wrong = [f"{name} {found[name]} instead of {shape}" for name, shape in shapes.items() if found[name] != shape]
    return f"the shape of {'; '.join(wrong)}" if wrong else ""


def _not_finite(label: Label) -> str:
    numbers: dict[str, object] = {"energy": label.energy, "forces": label.forces, "charges": label.charges}
    numbers["dipole"] = label.dipole
    if label.embedding is not None:
        numbers |= {"forces on the charges": label.embedding.on_charges, "quantum energy": label.embedding.energy}
        numbers["quantum forces"] = label.embedding.forces
    wrong = [name for name, values in numbers.items() if not np.isfinite(np.asarray(values, dtype=np.float64)).all()]
    return f"not finite: {', '.join(wrong)}" if wrong else ""


def _impossible(label: Label, cluster: Cluster) -> str:
    """Energies and charges that no electrons have."""
    off = float(label.charges.sum()) - cluster.charge
    if abs(off) > CHARGE_E * cluster.size:
        return f"its charges sum to {label.charges.sum():+.6f} e instead of {cluster.charge:+d}"
    energy = label.energy if label.embedding is None else label.embedding.energy
    lowest = BINDING * float(atoms_hartree(cluster.numbers).sum()) * EV_PER_HARTREE - _attraction(cluster)
    if energy >= 0.0 and cluster.surroundings is None:
        return f"its energy of {energy:.4g} eV is not below that of free electrons and nuclei"
    if energy < lowest:
        return f"its energy of {energy:.6g} eV is below anything that its atoms can have, {lowest:.6g} eV"
    return ""


def atoms_hartree(numbers: Ints) -> Floats:
    """Energies of neutral atoms in the statistical model with Scott's and Schwinger's corrections, hartree.

    Right to two hundredths from carbon on and to a thirteenth for hydrogen (Schwinger, Phys. Rev. A 24, 2353, 1981,
    doi:10.1103/PhysRevA.24.2353). Basis sets with core potentials have fewer electrons and less binding energy.
    """
    z = np.asarray(numbers, dtype=np.float64)
    energies: Floats = -0.768745 * z ** (7 / 3) + z**2 / 2 - 0.269900 * z ** (5 / 3)
    return energies


def _attraction(cluster: Cluster) -> float:
    """What charges around a cluster can lower its energy by at most, eV: all its electrons beside each of them."""
    around = cluster.surroundings
    if around is None or not len(around.charges):
        return 0.0
    return float(cluster.numbers.sum() * np.abs(around.charges).sum() * EV_PER_HARTREE)


def _not_isolated(label: Label, cluster: Cluster, level: LevelOfTheory) -> str:
    """Net force and torque, of the cluster alone or together with the charges around it."""
    positions, forces = cluster.positions, label.forces
    around, embedded = cluster.surroundings, label.embedding
    if around is not None and embedded is not None:
        rest = embedded.forces - explicit_term(positions, around).forces
        if np.abs(rest - forces).max() > EXPLICIT_RELATIVE * (1.0 + np.abs(embedded.forces).max()):
            return "its forces are not what the explicit term leaves of the quantum ones"
        positions, forces = np.concatenate([positions, around.positions]), embedded.forces
        forces = np.concatenate([forces, embedded.on_charges])
    net = float(np.abs(forces.sum(axis=0)).max())
    responds = level.grid_response or level.method == "hf"
    if net > (NET_FORCE_EV_PER_A if responds else NET_FORCE_WITHOUT_RESPONSE_EV_PER_A) * cluster.size:
        return f"its forces sum to {net:.2g} eV/Å instead of zero: they belong to other atoms, or one is missing"
    # About the middle, or a net force that is allowed would have an arm.
    arms = positions - positions.mean(axis=0)
    torque = float(np.abs(np.cross(arms, forces).sum(axis=0)).max())
    allowed = (_torque_eV(level) if responds else NET_FORCE_WITHOUT_RESPONSE_EV_PER_A) * cluster.size
    if torque > allowed:
        return f"its forces turn it, by {torque:.2g} eV: they were turned against the atoms, or belong to other atoms"
    return ""


def _torque_eV(level: LevelOfTheory) -> float:
    return FINE_TORQUE_EV if level.method == "hf" else TORQUE_EV.get(level.grid_level, FINE_TORQUE_EV)
