"""Configurations from names and overrides, through Hydra; the same whether typed, swept or called from Python."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from clbench.errors import BadInput, unknown
from clbench.places import cards, names, shipped

GROUPS = ("scenario", "backbone", "strategy", "model", "trainer")


@dataclass(frozen=True)
class Composed:
    """A resolved configuration: plain data, what was chosen in each group, overrides and ``--config-dir`` as typed."""

    config: dict[str, Any]
    choices: dict[str, str]
    overrides: tuple[str, ...]
    config_dir: str | None = None

    def label(self, group: str) -> str:
        """The name of a group's choice, its overrides in brackets: ``replay[memory=50]``."""
        name, changes = self.choices[group], []
        for key, value in map(split_override, self.overrides):
            if key == f"{group}._target_":
                name = value.rpartition(".")[2]
            elif key.startswith(f"{group}."):
                changes.append(f"{key.removeprefix(group + '.')}={value}")
        return f"{name}[{','.join(sorted(changes))}]" if changes else name


def split_override(override: str) -> tuple[str, str]:
    """Key and value of an override, without Hydra's ``+`` and ``~`` marks."""
    key, _, value = override.partition("=")
    return key.strip().lstrip("+~").replace("/", "."), value.strip().strip("'\"")


@cache
def register_cards() -> None:
    """Put the shipped cards into Hydra's ConfigStore as the group ``scenario``, once: it is half of a composition."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    for name, card in cards().items():
        store.store(group="scenario", name=name, node=complete(card))


def complete(card: dict[str, Any]) -> dict[str, Any]:
    """A card with every optional field present, so that each can be overridden without a ``+``."""
    optional = ("increments", "domain_order", "max_degrees", "subset", "normalise", "augment")
    return {
        **dict.fromkeys(optional),
        "evaluator": "classification",
        "class_order": "seed",
        "test_fraction": 0.25,
        "label_space": "known",
        "notes": "",
        **card,
    }


def check_names(overrides: Iterable[str], config_dirs: Sequence[Path] = ()) -> None:
    """Raise ``BadInput`` for an unknown scenario, strategy, model or trainer, and for a config folder not there."""
    for folder in config_dirs:
        if not folder.is_dir():
            raise BadInput(f"--config-dir '{folder}' is not a folder")
        for group in GROUPS:
            if taken := sorted({p.stem for p in (folder / group).glob("*.yaml")} & set(names(group))):
                raise BadInput(
                    f"{folder / group}: clbench ships a {group} '{taken[0]}' already; give yours another name"
                )
    for override in overrides:
        key, value = split_override(override)
        if key not in GROUPS or re.match(r"\w+\(", value):  # glob(*), choice(...): Hydra's own grammar
            continue
        for name in value.split(","):
            known = names(key, config_dirs)
            if name.strip().strip("'\"") not in known:
                raise unknown(key, name.strip(), known)


def compose(overrides: Sequence[str], config_dir: Path | None = None) -> Composed:
    """Resolve one configuration. Raises ``BadInput`` in words for whatever Hydra refuses."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    register_cards()
    check_names(overrides, [config_dir] if config_dir else [])
    GlobalHydra.instance().clear()
    path = [f"hydra.searchpath=[file://{config_dir.resolve()}]"] if config_dir else []
    try:
        with initialize_config_dir(str(shipped("conf")), version_base="1.3"):
            config = hydra_compose("config", overrides=[*overrides, *path], return_hydra_config=True)
            choices = {k: str(v) for k, v in config.hydra.runtime.choices.items()}
            with open_dict(config):
                del config["hydra"]
            plain = OmegaConf.to_container(config, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise refusal(error, overrides) from error
    assert isinstance(plain, dict)
    return Composed(
        {str(k): v for k, v in plain.items()}, choices, tuple(overrides), str(config_dir) if config_dir else None
    )


def expand(overrides: Sequence[str], config_dir: Path | None = None) -> list[list[str]]:
    """All runs of a sweep, as ``clbench run -m`` would make them: lists of plain overrides."""
    from hydra import initialize_config_dir
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    register_cards()
    check_names(overrides, [config_dir] if config_dir else [])
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(shipped("conf")), version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            parser = OverridesParser.create(config_loader=hydra.config_loader)
            parsed = parser.parse_overrides(list(overrides))
            return [list(run) for run in BasicSweeper.split_arguments(parsed, None)[0]]
    except HydraException as error:
        raise refusal(error, overrides) from error


def refusal(error: Exception, overrides: Iterable[str], config_dirs: Sequence[Path] = ()) -> BadInput:
    """What Hydra refused, as one block for a person, with the nearest valid key where one was unknown."""
    text = str(error).strip()
    if "You must specify 'scenario'" in text:
        return BadInput(f"which scenario? give scenario=NAME\n  known: {', '.join(sorted(cards()))}")
    found = re.search(r"Could not override '([^']+)'", text)
    if found is None:
        return BadInput("\n  ".join(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip())))
    key = found.group(1)
    groups = [o for o in overrides if split_override(o)[0] in GROUPS and "(" not in o and "," not in o]
    if not any(split_override(o)[0] == "scenario" for o in groups):
        groups.append(f"scenario={min(cards())}")
    parent, _, _ = key.rpartition(".")
    node: Any = compose(groups, next(iter(config_dirs), None)).config
    for part in parent.split(".") if parent else []:
        node = node.get(part, {}) if isinstance(node, dict) else {}
    prefix = f"{parent}." if parent else ""
    hint = unknown("override", key, [prefix + str(k) for k in node])
    return BadInput(f"{hint}\n  a key that is not there yet is added with a plus: +{key}=...")
