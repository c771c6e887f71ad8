"""Augmentation and batches: what a strategy is handed, in which order, and from where it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from clbench.data.rows import CropFlip
from clbench.errors import BadInput, TaskClosedError
from clbench.seeds import Seeds
from clbench.stream import Batch, Feed, TaskStream, TaskView, batch_bounds
from tests.toy_streams import CPU, build, digits, pixels

# --- augmentation


def images_of_digits(n: int = 32) -> torch.Tensor:
    return pixels(digits().tasks[0])[:n]


def test_crop_and_flip_keep_the_shape_and_follow_the_generator() -> None:
    augment, x = CropFlip(2, flip=True), images_of_digits()
    one, again, other = (augment(x, np.random.default_rng(s)) for s in (0, 0, 1))
    assert one.shape == x.shape
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(x, images_of_digits())  # what came in is left alone


def test_flip_mirrors_about_half_of_the_images_and_changes_nothing_else() -> None:
    x = images_of_digits(180)
    y = CropFlip(0, flip=True)(x, np.random.default_rng(0))
    mirrored = [torch.equal(b, a.flip(-1)) for a, b in zip(x, y, strict=True)]
    untouched = [torch.equal(b, a) for a, b in zip(x, y, strict=True)]
    assert all(m or u for m, u in zip(mirrored, untouched, strict=True))
    assert 0.35 < sum(mirrored) / len(x) < 0.65


def test_crop_shifts_by_at_most_its_padding_and_fills_with_zeros() -> None:
    x = torch.arange(1, 17.0).reshape(1, 1, 4, 4)
    padded = torch.nn.functional.pad(x, [1] * 4)
    windows = [padded[0, 0, r : r + 4, c : c + 4] for r in range(3) for c in range(3)]
    seen = set()
    for seed in range(60):
        y = CropFlip(1, flip=False)(x, np.random.default_rng(seed))[0, 0]
        seen.add(next(k for k, window in enumerate(windows) if torch.equal(window, y)))
    assert seen == set(range(9))


def test_a_batch_holds_the_raw_and_the_augmented_view_and_raw_is_the_data() -> None:
    stream = build(augment={"crop": 1, "flip": True})
    view = view_of(stream)
    for batch in view.batches(16):
        assert torch.equal(batch.raw["image"], view.data.take(batch.rows)["image"])
        assert batch.inputs["image"].shape == batch.raw["image"].shape
        assert not torch.equal(batch.inputs["image"], batch.raw["image"])
        stored = batch.augmented({**batch.raw, "y": batch.y}, np.random.default_rng(0))
        assert not torch.equal(stored["image"], batch.raw["image"])
        assert torch.equal(stored["y"], batch.y)
    plain = next(view_of().batches(16))
    assert plain.inputs["image"] is plain.raw["image"]
    assert torch.equal(plain.augmented(plain.raw, np.random.default_rng(0))["image"], plain.raw["image"])


# --- batches


def view_of(
    stream: TaskStream | None = None,
    shuffle: int = 0,
    position: dict[str, tuple[int, int]] | None = None,
    index: int = 1,
) -> TaskView:
    stream = stream or digits()
    seeds = Seeds(shuffle=shuffle)
    feed = Feed(
        lambda name, *keys: seeds.generator(name, index, *keys),
        CPU,
        stream.augment,
        position={} if position is None else position,
    )
    return TaskView(stream.tasks[index - 1], stream.spec.protocol, feed)


def flat(batches: Iterator[Batch]) -> list[tuple[int, int, bytes, bytes]]:
    return [(b.epoch, b.step, b.rows.numpy().tobytes(), b.inputs["image"].numpy().tobytes()) for b in batches]


def test_every_sample_comes_once_an_epoch_in_another_order_each_time() -> None:
    view = view_of()
    orders: dict[int, list[int]] = {}
    for batch in view.batches(32, epochs=3):
        orders.setdefault(batch.epoch, []).extend(batch.rows.tolist())
        assert torch.equal(batch.y, view.data.labels[batch.rows])
    assert set(orders) == {1, 2, 3}
    assert all(sorted(order) == list(range(len(view.data))) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 3


def test_equal_seeds_give_equal_batches_and_other_seeds_and_phases_others() -> None:
    base = flat(view_of().batches(32, 2))
    assert flat(view_of().batches(32, 2)) == base
    assert flat(view_of(shuffle=1).batches(32, 2)) != base
    assert flat(view_of().batches(32, 2, phase="fisher")) != base


def test_a_remainder_of_one_joins_the_batch_before_it() -> None:
    assert batch_bounds(7, 3) == [(0, 3), (3, 7)]
    assert batch_bounds(8, 3) == [(0, 3), (3, 6), (6, 8)]
    assert batch_bounds(1, 3) == [(0, 1)]
    assert batch_bounds(0, 3) == []
    view = view_of()
    sizes = [len(b.y) for b in view.batches(len(view.data) - 1)]
    assert sizes == [len(view.data)]


def test_the_last_batch_of_an_epoch_says_so() -> None:
    marks = [(b.step, b.last) for b in view_of().batches(100, 2)]
    per_epoch = len(marks) // 2
    assert [m[1] for m in marks] == ([False] * (per_epoch - 1) + [True]) * 2
    assert [m[0] for m in marks] == list(range(1, per_epoch + 1)) * 2


@pytest.mark.parametrize("taken", [1, 3, 9, 10])
def test_a_new_view_goes_on_exactly_from_the_saved_position(taken: int) -> None:
    stream = build(augment={"crop": 1, "flip": True})
    whole = flat(view_of(stream).batches(32, 3))
    assert len(whole) > 10
    position: dict[str, tuple[int, int]] = {}
    batches = view_of(stream, position=position).batches(32, 3)
    done = flat(next(batches) for _ in range(taken))
    interrupted = dict(position)  # as the harness saves it while the strategy has batch number ``taken`` in its hands
    rest = flat(view_of(stream, position=interrupted).batches(32, 3))
    assert done == whole[:taken]
    assert rest == whole[taken - 1 :]  # that batch was handed out, but its step may not have been made


def test_a_finished_phase_yields_nothing_and_another_phase_starts_fresh() -> None:
    view = view_of()
    assert len(flat(view.batches(32, 2))) > 0
    assert flat(view.batches(32, 2)) == []
    assert len(flat(view.batches(32, 2, phase="second"))) > 0
    assert len(flat(view.batches(32, 3))) == len(flat(view_of().batches(32, 1)))  # one epoch more was asked for


def test_a_closed_view_raises_whatever_is_asked_of_it() -> None:
    view = view_of()
    running, stored = view.batches(32), view.samples()
    next(running)
    view.close()
    for ask in (
        lambda: view.data,
        lambda: view.samples(),
        lambda: next(view.batches(32, phase="other")),
        lambda: next(running),
        lambda: next(view.batches(32, phase="stored", samples=stored)),
    ):
        with pytest.raises(TaskClosedError, match="train_task"):
            ask()
    assert view.classes == digits().tasks[0].classes


def test_given_samples_are_iterated_instead_with_their_extra_rows() -> None:
    view = view_of()
    samples = view.samples() | {"logits": torch.randn(len(view.data), 4)}
    chosen = {name: rows[:50] for name, rows in samples.items()}
    seen = []
    for batch in view.batches(16, samples=chosen):
        assert torch.equal(batch.extras["logits"], chosen["logits"][batch.rows])
        assert torch.equal(batch.inputs["image"], chosen["image"][batch.rows])
        assert torch.equal(batch.y, chosen["y"][batch.rows])
        assert set(batch.extras) == {"logits", "label"}
        seen += batch.rows.tolist()
    assert sorted(seen) == list(range(50))


def test_samples_are_copies_with_the_task_label_where_there_is_one() -> None:
    view = view_of()
    view.samples()["y"].fill_(99)
    view.samples()["image"].fill_(99)
    assert view.data.labels.max() < 10
    assert float(view.samples()["image"].max()) <= 1
    assert set(view.samples()["label"].tolist()) == {0}
    labelled = view_of(build(protocol="task-incremental"), index=2)
    assert labelled.label == 2
    assert set(labelled.samples()["label"].tolist()) == {2}
    assert view.label is None
    assert view.last is None


def test_nonsense_sizes_are_refused() -> None:
    with pytest.raises(BadInput, match="size >= 1"):
        next(view_of().batches(0))
    assert flat(view_of().batches(10, epochs=0)) == []


def test_iterating_uses_no_global_random_state() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    flat(view_of(build(augment={"crop": 1, "flip": True})).batches(32, 2))
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # type: ignore[index]  # noqa: NPY002


def test_what_does_not_fit_in_memory_stays_where_it_is_and_gives_the_same_rows() -> None:
    split = digits().tasks[0].train
    small = split.on(CPU)
    large = split.on(CPU, limit_bytes=10)
    assert isinstance(small.inputs["image"], torch.Tensor)
    assert not isinstance(large.inputs["image"], torch.Tensor)
    rows = torch.tensor([5, 2, 2])
    assert torch.equal(small.take(rows)["image"], large.take(rows)["image"])
    with pytest.raises(BadInput, match="no labels"):
        _ = replace(split, y=None).labels
