"""The ensemble in any OpenMM script: ``openmmml.MLPotential("qmml", weights="ani1x")``.

openmmml finds the factory by an entry point, which it loads whenever it is imported, perhaps while this module is being
imported itself. Nothing is imported here until a potential is made: neither torch, which takes seconds, nor openmmml,
which would come back to a module that is not there yet.
"""

from typing import Any


class QmmlPotentialFactory:
    """What openmmml calls a ``MLPotentialImplFactory``."""

    def createImpl(
        self, name: str, weights: str = "ani1x", precision: str = "single", force: str = "torchforce"
    ) -> Any:
        """A potential for openmmml.

        Args:
            name: under which it was asked for.
            weights: published name, or path of a .safetensors file.
            precision: of features and networks, `single` or `double`.
            force: how OpenMM calls it, `torchforce` or `pythonforce`.

        Raises:
            ConfigError: precision or force is none of these.
            WeightsError: unknown name, missing or damaged file, or weights that cannot be fetched.
        """
        from .openmmml_impl import potential

        return potential(weights, precision, force)
