"""A part of a system with capped bonds: where the caps lie, and where their forces go."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import unit

from qmml_md.errors import StructureError
from qmml_md.system.molecules import Floats, Molecules, topology_json
from qmml_md.system.structures import read_structure
from qmml_md.system.subsystem import Subsystem, cut_bonds, subsystem_of, whole_subsystem

#: The step of the differences, nm. A cap's fifth derivative is about d/r⁵ = 1e3 nm⁻⁴, so that a fourth-order difference
#: is wrong by 4 h⁴/30 · 1e3 = 1e-12, times forces of order 1 per nm; rounding adds 1e-16 · 100 / h = 3e-11.
STEP_NM = 3e-4
EXACT = 1e-8
BACKBONE = {"N", "H", "CA", "HA", "HA2", "HA3"}


@pytest.fixture(scope="module")
def chignolin(data: Path) -> Molecules:
    return read_structure(data / "chignolin_1uao_model1.pdb")


def middle(molecules: Molecules) -> np.ndarray:
    """A stretch of the backbone: the carbonyl of residue 3 up to the alpha carbon of residue 6, side chains with it."""
    chosen = []
    for atom in molecules.topology.atoms:
        number, name = atom.residue.index, atom.name
        end = number == 5 and name not in ("C", "O")
        if number in (3, 4) or end or (number == 2 and name in ("C", "O")):
            chosen.append(atom.index)
    return np.array(chosen)


@pytest.fixture(scope="module")
def part(chignolin: Molecules) -> Subsystem:
    atoms = middle(chignolin)
    return subsystem_of(chignolin, atoms, cut_bonds(chignolin, atoms), np.array([0.107, 0.109]))


def energy(positions: Floats) -> float:
    """A smooth function of all positions without any symmetry, of order 1."""
    weights = np.linspace(0.5, 1.5, positions.size).reshape(positions.shape)
    return float((weights * np.sin(positions + weights)).sum())


def forces(positions: Floats) -> Floats:
    """Minus the gradient of ``energy``."""
    weights = np.linspace(0.5, 1.5, positions.size).reshape(positions.shape)
    return -weights * np.cos(positions + weights)


def differences(part: Subsystem, x: Floats, box: Floats | None, atoms: np.ndarray) -> Floats:
    """Forces on some atoms of the whole system by fourth-order differences."""
    found = np.zeros((len(atoms), 3))
    for row, atom in enumerate(atoms):
        for k in range(3):
            for weight, step in ((8.0, 1), (-8.0, -1), (-1.0, 2), (1.0, -2)):
                moved = x.copy()
                moved[atom, k] += step * STEP_NM
                found[row, k] -= weight * energy(part.positions(moved, box)) / (12.0 * STEP_NM)
    return found


def near_the_cut(part: Subsystem) -> np.ndarray:
    """Both ends of each cut bond, two more ML atoms, and an atom that is far."""
    return np.unique([*part.links.ravel(), *part.atoms[:2], 0])


def test_caps_lie_on_the_bond_at_their_distance(part: Subsystem, chignolin: Molecules) -> None:
    found = part.positions(chignolin.positions)
    assert found.shape == (part.molecules.size, 3)
    assert (found[: len(part.atoms)] == chignolin.positions[part.atoms]).all()
    hosts, outers = chignolin.positions[part.links[:, 0]], chignolin.positions[part.links[:, 1]]
    for cap, host, outer, distance in zip(found[len(part.atoms) :], hosts, outers, part.distances_nm, strict=True):
        assert np.linalg.norm(cap - host) == pytest.approx(distance, rel=1e-14)
        assert np.cross(cap - host, outer - host) == pytest.approx(np.zeros(3), abs=1e-15)
        assert (cap - host) @ (outer - host) > 0.0


def test_forces_on_caps_follow_the_chain_rule(part: Subsystem, chignolin: Molecules) -> None:
    x, atoms = chignolin.positions, near_the_cut(part)
    ours = part.spread(forces(part.positions(x)), x)
    assert np.abs(ours[atoms] - differences(part, x, None, atoms)).max() < EXACT
    assert not ours[np.setdiff1d(np.arange(chignolin.size), [*part.atoms, *part.links[:, 1]])].any()


def test_a_cap_whose_force_stays_with_its_host_is_caught(part: Subsystem, chignolin: Molecules) -> None:
    # Sabotage: no chain rule, the whole force of a cap goes to its host.
    x, atoms = chignolin.positions, near_the_cut(part)
    of_part = forces(part.positions(x))
    wrong = np.zeros_like(x)
    wrong[part.atoms] = of_part[: len(part.atoms)]
    wrong[part.links[:, 0]] += of_part[len(part.atoms) :]
    assert np.abs(wrong[atoms] - differences(part, x, None, atoms)).max() > 1e3 * EXACT


def test_spreading_keeps_total_force_and_torque(part: Subsystem, chignolin: Molecules) -> None:
    x = chignolin.positions
    of_part, at = forces(part.positions(x)), part.positions(x)
    ours = part.spread(of_part, x)
    assert ours.sum(axis=0) == pytest.approx(of_part.sum(axis=0), abs=1e-12)
    assert np.cross(x, ours).sum(axis=0) == pytest.approx(np.cross(at, of_part).sum(axis=0), abs=1e-12)


def test_openmm_places_and_spreads_the_same(part: Subsystem, chignolin: Molecules) -> None:
    x = chignolin.positions
    system = openmm.System()
    for mass in chignolin.masses:
        system.addParticle(mass)
    for (host, outer), distance in zip(part.links.tolist(), part.distances_nm.tolist(), strict=True):
        axes = ([host, outer], [1.0, 0.0], [-1.0, 1.0], [0.0, 0.0], [distance, 0.0, 0.0])
        system.setVirtualSite(system.addParticle(0.0), openmm.LocalCoordinatesSite(*axes))
    pull = openmm.CustomExternalForce("-fx*x-fy*y-fz*z")
    for name in ("fx", "fy", "fz"):
        pull.addPerParticleParameter(name)
    of_part = forces(part.positions(x))
    places = [*part.atoms.tolist(), *range(chignolin.size, system.getNumParticles())]
    for place, force in zip(places, of_part, strict=True):
        pull.addParticle(place, force)
    system.addForce(pull)
    context = openmm.Context(system, openmm.VerletIntegrator(1e-3), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(np.concatenate([x, np.zeros((len(part.links), 3))]))
    context.computeVirtualSites()
    state = context.getState(positions=True, forces=True)
    at = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    theirs = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    assert np.abs(at[places] - part.positions(x)).max() < 1e-12
    assert np.abs(theirs[: chignolin.size] - part.spread(of_part, x)).max() < 1e-10


def test_frames_are_done_at_once(part: Subsystem, chignolin: Molecules) -> None:
    rng = np.random.default_rng(5)
    x = chignolin.positions + 0.01 * rng.normal(size=(2, 3, chignolin.size, 3))
    at = part.positions(x)
    assert at.shape == (2, 3, part.molecules.size, 3)
    assert (at[1, 2] == part.positions(x[1, 2])).all()
    spread = part.spread(at, x)
    assert (spread[1, 2] == part.spread(at[1, 2], x[1, 2])).all()


def test_a_bond_across_the_box_is_its_nearest_image(part: Subsystem, chignolin: Molecules) -> None:
    box = np.array([[4.0, 0, 0], [1.0, 4.2, 0], [-1.2, 0.8, 4.4]])
    x = chignolin.positions
    wrapped = x.copy()
    wrapped[part.links[:, 1]] += np.array([[1, 0, -1], [0, 2, 1]]) @ box
    # Positions of up to 10 nm are rounded by 2e-15 nm.
    assert part.positions(wrapped, box) == pytest.approx(part.positions(x), abs=1e-13)
    of_part = forces(part.positions(x))
    assert part.spread(of_part, wrapped, box) == pytest.approx(part.spread(of_part, x), abs=1e-10)
    assert np.abs(part.positions(wrapped) - part.positions(x)).max() > 0.01


def test_two_cut_bonds_may_end_at_one_atom(chignolin: Molecules) -> None:
    bonds = {frozenset(b) for b in chignolin.bonds.tolist()}
    middle_atom = next(i for i in range(chignolin.size) if sum(i in b for b in bonds) == 4)
    atoms = np.setdiff1d(np.arange(chignolin.size), [middle_atom])
    part = subsystem_of(chignolin, atoms, cut_bonds(chignolin, atoms), np.full(4, 0.1))
    x = chignolin.positions
    ours = part.spread(forces(part.positions(x)), x)
    places = np.array([middle_atom, *part.links[:, 0]])
    assert np.abs(ours[places] - differences(part, x, None, places)).max() < EXACT


def test_the_part_is_a_set_of_molecules(part: Subsystem, chignolin: Molecules) -> None:
    ours, a = part.molecules, len(part.atoms)
    assert ours.numbers[a:].tolist() == [1, 1]
    assert part.outer.tolist() == [*part.atoms.tolist(), -1, -1]
    degree = np.bincount(chignolin.bonds.ravel(), minlength=chignolin.size)
    assert (np.bincount(ours.bonds.ravel())[:a] == degree[part.atoms]).all()
    for k, (host, _) in enumerate(part.links.tolist()):
        place = part.atoms.tolist().index(host)
        assert [place, a + k] in ours.bonds.tolist()
        assert ours.residue_of[a + k] == ours.residue_of[place]
        assert ours.fragment_of[a + k] == ours.fragment_of[place]
    assert set(ours.molecule_of) == {0}
    # Atoms that share a fragment in the whole do so in the part, and the other way round.
    whole = chignolin.fragment_of[part.atoms]
    assert ((whole[:, None] == whole) == (ours.fragment_of[:a, None] == ours.fragment_of[:a])).all()
    assert [atom.name for atom in ours.topology.atoms][:a] == [chignolin.topology.atom(i).name for i in part.atoms]
    assert len(topology_json(ours)) > 100


def test_the_part_goes_where_the_whole_goes(part: Subsystem, chignolin: Molecules) -> None:
    moved = chignolin.positions + np.array([0.1, -0.2, 0.3])
    assert part.at(moved, None).positions == pytest.approx(part.molecules.positions + np.array([0.1, -0.2, 0.3]))
    boxed = replace(part, molecules=replace(part.molecules, box=np.eye(3)))
    assert (boxed.at(moved, 2 * np.eye(3)).box == 2 * np.eye(3)).all()


def test_everything_costs_nothing(chignolin: Molecules) -> None:
    part = whole_subsystem(chignolin)
    x = chignolin.positions + 1.0
    assert part.whole
    assert part.positions(x) is x
    assert part.spread(x, x) is x
    assert part.molecules is chignolin
    assert (part.at(x, None).positions == x).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a, links, d: (a[::-1], links, d), "rising order"),
        (lambda a, links, d: (a[:0], links, d), "rising order"),
        (lambda a, links, d: (a, links[:1], d[:1]), "not the bonds"),
        (lambda a, links, d: (a, links[:, ::-1], d), "not the bonds"),
        (lambda a, links, d: (a, links, d[:1]), "as many distances"),
        (lambda a, links, d: (a, links, 0 * d), "as many distances"),
    ],
)
def test_what_does_not_fit_together_is_refused(chignolin: Molecules, change: Callable, words: str) -> None:
    atoms = middle(chignolin)
    with pytest.raises(StructureError, match=words):
        subsystem_of(chignolin, *change(atoms, cut_bonds(chignolin, atoms), np.array([0.1, 0.1])))
