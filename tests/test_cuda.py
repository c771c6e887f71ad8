"""Runs on the accelerator where there is one, else on the CPU: broken off and taken up, they end as undisturbed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import clbench
from clbench.backbones.backbone import extract
from clbench.checks.small_backbone import SmallBackbone
from clbench.compose import compose
from clbench.evaluate import Row
from clbench.experiment import experiment
from clbench.session import Outcome, execute
from clbench.store import Store
from clbench.stream import Batch, Query

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROUNDING = 0.0 if DEVICE == "cpu" else 1e-3  # sums on an accelerator come in any order
SMALL = ["scenario=split_digits-v1", "scenario.n_tasks=2", "scenario.subset={train: 400, test: 200}"]
COMING_AGAIN = ["scenario.rule=instances", "scenario.protocol=domain-incremental"]
ON_PIXELS = ["model=mlp_2x100", "trainer.epochs=8"]
TOLD = ["scenario.protocol=task-incremental", *ON_PIXELS]
CASES = [
    ["strategy=adam_ssf", "strategy.epochs=1"],
    ["strategy=ease", "strategy.module=ssf", "strategy.epochs=1"],
    ["strategy=ranpac", "strategy.n_projections=50"],
    ["strategy=ranpac_tuned", "strategy.tune=ssf", "strategy.epochs=1", "strategy.n_projections=50"],
    ["strategy=fecam"],
    ["strategy=fecam", *COMING_AGAIN],
    ["strategy=slda"],
    ["strategy=simplecil"],
    ["strategy=replay", "model=mlp_language", "model.width=24", "trainer.epochs=2"],
    ["strategy=supsup", *ON_PIXELS],
    ["strategy=exssnet_kkt", *TOLD],
    *(["strategy=" + name, *TOLD] for name in ("packnet", "wsn", "hat", "piggyback", "sgp", "cuber")),
    ["strategy=gpm", *ON_PIXELS, "trainer.lr=0.1"],
]


class Onlooker:
    """Notes the tasks that are trained, and breaks the run off at the first batch of one of them."""

    def __init__(self, until: int | None = None) -> None:
        self.until, self.trained = until, set[int]()

    def started(self, n_tasks: int) -> None:
        """Nothing to do."""

    def stepped(self, task: int, phase: str, batch: Batch) -> None:
        """Note the task and where its samples are."""
        assert batch.y.device.type == DEVICE
        if task == self.until:
            raise KeyboardInterrupt
        self.trained.add(task)

    def finished_task(self, task: int, row: Row, seconds: float) -> None:
        """Nothing to do."""


def ran(folder: Path, words: list[str], onlooker: Onlooker) -> Outcome:
    """The outcome of a run on the small convolutional backbone; on pixels where the words name a model."""
    exp = experiment(compose([*SMALL, *words, f"device={DEVICE}"]))
    if not any(word.startswith("model=") for word in words):
        exp = replace(exp, backbone=SmallBackbone(kind="convolutional"))
    outcome = execute(exp, Store(folder), watcher=onlooker)
    assert outcome.record.status == "ok", outcome.record.reason
    return outcome


def predictions(outcome: Outcome) -> dict[str, NDArray[Any]]:
    with np.load(outcome.folder / "predictions.npz") as file:
        return dict(file)


def loaded_scores(outcome: Outcome) -> Tensor:
    """What the loaded model answers to noise, on the CPU, wherever it was trained."""
    strategy = clbench.load(outcome.folder)
    drawn = torch.Generator().manual_seed(0)
    inputs = {name: torch.rand(5, *shape, generator=drawn) for name, shape in strategy.spec.inputs.items()}
    return strategy.predict(inputs, Query(None, tuple(range(10)), tuple("0123456789")))


@pytest.mark.parametrize("words", CASES, ids=lambda words: "-".join(w.partition("=")[2] for w in words))
def test_a_run_that_was_broken_off_goes_on_and_ends_with_the_same_scores(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "cache"))
    whole = ran(tmp_path / "whole", words, Onlooker())
    with pytest.raises(KeyboardInterrupt):
        ran(tmp_path / "parts", words, Onlooker(until=2))
    rest = Onlooker()
    again = ran(tmp_path / "parts", words, rest)
    assert rest.trained == {2}, "the first task is not trained again"
    assert again.record.result["counts"] == whole.record.result["counts"]
    one, other = predictions(whole), predictions(again)
    for name in ("truth", "confidence", "squares"):  # probabilities of every test sample, after every task
        assert np.allclose(one[name], other[name], rtol=0, atol=ROUNDING), name
    assert (one["predicted"] == other["predicted"]).mean() >= 1 - 10 * ROUNDING
    assert np.mean(whole.record.result["matrices"]["accuracy"]["values"][-1]) > 0.3
    scores = loaded_scores(whole)
    assert torch.isfinite(scores).all()
    assert torch.allclose(scores, loaded_scores(again), rtol=ROUNDING, atol=ROUNDING)


def test_features_of_sentences_come_back_in_the_order_of_the_sentences() -> None:
    lengths = torch.randint(1, 9, (100,), generator=torch.Generator().manual_seed(0), dtype=torch.int64)
    mask = (torch.arange(8) < lengths[:, None]).to(DEVICE)
    found = extract(lambda inputs: inputs["mask"].sum(1, keepdim=True).float(), {"mask": mask}, torch.device(DEVICE))
    assert torch.equal(found[:, 0].cpu(), lengths.float())
