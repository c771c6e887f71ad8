"""From a configuration to a record: what decides a run, whether it is done already, and running it."""

from __future__ import annotations

import dataclasses
import inspect
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from clbench.backbones import Backbone, make_backbone
from clbench.cards import Scenario
from clbench.compose import GROUPS, Composed, split_override
from clbench.errors import BadInput, ClbenchError
from clbench.identity import decisive
from clbench.invariants.outline import whole
from clbench.loop import Extras
from clbench.models import Model
from clbench.places import config as configuration
from clbench.plugins import code_version, construct, import_class, import_path
from clbench.probing import Probing
from clbench.record import Record
from clbench.seeds import Seeds
from clbench.strategy import Strategy, Trainer
from clbench.stream import StreamSpec


@dataclass(frozen=True)
class Experiment:
    """Everything a run needs, resolved and checked before any work is done."""

    scenario: Scenario
    strategy: Strategy
    backbone: Backbone | None
    model_class: type[Model]
    model_options: dict[str, Any]
    seed: int
    seeds: Seeds
    device: torch.device
    threads: int
    data_dir: Path
    names: dict[str, str]
    command: str | None = None
    extras: Extras = field(default_factory=Extras)

    def make_model(self, spec: StreamSpec) -> Model:
        """Build the untrained network for a stream."""
        try:
            return self.model_class(spec, **self.model_options)
        except ClbenchError:
            raise
        except (TypeError, ValueError, RuntimeError) as error:
            raise BadInput(f"model {self.model_class.__name__} does not take {self.model_options}: {error}") from error

    def identity(self) -> dict[str, Any]:
        """All that decides the result; two runs of equal identity give equal results on one machine and build."""
        card = dataclasses.asdict(self.scenario)
        backbone = {"backbone": self.backbone.key()} if self.backbone else {}
        return backbone | {
            "scenario": decisive(card),
            "strategy": {
                "target": import_path(type(self.strategy)),
                "parameters": self.strategy.hyperparameters(),
                "code": code_version(type(self.strategy)),
            },
            "model": {
                "target": import_path(self.model_class),
                "parameters": self.model_options,
                "code": code_version(self.model_class),
            },
            "seeds": dataclasses.asdict(self.seeds),
            "execution": {"device": self.device.type, "threads": self.threads},
        }

    def record(self, **content: Any) -> Record:
        """The record of this run with the given content."""
        return Record(
            identity=self.identity(),
            names=self.names,
            seed=self.seed,
            card=dataclasses.asdict(self.scenario),
            reference=self.strategy.reference,
            command=self.command,
            **content,
        )


def experiment(composed: Composed, strategy: Strategy | type[Strategy] | None = None) -> Experiment:
    """Check a configuration and make its experiment; ``strategy`` replaces the configured one.

    Raises ``BadInput`` for whatever is wrong with it, before any work is done.
    """
    config = composed.config
    for group in (*GROUPS, "seeds"):
        if not isinstance(config[group] or {}, dict):
            raise BadInput(f"the configuration of '{group}' must hold names and values; got {config[group]!r}")
    names = {group: composed.label(group) for group in GROUPS}
    backbone, label = _backbone(composed)
    del names["backbone"]
    if backbone:
        names["model"] += f" on {label}"
    chosen = _choose(composed, strategy, names)
    model_class = import_class(config["model"].get("_target_"), Model, "model")
    seed = _whole("seed", config["seed"], 0)
    made = Experiment(
        scenario=Scenario.from_card(config["scenario"]),
        strategy=chosen,
        backbone=backbone,
        model_class=model_class,
        model_options={k: v for k, v in config["model"].items() if k != "_target_"},
        seed=seed,
        seeds=_seeds(seed, config["seeds"] or {}),
        device=parse_device(str(config["device"])),
        threads=_whole("threads", config["threads"], 1),
        data_dir=Path(config["data_dir"]),
        names=names,
        command=_command(composed) if strategy is None else None,
        extras=_extras(config, chosen),
    )
    try:
        json.dumps(made.identity(), allow_nan=False)
    except ValueError as error:
        raise BadInput("a setting is NaN or infinite; every setting must be a finite number") from error
    return made


def _backbone(composed: Composed) -> tuple[Backbone | None, str]:
    """The backbone and its label: the chosen one, else the one the card was made for; None for plain inputs."""
    config, label = composed.config["backbone"], composed.label("backbone")
    if composed.choices["backbone"] == "card":
        if any(split_override(o)[0].startswith("backbone.") for o in composed.overrides):
            raise BadInput("options of a backbone need its name too: backbone=NAME (see: clbench list backbones)")
        label = composed.config["scenario"].get("backbone") or "pixels"
        config = configuration("backbone", label, [Path(composed.config_dir)] if composed.config_dir else [])
    if not config.get("_target_"):
        return None, label
    backbone = make_backbone(config)
    backbone.check_files()
    return backbone, label


