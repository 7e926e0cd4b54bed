"""From disagreement to force error: what σ is worth, learnt from labels that were scored before they were trained on.

The error of an atom of element z is expected to be ``c_z sqrt(σ² + o_z²)``: a scale, and an offset since members can
agree and be wrong. Both are fitted to the logarithm of the errors, each element shrunk to the fit of all, that to what
holds for published ensembles (σ is about twice the error), and old labels fade, as models change.

The upper bound is conformal: a quantile of error over expected error. Atoms of a label are correlated, so a label
counts as one, however many atoms it has (hierarchical conformal prediction: Lee, Barber, Willett, arXiv:2306.06342),
and a few imagined labels with wide errors stand for what no label has shown yet. The share of misses that the quantile
asks for follows the misses that happen (Gibbs, Candès, arXiv:2106.00170). See ``docs/quantities/calibration.md``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..records.scores import Scores, score
from ..system.molecules import Floats, Ints

#: Share of atoms that may lie above their bound.
MISCOVERAGE = 0.1
#: Weight of a label in comparison with the one after it.
FADING = 0.9
#: Before any label: error over sqrt(σ² + o²), and o, eV/Å.
PRIOR_SCALE, PRIOR_OFFSET = 0.5, 0.1
#: Standard deviation of the logarithm of error over expected error.
SPREAD = 0.55
#: Mean of a ratio whose logarithm is normal with mean zero and this spread.
MEAN = math.exp(0.5 * SPREAD**2)
#: Standard deviations of the logarithms of the scale and of the offset, of all elements and of one against all.
PRIOR_WIDTHS, ELEMENT_WIDTHS = (0.3, 0.5), (0.25, 0.25)
#: Independent atoms in an atom: those of one label are correlated.
INDEPENDENCE = 0.5
#: Imagined labels, and how much wider than those seen their errors are.
PRIOR_LABELS, PRIOR_WIDENING = 3.0, 1.3
#: How fast the share of misses that is asked for answers to those that happen, and where it stays.
ANSWER, LOWEST_MISCOVERAGE, HIGHEST_MISCOVERAGE = 0.1, 0.02, 0.13
#: The bound grows as this power of a novelty above one.
NOVELTY_POWER = 0.25
#: Errors below this are taken for it, eV/Å: the noise of a label.
SMALLEST_ERROR = 1e-3
#: Labels that have faded below this are left out.
FAINTEST = 0.02
#: Gauss–Newton steps of a fit.
STEPS = 12
#: Errors imagined for one label.
IMAGINED = 200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """The atoms of one label, as they were predicted before it was trained on.

    Attributes:
        sigma: disagreement, eV/Å, shape (a,).
        error: norm of the force residual of the mean, eV/Å, shape (a,).
        elements: atomic numbers, shape (a,).
        novelty: distance to what was trained on, see ``novelty.py``, shape (a,).
    """

    sigma: Floats
    error: Floats
    elements: Ints
    novelty: Floats

    def __post_init__(self) -> None:
        shapes = {self.sigma.shape, self.error.shape, self.elements.shape, self.novelty.shape}
        if len(shapes) != 1 or self.sigma.ndim != 1 or len(self.sigma) == 0:
            raise ValueError(f"a sample needs one or more atoms and columns of one length, not {sorted(shapes)}")
        if not (np.isfinite(self.sigma).all() and np.isfinite(self.error).all()):
            raise ValueError("a sample holds a disagreement or an error that is not finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What disagreement is worth.

    Attributes:
        labels: labels that it was learnt from.
        numbers: atomic numbers with a fit of their own.
        scales, offsets: of these, the latter in eV/Å.
        scale, offset: of every other element.
        factor: bound over expected error where nothing is novel.
        miscoverage: share of misses that the quantile was asked for.
    """

    labels: int
    numbers: tuple[int, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    scale: float
    offset: float
    factor: float
    miscoverage: float

    def expected(self, sigma: Floats, elements: Ints) -> Floats:
        """Mean force error of atoms with this disagreement, eV/Å, shape (a,)."""
        place = _places(self.numbers, elements)
        scales, offsets = np.array([*self.scales, self.scale]), np.array([*self.offsets, self.offset])
        result: Floats = scales[place] * np.hypot(sigma, offsets[place])
        return result

    def bound(self, sigma: Floats, elements: Ints, novelty: Floats | None = None) -> Floats:
        """Upper bound of the force error that nine atoms in ten keep, eV/Å, shape (a,)."""
        return self.factor * _widening(novelty, len(sigma)) * self.expected(sigma, elements)

    def sigma_at(self, error: float) -> float:
        """The disagreement at which the expected error of some element reaches ``error``, eV/Å.

        Of the elements that were met, that which errs most for its disagreement. Zero if an error so small is expected
        of atoms on which the members agree: disagreement cannot tell them apart.
        """
        pairs = list(zip(self.scales, self.offsets, strict=True)) or [(self.scale, self.offset)]
        return min(float(np.sqrt(max((error / scale) ** 2 - offset**2, 0.0))) for scale, offset in pairs)

    def plain(self) -> dict[str, Any]:
        """The same in JSON types."""
        names = ("labels", "scale", "offset", "factor", "miscoverage")
        lists = {name: list(getattr(self, name)) for name in ("numbers", "scales", "offsets")}
        return {**{name: getattr(self, name) for name in names}, **lists}

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> "Calibration":
        """Read what ``plain`` wrote.

        Raises:
            KeyError: a number is missing.
        """
        return cls(
            labels=int(data["labels"]),
            numbers=tuple(int(z) for z in data["numbers"]),
            scales=tuple(float(x) for x in data["scales"]),
            offsets=tuple(float(x) for x in data["offsets"]),
            scale=float(data["scale"]),
            offset=float(data["offset"]),
            factor=float(data["factor"]),
            miscoverage=float(data["miscoverage"]),
        )


def fit_calibration(samples: Sequence[Sample]) -> Calibration:
    """The calibration after these labels, in order; none is enough. Deterministic."""
    return calibrations(samples)[-1]


def calibrations(samples: Sequence[Sample]) -> list[Calibration]:
    """The calibrations known before each label, and after the last: one more than there are labels."""
    asked = MISCOVERAGE
    found = [_calibrate(samples[:0], asked)]
    for count, sample in enumerate(samples, start=1):
        outside = float((sample.error > found[-1].bound(sample.sigma, sample.elements, sample.novelty)).mean())
        asked = min(max(asked + ANSWER * (MISCOVERAGE - outside), LOWEST_MISCOVERAGE), HIGHEST_MISCOVERAGE)
        found.append(_calibrate(samples[:count], asked))
    return found


def prequential(samples: Sequence[Sample], target: float | None = None) -> Scores:
    """Score every label with the calibration known before it.

    Args:
        samples: labels in order.
        target: force error that matters, eV/Å; None for the default of ``records/scores.py``.
    """
    known = calibrations(samples)[:-1]
    expected = [c.expected(s.sigma, s.elements) for c, s in zip(known, samples, strict=True)]
    bound = [c.bound(s.sigma, s.elements, s.novelty) for c, s in zip(known, samples, strict=True)]
    return score(_joined(expected), _joined(bound), _joined([s.error for s in samples]), target)


def _joined(columns: Sequence[Floats]) -> Floats:
    return np.concatenate([np.empty(0), *columns])


def _calibrate(samples: Sequence[Sample], asked: float) -> Calibration:
    age = len(samples) - 1 - np.arange(len(samples))
    faded = FADING**age
    kept = [i for i in range(len(samples)) if faded[i] >= FAINTEST]
    sigma, error, elements, novelty = (
        np.concatenate([np.empty(0, dtype=kind), *(getattr(samples[i], name) for i in kept)])
        for name, kind in (("sigma", float), ("error", float), ("elements", np.int64), ("novelty", float))
    )
    sizes = [len(samples[i].sigma) for i in kept]
    weights = np.repeat(faded[kept], sizes)
    numbers = tuple(int(z) for z in np.unique(elements))
    scales, offsets = _fit(sigma, np.maximum(error, SMALLEST_ERROR), _places(numbers, elements), len(numbers), weights)
    shape = (scales * np.hypot(sigma[:, None], offsets))[np.arange(len(sigma)), _places(numbers, elements)]
    per_label = weights / np.repeat(np.array(sizes, dtype=np.float64), sizes)
    # The fit is to the mean of the logarithm; what is expected is the mean.
    mean = (PRIOR_LABELS * MEAN + float(per_label @ (error / shape))) / (PRIOR_LABELS + float(per_label.sum()))
    ratio = error / (mean * shape * _widening(novelty, len(sigma)))
    return Calibration(
        labels=len(samples),
        numbers=numbers,
        scales=tuple((mean * scales[:-1]).tolist()),
        offsets=tuple(offsets[:-1].tolist()),
        scale=float(mean * scales[-1]),
        offset=float(offsets[-1]),
        factor=_quantile(ratio, per_label, 1.0 - asked),
        miscoverage=asked,
    )


def _fit(sigma: Floats, error: Floats, place: NDArray[np.intp], groups: int, weights: Floats) -> tuple[Floats, Floats]:
    """Scale and offset of each element, and last of all together, each of shape (groups + 1,).

    Least squares of ``log error − log c − ½ log(σ² + o²)`` with normal priors on the logarithms, by Gauss–Newton from
    the priors. Parameters are (log c, log o) of all, then the differences from it of each element.
    """
    start = np.array([np.log(PRIOR_SCALE / MEAN), np.log(PRIOR_OFFSET)])
    widths = np.array([*PRIOR_WIDTHS, *(ELEMENT_WIDTHS * groups)])
    pull = (SPREAD / widths) ** 2 / INDEPENDENCE
    shift = np.zeros(2 + 2 * groups)
    rows = np.arange(len(sigma))
    for _ in range(STEPS):
        each = _spread_out(start, shift)
        offset = np.exp(each[place, 1])
        lean = offset**2 / (sigma**2 + offset**2)
        wrong = np.log(error) - each[place, 0] - np.log(np.hypot(sigma, offset))
        slopes = np.zeros((len(sigma), 2 + 2 * groups))
        slopes[:, 0], slopes[:, 1] = 1.0, lean
        slopes[rows, 2 + 2 * place], slopes[rows, 3 + 2 * place] = 1.0, lean
        matrix = (slopes * weights[:, None]).T @ slopes + np.diag(pull)
        shift = shift + np.linalg.solve(matrix, (slopes * weights[:, None]).T @ wrong - pull * shift)
    each = np.exp(_spread_out(start, shift))
    return each[:, 0], each[:, 1]


def _spread_out(start: Floats, shift: Floats) -> Floats:
    """(log c, log o) of each element, then of all, shape (groups + 1, 2)."""
    own = np.vstack([shift[2:].reshape(-1, 2), np.zeros((1, 2))])
    result: Floats = start + shift[:2] + own
    return result


def _quantile(ratio: Floats, weights: Floats, level: float) -> float:
    """Quantile of the ratios of all labels, real and imagined, by weight."""
    normal = NormalDist(0.0, SPREAD)
    wide = np.exp([normal.inv_cdf((i + 0.5) / IMAGINED) for i in range(IMAGINED)]) * PRIOR_WIDENING / MEAN
    values = np.concatenate([ratio, wide])
    heavy = np.concatenate([weights, np.full(IMAGINED, PRIOR_LABELS / IMAGINED)])
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(heavy[order]) / heavy.sum()
    return float(values[order][np.searchsorted(reached, level)])


def _widening(novelty: Floats | None, count: int) -> Floats:
    if novelty is None:
        return np.ones(count)
    result: Floats = np.maximum(novelty, 1.0) ** NOVELTY_POWER
    return result


def _places(numbers: tuple[int, ...], elements: Ints) -> NDArray[np.intp]:
    """Index of each element among the numbers; the last one, beyond them, for those that are not among them."""
    known = np.array(numbers, dtype=np.int64)
    place = np.searchsorted(known, elements)
    found = place < len(known)
    found[found] = known[place[found]] == np.asarray(elements)[found]
    result: NDArray[np.intp] = np.where(found, place, len(known))
    return result
