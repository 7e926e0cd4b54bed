"""A configuration file: every mistake at once with its line and field; what is written reads back equal."""

from pathlib import Path

import numpy as np
import pytest

from qmml_md.config import Config
from qmml_md.config_file import MAX_BYTES, Mistake, check_config, dump_config, load_config, parse_config
from qmml_md.errors import ConfigError

GOOD = "system:\n  structure: ethanol.pdb\n"


def mistakes(text: str) -> list[Mistake]:
    config, found = check_config(text)
    assert (config is None) == bool(found)
    return found


def test_smallest_configuration_takes_every_default() -> None:
    assert parse_config(GOOD) == Config(system={"structure": "ethanol.pdb"})


def test_every_mistake_is_named_with_line_and_field() -> None:
    text = """\
titel: one
system:
  structure: ethanol.pdb
dynamics:
  timestep_fs: 3
  steps: many
  integrator: langevn
  max_labels: 3
region:
  enter_eV_per_A: 0.1
  stay_eV_per_A: 0.5
ensemble:
reference: [1, 2]
"""
    found = {(m.line, m.field): m.problem for m in mistakes(text)}
    assert set(found) == {
        (1, "titel"), (5, "dynamics.timestep_fs"), (6, "dynamics.steps"), (7, "dynamics.integrator"),
        (8, "dynamics.max_labels"), (9, "region"), (12, "ensemble"), (13, "reference"),
    }  # fmt: skip
    assert "did you mean `title`" in found[1, "titel"]
    assert "less than or equal to 2" in found[5, "dynamics.timestep_fs"]
    assert "'many'" in found[6, "dynamics.steps"]
    assert "did you mean `langevin`" in found[7, "dynamics.integrator"]
    assert "it belongs under `reference:`" in found[8, "dynamics.max_labels"]
    assert "must not exceed" in found[9, "region"]
    assert "section of keys" in found[12, "ensemble"]


def test_error_names_the_file_the_lines_and_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("system:\n  structur: a.pdb\n")
    with pytest.raises(ConfigError, match=r"config\.yaml has 2 mistakes") as error:
        load_config(path)
    assert "line 1, system.structure: missing" in error.value.what
    assert "line 2, system.structur: unknown key; did you mean `structure`?" in error.value.what
    assert "qmml template" in error.value.cure


def test_duplicate_key_is_refused() -> None:
    (found,) = mistakes(GOOD + "dynamics:\n  steps: 1\n  steps: 2\n")
    assert (found.line, found.field) == (5, "dynamics.steps")
    assert "line 4" in found.problem


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "true", "False"])
def test_switch_words_are_not_numbers(word: str) -> None:
    """YAML reads `yes` as true and pydantic true as 1: a temperature of 1 K that nobody asked for."""
    (found,) = mistakes(GOOD + f"dynamics:\n  temperature_K: {word}\n")
    assert (found.line, found.field) == (4, "dynamics.temperature_K")
    assert parse_config(GOOD + f"dynamics:\n  minimise: {word}\n").dynamics.minimise is (word in ("yes", "on", "true"))


def test_residue_may_be_called_no() -> None:
    """YAML reads the key NO (nitric oxide) as false."""
    charges = parse_config(GOOD + "  formal_charges: {NO: 1, ASP: -1}\n").system.formal_charges
    assert charges == {"NO": 1, "ASP": -1}


@pytest.mark.parametrize("written", ["1e-9", "1.0e-9", "0.000000001"])
def test_numbers_without_a_point_are_numbers(written: str) -> None:
    """YAML 1.1 reads `1e-9` as text."""
    config = parse_config(GOOD + f"reference:\n  scf_tolerance_hartree: {written}\n")
    assert config.reference.scf_tolerance_hartree == 1e-9


@pytest.mark.parametrize(
    ("text", "line", "needle"),
    [
        ("", 1, "empty"),
        ("# only a comment\n", 1, "empty"),
        ("- a\n- b\n", 1, "sections"),
        ("just text\n", 1, "sections"),
        ("system:\n\tstructure: a\n", 2, "not valid YAML"),
        ("system: [1, 2\n", 2, "not valid YAML"),
        ("system: {structure: 'a\n", 2, "not valid YAML"),
        ("a: \x00\n", 1, "not valid YAML"),
        ("a: &x 1\nb: *x\n", 2, "alias"),
        ("a: 1\n---\nb: 2\n", 2, "not valid YAML"),
        ("[" * 200, 1, "deeper"),
        ("system:\n  structure: !!python/object/apply:os.system ['true']\n", 2, "tag"),
        ("system: !include other.yaml\n", 1, "tag"),
        ("? [a, b]\n: 1\n", 1, "single word"),
        (GOOD + "dynamics:\n  temperature_K: .inf\n", 4, "finite"),
        (GOOD + "dynamics:\n  temperature_K: .nan\n", 4, "finite"),
        (GOOD + "dynamics:\n  temperature_K:\n", 4, "empty"),
        (GOOD + "dynamics:\n  temperature_K: {a: 1}\n", 4, "section with the keys a"),
        (GOOD + "title: 2026-13-45\n", 3, "cannot be read"),
        (GOOD + "title: 12\n", 3, "string"),
    ],
)
def test_what_is_not_a_configuration_is_refused_with_its_line(text: str, line: int, needle: str) -> None:
    found = mistakes(text)
    assert any(m.line == line and needle in m.problem for m in found), found


def test_nothing_runs_while_reading(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    assert mistakes(f"system: !!python/object/apply:os.mkdir ['{trace}']\n")
    assert not trace.exists()


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"title: \xe9t\xe9\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(tmp_path / "latin.yaml")
    (tmp_path / "huge.yaml").write_text("#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="more than"):
        load_config(tmp_path / "huge.yaml")


@pytest.mark.parametrize(
    "title", ["", "no", "1e5", "é — H̃", "a: b # c", "'\"\\", "two\nlines\n", "\u2028", "x" * 300, "~"]
)
def test_what_is_written_reads_back_equal(title: str) -> None:
    config = Config(
        title=title,
        system={"structure": "a folder/é.pdb", "formal_charges": {"NO": 1, "ASP": -1, "1": 2}, "periodic": False},
        dynamics={"timestep_fs": 0.1 + 0.2, "seed": 2**31 - 1, "minimise": False},
        reference={"scf_tolerance_hartree": 1e-12, "charge": -1, "multiplicity": 2},
    )
    assert parse_config(dump_config(config)) == config


def test_numbers_survive_to_the_last_bit() -> None:
    random = np.random.default_rng(7)
    for value in 10.0 ** random.uniform(-300, 300, size=200):
        config = Config(system={"structure": "a"}, dynamics={"temperature_K": float(value)})
        assert parse_config(dump_config(config)).dynamics.temperature_K == value


def test_sabotaged_dump_is_noticed() -> None:
    config = Config(system={"structure": "a"}, dynamics={"temperature_K": 1 / 3})
    rounded = dump_config(config).replace(repr(1 / 3), "0.3333333333333")
    assert parse_config(rounded) != config
