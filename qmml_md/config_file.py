"""Reading and writing configuration files: every mistake at once, each with its line and field.

YAML is read as data only: no tags, no anchors, no duplicate keys, bounded depth and size. Relative paths in a
configuration stay as written; the caller knows the folder that they start from.
"""

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from .config import Config
from .errors import ConfigError

#: A configuration of every key with long comments has about 15 kB; more than this is not a configuration.
MAX_BYTES = 1_000_000
MAX_DEPTH = 16
#: Keys and values of one file, far above the hundred keys there are: the parser takes 0.1 ms for each.
MAX_VALUES = 4_000
#: Mistakes that a message lists before it only counts, and characters of a value that it quotes.
MAX_LISTED, MAX_QUOTED = 40, 120

CURE = "mend the lines named; `qmml template` prints every key with its unit and default"

_BOOL = "tag:yaml.org,2002:bool"
_PLAIN_TAGS = frozenset(
    "tag:yaml.org,2002:" + name for name in ("str", "int", "float", "bool", "null", "map", "seq", "timestamp")
)

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One thing that is wrong in a configuration file.

    Attributes:
        line: counted from 1.
        field: dotted path of the key; empty for the file as a whole.
        problem: what is wrong, and what would be right.
    """

    line: int
    field: str
    problem: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.field}: {self.problem}" if self.field else f"line {self.line}: {self.problem}"


@dataclass(slots=True, kw_only=True)
class _Reading:
    """What the walk over the YAML nodes collects."""

    lines: dict[KeyPath, int] = field(default_factory=dict)
    booleans: dict[KeyPath, str] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def line_of(self, path: KeyPath) -> int:
        """Line of the deepest part of a path that stands in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def blame(self, path: KeyPath, problem: str, line: int | None = None) -> None:
        """Record a mistake."""
        at = self.line_of(path) if line is None else line
        self.mistakes.append(Mistake(line=at, field=".".join(map(str, path)), problem=problem))


def load_config(path: Path) -> Config:
    """Read and check a configuration file.

    Args:
        path: YAML file.

    Returns:
        The configuration; relative paths in it are as written.

    Raises:
        ConfigError: the file cannot be read, or holds mistakes; all of them are named with line and field.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"cannot read the configuration {path}: it is no file", cure="give a YAML file")
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path} has more than {MAX_BYTES} bytes", cure="give a YAML configuration file")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration {path}: {error.strerror}",
            cure="`qmml template > config.yaml` makes one to start from",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error.reason}", cure="save it as UTF-8") from error
    return parse_config(text, name=str(path))


def parse_config(text: str, *, name: str = "configuration") -> Config:
    """Check the text of a configuration.

    Args:
        text: YAML.
        name: of the file, for messages.

    Raises:
        ConfigError: all mistakes, each with line and field.
    """
    config, mistakes = check_config(text)
    if config is None:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        listing = "\n".join(f"  {mistake}" for mistake in mistakes[:MAX_LISTED])
        listing += f"\n  and {len(mistakes) - MAX_LISTED} more" if len(mistakes) > MAX_LISTED else ""
        raise ConfigError(f"{name} has {count}:\n{listing}", cure=CURE)
    return config


def check_config(text: str) -> tuple[Config | None, list[Mistake]]:
    """Find every mistake in the text of a configuration.

    Returns:
        The configuration, or None if there are mistakes; and the mistakes in the order of their lines.
    """
    reading = _Reading()
    root = _compose(text, reading)
    if root is None:
        return None, reading.mistakes
    reading.lines[()] = root.start_mark.line + 1
    data = _construct(root, (), reading)
    config = None
    if not isinstance(data, dict):
        reading.blame((), "the file must hold sections such as `system:`, not a single value or a list")
    else:
        try:
            config = Config.model_validate(data)
        except ValidationError as error:
            _blame_fields(error, reading)
    _blame_booleans(reading)
    if reading.mistakes:
        return None, sorted(set(reading.mistakes), key=lambda m: (m.line, m.field))
    return config, []


def dump_config(config: Config) -> str:
    """Write a configuration as YAML that reads back to an equal ``Config``."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def _compose(text: str, reading: _Reading) -> yaml.Node | None:
    """Parse into nodes, refusing what a configuration has no use for; None if there is nothing to go on with."""
    try:
        depth = values = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            values += isinstance(event, yaml.ScalarEvent)
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.AliasEvent):
                reading.blame((), f"the alias `*{event.anchor}` is refused: write the value out", line)
            if depth > MAX_DEPTH:
                reading.blame((), f"nested deeper than {MAX_DEPTH} levels", line)
            if values > MAX_VALUES:
                reading.blame((), f"more than {MAX_VALUES} keys and values: this is no configuration", line)
            if reading.mistakes:
                return None
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        reading.blame((), f"not valid YAML: {error.problem or error.context}", line)
        return None
    except yaml.YAMLError as error:
        reading.blame((), f"not valid YAML: {error}".splitlines()[0], 1)
        return None
    if root is None:
        reading.blame((), "the file is empty", 1)
    return root


