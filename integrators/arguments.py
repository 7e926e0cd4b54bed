"""Checks of what an integrator is asked for; each error names the argument, the cause and the cure."""

from ..errors import ConfigError


def positive(**values: float) -> None:
    """Refuse times and temperatures, given by name, that are not above zero.

    Raises:
        ConfigError: one is not.
    """
    for name, value in values.items():
        if not value > 0:
            raise ConfigError(f"{name} = {value} is not above zero", cure=f"give {name} a value above zero")


def at_least(name: str, value: int, least: int, why: str, cure: str) -> None:
    """Refuse a number below ``least``.

    Raises:
        ConfigError: it is below.
    """
    if value < least:
        raise ConfigError(f"{name} = {value} is below {least}: {why}", cure=cure)
