"""What charges around a cluster do to its label, against what a network gets wrong: N-methylacetamide in TIP3P water.

The force field moves everything; snapshots of it are labelled twice, alone and among the charges of the water.
"""

import time
from dataclasses import dataclass, replace

import numpy as np
import openmm
from figures import Figure
from openmm import app, unit

from qmml_md.config import Reference as ReferenceSettings
from qmml_md.ensemble.model import evaluate
from qmml_md.ensemble.weights import load
from qmml_md.reference.embedding import explicit_term
from qmml_md.reference.label import Label
from qmml_md.reference.pyscf import PyscfReference
from qmml_md.region.cluster import Cluster
from qmml_md.region.surroundings import ForceFieldCharges, surround
from qmml_md.units import EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM, NM_PER_ANGSTROM

#: Residue, name, element and rough place in Å of each atom, trans; the force field makes it right.
ATOMS = (
    ("ACE", "CH3", "C", (-1.32, -0.75, 0.0)), ("ACE", "H1", "H", (-2.19, -0.09, 0.0)),
    ("ACE", "H2", "H", (-1.35, -1.38, 0.89)), ("ACE", "H3", "H", (-1.35, -1.38, -0.89)),
    ("ACE", "C", "C", (0.0, 0.0, 0.0)), ("ACE", "O", "O", (0.0, 1.23, 0.0)),
    ("NME", "N", "N", (1.16, -0.67, 0.0)), ("NME", "H", "H", (1.16, -1.68, 0.0)),
    ("NME", "C", "C", (2.42, 0.05, 0.0)), ("NME", "H1", "H", (3.27, -0.63, 0.0)),
    ("NME", "H2", "H", (2.47, 0.68, 0.89)), ("NME", "H3", "H", (2.47, 0.68, -0.89)),
)  # fmt: skip
BONDS = ((0, 1), (0, 2), (0, 3), (0, 4), (4, 5), (4, 6), (6, 7), (6, 8), (8, 9), (8, 10), (8, 11))
BOX_NM, TEMPERATURE_K, SEED = 2.6, 300.0, 2018
#: Steps of 1 fs before the first snapshot and between two of them.
SETTLE, SPACING = 5000, 2000
CUTOFF_A, SHORTER_A = 12.0, (6.0, 9.0)
#: Charges this near to an atom of the cluster count as its first neighbours.
NEIGHBOUR_A = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """Snapshots of a solute in water.

    Attributes:
        field: charges.
        numbers: of the solute.
        positions: nm, one (n, 3) for each snapshot.
        box: nm, shape (3, 3).
    """

    field: ForceFieldCharges
    numbers: np.ndarray
    positions: list[np.ndarray]
    box: np.ndarray

    def cluster(self, snapshot: int, cutoff_A: float | None) -> Cluster:
        """The solute, alone or among the charges within a cutoff."""
        m, positions = len(self.numbers), self.positions[snapshot]
        alone = Cluster(
            numbers=self.numbers,
            positions=positions[:m] / NM_PER_ANGSTROM,
            parent=np.arange(m),
            links=np.zeros((0, 2), dtype=np.int64),
            charge=0,
            multiplicity=1,
        )
        if cutoff_A is None:
            return alone
        return replace(alone, surroundings=surround(alone, self.field, positions, self.box, cutoff_A=cutoff_A))


