"""What the documents say is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clbench.checks import METRIC_CLAUSES, SCENARIO_CLAUSES, STRATEGY_CLAUSES
from clbench.compose import compose, expand
from clbench.experiment import experiment
from clbench.places import config as configuration
from clbench.places import names, read_yaml, shipped

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def test_contributing_gives_every_clause_of_the_contract_in_its_words() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    clauses = [(c.name, c.sentence) for c in STRATEGY_CLAUSES]
    clauses += [(c.name, c.sentence) for c in SCENARIO_CLAUSES] + [(c.name, c.sentence) for c in METRIC_CLAUSES]
    for name, sentence in clauses:
        assert f"- `{name}`: {sentence}\n" in text


def test_every_file_that_the_readme_sends_a_reader_to_is_there() -> None:
    paths = re.findall(r"`((?:clbench|benchmarks|examples|scenarios|conf|reports)/[\w/.]*)`", README)
    assert len(paths) > 15
    missing = [p for p in paths if "X.py" not in p and not (ROOT / p).exists()]
    assert not missing


@pytest.mark.parametrize("line", re.findall(r"^clbench run -m (.*?)(?: +#.*)?$", README, re.M))
def test_sweeps_in_the_readme_can_be_expanded(line: str) -> None:
    assert len(expand([word.strip("'") for word in line.split()])) > 10


@pytest.mark.parametrize("name", sorted(names("study")))
def test_every_run_of_a_study_is_a_valid_experiment(name: str) -> None:
    study = read_yaml(shipped("conf") / "study" / f"{name}.yaml")
    for sweep in study["sweeps"]:
        runs = expand([str(word) for word in sweep])
        assert runs
        for overrides in (runs[0], runs[-1]):
            assert experiment(compose(overrides)).record(status="ok").id


def test_no_file_names_a_package_index_or_a_path_of_one_machine() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"https?://|index-url|find-links|@ file", lock)
    assert re.search(r"^torch==2\.13\.0$", lock, re.M)
    assert re.search(r"^torchvision==0\.28\.0$", lock, re.M)


def test_the_configured_hyperparameters_are_the_defaults_of_the_classes() -> None:
    import dataclasses

    from clbench.plugins import import_class
    from clbench.strategy import Strategy, Trainer

    for name in names("strategy"):
        config = configuration("strategy", name)
        cls = import_class(config.pop("_target_"), Strategy, "strategy")
        known = {f.name for f in dataclasses.fields(cls)} - {"trainer"}
        assert set(config) == known, name
    assert Trainer(**read_yaml(shipped("conf") / "trainer" / "sgd.yaml")) == Trainer()
