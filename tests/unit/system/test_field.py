"""A force field as text: what may be loaded, what it says, and how accurately it is evaluated."""

import math
from collections.abc import Callable

import numpy as np
import openmm
import pytest
from openmm import unit

from qmml_md.errors import ForceFieldError
from qmml_md.system.field import KNOWN_FORCES, Field, checked, load_field
from qmml_md.system.molecules import Floats

PLATFORMS = [openmm.Platform.getPlatform(k).getName() for k in range(openmm.Platform.getNumPlatforms())]
#: Relative rounding of the platforms: Reference computes in double precision, the others sum in single.
ROUNDING = {"Reference": 1e-12}
SINGLE = 1e-5


def ions(pairs: int = 4, *, caps: bool = True, method: int = openmm.NonbondedForce.NoCutoff) -> openmm.System:
    """Charged atoms in a row of bonds, the first two rigid, with a cap on the second bond."""
    system = openmm.System()
    nonbonded, bonds = openmm.NonbondedForce(), openmm.HarmonicBondForce()
    system.setDefaultPeriodicBoxVectors(*(3.0 * np.eye(3)))
    nonbonded.setNonbondedMethod(method)
    for k in range(2 * pairs):
        system.addParticle(10.0 + k)
        nonbonded.addParticle(0.5 * (-1) ** k, 0.2, 0.3)
    for k in range(2 * pairs - 1):
        bonds.addBond(k, k + 1, 0.15, 1e5)
        nonbonded.addException(k, k + 1, 0.0, 1.0, 0.0)
    system.addConstraint(0, 1, 0.15)
    if caps:
        site = openmm.LocalCoordinatesSite([1, 2], [1.0, 0.0], [-1.0, 1.0], [0.0, 0.0], [0.107, 0.0, 0.0])
        system.setVirtualSite(system.addParticle(0.0), site)
        nonbonded.addParticle(0.0, 0.0, 0.0)
    system.addForce(bonds)
    system.addForce(nonbonded)
    return system


def text(system: openmm.System) -> str:
    return openmm.XmlSerializer.serialize(system)


def places(count: int = 8) -> Floats:
    """A row of atoms that is not straight."""
    rng = np.random.default_rng(2)
    return np.cumsum(np.tile([0.12, 0.07, 0.05], (count, 1)), axis=0) + 0.01 * rng.normal(size=(count, 3))


def test_a_field_says_what_it_holds() -> None:
    field = Field(text(ions()))
    assert (field.size, field.sites) == (8, 1)
    assert field.links.tolist() == [[1, 2]]
    assert field.distances_nm.tolist() == [0.107]
    assert field.masses.tolist() == [10.0 + k for k in range(8)]
    assert field.charges.tolist() == [0.5, -0.5] * 4
    assert field.constraints.tolist() == [[0, 1]]
    assert field.lengths_nm.tolist() == [0.15]
    assert not field.periodic
    assert field.cutoff_nm is None
    boxed = Field(text(ions(method=openmm.NonbondedForce.CutoffPeriodic)))
    assert boxed.periodic
    assert boxed.cutoff_nm == 1.0


@pytest.mark.parametrize("platform", PLATFORMS)
def test_forces_are_minus_the_gradient(platform: str) -> None:
    field, x = load_field(text(ions()), platform), places()
    _, forces = field.evaluate(x, None)
    assert forces.shape == x.shape
    # Bonds of 1e5 kJ/mol/nm² are harmonic, so that a second-order difference errs by the Coulomb part alone: below
    # 140 · 0.25/r⁴ · h² = 1e-3 kJ/mol/nm at h = 1e-4 nm. In single precision energies of 1e3 round by 1e-4.
    step = 1e-4 if platform == "Reference" else 1e-3
    tolerance = 1e-2 if platform == "Reference" else 1.0
    found = np.zeros_like(x)
    for atom, k in np.ndindex(x.shape):
        moved = np.array([x, x])
        moved[:, atom, k] += (step, -step)
        found[atom, k] = -(field.evaluate(moved[0], None)[0] - field.evaluate(moved[1], None)[0]) / (2.0 * step)
    assert np.abs(forces - found).max() < tolerance
    # Sabotage: the forces of a chain without its first bond are not the gradient.
    broken = ions()
    broken.getForce(0).setBondParameters(0, 0, 1, 0.15, 0.0)
    assert np.abs(Field(text(broken), platform).evaluate(x, None)[1] - found).max() > 10 * tolerance


@pytest.mark.parametrize("platform", PLATFORMS)
def test_what_acts_on_a_site_goes_to_the_atoms_that_define_it(platform: str) -> None:
    # A charge on the site, which no cap has: total force and torque on the atoms alone must vanish.
    charged = ions()
    charged.getForce(1).setParticleParameters(8, 1.0, 0.1, 0.0)
    x = places()
    _, forces = Field(text(charged), platform).evaluate(x, None)
    scale = np.abs(forces).max()
    rounding = ROUNDING.get(platform, SINGLE)
    assert np.abs(forces.sum(axis=0)).max() < rounding * scale
    assert np.abs(np.cross(x, forces).sum(axis=0)).max() < rounding * scale
    _, without = Field(text(ions()), platform).evaluate(x, None)
    assert np.abs(forces - without).max() > 1.0


