"""What is exported reads back in the programs that it is for."""

import dataclasses

import ase.io
import mdtraj
import numpy as np
import pytest
from ase.units import kJ, mol

from qmml_md.analysis.export import export
from qmml_md.errors import RunDirectoryError
from qmml_md.records.run_directory import read_trajectory


@pytest.fixture
def periodic(story, tell):
    """The same frames said to be in a box that is not rectangular."""
    box = np.array([[2.0, 0.0, 0.0], [0.3, 2.1, 0.0], [0.1, 0.2, 2.2]])
    story.particles = dataclasses.replace(story.particles, periodic=True)
    story.every_frame(lambda f: dataclasses.replace(f, box=box))
    return tell(story)


def test_extended_xyz_reads_back_in_ase_to_the_last_bit_of_a_double(run, tmp_path):
    frames = read_trajectory(run).frames
    atoms = ase.io.read(export(run, tmp_path / "x.extxyz"), ":")
    assert len(atoms) == len(frames)
    # One factor of ten or 96.485 separates the units: each costs one rounding, 1.1e-16 relative.
    for found, i in zip(atoms, range(len(frames)), strict=True):
        np.testing.assert_allclose(found.positions, frames.positions[i] * 10.0, rtol=4e-16)
        np.testing.assert_allclose(found.get_forces(), frames.forces_used[i] * (kJ / mol) / 10.0, rtol=1e-7)
        assert found.get_potential_energy() == pytest.approx(frames.potential_used[i] * kJ / mol, rel=1e-7)
        assert found.info["step"] == frames.step[i]
        assert found.info["time_fs"] == pytest.approx(frames.time[i] * 1e3, abs=1e-9)
        assert found.info["model"] == frames.model_id[i]
        assert found.get_chemical_formula() == "C2H6O"
        assert not found.pbc.any()


def test_extended_xyz_carries_region_and_disagreement(run, tmp_path):
    atoms = ase.io.read(export(run, tmp_path / "x.xyz"), ":")
    by_step = {int(found.info["step"]): found for found in atoms}
    assert by_step[0].arrays["region"].tolist() == [0] * 9
    assert by_step[20].arrays["region"].tolist() == [0, 1, 2, 1, 0, 0, 0, 0, 0]
    assert by_step[20].arrays["disagreement"].tolist() == [0.2] * 9
    assert np.isnan(by_step[24].arrays["disagreement"]).all()


def test_box_of_a_periodic_run_is_exported(periodic, tmp_path):
    expected = read_trajectory(periodic).frames.box[0]
    found = ase.io.read(export(periodic, tmp_path / "x.extxyz"), 0)
    assert found.pbc.all()
    np.testing.assert_allclose(found.cell[:], expected * 10.0, rtol=1e-15)
    loaded = mdtraj.load(str(export(periodic, tmp_path / "x.h5")))
    np.testing.assert_allclose(loaded.unitcell_vectors[0], expected, atol=1e-6)


# XTC stores three decimals of nm (5e-4 nm of rounding), PDB three of Å, DCD and HDF5 single precision.
@pytest.mark.parametrize(("suffix", "tolerance"), [("xtc", 5.1e-4), ("pdb", 5.1e-5), ("dcd", 1e-6), ("h5", 1e-7)])
def test_positions_read_back_in_mdtraj(run, tmp_path, suffix, tolerance):
    top = str(export(run, tmp_path / "top.pdb", stride=100))
    path = str(export(run, tmp_path / f"x.{suffix}"))
    found = mdtraj.load(path, top=top) if suffix in ("xtc", "dcd") else mdtraj.load(path)
    expected = read_trajectory(run).frames.positions
    assert found.xyz.shape == expected.shape
    assert np.abs(found.xyz - expected).max() < tolerance
    assert [atom.element.symbol for atom in found.topology.atoms][:3] == ["C", "C", "O"]


def test_stride_takes_every_so_many_th_frame(run, tmp_path):
    steps = [found.info["step"] for found in ase.io.read(export(run, tmp_path / "x.xyz", stride=5), ":")]
    assert steps == read_trajectory(run).frames.step[::5].tolist()


def test_format_may_be_given_beside_the_name(run, tmp_path):
    path = export(run, tmp_path / "frames.dat", format="extxyz")
    assert len(ase.io.read(path, ":", format="extxyz")) == len(read_trajectory(run).frames)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("x.trr2", {}, "cannot be told from its name"),
        ("x", {}, "cannot be told from its name"),
        ("x.xtc", {"format": "gro"}, "unknown format `gro`"),
        ("nowhere/x.xtc", {}, "does not exist"),
        ("x.xtc", {"stride": 0}, "stride is 0"),
    ],
)
def test_what_cannot_be_written_is_refused(run, tmp_path, name, options, message):
    with pytest.raises(RunDirectoryError, match=message):
        export(run, tmp_path / name, **options)
    assert not (tmp_path / name).exists()


def test_existing_file_is_not_overwritten_unasked(run, tmp_path):
    path = tmp_path / "x.pdb"
    path.write_text("mine")
    with pytest.raises(RunDirectoryError, match="exists already"):
        export(run, path)
    assert path.read_text() == "mine"
    export(run, path, overwrite=True)
    assert path.read_text() != "mine"
    assert {p.name for p in tmp_path.iterdir()} == {"x.pdb", "run"}
