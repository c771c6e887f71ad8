"""The order of the methods on permuted digits with one head: what Table 1 of the CUBER paper says of permuted MNIST."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from clbench.loop import prepare, run
from clbench.strategies.cuber import CUBER
from clbench.strategies.gpm import GPM
from clbench.strategies.naive import Naive
from clbench.strategies.sgp import SGP
from clbench.strategies.trgp import TRGP
from clbench.strategy import SGDStrategy, Trainer
from tests.toy_projection import SEEDS, mlp, permuted
from tests.toy_streams import CPU


def transfer(make: Callable[..., SGDStrategy], seed: int) -> tuple[float, float]:
    """Backward transfer and accuracy on four permutations of digits."""
    torch.set_num_threads(1)
    stream = permuted(4, train=500, seed=seed)
    strategy = make(trainer=Trainer(epochs=8, batch_size=20, lr=0.05, momentum=0.0))
    read = prepare(strategy, mlp(), stream, SEEDS, CPU)
    rows = run(strategy, read, SEEDS, CPU).accuracy.values[1:]
    return float((rows[-1] - rows.diagonal())[:-1].mean()), float(rows[-1].mean())


@pytest.mark.parametrize("seed", [0, 1])
def test_projecting_forgets_less_and_scaling_less_still(seed: int) -> None:
    methods: list[Callable[..., SGDStrategy]] = [Naive, GPM, SGP, TRGP, CUBER]
    naive, gpm, sgp, trgp, cuber = (transfer(make, seed) for make in methods)
    for k in (0, 1):
        assert naive[k] + 0.1 < min(gpm[k], sgp[k])
        assert max(gpm[k], sgp[k]) + 0.02 < min(trgp[k], cuber[k])