def _choose(composed: Composed, given: Strategy | type[Strategy] | None, names: dict[str, str]) -> Strategy:
    """The strategy to run, with its labels in ``names``: the given one, else the configured one."""
    trainer: Trainer = construct(Trainer, composed.config["trainer"], "trainer")
    changed = {split_override(o)[0].partition(".")[0] for o in composed.overrides if "." in split_override(o)[0]}
    if given is None:
        chosen = make_strategy(_own_options(composed), trainer)
    elif isinstance(given, Strategy):
        if changed & {"strategy", "trainer"}:
            raise BadInput("an instance brings its own hyperparameters and trainer; give them to it, not as overrides")
        chosen = dataclasses.replace(given)
        names["strategy"] = _instance_label(chosen)
        names["trainer"] = _instance_label(getattr(chosen, "trainer", trainer), names["trainer"], trainer)
    else:
        if "strategy" in changed:
            raise BadInput(f"to change hyperparameters of {given.__name__}, give an instance instead of the class")
        own = _own_trainer(given)
        asked = "trainer" in {split_override(o)[0].partition(".")[0] for o in composed.overrides}
        chosen = make_strategy({"_target_": given}, trainer if asked or own is None else own)
        names["strategy"] = given.__name__
        names["trainer"] = _instance_label(getattr(chosen, "trainer", trainer), names["trainer"], trainer)
    if not hasattr(chosen, "trainer"):
        names["trainer"] = "none"
    return chosen


def _whole(name: str, value: Any, least: int) -> int:
    if not whole(value, least):
        raise BadInput(f"{name} must be a whole number from {least} on, below 2**63; got {value!r}")
    return int(value)


def _extras(config: Mapping[str, Any], strategy: Strategy) -> Extras:
    """What is measured on demand; a strategy whose rows before the last mean nothing is not probed on its way."""
    every, flops = config.get("probe_every"), config.get("flops", False)
    if not isinstance(flops, bool):
        raise BadInput(f"flops must be true or false; got {flops!r}")
    probing = None if every is None else Probing(every, config.get("probe_samples", 100))
    return Extras(probing if strategy.measured_rows == "all" else None, flops)


def _seeds(seed: int, apart: Mapping[str, Any]) -> Seeds:
    for name, value in apart.items():
        _whole(f"seeds.{name}", value, 0)
    seeds = construct(Seeds, {**dataclasses.asdict(Seeds.of(seed)), **apart}, "seeds")
    assert isinstance(seeds, Seeds)
    if seed not in (given := dataclasses.astuple(seeds)):
        raise BadInput(f"seed={seed} labels the run, but is none of its seeds {sorted(set(given))}; give one of those")
    return seeds


def _own_options(composed: Composed) -> dict[str, Any]:
    """The strategy's configuration; with ``strategy._target_=`` typed, without what is left of another strategy's."""
    config = dict(composed.config["strategy"])
    typed = {split_override(o)[0].removeprefix("strategy.") for o in composed.overrides}
    if "strategy._target_" not in {split_override(o)[0] for o in composed.overrides}:
        return config
    cls = import_class(config["_target_"], Strategy, "strategy")
    known = {f.name for f in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
    return {k: v for k, v in config.items() if k == "_target_" or k in typed or k in known}


def make_strategy(config: Mapping[str, Any], trainer: Trainer) -> Strategy:
    """Instantiate a strategy from its ``_target_`` and hyperparameters, checked by name."""
    options = {k: v for k, v in config.items() if k != "_target_"}
    cls = import_class(config.get("_target_"), Strategy, "strategy")
    if inspect.isabstract(cls):
        raise BadInput(f"strategy {cls.__name__} is abstract: it must define train_task(self, task)")
    if not _is_own_dataclass(cls):
        raise BadInput(f"strategy {cls.__name__} must be a dataclass: put @dataclass(kw_only=True) above it")
    known = {f.name for f in dataclasses.fields(cls) if f.init}
    if "trainer" in known:
        options.setdefault("trainer", trainer)
    if isinstance(options.get("trainer"), dict):
        options["trainer"] = construct(Trainer, options["trainer"], "trainer")
    made = construct(cls, options, f"strategy {cls.__name__}")
    assert isinstance(made, Strategy)
    return made


def _own_trainer(cls: type[Strategy]) -> Trainer | None:
    """The trainer that a class has by default; None where it has none."""
    found = [f for f in dataclasses.fields(cls) if f.name == "trainer"] if dataclasses.is_dataclass(cls) else []
    own = found[0].default_factory() if found and callable(found[0].default_factory) else None
    return own if isinstance(own, Trainer) else None


def _is_own_dataclass(cls: type[Any]) -> bool:
    """Whether the decorator is there; a subclass without fields and ``__init__`` of its own needs none."""
    own = [t for t in inspect.get_annotations(cls).values() if "ClassVar" not in str(t)]
    return "__dataclass_fields__" in vars(cls) or not (own or "__init__" in vars(cls))


def parse_device(name: str) -> torch.device:
    """A torch device; ``BadInput`` when the name is none or the machine lacks it."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BadInput(f"device must be cpu, cuda or cuda:N; got '{name}'") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BadInput("device=cuda, but torch sees no CUDA device here; use device=cpu")
    return device


def _instance_label(thing: Strategy | Trainer, name: str | None = None, usual: Trainer | None = None) -> str:
    """A class's name with the fields that differ from its defaults, or from ``usual``, in brackets."""
    changes = []
    for f in dataclasses.fields(thing):
        value = getattr(thing, f.name)
        default = f.default_factory() if callable(f.default_factory) else f.default
        if f.name != "trainer" and value != (getattr(usual, f.name) if usual else default):
            changes.append(f"{f.name}={value}")
    name = name or type(thing).__name__
    return f"{name}[{','.join(sorted(changes))}]" if changes else name


def _command(composed: Composed) -> str:
    where = ("records", "data_dir", "keep")
    words = [o for o in composed.overrides if split_override(o)[0] not in where]
    options = ["--config-dir", composed.config_dir] if composed.config_dir else []
    return shlex.join(["clbench", "run", *options, *words])
