"""What decides a run: the same is done already, whatever it is called; other data, settings or seeds are not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import clbench
from clbench.compose import check_names, compose
from clbench.errors import BadInput
from clbench.experiment import experiment
from clbench.models import Model
from clbench.record import Record
from clbench.session import execute
from clbench.store import Store
from clbench.strategies.naive import Naive
from clbench.stream import StreamSpec
from tests.command import call

QUICK = ["trainer.epochs=1", "scenario.n_tasks=2"]


def again(records: Path, *overrides: str, strategy: str = "naive", keep: bool = True) -> tuple[Record, bool]:
    composed = compose(["scenario=split_digits-v1", f"strategy={strategy}", *QUICK, *overrides])
    outcome = execute(experiment(composed), Store(records), keep=keep)
    return outcome.record, outcome.done_already


def test_an_equal_run_is_done_already_under_another_label(tmp_path: Path) -> None:
    first, done = again(tmp_path, strategy="replay")
    assert not done
    second, done = again(tmp_path, "strategy.memory=200", strategy="replay")
    assert done
    assert second == first
    assert not again(tmp_path, "strategy.memory=100", strategy="replay")[1]


def test_predictions_that_were_not_kept_can_be_asked_for_later(tmp_path: Path) -> None:
    first, _ = again(tmp_path, keep=False)
    second, done = again(tmp_path, keep=True)
    assert not done
    assert second.result_sha256 == first.result_sha256
    assert clbench.load(Store(tmp_path).folder(second))
    assert again(tmp_path, keep=False)[1]


def images(folder: Path, n: int) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "owl", "pig"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for k in range(n):
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / name / f"{k}.png")


def test_changed_images_are_not_done_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "cache"))
    conf = tmp_path / "conf" / "scenario"
    conf.mkdir(parents=True)
    (conf / "mine-v1.yaml").write_text(
        f"name: mine-v1\nsummary: Mine.\ndata: {{source: folder, path: {tmp_path / 'pictures'}}}\nrule: classes\n"
        "n_tasks: 2\nprotocol: class-incremental\nlicence: mine\ncitation: none\n"
    )
    sizes = []
    for n in (8, 8, 12):
        images(tmp_path / "pictures", n)
        record = clbench.run("mine-v1", records=tmp_path / "records", config_dir=tmp_path / "conf")
        assert record.status == "ok"
        sizes.append(record.result["tasks"][0]["n_train"])
    assert sizes == [12, 12, 18]
    assert record.command is not None
    assert f"--config-dir {tmp_path / 'conf'}" in record.command


def test_a_configuration_of_ones_own_cannot_take_a_shipped_name(tmp_path: Path) -> None:
    (tmp_path / "scenario").mkdir()
    (tmp_path / "scenario" / "split_digits-v1.yaml").write_text("n_tasks: 2\n")
    with pytest.raises(BadInput, match="ships a scenario 'split_digits-v1' already"):
        check_names(["scenario=split_digits-v1"], [tmp_path])
    answer = call("run", "--config-dir", str(tmp_path), "scenario=split_digits-v1", cwd=tmp_path)
    assert answer.code == 2


@pytest.mark.parametrize("override", ["strategy.mode=onlin", "strategy.logits_over=bogus"])
def test_a_value_outside_the_choices_of_an_option_is_refused(override: str) -> None:
    with pytest.raises(BadInput, match="unknown value of"):
        experiment(compose(["scenario=split_digits-v1", "strategy=ewc", override]))


def test_masking_to_the_task_is_refused_where_no_task_label_says_which(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="needs task labels"):
        again(tmp_path, "strategy.logits_over=task")


@dataclass(kw_only=True)
class Projected(Naive):
    """A plugin whose setup draws numbers from torch.

    Source: a test.
    Differs: not at all.
    """

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        super().setup(model, spec, rng)
        self.projection_ = torch.randn(4)


def test_what_setup_draws_follows_the_seed_and_leaves_the_global_state_alone(tmp_path: Path) -> None:
    drawn: list[torch.Tensor] = []
    for place in ("a", "b"):
        torch.manual_seed(len(drawn))
        before = torch.get_rng_state()
        record = clbench.run("split_digits-v1", Projected(), records=tmp_path / place, overrides=QUICK[1:])
        assert torch.equal(torch.get_rng_state(), before)
        loaded = clbench.load(Store(tmp_path / place).folder(record))
        assert isinstance(loaded, Projected)
        drawn.append(loaded.projection_)
    assert torch.equal(*drawn)


def test_streams_of_another_order_seed_do_not_contradict_the_plain_ones(tmp_path: Path) -> None:
    again(tmp_path)
    again(tmp_path, "+seeds.order=1993")
    reading = Store(tmp_path).read()
    assert reading.left_out == ()
    assert len(reading.records) == 2
