"""One potential energy surface and its doubt: the ANI-style ensemble, its weights, forces and disagreement."""
