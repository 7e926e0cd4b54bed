"""Atoms named in MDTraj's selection language, https://mdtraj.org/latest/atom_selection.html.

MDTraj turns a selection into Python and runs that. Its grammar has no calls and no attributes but its own, and makes
every other word a string, so that no selection can run code; a test tries. What it does not say well it raises as half
a dozen kinds of errors, which become one here.
"""

import numpy as np

from ..errors import ConfigError
from .images import Ints
from .molecules import Molecules

#: A longer selection is no selection but a file.
LONGEST = 2000
#: Brackets within brackets: MDTraj's parser tries each in several ways.
DEEPEST = 40
#: Characters of an expression, or of MDTraj's complaint, that a message repeats.
SHOWN = 120
#: Words that MDTraj would take for the loop variable and the module of its own code.
RESERVED = ("atom", "re")
EXAMPLES = "`protein`, `resname LIG`, `resSeq 3 to 7 and not water`, `chainid 0`, `name CA or index < 20`"


def select(molecules: Molecules, expression: str, key: str, *, may_be_empty: bool = False) -> Ints:
    """Atoms that a selection names.

    Args:
        molecules: what is simulated.
        expression: in MDTraj's selection language.
        key: of the configuration, for messages.
        may_be_empty: whether no atom at all is an answer.

    Returns:
        Indices, sorted, shape (k,).

    Raises:
        ConfigError: the expression is none, or selects nothing where something is wanted.
    """
    words = expression.replace("(", " ").replace(")", " ").split()
    reserved = [word for word in words if word in RESERVED]
    if len(expression) > LONGEST or expression.count("(") > DEEPEST or reserved:
        raise _bad(key, expression, f"`{reserved[0]}` is no name" if reserved else "it is too long")
    from mdtraj.core.selection import parse_selection

    try:
        condition = parse_selection(expression).expr
        answers = [condition(atom) for atom in molecules.topology.atoms]
    except Exception as error:  # pyparsing, ast and the comparison itself each raise their own kinds
        raise _bad(key, expression, str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    if not all(isinstance(answer, bool) for answer in answers):
        # MDTraj takes a name for true, and the number 0 for false.
        raise _bad(key, expression, "a property stands without a value, as `resname` without a name")
    found = np.flatnonzero(np.array(answers, dtype=bool))
    if not len(found) and not may_be_empty:
        raise ConfigError(
            f"{key}: `{expression}` selects no atom of the structure",
            cure="use the residue and atom names of the structure, counted as in the file (resSeq) or from 0 (resid, "
            f"index, chainid); for example {EXAMPLES}",
        )
    return np.asarray(found, dtype=np.int64)


def _bad(key: str, expression: str, why: str) -> ConfigError:
    return ConfigError(
        f"{key}: `{_short(expression)}` is no selection in MDTraj's language: {_short(why)}",
        cure=f"write it like {EXAMPLES} (https://mdtraj.org/latest/atom_selection.html)",
    )


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
