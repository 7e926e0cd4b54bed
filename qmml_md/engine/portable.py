"""Reading OpenMM's portable state, which may come from somebody else: as XML it could name any object of OpenMM.

A ``PythonForce`` in XML is a pickle. The text is parsed first, must be a state of numbers and nothing else, and what
was parsed, not what was given, is handed to OpenMM.
"""

from xml.etree import ElementTree

import openmm

from ..errors import RunDirectoryError

#: Largest state, bytes: about two million atoms.
LARGEST_BYTES = 512 * 1024**2
KNOWN = frozenset({
    "State", "PeriodicBoxVectors", "A", "B", "C", "Positions", "Position", "Velocities", "Velocity", "Forces", "Force",
    "Energies", "Parameters", "IntegratorParameters", "GlobalVariables", "PerDofVariables", "Value",
})  # fmt: skip


def read_state(xml: str) -> openmm.State:
    """The state in a text.

    Raises:
        RunDirectoryError: the text is too long, no XML, or holds anything but numbers.
    """
    if len(xml) > LARGEST_BYTES:
        raise RunDirectoryError(f"a state of {len(xml)} bytes is too large", cure=_CURE)
    if "<!" in xml:
        raise RunDirectoryError("the portable state declares a document type: it is not read", cure=_CURE)
    try:
        root = ElementTree.fromstring(xml)  # noqa: S314 - expat bounds entities, and only known names are kept
    except ElementTree.ParseError as error:
        raise RunDirectoryError(f"the portable state is no XML: {error}", cure=_CURE) from error
    # A variable of the integrator stands under its own name.
    variables = {each for parent in root.iter("PerDofVariables") for each in parent}
    unknown = sorted({element.tag for element in root.iter() if element not in variables} - KNOWN)
    # OpenMM chooses what to make of a text by this attribute, whatever the element is called.
    if root.tag != "State" or root.get("type") != "State" or any(e.get("type") for e in root.iter() if e is not root):
        unknown = [*unknown, f"<{root.tag} type={root.get('type')!r}>"]
    if unknown:
        raise RunDirectoryError(f"the portable state holds {', '.join(unknown)}: it is not read", cure=_CURE)
    return openmm.XmlSerializer.deserialize(ElementTree.tostring(root, encoding="unicode"))


_CURE = "restore the checkpoint from a copy of the run directory"
