"""The portable state: read to the last digit, and nothing read but numbers."""

import openmm
import pytest

from qmml_md.engine.portable import read_state
from qmml_md.errors import RunDirectoryError


def context() -> openmm.Context:
    system = openmm.System()
    system.addParticle(1.0)
    integrator = openmm.CustomIntegrator(0.001)
    integrator.addGlobalVariable("heat", 0.125)
    integrator.addPerDofVariable("kept", 0)
    made = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    made.setPositions([(0.1, 1.0 / 3.0, 2e-9)])
    made.setVelocities([(0.3, 0.2, 0.1)])
    return made


def written() -> str:
    state = context().getState(getPositions=True, getVelocities=True, integratorParameters=True)
    return openmm.XmlSerializer.serialize(state)


def test_a_state_comes_back() -> None:
    again = context()
    again.setPositions([(0.0, 0.0, 0.0)])
    again.getIntegrator().setGlobalVariableByName("heat", 7.0)
    again.setState(read_state(written()))
    assert again.getState(getPositions=True).getPositions()[0].x == 1.0 / 10.0
    assert again.getState(getPositions=True).getPositions()[0].y == 1.0 / 3.0
    assert again.getIntegrator().getGlobalVariableByName("heat") == 0.125


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<State ", "<System "),
        ('type="State"', 'type="System"'),
        ("<Positions>", "<Positions><Force type='PythonForce' pickle='gASV'/>"),
        ("<PerDofVariables>", "<PerDofVariables><kept><Force type='PythonForce'/></kept>"),
        ("</State>", ""),
    ],
)
def test_anything_else_is_refused(old: str, new: str) -> None:
    text = written()
    assert old in text
    text = text.replace(old, new, 1)
    if new.startswith("<System"):
        text = text.replace("</State>", "</System>")
    with pytest.raises(RunDirectoryError, match="portable state"):
        read_state(text)
