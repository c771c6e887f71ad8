"""What survives: plain state, frozen and thawed, counted in bytes, saved without pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from clbench.buffer import Buffer
from clbench.errors import RecordError
from clbench.state import freeze, load_state, save_state, state_bytes, thaw

STATE: dict[str, Any] = {
    "weight": torch.randn(3, 4),
    "rows": torch.arange(5),
    "mask": torch.tensor([[True], [False]]),
    "empty": torch.zeros(0, 7),
    "scalar": torch.tensor(2.5),
    "half": torch.ones(2, dtype=torch.float16),
    "numbers": [1, 2.5, "three", None, True, [torch.zeros(2)]],
    "by_task": {1: torch.ones(2), 2: {"name": "deep"}},
    "infinite": [float("inf"), float("nan")],
    "nothing": {},
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a)


def test_a_state_comes_back_from_a_file_as_it_was(tmp_path: Path) -> None:
    save_state(tmp_path / "state", STATE)
    assert same(STATE, load_state(tmp_path / "state"))


def test_a_state_without_tensors_and_one_with_shared_or_strided_ones_come_back(tmp_path: Path) -> None:
    shared = torch.arange(12.0).reshape(3, 4)
    state = {"a": shared, "b": shared.T, "c": shared[:, 1], "d": shared}
    save_state(tmp_path / "one", state)
    assert same(state, load_state(tmp_path / "one"))
    save_state(tmp_path / "two", {"step": 3})
    assert load_state(tmp_path / "two") == {"step": 3}


def test_freezing_copies_so_that_later_training_does_not_change_it() -> None:
    weight = torch.zeros(3, requires_grad=True)
    frozen = freeze({"weight": weight, "pair": (1, 2)}, "state")
    with torch.no_grad():
        weight.add_(1)
    assert frozen["weight"].tolist() == [0, 0, 0]
    assert not frozen["weight"].requires_grad
    assert frozen["pair"] == [1, 2]


def test_modules_buffers_and_generators_are_filled_in_place() -> None:
    rng, network, buffer = np.random.default_rng(0), nn.Linear(2, 3), Buffer(4)
    rng.random(7)
    buffer.add({"y": torch.arange(9)}, rng)
    saved = [freeze(x, "x") for x in (rng, network, buffer)]
    expected = rng.random(), network.weight.detach().clone(), buffer.rows["y"].clone()
    others: list[Any] = [np.random.default_rng(5), nn.Linear(2, 3), Buffer(4)]
    filled = [thaw(other, state) for other, state in zip(others, saved, strict=True)]
    assert all(one is other for one, other in zip(filled, others, strict=True))
    assert others[0].random() == expected[0]
    assert torch.equal(others[1].weight, expected[1])
    assert torch.equal(others[2].rows["y"], expected[2])


def test_thawed_tensors_are_not_the_saved_ones() -> None:
    saved = {"weight": torch.zeros(2)}
    thawed = thaw(None, saved)
    thawed["weight"].add_(1)
    assert saved["weight"].tolist() == [0, 0]


def test_bytes_are_those_of_the_tensors() -> None:
    state = {"a": torch.zeros(10), "b": [torch.zeros(3, dtype=torch.float64), {"c": torch.zeros(2, dtype=torch.bool)}]}
    assert state_bytes(state) == 40 + 24 + 2
    assert state_bytes({"name": "long" * 100, "n": 3}) == 0


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (lambda x: x, "hook_ is a function"),
        ({"deep": [1, object()]}, r"hook_\['deep'\]\[1\] is a object"),
        (np.zeros(3), "hook_ is a ndarray"),
        ({(1, 2): 3}, r"hook_ has a key \(1, 2\)"),
        ({True: 3}, "hook_ has a key True"),
        ({1, 2}, "hook_ is a set"),
    ],
)
def test_what_cannot_be_saved_is_refused_by_the_name_of_its_attribute(value: Any, where: str) -> None:
    with pytest.raises(TypeError, match=where):
        freeze(value, "hook_")


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "missing", "flipped header", "foreign"])
def test_a_damaged_file_is_a_record_error_that_names_it(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, STATE)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "foreign":  # a safetensors file of somebody else
        from safetensors.torch import save_file

        save_file({"x": torch.zeros(2)}, path)
    else:
        path.write_bytes(
            {
                "truncated": content[: len(content) // 2],
                "garbage": b"not safetensors" * 20,
                "empty": b"",
                "flipped header": content[:20] + bytes([content[20] ^ 255]) + content[21:],
            }[damage]
        )
    with pytest.raises(RecordError, match=r"state\.safetensors is not a readable clbench state"):
        load_state(path)
