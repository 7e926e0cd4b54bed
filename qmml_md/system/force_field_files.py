"""OpenMM force field files, in which nothing may run: OpenMM would run scripts in them as Python."""

from collections.abc import Sequence
from importlib.metadata import entry_points
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import openmm
from openmm import app

from ..errors import ForceFieldError
from .parameter_files import unreadable
from .structures import refuse_large

#: Elements whose text OpenMM runs as a program, or whose file it would read unseen.
PROGRAMS = frozenset({"Script", "InitializationScript", "Include"})


def apply_force_field(
    names: Sequence[str], folder: Path, atoms_and_bonds: app.Topology, options: dict[str, Any]
) -> openmm.System:
    """All atoms in a force field.

    Args:
        names: of files in ``folder``, or of OpenMM's own.
        folder: where relative paths start.
        atoms_and_bonds: what to describe.
        options: keywords of ``ForceField.createSystem``.

    Raises:
        ForceFieldError: a file is missing, cannot be read, or holds a program; or the files do not know a residue.
    """
    files, told = [_file(name, folder) for name in names], ", ".join(names)
    try:
        field = app.ForceField(*files)
    except Exception as error:  # the parser raises whatever a broken file makes it trip over
        raise unreadable(told, error) from error
    unmatched = field.getUnmatchedResidues(atoms_and_bonds)
    if unmatched:
        named = ", ".join(dict.fromkeys(f"{residue.name} {residue.id}" for residue in unmatched[:6]))
        more = f" and {len(unmatched) - 6} more" if len(unmatched) > 6 else ""
        raise ForceFieldError(
            f"{told} have no template for residue {named}{more}",
            cure="add a file with parameters of this residue (water and ions have files of their own, such as "
            "amber14/tip3p.xml), or correct its names, bonds (CONECT) and hydrogens; or give an AMBER, GROMACS or "
            "CHARMM topology in place of force_field",
        )
    try:
        built: openmm.System = field.createSystem(atoms_and_bonds, **options)
    except Exception as error:  # parameters that are missing, residues that two templates fit
        raise ForceFieldError(
            f"{told} cannot describe the system: {error}",
            cure="use force field files that belong together, for water and ions too",
        ) from error
    return built


def _file(name: str, folder: Path) -> str | BytesIO:
    """A force field file: one beside the configuration, in which nothing may run, or one that OpenMM brings."""
    own = folder / name
    if own.is_file():
        return BytesIO(_harmless(own))
    # The place is looked up here: OpenMM would first look in the working directory.
    places = [Path(app.__file__).parent / "data"]
    places += [Path(entry.load()()) for entry in entry_points(group="openmm.forcefielddir")]
    found = next((place / name for place in places if (place / name).is_file()), None)
    if found is None:
        raise ForceFieldError(
            f"there is no force field file {name}, neither beside the configuration nor in OpenMM",
            cure="give a path, or a name such as amber14-all.xml, amber14/tip3p.xml, amber19-all.xml or charmm36.xml",
        )
    return str(found)


def _harmless(path: Path) -> bytes:
    """A force field file without a program in it, as this parser understood it.

    OpenMM runs the text of scripts, and evaluates one attribute, as Python.
    """
    refuse_large(path)
    try:
        text = path.read_text(encoding="utf-8")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ElementTree.ParseError("it declares a document type or entities")
        # Without a document type there are no entities, which is what makes XML from strangers dangerous.
        root = ElementTree.fromstring(text)  # noqa: S314
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from error
    for element in root.iter():
        correction = element.get("useDispersionCorrection", "True")
        if element.tag in PROGRAMS or correction not in ("True", "False", "0", "1"):
            raise ForceFieldError(
                f"{path} holds {element.tag}, which OpenMM would run or read unseen",
                cure="remove it: name included files in system.force_field, and build what needs a script yourself, "
                "as an AMBER or GROMACS topology",
            )
    return ElementTree.tostring(root)