def _construct(node: yaml.Node, path: KeyPath, reading: _Reading) -> Any:
    """Turn nodes into plain data, keeping the line of every key. Keys stay text, so a residue may be called NO."""
    if node.tag not in _PLAIN_TAGS:
        reading.blame(
            path, f"the YAML tag `{node.tag}` is refused: only plain values are read", node.start_mark.line + 1
        )
        return None
    if isinstance(node, yaml.MappingNode):
        return _construct_mapping(node, path, reading)
    if isinstance(node, yaml.SequenceNode):
        return [_construct(item, (*path, i), reading) for i, item in enumerate(node.value)]
    if node.tag == _BOOL:
        reading.booleans[path] = node.value
    if bad := _unwritable(node.value):
        reading.blame(path, f"holds the character {bad!a}, which no name or text has", node.start_mark.line + 1)
        return None
    try:
        return yaml.SafeLoader("").construct_object(node)
    except ValueError as error:
        reading.blame(path, f"`{_shortened(node.value)}` cannot be read: {error}", node.start_mark.line + 1)
        return None


def _unwritable(text: str) -> str:
    """The first character that only an escape can have brought in, and that no file name or text may hold."""
    return next((c for c in text if (c < " " and c not in "\t\n") or "\ud800" <= c <= "\udfff"), "")


def _construct_mapping(node: yaml.MappingNode, path: KeyPath, reading: _Reading) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            reading.blame(path, "a key must be a single word", line)
            continue
        here = (*path, key_node.value)
        if key_node.value in data:
            reading.blame(here, f"given twice, first in line {reading.lines[here]}", line)
            continue
        reading.lines[here] = line
        data[key_node.value] = _construct(value_node, here, reading)
    return data


def _blame_fields(error: ValidationError, reading: _Reading) -> None:
    named = {mistake.field for mistake in reading.mistakes}
    for detail in error.errors(include_url=False):
        path = tuple(part for part in detail["loc"] if part != "[key]")
        if ".".join(map(str, path)) in named:  # the value itself was refused above
            continue
        reading.blame(path, _problem(detail, path))


def _problem(detail: Any, path: KeyPath) -> str:
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "missing":
        return "missing, and it has no default"
    if kind == "extra_forbidden":
        return f"unknown key{_suggestion(path)}"
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", str(context["expected"]))
        guess = difflib.get_close_matches(str(given)[:MAX_QUOTED], words, 1)
        hint = f"; did you mean `{guess[0]}`?" if guess else ""
        return f"must be {context['expected']}, not {_shown(given)}{hint}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "model_type":
        return f"must be a section of keys, not {_shown(given)}"
    return f"{detail['msg'].replace('Input should be', 'must be', 1)}, not {_shown(given)}"


def _shown(given: Any) -> str:
    if given is None:
        return "empty"
    if isinstance(given, dict):
        return _shortened(f"a section with the keys {', '.join(given)}")
    return _shortened(repr(given))


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]} … ({len(text)} characters)"


def _suggestion(path: KeyPath) -> str:
    """What an unknown key may have been meant to be: a neighbour, or a key of another section."""
    section, key = _section(path[:-1]), str(path[-1])
    known = list(section.model_fields) if section else []
    if guess := difflib.get_close_matches(key, known, n=1, cutoff=0.6):
        return f"; did you mean `{guess[0]}`?"
    for name, info in Config.model_fields.items():
        other = info.annotation
        if isinstance(other, type) and issubclass(other, BaseModel) and key in other.model_fields:
            return f"; it belongs under `{name}:`"
    return f"; known here: {', '.join(known)}" if known else ""


def _section(path: KeyPath) -> type[BaseModel] | None:
    model: type[BaseModel] = Config
    for part in path:
        info = model.model_fields.get(str(part))
        if info is None or not (isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)):
            return None
        model = info.annotation
    return model


def _blame_booleans(reading: _Reading) -> None:
    """Refuse yes, no, on, off, true and false where the key is not a switch: pydantic would read them as 1 and 0."""
    blamed = {mistake.field for mistake in reading.mistakes}
    for path, written in reading.booleans.items():
        section = _section(path[:-1])
        info = section.model_fields.get(str(path[-1])) if section else None
        switch = info is not None and "bool" in str(info.annotation)
        known_bad = any(".".join(map(str, path[:n])) in blamed for n in range(1, len(path) + 1))
        if not switch and not known_bad:
            reading.blame(path, f"must not be true or false, but is `{written}`")
