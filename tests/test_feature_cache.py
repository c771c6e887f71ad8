"""The feature cache: each chunk computed once, whatever is killed, damaged, or asked for by two processes at a time."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clbench.data.features import CHUNK, FEATURES, KEY, name_of, stored_features
from clbench.errors import BadInput
from tests.toy_features import ROWS, WHOLE, Counted, N, _shorten, flip

SLOW = """
import sys, time
import numpy as np
from clbench.data.features import stored_features
from tests.toy_features import ROWS, WHOLE, N
def compute(rows):
    with open(sys.argv[1], "a") as file:
        file.write(f"{rows[0]}\\n")
    time.sleep(float(sys.argv[2]))
    return np.stack([rows, rows + 0.5], 1).astype(np.float32)
told = []
features = stored_features(WHOLE, N, [ROWS], compute, lambda done, total: told.append((done, total)))
assert np.array_equal(features, np.stack([ROWS, ROWS + 0.5], 1)), features
assert told[-1] == (N, N) and told == sorted(told), told
print(len(told), told[0][0])
"""


def slow(calls: Path, seconds: float) -> subprocess.Popen[str]:
    """A process that fills the same entry, so many seconds a chunk."""
    pipe = subprocess.PIPE
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", SLOW, str(calls), str(seconds)]
    return subprocess.Popen(command, cwd=root, stdout=pipe, stderr=pipe, text=True)


def ended(process: subprocess.Popen[str]) -> list[int]:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return [int(word) for word in out.split()]


def test_of_two_processes_one_computes_and_the_other_waits_and_sees_how_far_it_is(home: Path, tmp_path: Path) -> None:
    both = [slow(tmp_path / "calls", 0.12) for _ in range(2)]
    told = sorted(ended(process) for process in both)
    calls = [int(line) for line in (tmp_path / "calls").read_text().split()]
    assert sorted(calls) == list(range(0, N, CHUNK)), "every chunk once"
    assert 1 <= told[0][0] < 20 and told[1] == [21, 0], "the waiting one is told now and then, the other each chunk"


def test_a_process_killed_during_the_fill_loses_one_chunk_at_most(home: Path, tmp_path: Path) -> None:
    process = slow(tmp_path / "calls", 0.05)
    while not (tmp_path / "calls").exists() or len((tmp_path / "calls").read_text().split()) < 8:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.kill()
    process.communicate()
    begun = len((tmp_path / "calls").read_text().split())
    counted = Counted()
    features = counted.stored()
    assert 20 - begun <= len(counted.chunks) <= 21 - begun
    assert counted.chunks == list(range(20))[-len(counted.chunks) :]
    assert np.array_equal(features, counted(ROWS))


def test_only_the_chunks_that_are_needed_are_computed_and_they_are_computed_whole(home: Path) -> None:
    counted = Counted()
    counted.stored(np.array([5, 700]))
    assert counted.chunks == [0, 5]
    features = counted.stored(np.array([6, 701, N - 1]))
    assert counted.chunks == [19]
    assert features[701].tolist() == [701, 701.5] and not features[130].any()


def test_a_flipped_byte_costs_one_chunk_whatever_file_it_is_in(home: Path) -> None:
    counted = Counted()
    counted.stored()
    folder = home / name_of(WHOLE)
    flip(folder / FEATURES, 128 + 8 * (3 * CHUNK + 7))
    assert np.array_equal(counted.stored(), counted(ROWS)) and counted.chunks[:-1] == [3]
    flip(folder / "checksums.npy", 128 + 8 * 11)
    counted.stored()
    assert counted.chunks == [11]
    counted.stored()
    assert counted.chunks == []


@pytest.mark.parametrize("name", [FEATURES, "checksums.npy", KEY])
@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        _shorten,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"?" * file.stat().st_size),
        lambda file: flip(file, 3),
        lambda file: flip(file, 40),
    ],
)
def test_an_entry_with_a_file_missing_or_damaged_is_rebuilt(
    home: Path, name: str, damage: Callable[[Path], None]
) -> None:
    counted = Counted()
    counted.stored()
    damage(home / name_of(WHOLE) / name)
    assert np.array_equal(counted.stored(), np.stack([ROWS, ROWS + 0.5], 1))
    assert counted.chunks == list(range(20))
    counted.stored()
    assert counted.chunks == []


def test_an_entry_of_another_size_is_rebuilt_and_who_has_it_mapped_keeps_it(home: Path) -> None:
    counted = Counted()
    old = counted.stored(np.arange(300), n=300)
    new = counted.stored()
    assert len(new) == N and counted.chunks == list(range(20))
    assert np.array_equal(old, np.stack([ROWS, ROWS + 0.5], 1)[:300])


def test_where_everything_is_there_nothing_is_written_and_the_map_is_read_only(home: Path) -> None:
    counted = Counted()
    counted.stored()
    lock = Path(f"{home / name_of(WHOLE)}.lock")
    lock.unlink()
    features = counted.stored()
    assert not lock.exists()
    assert isinstance(features, np.memmap) and not features.flags.writeable


def test_a_cache_that_cannot_be_written_is_one_clear_error(home: Path) -> None:
    home.parent.write_text("a file")
    with pytest.raises(BadInput, match=r"cannot be written: .*\n  choose another with CLBENCH_CACHE=FOLDER"):
        Counted().stored()


def test_an_error_of_the_network_is_not_taken_for_one_of_the_disk_and_the_lock_is_given_back(home: Path) -> None:
    def broken(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        raise OSError("the weights are gone")

    with pytest.raises(OSError, match="the weights are gone"):
        stored_features(WHOLE, N, [ROWS], broken)
    assert Counted().stored().shape == (N, 2)


def test_a_thousand_chunks_are_written_as_fast_as_a_few(home: Path) -> None:
    def seconds(n: int) -> float:
        began = time.perf_counter()
        stored_features({"n": n}, n, [np.arange(n)], Counted())
        return (time.perf_counter() - began) / n

    seconds(CHUNK)
    assert seconds(2000 * CHUNK) < 10 * seconds(200 * CHUNK), "the cost of a chunk does not grow with their number"
