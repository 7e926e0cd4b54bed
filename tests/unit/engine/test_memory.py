"""Free memory goes back to the system."""

from pathlib import Path

import pytest

from qmml_md.engine import memory

BLOCK, BLOCKS = 8192, 12_000


def resident_bytes() -> int:
    rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in rollup if line.startswith("Rss:"))


def test_pages_between_what_is_kept_go_back() -> None:
    """Every eighth block is kept, so that the heap cannot shrink at its end."""
    blocks = [bytearray(b"x") * BLOCK for _ in range(BLOCKS)]
    kept = blocks[::8]
    full = resident_bytes()
    del blocks
    # Sabotaged: left alone, the C library keeps the holes.
    free = 7 / 8 * BLOCK * BLOCKS
    assert full - resident_bytes() < 0.5 * free
    memory.give_back()
    # Seven blocks of 8 kB side by side hold 13 whole pages of 4 kB of their 14.
    assert full - resident_bytes() > 0.8 * free
    assert len(kept) == BLOCKS // 8


def test_a_library_without_trimming_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory.give_back()
