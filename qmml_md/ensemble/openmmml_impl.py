"""What openmmml asks of a potential, answered by the ensemble; made by ``mlpotential.py``."""

from collections.abc import Iterable
from typing import Any, cast, get_args

import numpy as np
import openmm
from openmm import app
from openmmml.mlpotential import MLPotentialImpl

from ..errors import ConfigError, ElementError
from .force import ForceKind, Particles, build_force
from .model import AniEnsemble
from .weights import Precision, load


class QmmlPotential(MLPotentialImpl):  # type: ignore[misc]
    """The mean of an ensemble on all atoms of a System, or on some of them and their caps."""

    def __init__(self, ensemble: AniEnsemble, kind: ForceKind) -> None:
        """Keep the ensemble and the way in which OpenMM is to call it."""
        self._ensemble = ensemble
        self._kind = kind

    def addForces(
        self,
        topology: app.Topology,
        system: openmm.System,
        atoms: Iterable[int] | None,
        forceGroup: int,
        **_: Any,
    ) -> None:
        """Add the ensemble to a System.

        Args:
            topology: with an element for each atom that the ensemble is on.
            system: to be added to.
            atoms: indices of the atoms that the ensemble is on; None for all.
            forceGroup: of the force.

        Raises:
            ConfigError: openmmml would interpolate.
            ElementError: an atom is of no element, or of one that the weights do not know.
        """
        if not system.getNumParticles():
            # openmmml collects what it interpolates in a System without particles, then copies it: OpenMM crashes
            # when it copies a TorchForce, and copies a PythonForce by a pickle.
            raise ConfigError(
                "createMixedSystem(interpolate=True) is not possible with this potential",
                cure="leave interpolate out",
            )
        elements = [atom.element for atom in topology.atoms()]
        chosen = None if atoms is None else np.array(list(atoms), dtype=np.int64)
        wanted = range(len(elements)) if chosen is None else chosen.tolist()
        if any(elements[k] is None for k in wanted):
            raise ElementError("an atom of the topology has no element", cure="use a water model without virtual sites")
        numbers = np.array([elements[k].atomic_number for k in wanted], dtype=np.int64)
        periodic = topology.getPeriodicBoxVectors() is not None or system.usesPeriodicBoundaryConditions()
        part = None if chosen is None else Particles(atoms=chosen)
        force = build_force(self._ensemble, numbers, periodic=periodic, kind=self._kind, part=part)
        force.setForceGroup(forceGroup)
        system.addForce(force)

    def getMLLongRange(self) -> bool:
        """Whether the potential sees beyond its cutoff: it does not."""
        return False


def potential(weights: str, precision: str, force: str) -> QmmlPotential:
    """A potential; arguments and errors as for ``QmmlPotentialFactory.createImpl``."""
    for name, value, allowed in (("precision", precision, get_args(Precision)), ("force", force, get_args(ForceKind))):
        if value not in allowed:
            raise ConfigError(f"{name}: `{value}` is unknown", cure=f"take {' or '.join(allowed)}")
    return QmmlPotential(load(weights, cast(Precision, precision)), cast(ForceKind, force))