def figures(*, quick: bool) -> list[Figure]:
    """Sizes of the terms on the solute and on the water, eV/Å, and what embedding costs."""
    solution = _simulate(2 if quick else 8, SETTLE // 50 if quick else SETTLE, SPACING // 50 if quick else SPACING)
    level = ReferenceSettings(method="hf", basis="sto-3g") if quick else ReferenceSettings()
    shots = range(len(solution.positions))
    alone, seconds_alone = _labels(level, [solution.cluster(k, None) for k in shots])
    embedded, seconds = _labels(_embedded(level), [solution.cluster(k, CUTOFF_A) for k in shots])
    found = [*_on_solute(alone, embedded), *_on_water(embedded)]
    few = list(shots)[: 1 if quick else 3]
    for cutoff in SHORTER_A:
        shorter, _ = _labels(_embedded(level), [solution.cluster(k, cutoff) for k in few])
        moved = _rms([a.forces - embedded[k].forces for k, a in zip(few, shorter, strict=True)])
        found.append(
            _figure(f"cutoff{cutoff:g}", f"label forces, charges within {cutoff:g} Å less {CUTOFF_A:g}", moved)
        )
    ratio = seconds / seconds_alone
    found.append(_figure("cost", f"processor time of a label, embedded / alone ({seconds_alone:.1f} s)", ratio, ""))
    return found


def _on_solute(alone: list[Label], embedded: list[Label]) -> list[Figure]:
    """What embedding changes for the solute: the sum that is trained on, its parts, and the error of the network."""
    change = np.array([e.forces - a.forces for e, a in zip(embedded, alone, strict=True)])
    explicit = [explicit_term(e.cluster.positions, e.cluster.surroundings).forces for e in embedded]
    turned = np.array([_turned(c, e, embedded[0]) for c, e in zip(change, embedded, strict=True)])
    total, loose = _rms(change), float(np.sqrt(turned.var(axis=0, ddof=1).mean()))
    energies = [e.energy - a.energy for e, a in zip(embedded, alone, strict=True)]
    dipoles = [np.linalg.norm(x.dipole) for labels in (alone, embedded) for x in labels]
    ratio = float(np.mean(dipoles[len(alone) :]) / np.mean(dipoles[: len(alone)]))
    net = [_network(a.cluster) for a in alone]
    return [
        _figure("explicit", "explicit charge–charge forces on the solute, RMS", _rms(explicit)),
        _figure("change", "embedded less isolated label forces: what mechanical embedding leaves out, RMS", total),
        _figure("loose", "… of it, different between snapshots: at most this no network can see", loose),
        _figure("common", "… of it, common to all snapshots: a network can learn it", _root(total**2 - loose**2)),
        _figure("net", "ANI-1x less isolated label forces, RMS", _off(net, alone)),
        _figure("net.embedded", "ANI-1x less embedded label forces, RMS", _off(net, embedded)),
        _figure("energy", "embedded less isolated label energy, mean", float(np.mean(energies)), "eV"),
        _figure("energy.spread", "… its standard deviation", float(np.std(energies, ddof=1)), "eV"),
        _figure("dipole", "dipole of the solute among charges / alone", ratio, ""),
    ]


def _on_water(embedded: list[Label]) -> list[Figure]:
    """Forces on the nearest charges: of the quantum cluster, and of the force field's charges in its stead."""
    quantum, classical = [], []
    for label in embedded:
        around = label.cluster.surroundings
        apart = np.linalg.norm(around.positions[:, None] - label.cluster.positions, axis=-1).min(axis=1)
        near = apart < NEIGHBOUR_A
        quantum.append(label.embedding.on_charges[near])
        classical.append(explicit_term(label.cluster.positions, around).on_charges[near])
    wrong = [q - c for q, c in zip(quantum, classical, strict=True)]
    return [
        _figure("water", f"forces of the quantum solute on charges within {NEIGHBOUR_A:g} Å, RMS", _rms(quantum)),
        _figure("water.wrong", "… less those of its fixed charges, which is what a run has", _rms(wrong)),
    ]


def _figure(name: str, what: str, value: float, unit_: str = "eV/Å") -> Figure:
    return Figure(id=f"R6.{name}", what=what, value=value, unit=unit_)


def _labels(level: ReferenceSettings, clusters: list[Cluster]) -> tuple[list[Label], float]:
    """Labels, and the mean processor time of one, s; the first SCF starts from atoms, the others from one before."""
    reference = PyscfReference(level, None)
    began = time.process_time()
    found = [reference.label(cluster) for cluster in clusters]
    return found, (time.process_time() - began) / len(found)


def _embedded(level: ReferenceSettings) -> ReferenceSettings:
    return level.model_copy(update={"embedding": "electrostatic"})


def _network(cluster: Cluster) -> np.ndarray:
    out = evaluate(load("ani1x"), cluster.numbers, cluster.positions * NM_PER_ANGSTROM, None)
    return out.forces * EV_PER_ANGSTROM_PER_KJ_PER_MOL_PER_NM


def _off(forces: list[np.ndarray], labels: list[Label]) -> float:
    return _rms([f - label.forces for f, label in zip(forces, labels, strict=True)])


def _rms(parts) -> float:
    return float(np.sqrt(np.mean(np.square(np.concatenate([np.ravel(part) for part in parts])))))


def _root(square: float) -> float:
    """Of a difference of two estimates, which may be below zero by chance."""
    return float(np.sqrt(max(square, 0.0)))


def _turned(forces: np.ndarray, label: Label, first: Label) -> np.ndarray:
    """Forces in the frame of the molecule in the first snapshot (Kabsch, doi:10.1107/S0567739476001873)."""
    heavy = label.cluster.numbers > 1
    here, there = (x.cluster.positions[heavy] - x.cluster.positions[heavy].mean(axis=0) for x in (label, first))
    u, _, vt = np.linalg.svd(here.T @ there)
    hand = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    return forces @ u @ hand @ vt


def _simulate(snapshots: int, settle: int, spacing: int) -> Solution:
    """Water around the solute, and snapshots of it at 300 K, all by the force field."""
    field = app.ForceField("amber14/protein.ff14SB.xml", "amber14/tip3p.xml")
    modeller = app.Modeller(*_solute())
    modeller.addSolvent(field, model="tip3p", boxSize=openmm.Vec3(BOX_NM, BOX_NM, BOX_NM) * unit.nanometer)
    system = field.createSystem(
        modeller.topology, nonbondedMethod=app.PME, nonbondedCutoff=0.9, constraints=None, rigidWater=True
    )
    integrator = openmm.LangevinMiddleIntegrator(TEMPERATURE_K, 2.0, 0.001)
    integrator.setRandomNumberSeed(SEED)
    simulation = app.Simulation(modeller.topology, system, integrator)
    simulation.context.setPositions(modeller.positions)
    simulation.minimizeEnergy(maxIterations=200)
    simulation.context.setVelocitiesToTemperature(TEMPERATURE_K, SEED)
    simulation.step(settle)
    positions = []
    for _ in range(snapshots):
        simulation.step(spacing)
        state = simulation.context.getState(getPositions=True)
        positions.append(np.array(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)))
    box = np.array(simulation.context.getState().getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer))
    return Solution(
        field=_charges(modeller.topology, system),
        numbers=np.array([a.element.atomic_number for a in modeller.topology.atoms()][: len(ATOMS)]),
        positions=positions,
        box=box,
    )


def _solute() -> tuple[app.Topology, unit.Quantity]:
    topology = app.Topology()
    chain, residues, atoms = topology.addChain(), {}, []
    for residue, name, symbol, _ in ATOMS:
        if residue not in residues:
            residues[residue] = topology.addResidue(residue, chain)
        atoms.append(topology.addAtom(name, app.Element.getBySymbol(symbol), residues[residue]))
    for i, j in BONDS:
        topology.addBond(atoms[i], atoms[j])
    places = np.array([place for *_, place in ATOMS]) * NM_PER_ANGSTROM + BOX_NM / 2
    return topology, places * unit.nanometer


def _charges(topology: app.Topology, system: openmm.System) -> ForceFieldCharges:
    (force,) = (f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    n = system.getNumParticles()
    return ForceFieldCharges(
        charges=np.array([force.getParticleParameters(k)[0].value_in_unit(unit.elementary_charge) for k in range(n)]),
        ml=np.arange(n) < len(ATOMS),
        bonds=np.array([(a.index, b.index) for a, b in topology.bonds()]),
        residue_of=np.array([atom.residue.index for atom in topology.atoms()]),
    )
