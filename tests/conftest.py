"""How the tests are dealt out to workers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from clbench.record import Record
from clbench.report import write_report
from tests.toy_records import FILES, store

TOGETHER = (  # files whose import or shared run takes seconds: on one worker, once
    "test_avalanche.py",
    "test_command_line.py",
    "test_custom_strategy.py",
    "test_page.py",
    "test_study.py",
    "test_sweep.py",
    "test_wheel.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep all clauses of one plugin on one worker, so that they share its training runs.

    ``--dist loadgroup`` would do, but pytest 9.2 no longer shows xdist 3.8 the groups.
    """
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class ByPlugin(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            test, _, case = nodeid.partition("[")
            if "test_contract.py" in test:
                return f"{test}[{case.split('-')[0]}"
            file = test.partition("::")[0]
            return file if file.endswith(TOGETHER) else nodeid

    return ByPlugin(config, log) if config.getvalue("dist") in ("load", "loadgroup") else None


@pytest.fixture
def pages(tmp_path: Path) -> Callable[..., tuple[str, dict[str, Any], str]]:
    """Writes records and their report; gives the three pages back, the second one parsed."""

    def write(*records: Record) -> tuple[str, dict[str, Any], str]:
        write_report(store(tmp_path / "records", *records), tmp_path / "out")
        md, data, html = ((tmp_path / "out" / name).read_text(encoding="utf-8") for name in FILES)
        return md, json.loads(data), html

    return write


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture
def one_thread() -> None:
    """One thread, and the same random numbers."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


# Their convolutions of two filters make oneDNN write beyond its memory on some processors: a crash, not a failure.
TINY = {f"test_{name}.py" for name in ("exssnet", "exssnet_traps", "mask_traps", "packnet", "projection", "wsn", "hat")}
TINY |= {f"test_{name}.py" for name in ("masks", "supsup", "supsup_inference", "gpm")}


@pytest.fixture(autouse=True)
def native_convolutions(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests of networks with two filters use torch's own convolutions."""
    if request.path.name not in TINY:
        yield
        return
    with torch.backends.mkldnn.flags(enabled=False):
        yield
