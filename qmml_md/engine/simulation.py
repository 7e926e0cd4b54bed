"""The OpenMM side of a run: one context that moves the atoms on one model, and can change it."""

import numpy as np
import openmm
from openmm import unit

from ..config import Config
from ..ensemble.force import BLEND, Particles, build_force
from ..ensemble.model import AniEnsemble
from ..ensemble.potential import Potential
from ..ensemble.weights import single_member
from ..errors import DynamicsError
from ..integrators.substeps import CONSTRAINT_TOLERANCE, heat, recorded_forces, recorded_potential, refresh
from ..system.build import build_system
from ..system.molecules import Floats, Molecules
from .instant import CURE, Instant, limits_of, refuse_explosion
from .portable import read_state
from .propagator import INNER, SURFACE, inner_member, make_integrator, platform

#: Most iterations of the minimiser: enough to remove bad contacts, not meant to find a minimum.
MINIMISER_ITERATIONS = 100


class Simulation:
    """An OpenMM context on the ensemble mean, or on a blend of two.

    Attributes:
        blend: λ of a ramp; 0 outside one.
    """

    def __init__(
        self,
        config: Config,
        molecules: Molecules,
        potential: Potential,
        ensemble: AniEnsemble,
        *,
        seed: int,
        degrees_of_freedom: int,
        inner: AniEnsemble | None = None,
        coming: AniEnsemble | None = None,
    ) -> None:
        """Build the context.

        Args:
            config: of the run.
            molecules: what is simulated.
            potential: which part of it is on the model, and the force field of the rest.
            ensemble: the model.
            seed: of the integrator, from 1.
            degrees_of_freedom: for the thermostat.
            inner: the inner potential of RESPA, if it is not a member of the model.
            coming: the model that is being blended in.
        """
        self._config = config
        self._molecules = molecules
        self._potential = potential
        self._inner = inner
        self._system = particles_of(molecules, potential)
        self._fixed_forces = self._system.getNumForces()
        self._sites = self._system.getNumParticles() - molecules.size
        self._constrained = self._system.getNumConstraints() > 0
        self._add_forces(ensemble, coming)
        self._integrator = make_integrator(config.dynamics, degrees_of_freedom, seed, constrained=self._constrained)
        chosen = platform(config.ensemble.platform)
        sums = _sums(chosen, config.ensemble.threads) if potential.mixture is not None else {}
        self._context = openmm.Context(self._system, self._integrator, chosen, sums)
        self._limits = limits_of(config.dynamics, molecules, degrees_of_freedom)
        self._stepped = False
        self.blend = 0.0

    def _add_forces(self, ensemble: AniEnsemble, coming: AniEnsemble | None) -> None:
        """The surface, and for RESPA the inner potential."""
        surface = self._force(ensemble, coming)
        surface.setForceGroup(SURFACE)
        self._system.addForce(surface)
        if self._config.dynamics.integrator == "respa":
            inner = self._force(self._inner or single_member(ensemble, inner_member(self._config.dynamics)), None)
            inner.setForceGroup(INNER)
            self._system.addForce(inner)

    def _force(self, ensemble: AniEnsemble, coming: AniEnsemble | None) -> openmm.Force:
        periodic = self._molecules.box is not None
        kind, mixture = self._config.ensemble.force, self._potential.mixture
        part = None
        if mixture is not None:
            # The sites of the System will not do: within a step, OpenMM leaves them where they were at its beginning.
            own = mixture.part
            part = Particles(atoms=own.atoms, links=own.links, distances_nm=own.distances_nm)
        numbers = self._potential.numbers
        return build_force(ensemble, numbers, periodic=periodic, kind=kind, coming=coming, part=part)

    @property
    def platform_name(self) -> str:
        """Name of the OpenMM platform in use."""
        return str(self._context.getPlatform().getName())

    @property
    def made_by(self) -> str:
        """Whose exact checkpoints can be read here: platform and version of OpenMM."""
        return f"OpenMM {openmm.version.version} on {self.platform_name}"

    def place(self, positions: Floats, velocities: Floats, box: Floats | None = None) -> None:
        """Set positions (nm) and velocities (nm/ps), shape (n, 3) each, and the box (nm, shape (3, 3)) if given.

        Both are moved onto the constraints, if there are any.
        """
        if box is not None:
            self._context.setPeriodicBoxVectors(*box)
        self._set_positions(positions)
        if self._constrained:
            self._context.applyConstraints(CONSTRAINT_TOLERANCE)
        self._set_velocities(velocities)
        self._changed()

    def _set_positions(self, positions: Floats) -> None:
        self._context.setPositions(self._with_sites(positions))
        if self._sites:
            self._context.computeVirtualSites()

    def _set_velocities(self, velocities: Floats) -> None:
        self._context.setVelocities(self._with_sites(velocities))
        if self._constrained:
            self._context.applyVelocityConstraints(CONSTRAINT_TOLERANCE)

    def _with_sites(self, rows: Floats) -> Floats:
        return np.concatenate([rows, np.zeros((self._sites, 3))]) if self._sites else rows

    def _changed(self) -> None:
        """What the integrator recorded at the end of its last step no longer holds."""
        self._stepped = False
        refresh(self._integrator)

    def step(self) -> None:
        """Advance one step: single steps, so that a signal is answered at the next step boundary.

        Raises:
            DynamicsError: OpenMM finds a coordinate that is no number.
        """
        try:
            self._integrator.step(1)
        except openmm.OpenMMException as error:
            if "NaN" not in str(error):
                raise
            raise DynamicsError(f"{error}: the dynamics have exploded", cure=CURE) from error
        self._stepped = True

    def minimise(self) -> None:
        """Lower the energy until bad contacts are gone."""
        openmm.LocalEnergyMinimizer.minimize(self._context, maxIterations=MINIMISER_ITERATIONS)
        self._changed()

    def instant(self) -> Instant:
        """Read everything.

        Raises:
            DynamicsError: something is not finite, or beyond reason.
        """
        state = self._context.getState(getPositions=True, getVelocities=True)
        velocities = self._velocities(state)
        potential, forces = self._recorded() if self._stepped else self._computed()
        atoms = self._molecules.size
        found = Instant(
            positions=_array(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer))[:atoms],
            velocities=velocities,
            forces=forces[:atoms],
            potential=potential,
            kinetic=self._kinetic(velocities),
            box=self._box(state),
        )
        refuse_explosion(self._limits, found)
        return found

    def _recorded(self) -> tuple[float, Floats]:
        return recorded_potential(self._integrator), recorded_forces(self._integrator)

    def _computed(self) -> tuple[float, Floats]:
        state = self._context.getState(getForces=True, getEnergy=True, groups={SURFACE})
        forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
        return float(state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)), _array(forces)

    def _velocities(self, state: openmm.State) -> Floats:
        found = state.getVelocities(asNumpy=True).value_in_unit(unit.nanometer / unit.picosecond)
        return _array(found)[: self._molecules.size]

    def _kinetic(self, velocities: Floats) -> float:
        return 0.5 * float(self._molecules.masses @ (velocities**2).sum(axis=1))

    def _box(self, state: openmm.State) -> Floats:
        if self._molecules.box is None:
            return np.zeros((3, 3))
        return _array(state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.nanometer))

    def heat(self) -> float:
        """Energy given by the thermostat since step 0, kJ/mol."""
        return float(heat(self._integrator))

    def potential(self) -> float:
        """Potential energy now, kJ/mol."""
        return self._recorded()[0] if self._stepped else self._computed()[0]

    def set_velocities(self, velocities: Floats) -> float:
        """Replace the velocities (nm/ps, shape (n, 3)).

        Returns:
            The kinetic energy that they have in the context's own precision, and along constraints, kJ/mol.
        """
        self._set_velocities(velocities)
        return self._kinetic(self._velocities(self._context.getState(getVelocities=True)))

    def move(self, positions: Floats, box: Floats) -> float:
        """Put the atoms elsewhere (nm, shape (n, 3)) in another box (nm, shape (3, 3)); velocities stay.

        Returns:
            The potential energy there, kJ/mol.
        """
        self._context.setPeriodicBoxVectors(*box)
        self._set_positions(positions)
        self._changed()
        return self._computed()[0]

    def swap(self, ensemble: AniEnsemble, coming: AniEnsemble | None = None) -> tuple[float, float]:
        """Go on with another model from the same positions and velocities.

        Args:
            ensemble: the model from now on.
            coming: a model to be blended into it, at first with no weight.

        Returns:
            U_old(x) and U_new(x), kJ/mol.
        """
        before = self.potential()
        while self._system.getNumForces() > self._fixed_forces:
            self._system.removeForce(self._fixed_forces)
        self._add_forces(ensemble, coming)
        self._context.reinitialize(preserveState=True)
        if coming is not None:
            # Preserved state includes the weight at the end of an earlier ramp.
            self._context.setParameter(BLEND, 0.0)
        self.blend = 0.0
        self._changed()
        return before, self._computed()[0]

    def set_blend(self, weight: float) -> tuple[float, float]:
        """Give the model that is being blended in another weight λ at fixed positions.

        Returns:
            U with the weight before and with the weight after, kJ/mol.
        """
        before = self.potential()
        self._context.setParameter(BLEND, weight)
        self.blend = weight
        self._changed()
        return before, self._computed()[0]

    def checkpoint(self) -> tuple[bytes, str]:
        """OpenMM's exact checkpoint (this machine and version) and a portable XML state."""
        state = self._context.getState(getPositions=True, getVelocities=True, integratorParameters=True)
        return self._context.createCheckpoint(), openmm.XmlSerializer.serialize(state)

    def restore(self, checkpoint: bytes, *, blend: float = 0.0) -> None:
        """Go back to an exact checkpoint, random stream included; λ is that of a ramp that was under way.

        Raises:
            OpenMMException: it was made by another platform, version or System.
        """
        self._context.loadCheckpoint(checkpoint)
        self.blend = blend
        self._stepped = False

    def restore_portable(self, xml: str, *, blend: float = 0.0) -> None:
        """Go back to a state that any platform and version reads. Random streams begin anew."""
        self._context.setState(read_state(xml))
        if BLEND in self._context.getParameters():
            self._context.setParameter(BLEND, blend)
        self.blend = blend
        self._changed()


def _sums(chosen: openmm.Platform, threads: int | None) -> dict[str, str]:
    """How a force field is summed on the CPU: with one thread in the same order each time."""
    if chosen.getName() != "CPU":
        return {}
    return {"DeterministicForces": "true"} | ({} if threads is None else {"Threads": str(threads)})


def particles_of(molecules: Molecules, potential: Potential) -> openmm.System:
    """Particles and box of a run, with the force field, constraints and link atoms of a mixture."""
    return build_system(molecules) if potential.mixture is None else potential.mixture.field.system()


def _array(values: object) -> Floats:
    return np.array(values, dtype=np.float64)
