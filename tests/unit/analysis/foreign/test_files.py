"""What a foreign file leaves open is refused, with a cure that can be typed."""

import numpy as np
import pytest

from qmml_md.analysis.foreign.audit import read_foreign
from qmml_md.analysis.foreign.openmm_files import read_table
from qmml_md.errors import AuditError

LINE = "H 0.0 0.0 {z} 1.0 0.0 0.0\n"


def xyz(path, comment, frames=2, atoms=2):
    text = "".join(
        f"{atoms}\n{comment}\n" + "".join(LINE.format(z=f"{i}.{k}0") for i in range(atoms)) for k in range(frames)
    )
    path.write_text(text)
    return path


def properties(name):
    return f"Properties=species:S:1:pos:R:3:{name}:R:3"


def first(path, **kwargs):
    return next(read_foreign([path], **kwargs).blocks(10))


def test_forces_are_in_electronvolt_per_angstrom_by_custom(tmp_path):
    block = first(xyz(tmp_path / "a.extxyz", properties("forces") + " energy=2.0"))
    assert block.forces[0, 0, 0] == pytest.approx(964.8533212)
    assert block.potential.tolist() == pytest.approx([192.9706642] * 2)
    assert block.positions[1, 1].tolist() == pytest.approx([0.0, 0.0, 0.11])


def test_declared_unit_goes_before_custom(tmp_path):
    path = xyz(tmp_path / "a.extxyz", properties("forces"))
    assert first(path, units={"forces": "kcal/mol/Angstrom"}).forces[0, 0, 0] == pytest.approx(41.84)


def test_velocities_have_no_custom(tmp_path):
    path = xyz(tmp_path / "a.extxyz", properties("velo"))
    with pytest.raises(AuditError, match="--unit velocities=UNIT"):
        read_foreign([path])
    assert first(path, units={"velocities": "Angstrom/fs"}).velocities[0, 0, 0] == pytest.approx(100.0)


def test_time_without_unit_is_refused(tmp_path):
    path = xyz(tmp_path / "a.extxyz", properties("forces") + " time=1.0")
    with pytest.raises(AuditError, match="--unit time=UNIT"):
        read_foreign([path])
    assert first(path, units={"time": "fs"}).time.tolist() == pytest.approx([1e-3] * 2)
    assert first(path, spacing_fs=0.5).time.tolist() == pytest.approx([0.0, 5e-4])


def test_oblique_box_turns_with_everything_in_it(tmp_path):
    # a along y: forces along x must turn into −y or +y with the box, and lengths must stay.
    path = xyz(tmp_path / "a.extxyz", properties("forces") + ' Lattice="0 10 0 -10 0 0 0 0 10"')
    block = first(path)
    assert block.box[0] == pytest.approx(np.eye(3))
    assert np.linalg.norm(block.forces[0, 0]) == pytest.approx(964.8533212)
    assert block.forces[0, 0, 0] == pytest.approx(0.0, abs=1e-9)


def test_partial_periodicity_is_refused(tmp_path):
    path = xyz(tmp_path / "a.extxyz", properties("forces") + ' Lattice="9 0 0 0 9 0 0 0 9" pbc="T T F"')
    with pytest.raises(AuditError, match="some directions only"):
        read_foreign([path])


def test_file_that_was_cut_short_is_refused(tmp_path):
    path = xyz(tmp_path / "a.extxyz", properties("forces"))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(AuditError, match="cut short"):
        list(read_foreign([path]).blocks(10))


def test_other_atoms_in_a_later_frame_are_refused(tmp_path):
    path = xyz(tmp_path / "a.extxyz", properties("forces"))
    lines = path.read_text().splitlines(keepends=True)
    lines[-1] = lines[-1].replace("H", "O")
    path.write_text("".join(lines))
    with pytest.raises(AuditError, match="frame 1 holds other atoms"):
        list(read_foreign([path]).blocks(10))


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["a.trr"], "no trajectory that can be read"),
        (["a.extxyz", "b.extxyz"], "no trajectory that can be read"),
        (["a.h5md"], "cannot be read as HDF5"),
        (["a.dcd"], "holds no elements"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, names, match):
    paths = [tmp_path / name for name in names]
    for path in paths:
        path.write_text("nothing of use")
    with pytest.raises(AuditError, match=match):
        read_foreign(paths)


def test_unknown_quantity_and_missing_file_are_refused(tmp_path):
    with pytest.raises(AuditError, match="no quantity with a unit"):
        read_foreign([], units={"colour": "nm"})
    with pytest.raises(AuditError, match="does not exist"):
        read_foreign([tmp_path / "a.dcd"])


def test_table_takes_its_units_from_its_head(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        '#"Step","Time (ps)","Potential Energy (kcal/mole)","Speed (ns/day)"\n1,0.5,2.0,--\n2,1.0,3.0,1.5\n'
    )
    columns, declared = read_table(path, {})
    assert columns["time"].tolist() == [0.5, 1.0]
    assert columns["potential"].tolist() == pytest.approx([8.368, 12.552])
    assert declared == {"time": "ps", "energies": "kcal/mole"}


def test_table_without_units_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Step,Potential Energy\n1,2.0\n")
    with pytest.raises(AuditError, match="--unit energies=UNIT"):
        read_table(path, {})
    path.write_text("a,b\n1,2\n")
    with pytest.raises(AuditError, match="no column of time or energy"):
        read_table(path, {})
