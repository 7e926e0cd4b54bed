"""Writing that survives: the old file or the new one, never half of it."""

import hashlib
import os
from pathlib import Path

import pytest

from qmml_md.records import durable
from qmml_md.records.durable import part_of, sha256_of, write_durably


def test_what_is_written_is_there_under_its_hash(tmp_path: Path) -> None:
    digest = write_durably(tmp_path / "a", b"content")
    assert (tmp_path / "a").read_bytes() == b"content"
    assert digest == sha256_of(tmp_path / "a") == hashlib.sha256(b"content").hexdigest()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    write_durably(tmp_path / "a", b"old")

    def fail(*args: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os if call == "fsync" else Path, call, fail)
    with pytest.raises(OSError, match="Input/output"):
        write_durably(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert not part_of(tmp_path / "a").exists()


def test_the_content_is_durable_before_the_name_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(durable.os, "fsync", lambda number: (calls.append("sync"), sync(number)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (calls.append("rename"), replace(self, to))[1])
    write_durably(tmp_path / "a", b"content")
    assert calls == ["sync", "rename", "sync"]
