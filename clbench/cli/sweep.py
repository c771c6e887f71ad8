"""``clbench run``: one run or a Hydra sweep."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import yaml

from clbench.compose import GROUPS, Composed, check_names, refusal, register_cards
from clbench.errors import BadInput, ClbenchError, UnsupportedProtocol
from clbench.places import shipped


def sweep(words: list[str]) -> int:
    """Run what the words ask for. Exit code 0 when all runs are done, 1 when one failed, 2 for bad input."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    overrides = [w for w in words if "=" in w and not w.startswith("-")]
    check_names(overrides, _config_dirs(words))
    register_cards()
    codes: list[int] = []
    many = any(w in ("-m", "--multirun") for w in words)

    def job(config: Any) -> int:
        code = _one(config, many, _config_dirs(words))
        codes.append(code)
        if code and HydraConfig.get().launcher._target_ != _IN_PROCESS:
            raise RunFailed  # another process has to be told
        return code

    before, sys.argv = sys.argv, ["clbench run", *_overrides_first(words)]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its errors to us instead of printing and exiting
    try:
        hydra.main(version_base="1.3", config_path=str(shipped("conf")), config_name="config")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise refusal(error, overrides, _config_dirs(words)) from error
    except yaml.YAMLError as error:
        raise BadInput(f"a configuration is not readable YAML: {error}") from error
    except RunFailed:
        return 1
    finally:
        sys.argv = before
    if many and any(codes):
        sys.stderr.write(f"clbench: {sum(map(bool, codes))} of {len(codes)} runs did not end well; see above\n")
    return max(codes, default=0)


class RunFailed(Exception):
    """A run of a sweep in another process failed; its record says why."""


_IN_PROCESS = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


def _one(config: Any, many: bool, config_dirs: list[Path]) -> int:
    """Do one run of a sweep: 0 done, 1 failed, 2 bad input (a skipped protocol is bad input when asked for alone)."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    hydra_config = HydraConfig.get()
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    choices = {group: str(hydra_config.runtime.choices[group]) for group in GROUPS}
    folder = next((str(f) for f in config_dirs), None)
    composed = Composed({str(k): v for k, v in plain.items()}, choices, tuple(hydra_config.overrides.task), folder)
    try:
        return _do(composed, many)
    except ClbenchError as error:  # reported here, so that the other runs of a sweep go on
        which = f"{' '.join(composed.overrides)}\n  " if many else ""
        sys.stderr.write(f"clbench: {which}{error}\n")
        return 2


def _do(composed: Composed, many: bool) -> int:
    from clbench.cli.show import Display, show_record
    from clbench.experiment import experiment
    from clbench.session import execute
    from clbench.store import Store
    from clbench.trackers import check_tracker, track

    tracker = composed.config["tracker"]
    if tracker is not None:
        check_tracker(tracker)
    exp = experiment(composed)
    store = Store(Path(composed.config["records"]))
    with Display(f"{exp.names['scenario']} {exp.names['strategy']} seed {exp.seed}") as display:
        outcome = execute(exp, store, keep=bool(composed.config["keep"]), watcher=display)
    if outcome.record.status == "skipped" and not many:
        raise UnsupportedProtocol(outcome.record.reason)
    show_record(outcome.record, outcome.folder, outcome.done_already)
    if tracker is not None:
        shown = track(tracker, [outcome.record], Path(composed.config["tracker_dir"]))
        sys.stdout.write(f"tracked: {shown}\n")
    return 1 if outcome.record.status == "failed" else 0


_WITH_VALUE = frozenset(
    {"--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--cfg", "-c", "--package", "-p"}
)


def _overrides_first(words: list[str]) -> list[str]:
    """Hydra's parser wants its overrides in one piece; ``--cfg`` is to show values, not where they come from."""
    options: list[str] = []
    overrides: list[str] = []
    for place, word in enumerate(words):
        is_value = place > 0 and words[place - 1] in _WITH_VALUE
        (options if is_value or word.startswith("-") else overrides).append(word)
    resolve = any(w in ("-c", "--cfg") or w.startswith("--cfg=") for w in words) and "--resolve" not in words
    return [*overrides, *options, *(["--resolve"] if resolve else [])]


def _config_dirs(words: list[str]) -> list[Path]:
    found = []
    for place, word in enumerate(words):
        if word in ("--config-dir", "-cd"):
            if place + 1 == len(words):
                raise BadInput("--config-dir needs a folder")
            found.append(Path(words[place + 1]))
        elif word.startswith("--config-dir="):
            found.append(Path(word.partition("=")[2]))
    return found
