"""What each atom of a label counts: in full where the cluster holds all that the model sees, less at its boundary.

A cluster ends somewhere, and an atom near that end meets an environment which the simulation does not hold. Model and
quantum chemistry both see that same cluster, so the fit is right on every atom; but what the atoms of the boundary
teach is about a surface or a cap. ``Cluster.complete`` says which atoms have everything within the model's cutoff.

An atom's weight w_i multiplies its square error, and the sum is divided by the number of atoms, not by the sum of the
weights: an atom counts the same whatever its neighbours count, a label counts as much as the atoms that it
vouches for, and one that vouches for none counts ``boundary_weight`` of a label. Divided by the sum of the weights, one
complete atom would weigh as much as a whole label of complete ones, and where none is complete the weight would cancel.
Root mean squares that are compared with a tolerance are divided by the sum: they say how large an error is.

The energy of a cluster cannot be told apart into complete and other atoms. It counts as much as the mean of the
weights: a label all of whose atoms count w counts w as a whole.
"""

from collections.abc import Sequence

import numpy as np

from ..region.cluster import Cluster
from ..system.molecules import Flags, Floats


def atom_weights(cluster: Cluster, boundary_weight: float) -> Floats:
    """One for complete atoms, ``boundary_weight`` for the others and for link atoms, shape (m,).

    Where nothing is known of completeness, as for a cluster of no simulation, all atoms count in full.
    """
    if cluster.complete is None:
        return np.ones(cluster.size)
    weights: Floats = np.where(cluster.complete & simulated(cluster), 1.0, boundary_weight)
    return weights


def simulated(cluster: Cluster) -> Flags:
    """Which atoms are no link atoms, shape (m,)."""
    flags = np.ones(cluster.size, dtype=bool)
    flags[cluster.links[:, 0]] = False
    return flags


def weighted_rmse(wrong: Sequence[Floats], weights: Sequence[Floats]) -> float:
    """Root of ``weighted_mean_square``."""
    return float(np.sqrt(weighted_mean_square(wrong, weights)))


def counted_rmse(wrong: Floats, weights: Floats) -> float | None:
    """``weighted_rmse`` of one label as JSON has it: null where no atom counts."""
    return weighted_rmse([wrong], [weights]) if weights.any() else None


def weighted_mean_square(wrong: Sequence[Floats], weights: Sequence[Floats]) -> float:
    """``Σ w |Δ|² / 3 Σ w`` over all atoms of all arrays; NaN where none counts.

    Args:
        wrong: errors of forces, shape (m, 3) each.
        weights: of the atoms, shape (m,) each.
    """
    if not wrong:
        return float("nan")
    each = np.concatenate([np.repeat(w, 3) for w in weights])
    if not each.any():
        return float("nan")
    squares = np.square(np.concatenate([x.ravel() for x in wrong]))
    # Weights of one change no bit of the plain mean.
    return float(np.mean(each * squares) / np.mean(each))


def weighted_largest(wrong: Sequence[Floats], weights: Sequence[Floats]) -> float:
    """Largest ``√w |Δ|`` of a component; NaN where there is nothing or no atom counts."""
    found = [np.sqrt(w)[:, None] * np.abs(x) for x, w in zip(wrong, weights, strict=True) if w.any()]
    return max((float(x.max()) for x in found), default=float("nan"))
