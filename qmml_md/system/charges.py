"""Formal charges of atoms, from elements and bonds, with all hydrogens there.

Each element has a valence; what its bonds do not use is free. Free valences of bonded atoms pair up as double and
triple bonds: the matching of most weight leaves over as little as it can, on carbon last. What is left decides: an
oxygen or sulfur with one valence left is an anion, a nitrogen of four bonds a cation; and nitrogen, oxygen and sulfur
may give a lone pair for one bond more, at the price of a positive charge (iminium, guanidinium, imidazolium, nitro).
A charge sits on the atom that bears it, so that every fragment of a molecule has its own.

What is left on carbon, or on a nitrogen without a cation beside it, is not decided by bonds: cation, radical and anion
have the same. Nor are a bare metal that has several charges, a nitroxide, an acyl group alone, and NO2 and SO3, which
have the bonds of nitrite and sulfite.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np

from .images import Ints

H, B, C, N, O, F, SI, P, S, CL, AS, SE, BR, I = 1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 33, 34, 35, 53  # noqa: E741
VALENCE = {H: 1, B: 3, C: 4, N: 3, O: 2, F: 1, SI: 4, P: 3, S: 2, CL: 1, AS: 3, SE: 2, BR: 1, I: 1}
#: Most bonds of an element beyond the second period.
HYPERVALENT = {P: 5, AS: 5, S: 6, SE: 6, CL: 7, BR: 7, I: 7}
#: Most bonds with which such an atom may leave valences free: one for a cation (sulfonium), two for none (SF4).
MOST_WITH_REST = 4
#: Charge of an atom that has so many bonds, whatever they are.
BY_DEGREE = {(N, 4): 1, (O, 3): 1, (B, 4): -1, (P, 6): -1, (AS, 6): -1, (SI, 5): -1, (SI, 6): -2}
#: Ions of elements that have one charge only; noble gases, and virtual sites, have none.
ION_CHARGE = {
    0: 0, 2: 0, 10: 0, 18: 0, 36: 0, 54: 0, 3: 1, 11: 1, 19: 1, 37: 1, 55: 1, 4: 2, 12: 2, 20: 2, 38: 2, 56: 2, 30: 2,
    48: 2, 13: 3, F: -1, CL: -1, BR: -1, I: -1,
}  # fmt: skip
#: Ions of elements that have several, by residue name in the Protein Data Bank.
NAMED_IONS = {
    "FE2": 2, "FE": 3, "CU1": 1, "CU": 2, "MN": 2, "MN3": 3, "CO": 2, "3CO": 3, "NI": 2, "3NI": 3, "HG": 2, "PB": 2,
    "AG": 1, "CR": 3,
}  # fmt: skip
#: Amber's way to name an ion: Fe2+, Cu+.
SIGNED = re.compile(r"[A-Za-z]{1,2}(\d?)([+-])")

#: What it costs to leave a valence free, and to give a lone pair for a bond. Only the order of sums counts: carbon is
#: served first; of two oxygens a nitrogen of three bonds serves one (nitro); a lone oxygen rather keeps its charge.
LEFT = {C: 100, B: 100, SI: 100, N: 12, O: 10, S: 10, SE: 10}
LEFT_OTHERS = 8
GIVE = {N: 11, O: 15, S: 13, SE: 13}
GIVE_BETWEEN_OXYGENS, GIVE_IN_CHAIN = 9, 13
#: Number of a lone pair among the free valences of its atom.
LONE_PAIR = -1
#: Bonds from which an atom still gives a lone pair.
GIVERS = {N: (2, 3), O: (1, 2), S: (1, 2), SE: (1, 2)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Charges:
    """What bonds say about charges.

    Attributes:
        charge: formal charge of each atom, e, shape (n,); 0 where undecided.
        undecided: atoms whose charge bonds do not tell, sorted, shape (k,).
    """

    charge: Ints
    undecided: Ints


@dataclass(frozen=True, slots=True)
class _Bonding:
    """Elements, numbers of bonds, and the neighbours of atoms that have more or fewer bonds than their valence."""

    numbers: list[int]
    degree: list[int]
    neighbours: dict[int, list[int]]

    def free(self, atom: int) -> int:
        """Valences that single bonds leave free."""
        number, degree = self.numbers[atom], self.degree[atom]
        valence = VALENCE[number]
        if number in HYPERVALENT and (degree > valence or self._between_oxides(atom)):
            most = HYPERVALENT[number]
            # Sulfur goes in steps of two (4, 6), halogens too (3, 5, 7).
            valence = min(most, 2 * degree - valence % 2) if number not in (S, SE) else 4 if degree < 4 else 6
        return max(valence - degree, 0)

    def terminal(self, atom: int) -> int:
        """Number of oxygens and sulfurs on an atom that have no other bond."""
        return sum(self.numbers[k] in (O, S) and self.degree[k] == 1 for k in self.neighbours[atom])

    def _between_oxides(self, atom: int) -> bool:
        """Whether a sulfur of two bonds is that of SO2 or of a sulfine: both neighbours want more from it."""
        wanting = sum(self.degree[k] < VALENCE[self.numbers[k]] for k in self.neighbours[atom])
        return self.numbers[atom] in (S, SE) and wanting == 2 and self.terminal(atom) > 0

    def trioxide(self, atom: int) -> bool:
        """Whether a sulfur is that of SO3, or of sulfite, which has the same bonds."""
        return self.numbers[atom] in (S, SE) and self.degree[atom] == 3 and self.terminal(atom) == 3

    def price(self, atom: int) -> int | None:
        """What the lone pair of an atom costs; None where it has none to give."""
        number = self.numbers[atom]
        if self.degree[atom] not in GIVERS.get(number, ()) or (number in (S, SE) and self.free(atom) > 1):
            return None
        if self.degree[atom] == VALENCE[number] and self.terminal(atom) > 1:
            return GIVE_BETWEEN_OXYGENS
        # Two double bonds on a nitrogen stand in a line, as in azides and diazo groups, not in a ring.
        ends = any(self.degree[k] == 1 and self.numbers[k] != H for k in self.neighbours[atom])
        return GIVE_IN_CHAIN if (number, self.degree[atom]) == (N, 2) and not ends else GIVE[number]


@dataclass(frozen=True, slots=True)
class _Paired:
    """What came of pairing up: valences left, to whom atoms gave their lone pairs, and from whom they took one."""

    left: dict[int, int]
    gave: dict[int, list[int]]
    took: dict[int, list[int]]

    def lone(self, atom: int, bonding: _Bonding) -> bool:
        """Whether a carbon has a lone pair: that of CO, of cyanide and of isocyanides."""
        partners = bonding.neighbours[atom]
        alone = (bonding.numbers[atom], len(partners), self.left[atom]) == (C, 1, 1)
        return alone and bonding.numbers[partners[0]] != C

    def holds(self, giver: int, taker: int, bonding: _Bonding) -> bool:
        """Whether a lone pair that was given is a bond.

        A carbon cannot take two: that is how a carbene between two nitrogens looks. Nor is it sure where oxygen gives
        to carbon: the bonds of an acyl radical are those of an acylium ion.
        """
        if self.left[taker] and bonding.numbers[taker] not in (N, O, S, SE):
            return self.lone(taker, bonding)
        doubtful = (bonding.numbers[giver], bonding.numbers[taker]) == (O, C)
        return len(self.took[taker]) == 1 and not doubtful

    def positive(self, atom: int, bonding: _Bonding) -> bool:
        """Whether an atom has a bond more than its valence."""
        gave = any(self.holds(atom, taker, bonding) for taker in self.gave[atom])
        return gave or BY_DEGREE.get((bonding.numbers[atom], bonding.degree[atom]), 0) > 0


def infer_charges(numbers: Ints, bonds: Ints, residues: Sequence[str]) -> Charges:
    """Formal charges by valence.

    Bonds to metals count as ionic: they are left out.

    Args:
        numbers: atomic numbers, shape (n,).
        bonds: pairs of atom indices, shape (b, 2); hydrogens are there.
        residues: name of the residue of each atom, length n.
    """
    valence = np.array([VALENCE.get(z, -1) for z in numbers.tolist()])
    pairs = bonds[(valence[bonds] > 0).all(axis=1)]
    degree = np.bincount(pairs.ravel(), minlength=len(numbers))
    charge, undecided = np.zeros(len(numbers), dtype=np.int64), set()
    for atom in np.flatnonzero(degree == 0).tolist():
        found = _ion(int(numbers[atom]), residues[atom])
        charge[atom] = found or 0
        undecided |= {atom} if found is None else set()
    # Most atoms of most systems, water above all, have the bonds of their valence and only such neighbours.
    unusual = degree != valence
    neighbours: dict[int, list[int]] = {}
    for a, b in pairs[unusual[pairs].any(axis=1)].tolist():
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    bonding = _Bonding(numbers.tolist(), degree.tolist(), neighbours)
    paired = _pair_up(bonding)
    for atom in sorted(neighbours):
        found = _of_atom(atom, bonding, paired)
        charge[atom] = found or 0
        undecided |= {atom} if found is None else set()
    return Charges(charge=charge, undecided=np.array(sorted(undecided), dtype=np.int64))


def _ion(number: int, residue: str) -> int | None:
    """Charge of an atom without bonds; None where it is not known."""
    if number in ION_CHARGE:
        return ION_CHARGE[number]
    if number in VALENCE:
        return None
    signed = SIGNED.fullmatch(residue)
    return int(f"{signed[2]}{signed[1] or 1}") if signed else NAMED_IONS.get(residue)


def _pair_up(bonding: _Bonding) -> _Paired:
    """Double and triple bonds: free valences and lone pairs, matched along bonds."""
    free = {atom: bonding.free(atom) for atom in sorted(bonding.neighbours)}
    graph = nx.Graph()
    for a in free:
        for b in bonding.neighbours[a]:
            _join(graph, bonding, free, a, b)
    paired = _Paired(left=dict(free), gave={atom: [] for atom in free}, took={atom: [] for atom in free})
    for nodes in list(nx.connected_components(graph)):
        part = nx.Graph()
        edges = sorted(sorted(edge) for edge in graph.subgraph(nodes).edges)
        part.add_weighted_edges_from((u, v, graph.edges[u, v]["weight"]) for u, v in edges)
        for pair in nx.max_weight_matching(part):
            for (atom, copy), (other, _) in (pair, pair[::-1]):
                if copy == LONE_PAIR:
                    paired.gave[atom].append(other)
                    paired.took[other].append(atom)
                else:
                    paired.left[atom] -= 1
    return paired


def _join(graph: nx.Graph, bonding: _Bonding, free: dict[int, int], a: int, b: int) -> None:
    """Edges between the free valences of ``a``, numbered from 0, and those, or the lone pair, of ``b``."""
    gain = LEFT.get(bonding.numbers[a], LEFT_OTHERS)
    price = bonding.price(b)
    for k in range(free[a]):
        for m in range(free[b]):
            graph.add_edge((a, k), (b, m), weight=gain + LEFT.get(bonding.numbers[b], LEFT_OTHERS))
        if price is not None and gain > price:
            graph.add_edge((a, k), (b, LONE_PAIR), weight=gain - price)


def _of_atom(atom: int, bonding: _Bonding, paired: _Paired) -> int | None:
    """Charge of an atom by what it has left; None where that does not tell."""
    number, degree, rest = bonding.numbers[atom], bonding.degree[atom], paired.left[atom]
    if bonding.trioxide(atom):
        return None
    if number in (O, S, SE) and degree == 1 and rest:
        return None if _ambiguous(bonding.neighbours[atom][0], bonding, paired) else -rest
    if number == N and rest:
        cation = any(paired.positive(k, bonding) for k in bonding.neighbours[atom])
        return -1 if rest == 1 and cation else None
    if paired.lone(atom, bonding):
        return -1
    if rest and number in HYPERVALENT and VALENCE[number] <= degree <= MOST_WITH_REST:
        return rest % 2
    if rest or not all(paired.holds(giver, atom, bonding) for giver in paired.took[atom]):
        return None
    return BY_DEGREE.get((number, degree), int(paired.positive(atom, bonding)))


def _ambiguous(partner: int, bonding: _Bonding, paired: _Paired) -> bool:
    """Whether a lone oxygen or sulfur is on an atom on which radicals are as common as anions."""
    number, degree = bonding.numbers[partner], bonding.degree[partner]
    if number in (N, O):
        return not paired.positive(partner, bonding)
    return bonding.trioxide(partner) or (number in (S, SE) and degree < 3)
