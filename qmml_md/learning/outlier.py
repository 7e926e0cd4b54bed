"""Whether a label is so unlike the ensemble that it is rather the label that is wrong.

A model is wrong where it was not trained, and the labels that tell it so are the ones worth paying for: large errors
alone say nothing against a label. What speaks against it is that a model which was right about the labels before
explains nothing of this one. Forces that belong to other atoms, or were turned, are as far from those of a good model
as independent ones: their residual is √2 times the forces themselves. A model that is merely bad at a place still
knows the bonds, and its residual is a fraction of the forces there. Forces that are large all over are believed, too:
so is a collision that the model does not know of.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..system.molecules import Floats

#: Without this many labels before it no label is judged.
MIN_EARLIER = 3
#: A model is a judge if the residuals of the labels before were below this part of their forces: it explained three
#: quarters of their squares.
COMPETENT = 0.5
#: Largest residual of a label that is right, in terms of the largest before it. Over the series of ethanol and water in
#: tests/data/quantum, as they are and shuffled, no residual exceeds those of the labels before it by more than a factor
#: of 2.3 (``tests/unit/learning/test_outlier.py``); a rare event may well be more than twice worse than that.
WORSE = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What a model said of a label before it was trained on.

    Attributes:
        force_rmse: of its forces, eV/Å.
        force_rms: of the label's own forces, eV/Å.
    """

    force_rmse: float
    force_rms: float


def outlier(model: Floats, label: Floats, earlier: Sequence[Earlier]) -> str:
    """Why a label is not to be believed; empty if it may be right.

    Args:
        model: forces of the ensemble on the cluster, eV/Å, shape (m, 3).
        label: those of the label, eV/Å, shape (m, 3).
        earlier: of the labels of the run before, in order.
    """
    last = earlier[-MIN_EARLIER:]
    if len(last) < MIN_EARLIER or any(each.force_rmse > COMPETENT * each.force_rms for each in last):
        return ""
    rmse, rms = (float(np.sqrt((values**2).mean())) for values in (model - label, label))
    largest = max(each.force_rmse for each in earlier)
    if rmse <= rms or rmse <= WORSE * largest:
        return ""
    return (
        f"its forces (RMS {rms:.3g} eV/Å) are unlike those of the ensemble, which is off by {rmse:.3g} eV/Å and was by "
        f"at most {largest:.3g} on the {len(earlier)} labels before"
    )
