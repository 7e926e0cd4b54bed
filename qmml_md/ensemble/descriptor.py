"""The descriptor and its way back, for several models at once.

Training and dynamics differentiate TorchANI's descriptor automatically: one pass back for each model. An angular term
of the descriptor (Smith, Isayev, Roitberg, Chem. Sci. 8, 3192, 2017, doi:10.1039/C6SC05720A, eq. 4) is a product,

    G_sz = f_s(r̄) h_z(θ) f_c(r₁) f_c(r₂),   f_s = exp(−η (r̄ − R_s)²),   h_z = 2 ((1 + cos(θ − θ_z))/2)^ζ,

with r̄ the mean of both distances, cos θ damped by 0.95. So the slopes of an energy by all G_sz of a triple need only be
summed against f, f', h and h', and the functions themselves are computed once, forward and back, for all models. Radial
terms are ``¼ exp(−η (r − R_s)²) f_c(r)``. Geometry is double, features are in the precision of the networks.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .model import AniEnsemble

# isort: split
# TorchANI complains when it is imported first; the module of the model has seen to that.
from torchani.neighbors import Neighbors, discard_outside_cutoff, neighbors_to_triples

#: Damping of cos θ, as in TorchANI.
DAMPING = 0.95
#: Triples handled at a time: their slopes stay in the cache.
TRIPLES = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Radial terms of p pairs.

    Attributes:
        rows: rows of the radial block, by atom and element of the partner, shape (2, p).
        atoms: of each pair, shape (2, p).
        unit: from the second atom to the first, float64, shape (p, 3).
        terms, slopes: of the terms and their derivatives by distance, shape (p, R).
    """

    rows: Tensor
    atoms: Tensor
    unit: Tensor
    terms: Tensor
    slopes: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Triples:
    """Angular terms of t triples, a centre with two partners.

    Attributes:
        rows: rows of the angular block, by centre and elements of the partners, shape (t,).
        sides: numbers of the two pairs among the close ones, shape (2, t).
        signs: whether the vector of the pair points to the centre (1) or away (−1), shape (2, t).
        atoms: of each close pair, shape (2, q).
        vectors: to the centre, shape (2, t, 3).
        distances: shape (2, t).
        cosine: of the angle, shape (t,).
        radial, radial_slopes: f_s and its derivative by r̄, shape (t, S).
        angular: h_z and its derivative by cos θ, shape (t, Z, 2).
        cutoff, cutoff_slopes: f_c and its derivative at both distances, shape (2, t).
    """

    rows: Tensor
    sides: Tensor
    signs: Tensor
    atoms: Tensor
    vectors: Tensor
    distances: Tensor
    cosine: Tensor
    radial: Tensor
    radial_slopes: Tensor
    angular: Tensor
    cutoff: Tensor
    cutoff_slopes: Tensor


