"""The force field of everything but the ML part's own interactions: an OpenMM System kept as text.

The text may come with a run directory from somebody else, so that it is read with care: a System in XML may hold forces
that are programs (a ``PythonForce`` is a pickle, a ``TorchForce`` a TorchScript file). It is parsed first; every object
in it must be on a list; and what was parsed, not what was given, is handed to OpenMM.
"""

from functools import cached_property
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np
import openmm
from openmm import unit

from ..errors import ForceFieldError
from .images import Floats, Ints

#: Largest System in XML, bytes: about a million atoms, or three thousand ML atoms, whose pairs are all listed.
LARGEST_BYTES = 256 * 1024**2
#: Objects that a field may hold: numbers and algebraic expressions, nothing that runs.
KNOWN_FORCES = frozenset({
    "HarmonicBondForce", "HarmonicAngleForce", "PeriodicTorsionForce", "RBTorsionForce", "CMAPTorsionForce",
    "NonbondedForce", "CustomBondForce", "CustomAngleForce", "CustomTorsionForce", "CustomNonbondedForce",
})  # fmt: skip
KNOWN_FUNCTIONS = frozenset({
    "Continuous1DFunction", "Continuous2DFunction", "Continuous3DFunction",
    "Discrete1DFunction", "Discrete2DFunction", "Discrete3DFunction",
})  # fmt: skip
KNOWN_SITES = frozenset({"LocalCoordinatesSite"})
QUOTES = {'"': "&quot;", "\n": "&#10;"}
#: How openmmml places a cap: origin at the first atom, first axis towards the second, no part of the other axes.
CAP_WEIGHTS = ([1.0, 0.0], [-1.0, 1.0], [0.0, 0.0])


class Field:
    """A force field over the atoms of a system, with the caps of cut bonds as virtual sites after them.

    Attributes:
        xml: the System as OpenMM writes it, checked.
        size: number of atoms, n.
        sites: number of virtual sites; they follow the atoms.
        links: host and outer atom of each site, shape (sites, 2).
        distances_nm: from host to site, shape (sites,).
        masses: Da, shape (n,).
        charges: e, shape (n,); zeros where there is no NonbondedForce.
        constraints: pairs of atoms at fixed distances, shape (c, 2).
        lengths_nm: those distances, shape (c,).
        periodic: whether the box repeats.
        cutoff_nm: the longest cutoff of its forces; None where nothing is cut off.
    """

    def __init__(self, xml: str, platform: str = "CPU", threads: int = 1) -> None:
        """Check and read a field.

        Args:
            xml: an OpenMM System.
            platform: of OpenMM, on which ``evaluate`` computes. `Reference` computes in double precision; the others
                in single.
            threads: of the CPU platform. With more than one the same positions give forces that differ by single
                rounding, even where OpenMM is asked for deterministic ones.

        Raises:
            ForceFieldError: the text is too long, no System, or holds something that is not on the list.
        """
        self.xml = checked(xml)
        self._platform, self._threads = platform, threads
        system = self._own = self.system()
        count = system.getNumParticles()
        places = [k for k in range(count) if system.isVirtualSite(k)]
        self.sites = len(places)
        self.size = count - self.sites
        if places != list(range(self.size, count)):
            raise ForceFieldError(
                f"particle {places[0]} of {count} is a virtual site with atoms after it",
                cure="use a water model without virtual sites, such as three-site water",
            )
        caps = [_cap(system.getVirtualSite(k), k) for k in places]
        self.links: Ints = np.array([cap[0] for cap in caps], dtype=np.int64).reshape(-1, 2)
        self.distances_nm: Floats = np.array([cap[1] for cap in caps], dtype=np.float64)
        self.masses: Floats = np.array([system.getParticleMass(k)._value for k in range(self.size)], dtype=np.float64)
        self.charges = _charges(system)[: self.size]
        bonds = [system.getConstraintParameters(k) for k in range(system.getNumConstraints())]
        self.constraints: Ints = np.array([b[:2] for b in bonds], dtype=np.int64).reshape(-1, 2)
        self.lengths_nm: Floats = np.array([b[2]._value for b in bonds], dtype=np.float64)
        self.periodic = bool(system.usesPeriodicBoundaryConditions())
        self.cutoff_nm = _cutoff(system)

    def system(self) -> openmm.System:
        """A fresh copy of the OpenMM System."""
        found = openmm.XmlSerializer.deserialize(self.xml)
        if not isinstance(found, openmm.System):
            raise ForceFieldError(
                "the field is no OpenMM System", cure="give what XmlSerializer.serialize(system) says"
            )
        return found

    def evaluate(self, positions: Floats, box: Floats | None) -> tuple[float, Floats]:
        """Energy and forces of one configuration.

        Args:
            positions: nm, shape (n, 3), molecules whole: bonds are not looked for across the box.
            box: reduced box, nm, shape (3, 3); None in vacuum.

        Returns:
            Energy, kJ/mol, and forces, kJ/mol/nm, shape (n, 3). Sites carry no force of their own in a field; OpenMM
            gives what acts on a site to the atoms that define it.
        """
        context = self._context
        if box is not None:
            context.setPeriodicBoxVectors(*box)
        context.setPositions(np.concatenate([positions, np.zeros((self.sites, 3))]))
        context.computeVirtualSites()
        state = context.getState(energy=True, forces=True)
        forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
        energy = float(state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole))
        return energy, np.array(forces[: self.size], dtype=np.float64)

    @cached_property
    def _context(self) -> openmm.Context:
        """Made when first needed: masses and charges are often all that is wanted."""
        properties = {}
        if self._platform == "CPU":
            properties = {"DeterministicForces": "true", "Threads": str(self._threads)}
        platform = openmm.Platform.getPlatformByName(self._platform)
        return openmm.Context(self._own, openmm.VerletIntegrator(0.001), platform, properties)


