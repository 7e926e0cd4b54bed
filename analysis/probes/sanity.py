"""Is it still chemistry? Bonds, valences, clashes and stereocentres, block after block of frames.

A reaction is not an error: a bond that is made or broken, or a hydrogen that changes hands, is named with step and
atoms and fails nothing. What becomes ``undecided`` is a valence that the element does not have (five bonds to a
carbon, a hydrogen without any): a radical or a cation can be meant, and a model outside its training data can have made
it. What fails is what cannot be: two atoms in one place, and a stereocentre that turned inside out while its bonds
held, whose barrier (some 5 eV) no thermal motion of a simulation crosses.
"""

import json

import numpy as np

from ...errors import AuditError
from ...records.frames import Floats, Frames, Ints
from ...records.segment import Particles
from ...system.bonds import guess_bonds
from ...system.valence import MOST_BONDS
from ...units import ANGSTROM_PER_NM
from ..findings import Check, Finding, Kind, Part, Status, judge
from ..naming import names
from .chirality import hands, stereocentres
from .contacts import BROKEN, CLASH_RATIO, MADE, Change, Contacts

#: Events that are named one by one; all are counted.
MOST_NAMED = 20


def topology_bonds(particles: Particles) -> Ints:
    """Bonds of the topology that a segment carries, i < j, shape (b, 2).

    Raises:
        AuditError: the topology is not in MDTraj's JSON form.
    """
    try:
        bonds = [sorted((int(bond[0]), int(bond[1]))) for bond in json.loads(particles.topology_json)["bonds"]]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise AuditError(f"the bonds of the topology cannot be read: {error!r}") from error
    return np.array(bonds, dtype=np.int64).reshape(-1, 2)