class Descriptor:
    """Features of the atoms of all frames of a batch, and forces from slopes by feature.

    Args:
        model: with the descriptor.
        elements: element indices of all atoms, shape (N,).
        found: pairs within the cutoff, Å, float64.
        slopes: whether ``gradient`` will be asked for; without it less is computed.
    """

    def __init__(self, model: AniEnsemble, elements: Tensor, found: Neighbors, *, slopes: bool = True) -> None:
        self._aev, self._atoms, self._slopes = model.aev, len(elements), slopes
        dtype = model.aev.radial.shifts.dtype
        cast = Neighbors(found.indices, found.distances.to(dtype), found.diff_vectors.to(dtype))
        with torch.no_grad():
            self._pairs = self._radial(elements, found, cast)
            self._triples = self._angular(elements, cast)

    def features(self) -> Tensor:
        """Features in the order of TorchANI's, shape (N, D)."""
        aev, pairs, triples = self._aev, self._pairs, self._triples
        radial = pairs.terms.new_zeros((self._atoms * aev.num_species, aev.radial.num_feats))
        for rows in pairs.rows:
            radial.index_add_(0, rows, pairs.terms)
        angular = radial.new_zeros((self._atoms * aev.num_species_pairs, aev.angular.num_feats))
        both = triples.cutoff[0] * triples.cutoff[1]
        for k in _slices(len(triples.rows)):
            terms = (triples.radial[k] * both[k, None]).unsqueeze(2) * triples.angular[k, :, 0].unsqueeze(1)
            angular.index_add_(0, triples.rows[k], terms.flatten(1))
        return torch.cat([radial.view(self._atoms, -1), angular.view(self._atoms, -1)], dim=1)

    def partners(self) -> Tensor:
        """Whether an atom has a partner of each element within the cutoff, shape (N, elements).

        Without one all features of that element are zero, and nothing depends on their slopes.
        """
        found = self._pairs.rows.new_zeros(self._atoms * self._aev.num_species, dtype=torch.bool)
        found[self._pairs.rows.flatten()] = True
        return found.view(self._atoms, -1)

    def gradient(self, slopes: Tensor) -> Tensor:
        """Gradient by position of an energy with these slopes by feature, float64, shape (N, 3).

        Args:
            slopes: shape (N, D), in the precision of the features.
        """
        aev, pairs = self._aev, self._pairs
        gradient = slopes.new_zeros((self._atoms, 3), dtype=torch.float64)
        radial = slopes[:, : aev.radial_len].reshape(-1, aev.radial.num_feats)
        size = (radial.index_select(0, pairs.rows[0]) + radial.index_select(0, pairs.rows[1])) * pairs.slopes
        self._spread(gradient, pairs.atoms, size.sum(1).to(torch.float64).unsqueeze(1) * pairs.unit)
        angular = slopes[:, aev.radial_len :].reshape(-1, aev.angular.num_feats)
        self._spread(gradient, self._triples.atoms, self._from_triples(angular).to(torch.float64))
        return gradient

    def _spread(self, gradient: Tensor, atoms: Tensor, pull: Tensor) -> None:
        gradient.index_add_(0, atoms[0], pull)
        gradient.index_add_(0, atoms[1], -pull)

    def _from_triples(self, slopes: Tensor) -> Tensor:
        """Gradient by the vector of each close pair, shape (q, 3)."""
        t = self._triples
        pull = slopes.new_zeros((t.atoms.shape[1], 3))
        for k in _slices(len(t.rows)):
            shape = (-1, t.radial.shape[1], t.angular.shape[1])
            summed = torch.bmm(slopes.index_select(0, t.rows[k]).view(shape), t.angular[k])
            value = (summed[..., 0] * t.radial[k]).sum(1)
            by_mean = (summed[..., 0] * t.radial_slopes[k]).sum(1)
            by_cosine = (summed[..., 1] * t.radial[k]).sum(1)
            (f1, f2), (s1, s2), (r1, r2) = t.cutoff[:, k], t.cutoff_slopes[:, k], t.distances[:, k]
            by_cosine = by_cosine * f1 * f2
            cross = by_cosine / (r1 * r2)
            first = (0.5 * by_mean * f1 * f2 + value * s1 * f2 - by_cosine * t.cosine[k] / r1) / r1
            second = (0.5 * by_mean * f1 * f2 + value * f1 * s2 - by_cosine * t.cosine[k] / r2) / r2
            v1, v2 = t.vectors[:, k]
            pull.index_add_(0, t.sides[0, k], (cross[:, None] * v2 + first[:, None] * v1) * t.signs[0, k, None])
            pull.index_add_(0, t.sides[1, k], (cross[:, None] * v1 + second[:, None] * v2) * t.signs[1, k, None])
        return pull

    def _radial(self, elements: Tensor, found: Neighbors, cast: Neighbors) -> Pairs:
        term = self._aev.radial
        cutoff, slope = _cutoff(term, cast.distances, self._slopes)
        away = cast.distances.unsqueeze(1) - term.shifts
        plain = 0.25 * torch.exp(-term.eta * away**2)
        slopes = plain[:0]
        if self._slopes:
            slopes = plain * (slope.unsqueeze(1) - 2.0 * term.eta * away * cutoff.unsqueeze(1))
        partners = elements[cast.indices].flip(0)
        return Pairs(
            rows=cast.indices * self._aev.num_species + partners,
            atoms=cast.indices,
            unit=found.diff_vectors / found.distances.unsqueeze(1),
            terms=plain * cutoff.unsqueeze(1),
            slopes=slopes,
        )

    def _angular(self, elements: Tensor, cast: Neighbors) -> Triples:
        term = self._aev.angular
        close = discard_outside_cutoff(cast, term.cutoff)
        found = neighbors_to_triples(close)
        v1, v2 = found.diff_vectors
        r1, r2 = found.distances
        cosine = (v1 * v2).sum(1) / (r1 * r2).clamp(min=1e-10)
        cutoff, cutoff_slopes = _cutoff(term, close.distances, self._slopes)
        away = ((r1 + r2) / 2.0).unsqueeze(1) - term.shifts
        radial = torch.exp(-term.eta * away**2)
        kinds = elements[close.indices][:, found.side_idxs]
        partners = torch.where(found.diff_signs == 1, kinds[1], kinds[0])
        pairs = self._aev.triu_index[partners[0], partners[1]]
        return Triples(
            rows=found.central_idxs * self._aev.num_species_pairs + pairs,
            sides=found.side_idxs,
            signs=found.diff_signs.to(cosine.dtype),
            atoms=close.indices,
            vectors=found.diff_vectors,
            distances=found.distances,
            cosine=cosine,
            radial=radial,
            radial_slopes=-2.0 * term.eta * away * radial if self._slopes else radial[:0],
            angular=_angles(term, cosine, self._slopes),
            cutoff=cutoff[found.side_idxs],
            cutoff_slopes=cutoff_slopes[found.side_idxs] if self._slopes else cutoff_slopes,
        )


def _slices(count: int) -> list[slice]:
    return [slice(start, start + TRIPLES) for start in range(0, count, TRIPLES)]


def _angles(term: Any, cosine: Tensor, slopes: bool) -> Tensor:
    """h_z and its derivative by the cosine of the angle, shape (t, Z, 2); the angle itself is never needed."""
    c = (DAMPING * cosine).unsqueeze(1)
    s = torch.sqrt(1.0 - c * c)
    cos, sin = torch.cos(term.sections), torch.sin(term.sections)
    both, zeta = torch.cat((c, s), dim=1), float(term.zeta)
    # cos(θ − θ_z) and sin(θ − θ_z) as products of a matrix.
    base = torch.addmm(torch.full_like(cos, 0.5), both, 0.5 * torch.stack((cos, sin)))
    power = base ** (zeta - 1.0)
    value = 2.0 * power * base
    if not slopes:
        return value.unsqueeze(2)
    turn = torch.mm(both / s, torch.stack((-sin, cos)) * (zeta * DAMPING))
    return torch.stack((value, power * turn), dim=2)


def _cutoff(term: Any, distances: Tensor, slopes: bool) -> tuple[Tensor, Tensor]:
    """f_c and its derivative; no derivatives if they are not asked for."""
    if not slopes:
        return term.cutoff_fn(distances, term.cutoff), distances[:0]
    with torch.set_grad_enabled(True):
        x = distances.detach().requires_grad_(True)
        value = term.cutoff_fn(x, term.cutoff)
        (slope,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), slope
