"""Stored samples: reservoir and balanced shares, over repetitions with fixed generators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from clbench.buffer import Buffer, smallest_per_label
from clbench.errors import BadInput
from clbench.state import freeze, load_state, save_state


def rows(first: int, labels: list[int]) -> dict[str, torch.Tensor]:
    """Samples that carry their own number."""
    return {"number": torch.arange(first, first + len(labels)), "y": torch.tensor(labels)}


def counts(buffer: Buffer) -> dict[int, int]:
    labels, n = torch.unique(buffer.rows["y"], return_counts=True)
    return dict(zip(labels.tolist(), n.tolist(), strict=True))


def test_a_reservoir_keeps_every_sample_seen_equally_often() -> None:
    n, capacity, repeats = 60, 12, 3000
    kept = np.zeros(n)
    rng = np.random.default_rng(0)
    for _ in range(repeats):
        buffer = Buffer(capacity)
        for start, size in ((0, 1), (1, 9), (10, 30), (40, 20)):  # in batches of any size
            buffer.add(rows(start, [0] * size), rng)
        kept[buffer.rows["number"].numpy()] += 1
    expected = repeats * capacity / n
    spread = np.sqrt(repeats * (capacity / n) * (1 - capacity / n))
    assert kept.sum() == repeats * capacity
    assert np.abs(kept - expected).max() < 5 * spread  # five standard deviations


def test_a_balanced_buffer_keeps_every_sample_of_a_class_equally_often() -> None:
    labels = [0] * 30 + [1] * 10 + [0] * 20
    kept = np.zeros(60)
    rng = np.random.default_rng(1)
    for _ in range(2000):
        buffer = Buffer(12, "balanced")
        for start in (0, 20, 40):
            buffer.add(rows(start, labels[start : start + 20]), rng)
        assert counts(buffer) == {0: 6, 1: 6}
        kept[buffer.rows["number"].numpy()] += 1
    zero = kept[np.array(labels) == 0] / 2000  # six of fifty
    assert np.abs(zero - 6 / 50).max() < 5 * np.sqrt(0.12 * 0.88 / 2000)
    one = kept[np.array(labels) == 1] / 2000
    assert np.abs(one - 0.6).max() < 5 * np.sqrt(0.6 * 0.4 / 2000)


def test_a_class_that_recurs_is_sampled_from_all_it_ever_showed_not_from_the_pool() -> None:
    """Ten samples stay of 100; then 100 more come. A tenth of each hundred must stay, not five of ten and of 100."""
    old, rng = 0, np.random.default_rng(2)
    for _ in range(1000):
        buffer = Buffer(10, "balanced")
        buffer.add(rows(0, [3] * 100), rng)
        buffer.add(rows(100, [3] * 300), rng)
        old += int((buffer.rows["number"] < 100).sum())
    assert abs(old / 1000 - 2.5) < 5 * np.sqrt(10 * 0.25 * 0.75 / 1000)


def test_what_a_small_class_leaves_goes_to_the_others() -> None:
    buffer, rng = Buffer(20, "balanced"), np.random.default_rng(0)
    buffer.add(rows(0, [0] * 50 + [1] * 50), rng)
    assert counts(buffer) == {0: 10, 1: 10}
    buffer.add(rows(100, [2] * 3), rng)
    assert counts(buffer)[2] == 3
    assert sorted(counts(buffer).values()) == [3, 8, 9]
    buffer.add(rows(200, [4] * 50 + [5] * 50), rng)
    assert sorted(counts(buffer).values()) == [3, 4, 4, 4, 5]


def test_shares_are_equal_up_to_one_when_there_are_more_classes_than_places_divide() -> None:
    buffer, rng = Buffer(10, "balanced"), np.random.default_rng(0)
    buffer.add(rows(0, [k % 7 for k in range(140)]), rng)
    assert sorted(counts(buffer).values()) == [1, 1, 1, 1, 2, 2, 2]
    few = Buffer(3, "balanced")
    few.add(rows(0, [k % 7 for k in range(140)]), rng)
    assert len(few) == 3


@pytest.mark.parametrize("policy", ["reservoir", "balanced"])
def test_capacity_is_never_exceeded_and_filled_as_soon_as_it_can_be(policy: str) -> None:
    buffer, rng = Buffer(17, policy), np.random.default_rng(0)  # type: ignore[arg-type]
    seen = 0
    for size in (1, 3, 8, 2, 40, 1, 7, 100):
        buffer.add(rows(seen, rng.integers(0, 4, size).tolist()), rng)
        seen += size
        assert len(buffer) == min(17, seen) == len(buffer.rows["y"]) == len(buffer.rows["number"])
        assert len(set(buffer.rows["number"].tolist())) == len(buffer)


def test_rows_stay_together_and_samples_are_drawn_without_repetition() -> None:
    buffer, rng = Buffer(30), np.random.default_rng(0)
    numbers = torch.arange(100)
    buffer.add({"y": numbers % 5, "image": numbers[:, None].float().expand(100, 3), "number": numbers}, rng)
    drawn = buffer.sample(12, rng)
    assert torch.equal(drawn["number"] % 5, drawn["y"])
    assert torch.equal(drawn["image"][:, 0].long(), drawn["number"])
    assert len(set(drawn["number"].tolist())) == 12
    assert len(buffer.sample(99, rng)["y"]) == 30


def test_a_stored_row_is_a_copy_without_a_graph() -> None:
    buffer, rng = Buffer(4), np.random.default_rng(0)
    logits = torch.randn(4, 2, requires_grad=True)
    samples = {**rows(0, [0, 1, 2, 3]), "logits": logits}
    buffer.add(samples, rng)
    assert not buffer.rows["logits"].requires_grad
    kept = buffer.rows["number"].clone()
    samples["number"].fill_(-1)
    assert torch.equal(buffer.rows["number"], kept)


@pytest.mark.parametrize("policy", ["reservoir", "balanced"])
def test_a_buffer_that_was_saved_and_loaded_goes_on_as_if_nothing_had_happened(tmp_path: Path, policy: str) -> None:
    one, other = Buffer(9, policy), Buffer(9, policy)  # type: ignore[arg-type]
    one.add(rows(0, [0, 1] * 20), np.random.default_rng(0))
    save_state(tmp_path / "state", freeze(one, "buffer_"))
    other.load_state_dict(load_state(tmp_path / "state"))
    for buffer in (one, other):
        buffer.add(rows(40, [2, 1] * 20), np.random.default_rng(1))
    assert torch.equal(one.rows["number"], other.rows["number"])
    np.testing.assert_array_equal(one.keys, other.keys)


def test_the_smallest_keys_of_each_label_are_chosen() -> None:
    keys, labels = np.array([0.3, 0.1, 0.2, 0.4, 0.0]), np.array([0, 0, 0, 1, 0])
    assert smallest_per_label(keys, labels, 3).tolist() == [1, 3, 4]
    assert smallest_per_label(keys, labels, 99).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("capacity", "policy"), [(0, "reservoir"), (5, "fifo")])
def test_a_senseless_buffer_is_refused(capacity: int, policy: str) -> None:
    with pytest.raises(BadInput, match="capacity >= 1"):
        Buffer(capacity, policy)  # type: ignore[arg-type]
