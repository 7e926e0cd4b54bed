"""The examples with a force field at a small size: a peptide, a small protein whose backbone is cut, ions in water."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from qmml_md.analysis.audit import audit
from qmml_md.config import Config
from qmml_md.engine.inputs import read_simulated
from qmml_md.engine.loop import start
from qmml_md.engine.progress import Silent
from qmml_md.records.rows import LabelRow
from qmml_md.records.run_directory import RunDirectory, read_trajectory
from qmml_md.reference.label import Label
from qmml_md.reference.store import LabelStore

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NAMES = ("alanine_dipeptide_tip3p", "chignolin", "ion_in_water")
#: What the record of a run of four steps can be asked.
ASKED = ("files", "order", "models", "cadence", "steps", "kinetic", "ledger", "identity", "replay", "model_updates")


@dataclass(frozen=True)
class Made:
    """A run of an example with its one label and its score."""

    config: Config
    run: RunDirectory
    label: Label
    row: LabelRow


def small(name: str) -> Config:
    """Four steps from the structure as it is; one label of Hartree-Fock in a minimal basis, in a small cluster."""
    plain = yaml.safe_load((EXAMPLES / name / "config.yaml").read_text())
    plain["ensemble"] |= {"threads": 1}
    # The structure stands on the force field's surface: a short step keeps the first motion on the ensemble sane.
    plain["dynamics"] |= {"steps": 4, "equilibration_steps": 0, "minimise": False, "timestep_fs": 0.1}
    plain["region"] |= {
        "check_every_steps": 2, "adapt_interval": False, "labels_per_trigger": 1, "clusters_per_frame": 1,
        "max_qm_atoms": 22 if name == "alanine_dipeptide_tip3p" else 18, "enter_eV_per_A": 0.3, "stay_eV_per_A": 0.2,
    }  # fmt: skip
    plain["reference"] |= {"max_labels": 1, "method": "hf", "basis": "sto-3g"}
    plain["learning"] = {"max_epochs": 3, "energy_weight": 0}
    plain["output"] = {"frame_every_steps": 1, "commit_every_steps": 2}
    return Config.model_validate(plain)


@pytest.fixture(scope="module", params=NAMES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    config, out = small(request.param), tmp_path_factory.mktemp(request.param) / "run"
    run = start(config, config_dir=EXAMPLES / request.param, out=out, progress=Silent())
    (label,) = LabelStore(run.labels).all()
    database = run.open_database()
    (row,) = database.labels()
    database.close()
    return Made(config, run, label, row)


def test_the_record_is_true(made: Made) -> None:
    status = {check.name: check.status.value for check in audit(made.run).checks}
    assert {name: status[name] for name in ASKED} == dict.fromkeys(ASKED, "pass")


def test_the_label_is_of_atoms_on_the_ensemble(made: Made) -> None:
    simulated = read_simulated(made.config, made.run.root)
    parents = made.label.cluster.parent
    assert set(parents[parents >= 0]) <= set(simulated.part.atoms.tolist())
    numbers = simulated.molecules.numbers[parents[parents >= 0]]
    np.testing.assert_array_equal(made.label.cluster.numbers[parents >= 0], numbers)
    assert made.row.data["parents"] == parents.tolist()
    # Nothing of the force field is in doubt.
    doubt = read_trajectory(made.run).frames.disagreement[0]
    assert (np.delete(doubt, simulated.part.atoms) == 0.0).all()
    assert (doubt[simulated.part.atoms] > 0.0).all()


def test_chignolin_is_cut_through_link_atoms(made: Made) -> None:
    cluster = made.label.cluster
    if "chignolin" not in made.config.system.structure.name:
        assert not len(cluster.links)
        return
    topology = read_simulated(made.config, made.run.root).molecules.topology
    hosts = [topology.atom(int(cluster.parent[host])).name for _, host in cluster.links]
    outers = [topology.atom(int(outer)).name for outer in cluster.outer]
    assert len(hosts) == cluster.parent.tolist().count(-1) >= 1
    # Only bonds between carbons: along the backbone CA–C, in side chains CA–CB and further out.
    assert all(name.startswith("C") for name in (*hosts, *outers))
    assert cluster.charge == made.row.data["charge"]


def test_ions_are_charges_around_the_label(made: Made) -> None:
    around = made.label.cluster.surroundings
    if "ion" not in made.config.system.structure.name:
        assert around is None
        return
    assert around is not None
    assert made.label.embedding is not None
    # All that is not on the ensemble: sodium and chloride, where they are within reach.
    assert set(np.round(around.charges).astype(int)) <= {1, -1}
    assert made.label.level.embedding == "electrostatic"