class Sanity:
    """Collects what frames show; ``add`` blocks in the order of time, then ask for the ``part``."""

    def __init__(self, particles: Particles) -> None:
        """Take names and bonds from the topology; without bonds the first frame tells them.

        Raises:
            AuditError: the topology cannot be read.
        """
        self._particles = particles
        self._names = names(particles).atoms
        bonds = topology_bonds(particles)
        self._contacts = Contacts(particles.numbers, bonds) if len(bonds) else None
        self._guessed = len(bonds) == 0
        self._centres: Ints = np.zeros((0, 5), dtype=np.int64)
        self._hands: Ints = np.zeros(0, dtype=np.int64)
        self._frames = self._broken_frames = 0
        self._counts = {"made": 0, "broken": 0, "moved": 0, "odd": 0, "clash": 0, "inversion": 0}
        self._told: dict[str, list[str]] = {"change": [], "odd": [], "clash": [], "inversion": []}
        self._longest, self._shortest = np.nan, np.nan

    def add(self, frames: Frames) -> None:
        """Look at a block of frames; those with positions that are not finite are counted and passed over."""
        for k in range(len(frames)):
            box = frames.box[k] if self._particles.periodic else None
            if np.isfinite(frames.positions[k]).all():
                self._look(int(frames.step[k]), frames.positions[k], box)
            else:
                self._broken_frames += 1

    def _look(self, step: int, positions: Floats, box: Floats | None) -> None:
        if self._contacts is None:
            numbers = self._particles.numbers
            self._contacts = Contacts(numbers, guess_bonds(numbers, positions, box))
        first = self._frames == 0
        self._frames += 1
        look = self._contacts.look(positions, box)
        self._longest = float(np.fmax(self._longest, look.longest))
        self._shortest = float(np.fmin(self._shortest, look.shortest))
        for i, j, distance in look.clashes:
            self._tell("clash", "clash", f"{self._pair(i, j)} {distance * ANGSTROM_PER_NM:.2f} Å apart at step {step}")
        for change in look.changes:
            self._tell(change.kind, "change", f"{self._describe(change)} at step {step}")
        if look.changes:
            self._valences(step, {atom for change in look.changes for atom in change.atoms})
        if first or look.changes:
            self._centre_hands(positions, box, first)
        if len(self._centres):
            self._turned(step, positions, box)

    def _centre_hands(self, positions: Floats, box: Floats | None, first: bool) -> None:
        """Take stock of the stereocentres; after a reaction those that are as they were keep their hand."""
        found = stereocentres(self._particles.numbers, self._partners())
        known = {} if first else dict(zip(map(tuple, self._centres.tolist()), self._hands.tolist(), strict=True))
        fresh = hands(found, positions, box)
        rows = [known.get(tuple(row), int(hand)) for row, hand in zip(found.tolist(), fresh, strict=True)]
        self._centres, self._hands = found, np.array(rows, dtype=np.int64)

    def _turned(self, step: int, positions: Floats, box: Floats | None) -> None:
        now = hands(self._centres, positions, box)
        for k in np.flatnonzero(now * self._hands < 0):
            self._tell("inversion", "inversion", f"{self._names[self._centres[k, 0]]} at step {step}")
        self._hands = np.where(now == 0, self._hands, now)

    def _valences(self, step: int, atoms: set[int]) -> None:
        partners = self._partners()
        for atom in sorted(atoms):
            number, bonds = int(self._particles.numbers[atom]), len(partners[atom])
            if bonds > MOST_BONDS.get(number, 9) or (number == 1 and bonds == 0):
                self._tell("odd", "odd", f"{self._names[atom]} has {bonds} bonds at step {step}")

    def _partners(self) -> list[set[int]]:
        return [] if self._contacts is None else self._contacts.partners

    def _tell(self, count: str, tale: str, text: str) -> None:
        self._counts[count] += 1
        if len(self._told[tale]) < MOST_NAMED:
            self._told[tale].append(text)

    def _pair(self, i: int, j: int) -> str:
        return f"{self._names[i]} and {self._names[j]} are"

    def _describe(self, change: Change) -> str:
        named = [self._names[atom] for atom in change.atoms]
        if change.kind == "moved":
            return f"{named[0]} goes from {named[1]} to {named[2]}"
        return f"the bond of {named[0]} and {named[1]} is {change.kind}"

    def part(self) -> Part:
        """The checks ``clashes``, ``valence`` and ``chirality`` with their numbers.

        Raises:
            AuditError: no frame with finite positions was added.
        """
        if self._frames == 0:
            raise AuditError("no frame with finite positions to look at", cure="see the check `order`")
        findings = [
            Finding(name="bond_stretch_max", value=self._longest, unit="1"),
            Finding(name="bond_stretch_min", value=self._shortest, unit="1"),
            Finding(name="stereocentres", value=float(len(self._centres)), unit="1"),
        ]
        counts = {
            "bonds_made": "made", "bonds_broken": "broken", "hydrogens_moved": "moved", "odd_valences": "odd",
            "clashes": "clash", "inversions": "inversion",
        }  # fmt: skip
        expected = {"clash": 0.0, "inversion": 0.0}
        findings += [
            Finding(name=name, value=float(self._counts[key]), expected=expected.get(key), unit="1")
            for name, key in counts.items()
        ]
        return Part(
            checks=(self._clash_check(), self._valence_check(), self._chirality_check()), findings=tuple(findings)
        )

    def _clash_check(self) -> Check:
        fine = f"no two atoms come closer than {CLASH_RATIO:g} of the sum of their radii in {self._frames} frames"
        return judge("clashes", Kind.PHYSICS, self._all("clash"), fine)

    def _valence_check(self) -> Check:
        source = "guessed from the first frame" if self._guessed else "of the topology"
        changes = sum(self._counts[kind] for kind in ("made", "broken", "moved"))
        if self._counts["odd"]:
            why = f"valences that the elements do not have: {'; '.join(self._told['odd'][:3])}"
            why += f"; {self._counts['odd']} in all: a radical, or a model outside what it was trained on"
            return Check(name="valence", kind=Kind.PHYSICS, status=Status.UNDECIDED, why=why)
        if changes:
            rest = f"; and {changes - 3} more" if changes > 3 else ""
            why = f"bonds {source} change ({changes}), which is chemistry and no fault: "
            why += "; ".join(self._told["change"][:3]) + rest
        else:
            why = f"all bonds {source} hold: {self._shortest:.2f} to {self._longest:.2f} of the sum of the radii"
            why += f" (broken above {BROKEN:g}, made below {MADE:g})"
        return Check(name="valence", kind=Kind.PHYSICS, status=Status.PASS, why=why)

    def _chirality_check(self) -> Check:
        if not len(self._centres) and not self._counts["inversion"]:
            why = "no atom has four different neighbours"
            return Check(name="chirality", kind=Kind.PHYSICS, status=Status.NOT_APPLICABLE, why=why)
        problems = [f"a stereocentre turned inside out while its bonds held: {text}" for text in self._all("inversion")]
        return judge("chirality", Kind.PHYSICS, problems, f"all {len(self._centres)} stereocentres keep their hand")

    def _all(self, kind: str) -> list[str]:
        """What happened, padded to the number of times that it did, for ``judge`` to count."""
        told = self._told[kind]
        return told + ["…"] * (self._counts[kind] - len(told))

    def events(self) -> dict[str, list[str]]:
        """Sentences on what changed, by kind (`change`, `odd`, `clash`, `inversion`); the first 20 of each."""
        return {kind: list(texts) for kind, texts in self._told.items()}