def load_field(xml: str, platform: str = "auto") -> Field:
    """A field that computes on an OpenMM platform.

    Args:
        xml: an OpenMM System.
        platform: its name; `auto` takes CPU, or Reference where that is missing.

    Raises:
        ForceFieldError: as for ``Field``, or OpenMM has no such platform here.
    """
    here = [openmm.Platform.getPlatform(k).getName() for k in range(openmm.Platform.getNumPlatforms())]
    name = ("CPU" if "CPU" in here else "Reference") if platform == "auto" else platform
    if name not in here:
        raise ForceFieldError(f"OpenMM has no platform {name} here", cure=f"take one of {', '.join(here)}")
    return Field(xml, name)


def checked(xml: str) -> str:
    """A System in XML with nothing in it that could run, as this parser understood it.

    Raises:
        ForceFieldError: the text is too long, no System, or holds something that is not on the list.
    """
    if len(xml) > LARGEST_BYTES:
        raise ForceFieldError(
            f"the field is {len(xml) / 1e6:.0f} MB of XML, more than {LARGEST_BYTES / 1e6:.0f} MB",
            cure="choose fewer ML atoms: a field lists each pair of them",
        )
    if "<!" in xml.replace("<!--", ""):
        raise ForceFieldError("the field declares a document type or entities", cure=_CURE)
    try:
        # Without a document type there are no entities, which is what makes XML from strangers dangerous.
        root = ElementTree.fromstring(xml)  # noqa: S314
    except ElementTree.ParseError as error:
        raise ForceFieldError(f"the field is no XML: {error}", cure=_CURE) from error
    if root.tag != "System" or root.get("type") != "System":
        raise ForceFieldError(f"the field is a <{root.tag}>, no <System>", cure=_CURE)
    _refuse_unknown(root)
    lines: list[str] = []
    _write(root, lines)
    return "\n".join(lines)


def _write(element: ElementTree.Element, lines: list[str]) -> None:
    """Elements and attributes, all there is in a System: four times as fast as ElementTree, and pairs are many."""
    words = [f'{name}="{escape(value, QUOTES)}"' for name, value in element.items()]
    tag = " ".join([element.tag, *words])
    if not len(element):
        lines.append(f"<{tag}/>")
        return
    lines.append(f"<{tag}>")
    for child in element:
        _write(child, lines)
    lines.append(f"</{element.tag}>")


_CURE = "give what OpenMM's XmlSerializer.serialize(system) writes, or build it again from the force field"


def _refuse_unknown(root: ElementTree.Element) -> None:
    """Every object that OpenMM would make from the tree must be on the list."""
    for element in list(root.iter())[1:]:
        kind, tag = element.get("type"), element.tag
        if kind is not None:
            known = {"Force": KNOWN_FORCES, "Function": KNOWN_FUNCTIONS}.get(tag, frozenset())
            if kind not in known:
                raise ForceFieldError(
                    f"the field holds a {kind}, which is not among the forces that may be loaded",
                    cure=f"allowed are {', '.join(sorted(KNOWN_FORCES))}",
                )
        elif tag in ("Force", "Function") or (tag.endswith("Site") and tag not in KNOWN_SITES):
            raise ForceFieldError(f"the field holds a {tag} that may not be loaded", cure=_CURE)


def _cap(site: openmm.VirtualSite, place: int) -> tuple[tuple[int, int], float]:
    """Host, outer atom and distance (nm) of a cap."""
    found = None
    if isinstance(site, openmm.LocalCoordinatesSite) and site.getNumParticles() == 2:
        weights = (site.getOriginWeights(), site.getXWeights(), site.getYWeights())
        distance, *rest = site.getLocalPosition().value_in_unit(unit.nanometer)
        if all(np.array_equal(a, b) for a, b in zip(weights, CAP_WEIGHTS, strict=True)) and not any(rest):
            found = (site.getParticle(0), site.getParticle(1)), float(distance)
    if found is None:
        raise ForceFieldError(
            f"particle {place} is a virtual site that is no cap of a cut bond",
            cure="use a water model without virtual sites, such as three-site water",
        )
    return found


def _charges(system: openmm.System) -> Floats:
    """Charges of all particles, e."""
    for force in system.getForces():
        if isinstance(force, openmm.NonbondedForce):
            count = force.getNumParticles()
            if count != system.getNumParticles():
                raise ForceFieldError(
                    f"the force field has {system.getNumParticles()} particles, but charges of {count}", cure=_CURE
                )
            return np.array([force.getParticleParameters(k)[0]._value for k in range(count)], dtype=np.float64)
    return np.zeros(system.getNumParticles())


def _cutoff(system: openmm.System) -> float | None:
    """The longest cutoff, nm."""
    pairwise = [f for f in system.getForces() if isinstance(f, openmm.NonbondedForce | openmm.CustomNonbondedForce)]
    # Method 0 is NoCutoff in both classes.
    found = [f.getCutoffDistance().value_in_unit(unit.nanometer) for f in pairwise if f.getNonbondedMethod() != 0]
    return max(found, default=None)
