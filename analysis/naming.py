"""Names of atoms and molecules for a person, from the topology that a segment carries."""

import json
from dataclasses import dataclass

from ..errors import AuditError
from ..records.segment import Particles


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Who is who.

    Attributes:
        atoms: for example `HOH12 O`, length n.
        molecule_of: index of the molecule of each atom, numbered by first atom, length n.
        molecules: for example `HOH12`, one for each molecule; of many residues the first and the last are named.
    """

    atoms: tuple[str, ...]
    molecule_of: tuple[int, ...]
    molecules: tuple[str, ...]


def names(particles: Particles) -> Names:
    """Read the names of all atoms and molecules.

    Raises:
        AuditError: the topology is not in MDTraj's JSON form, or of another number of atoms.
    """
    n = len(particles.numbers)
    try:
        topology = json.loads(particles.topology_json)
        residues = [residue for chain in topology["chains"] for residue in chain["residues"]]
        labelled = {
            int(atom["index"]): (f"{residue['name']}{residue['resSeq']}", str(atom["name"]))
            for residue in residues
            for atom in residue["atoms"]
        }
        residue_of = [labelled[i][0] for i in range(n)]
        atoms = tuple(" ".join(labelled[i]) for i in range(n))
        molecule_of = _components(n, [(int(bond[0]), int(bond[1])) for bond in topology["bonds"]])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise AuditError(f"the topology of the segments cannot be read for {n} atoms: {error!r}") from error
    members: dict[int, list[str]] = {}
    for residue, molecule in zip(residue_of, molecule_of, strict=True):
        members.setdefault(molecule, []).append(residue)
    molecules = tuple(_span(list(dict.fromkeys(found))) for found in members.values())
    return Names(atoms=atoms, molecule_of=tuple(molecule_of), molecules=molecules)


def _span(residues: list[str]) -> str:
    return residues[0] if len(residues) == 1 else f"{residues[0]}…{residues[-1]}"


def _components(n: int, bonds: list[tuple[int, int]]) -> list[int]:
    root = list(range(n))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for a, b in bonds:
        low, high = sorted((find(a), find(b)))
        root[high] = low
    number = {r: k for k, r in enumerate(dict.fromkeys(find(i) for i in range(n)))}
    return [number[find(i)] for i in range(n)]
