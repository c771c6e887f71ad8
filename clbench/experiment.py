"""From a configuration to a record: what decides a run, whether it is done already, and running it."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib
import inspect
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import clbench
from clbench.cards import Scenario
from clbench.compose import Composed, split_override
from clbench.errors import BadInput, unknown
from clbench.models import Model
from clbench.record import Record
from clbench.seeds import Seeds
from clbench.strategy import Strategy, Trainer
from clbench.stream import StreamSpec

PROSE = frozenset({"summary", "licence", "citation", "notes", "fingerprint"})  # of a card: no effect on a result


@dataclass(frozen=True)
class Experiment:
    """Everything a run needs, resolved and checked before any work is done."""

    scenario: Scenario
    strategy: Strategy
    model_class: type[Model]
    model_options: dict[str, Any]
    seed: int
    seeds: Seeds
    device: torch.device
    threads: int
    data_dir: Path
    names: dict[str, str]
    command: str | None = None

    def make_model(self, spec: StreamSpec) -> Model:
        """Build the untrained network for a stream."""
        try:
            return self.model_class(spec, **self.model_options)
        except TypeError as error:
            raise BadInput(f"model {self.model_class.__name__} does not take {self.model_options}: {error}") from error

    def identity(self) -> dict[str, Any]:
        """All that decides the result; two runs of equal identity give equal results on one machine and build."""
        card = dataclasses.asdict(self.scenario)
        return {
            "scenario": {k: v for k, v in card.items() if k not in PROSE},
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
    names = {group: composed.label(group) for group in ("scenario", "strategy", "model", "trainer")}
    trainer = _construct(Trainer, config["trainer"], "trainer")
    if strategy is None:
        chosen = make_strategy(config["strategy"], trainer)
    elif isinstance(strategy, Strategy):
        chosen = dataclasses.replace(strategy)
        names["strategy"] = _instance_label(chosen)
    else:
        chosen = make_strategy({"_target_": strategy}, trainer)
        names["strategy"] = strategy.__name__
    if not hasattr(chosen, "trainer"):
        names["trainer"] = "none"
    if config["model"].get("_target_") is None:
        raise BadInput("the model's configuration has no _target_; expected package.module.Class")
    model_class = import_class(config["model"]["_target_"], Model, "model")
    seed = config["seed"]
    if not isinstance(seed, int) or seed < 0:
        raise BadInput(f"seed must be a whole number from 0 on; got {seed!r}")
    return Experiment(
        scenario=Scenario.from_card(config["scenario"]),
        strategy=chosen,
        model_class=model_class,
        model_options={k: v for k, v in config["model"].items() if k != "_target_"},
        seed=seed,
        seeds=_construct(Seeds, {**dataclasses.asdict(Seeds.of(seed)), **(config["seeds"] or {})}, "seeds"),
        device=parse_device(str(config["device"])),
        threads=int(config["threads"]),
        data_dir=Path(config["data_dir"]),
        names=names,
        command=_command(composed) if strategy is None else None,
    )


def make_strategy(config: Mapping[str, Any], trainer: Trainer) -> Strategy:
    """Instantiate a strategy from its ``_target_`` and hyperparameters, checked by name."""
    options = {k: v for k, v in config.items() if k != "_target_"}
    cls = import_class(config.get("_target_"), Strategy, "strategy")
    if inspect.isabstract(cls):
        raise BadInput(f"strategy {cls.__name__} is abstract: it must define train_task(self, task)")
    if not dataclasses.is_dataclass(cls):
        raise BadInput(f"strategy {cls.__name__} must be a dataclass: put @dataclass(kw_only=True) above it")
    known = {f.name for f in dataclasses.fields(cls) if f.init}
    if "trainer" in known:
        options.setdefault("trainer", trainer)
    if isinstance(options.get("trainer"), dict):
        options["trainer"] = _construct(Trainer, options["trainer"], "trainer")
    made = _construct(cls, options, f"strategy {cls.__name__}")
    assert isinstance(made, Strategy)
    return made


def _construct(cls: type[Any], options: Mapping[str, Any], what: str) -> Any:
    known = {f.name for f in dataclasses.fields(cls) if f.init}
    for name in options:
        if name not in known:
            raise unknown(f"option of {what}", name, known)
    try:
        return cls(**options)
    except TypeError as error:
        raise BadInput(f"{what} cannot be made from {dict(options)}: {error}") from error


def import_class(target: Any, kind: type[Any], what: str) -> type[Any]:
    """The class behind ``package.module.Class``; ``BadInput`` when it is not there or not of the kind."""
    if isinstance(target, str):
        module_name, _, name = target.replace(":", ".").rpartition(".")
        try:
            module = importlib.import_module(module_name)
        except (ImportError, ValueError) as error:
            raise BadInput(
                f"{what} _target_ '{target}' cannot be imported: {error}\n"
                "  expected package.module.Class, importable from the current folder"
            ) from error
        if not hasattr(module, name):
            raise unknown(f"class in {module_name}", name, [n for n in vars(module) if n[0].isupper()])
        target = getattr(module, name)
    if not (isinstance(target, type) and issubclass(target, kind)):
        raise BadInput(f"{what} _target_ {target!r} is not a {kind.__name__}; derive it from clbench's {kind.__name__}")
    return target


def import_path(cls: type[Any]) -> str:
    """``package.module.Class`` of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def code_version(cls: type[Any]) -> str:
    """The version of shipped code; of a user's own, the hash of its module without comments and docstrings."""
    if cls.__module__.startswith("clbench."):
        return f"clbench {clbench.__version__}"
    try:
        tree = ast.parse(inspect.getsource(inspect.getmodule(cls) or cls))
    except (OSError, TypeError, SyntaxError):
        return "unknown"
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body[0] = ast.Expr(ast.Constant(None))
    return "source " + hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def parse_device(name: str) -> torch.device:
    """A torch device; ``BadInput`` when the name is none or the machine lacks it."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BadInput(f"device must be cpu, cuda or cuda:N; got '{name}'") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BadInput("device=cuda, but torch sees no CUDA device here; use device=cpu")
    return device


def _instance_label(strategy: Strategy) -> str:
    changes = []
    for f in dataclasses.fields(strategy):
        value = getattr(strategy, f.name)
        default = f.default_factory() if callable(f.default_factory) else f.default
        if f.name != "trainer" and value != default:
            changes.append(f"{f.name}={value}")
    name = type(strategy).__name__
    return f"{name}[{','.join(sorted(changes))}]" if changes else name


def _command(composed: Composed) -> str:
    where = ("records", "data_dir", "keep")
    words = [o for o in composed.overrides if split_override(o)[0] not in where]
    return shlex.join(["clbench", "run", *words])
