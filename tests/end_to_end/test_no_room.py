"""Where link atoms ask for more room than there is, a look fails by name, and the run goes on."""

from pathlib import Path

import numpy as np
import pytest

from qmml_md.engine.loop import start
from qmml_md.engine.progress import Silent
from qmml_md.errors import NoRoom
from qmml_md.region.policy import ThresholdPolicy
from qmml_md.region.sampling import clusters_around
from qmml_md.system.structures import read_structure

ROOT = Path(__file__).resolve().parents[2]
ETHANOL = ROOT / "examples" / "ethanol_nve" / "ethanol.pdb"


def test_a_look_without_room_is_told_and_the_run_ends_as_it_should(
    small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = ThresholdPolicy.look

    def once(self: ThresholdPolicy, *arguments, **named):
        if named.get("time_fs") == 20 * 0.25:
            raise NoRoom("what joins together with atom 0 has 9 atoms, the region at most 5", cure="none")
        return look(self, *arguments, **named)

    monkeypatch.setattr(ThresholdPolicy, "look", once)
    config = small.configuration()
    run = start(config, config_dir=ROOT, out=tmp_path / "run", progress=Silent())
    database = run.open_database()
    events = database.events()
    database.close()
    (failed,) = [event for event in events if event.kind == "region_failed"]
    assert "the region at most 5" in failed.message
    assert failed.step == 20
    assert events[-1].kind == "finish"


def test_anchors_without_room_are_left_out() -> None:
    ethanol = read_structure(ETHANOL)
    roomy = ThresholdPolicy(enter_eV_per_A=0.6, stay_eV_per_A=0.4, buffer_A=0.0, max_atoms=9)
    assert [cluster.size for cluster in clusters_around(range(9), ethanol, roomy)] == [9] * 9
    # CH3 and a link atom fit; CH2OH and a link atom are six.
    tight = ThresholdPolicy(enter_eV_per_A=0.6, stay_eV_per_A=0.4, buffer_A=0.0, max_atoms=5)
    sizes = [cluster.size for cluster in clusters_around(range(9), ethanol, tight)]
    methyl = np.bincount(ethanol.fragment_of)[ethanol.fragment_of] == 4
    assert sizes == [5] * int(methyl.sum())