@pytest.mark.parametrize("platform", PLATFORMS)
def test_evaluation_does_not_depend_on_what_was_evaluated_before(platform: str) -> None:
    field, x = load_field(text(ions(method=openmm.NonbondedForce.PME)), platform), places()
    first = field.evaluate(x, 3.0 * np.eye(3))
    field.evaluate(x + 0.1, 2.5 * np.eye(3))
    again = field.evaluate(x, 3.0 * np.eye(3))
    assert again[0] == first[0]
    assert (again[1] == first[1]).all()


def test_a_system_is_a_fresh_copy() -> None:
    field = Field(text(ions()))
    system = field.system()
    system.removeForce(0)
    assert field.system().getNumForces() == 2
    assert Field(field.xml).xml == field.xml


def with_python() -> str:
    system = ions()
    system.addForce(openmm.PythonForce(math.sin))
    return text(system)


def with_nested_python() -> str:
    system, outer = ions(), openmm.CustomCVForce("inner")
    outer.addCollectiveVariable("inner", openmm.PythonForce(math.sin))
    system.addForce(outer)
    return text(system)


def with_thermostat() -> str:
    system = ions()
    system.addForce(openmm.AndersenThermostat(300.0, 1.0))
    return text(system)


def with_momentum_removed() -> str:
    system = ions()
    system.addForce(openmm.CMMotionRemover())
    return text(system)


def with_site_between() -> str:
    system = ions()
    system.addParticle(1.0)
    system.getForce(1).addParticle(0.0, 1.0, 0.0)
    return text(system)


def with_water_site() -> str:
    system = ions(caps=False)
    axes = ([1, 2], [0.5, 0.5], [-1.0, 1.0], [0.0, 0.0], [0.1, 0.0, 0.0])
    system.setVirtualSite(system.addParticle(0.0), openmm.LocalCoordinatesSite(*axes))
    return text(system)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (with_python, "PythonForce"),
        (with_nested_python, "CustomCVForce"),
        (with_thermostat, "AndersenThermostat"),
        (with_momentum_removed, "CMMotionRemover"),
        (with_site_between, "atoms after it"),
        (with_water_site, "no cap"),
        (lambda: text(ions()).replace('type="HarmonicBondForce"', 'type="TorchForce" file="x.pt"'), "TorchForce"),
        (lambda: text(ions()).replace('type="HarmonicBondForce"', ""), "may not be loaded"),
        (lambda: text(ions()).replace("LocalCoordinatesSite", "OutOfPlaneSite"), "OutOfPlaneSite"),
        (lambda: text(ions()).replace("<System", "<!DOCTYPE System><System"), "document type"),
        (lambda: text(openmm.VerletIntegrator(0.001)), "no <System>"),
        (lambda: text(ions())[:-20], "no XML"),
    ],
)
def test_what_may_not_be_loaded_is_refused(make: Callable[[], str], words: str) -> None:
    with pytest.raises(ForceFieldError, match=words):
        Field(make())


def test_too_much_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qmml_md.system.field.LARGEST_BYTES", 1000)
    with pytest.raises(ForceFieldError, match="fewer ML atoms"):
        checked(text(ions()))


def test_openmm_gets_what_was_checked_and_not_what_was_given() -> None:
    # A comment hides nothing: it is not handed on.
    hidden = text(ions()).replace("<Forces>", '<Forces><!-- <Force type="PythonForce"/> -->')
    assert "PythonForce" not in checked(hidden)
    assert checked(hidden) == checked(text(ions()))


def test_an_unknown_platform_is_refused() -> None:
    with pytest.raises(ForceFieldError, match="Abacus"):
        load_field(text(ions()), "Abacus")


def test_the_list_holds_only_forces_without_programs() -> None:
    assert not {"PythonForce", "TorchForce", "CustomCVForce", "CustomVolumeForce"} & KNOWN_FORCES


def test_positions_are_those_of_atoms_only() -> None:
    field, x = Field(text(ions())), places()
    energy, forces = field.evaluate(x, None)
    bare = openmm.Context(
        ions(caps=False), openmm.VerletIntegrator(1e-3), openmm.Platform.getPlatformByName("Reference")
    )
    bare.setPositions(x)
    state = bare.getState(energy=True, forces=True)
    assert energy == pytest.approx(state.getPotentialEnergy()._value, rel=SINGLE)
    theirs = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    assert np.abs(forces - theirs).max() < SINGLE * np.abs(theirs).max()


def test_charges_of_some_particles_only_are_refused() -> None:
    system = openmm.System()
    force = openmm.NonbondedForce()
    for _ in range(2):
        system.addParticle(1.0)
        force.addParticle(0.0, 0.1, 0.0)
    system.addForce(force)
    assert Field(openmm.XmlSerializer.serialize(system)).size == 2
    system.addParticle(1.0)
    with pytest.raises(ForceFieldError, match="3 particles, but charges of 2"):
        Field(openmm.XmlSerializer.serialize(system))
