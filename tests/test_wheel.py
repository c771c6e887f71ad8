"""The wheel: what is in it, and that it works away from the checkout with a user's own configuration."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.command import QUICK

ROOT = Path(__file__).resolve().parent.parent


def do(*words: object, cwd: Path) -> str:
    """Run a command away from the checkout; its output, or a failure that shows it."""
    hidden = ("PYTHONPATH", "CLBENCH_DATA")
    environment = {k: v for k, v in os.environ.items() if k not in hidden} | {"OMP_NUM_THREADS": "1"}
    command = [str(word) for word in words]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    do(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT, cwd=folder)
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_holds_the_package_with_its_configuration_and_cards_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.partition("/")[0] for name in names}
    assert len(tops) == 2
    assert "clbench" in tops
    inside = [(ROOT, "clbench"), (ROOT / "clbench", "../conf"), (ROOT / "clbench", "../scenarios")]
    for base, folder in inside:
        for path in (base / folder).rglob("*"):
            if path.suffix in (".py", ".yaml", ".j2", ".html"):
                relative = path.resolve().relative_to(ROOT).as_posix()
                assert (relative if folder == "clbench" else f"clbench/{relative}") in names
    assert not [name for name in names if "test_" in name or "__pycache__" in name]


def use(python: Path, outside: Path) -> None:
    """List, run a strategy and a sweep with the user's own --config-dir, load it back, and report."""
    clbench = python.with_name("clbench")
    where = Path(do(python, "-c", "import clbench; print(clbench.__file__)", cwd=outside).strip())
    assert where.is_relative_to(python.parent.parent), f"clbench came from {where}"
    shutil.copy(ROOT / "examples" / "custom_strategy.py", outside)
    shutil.copytree(ROOT / "examples" / "conf", outside / "mine")
    assert "split_digits-v1" in do(clbench, "list", "scenarios", cwd=outside)
    assert "icarl" in do(clbench, "list", "strategies", cwd=outside)
    assert "leaderboard" in do(clbench, "list", "studies", cwd=outside)
    words = ("scenario=split_digits-v1", "--config-dir", "mine", "strategy=anchored,replay", *QUICK)
    said = do(clbench, "run", "-m", *words, cwd=outside)
    assert said.count("average accuracy") == 2
    assert "2 records" in do(clbench, "report", "records", "--out", "page", cwd=outside)
    assert "anchored" in (outside / "page" / "leaderboard.html").read_text()
    (folder,) = (outside / "records" / "split_digits-v1" / "anchored").glob("*/seed0-*")
    load = f"import clbench; print(type(clbench.load({str(folder)!r})).__name__)"
    assert do(python, "-c", load, cwd=outside).strip() == "Anchored"


def test_the_installed_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    do(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    do(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel, cwd=tmp_path)
    purelib = Path(do(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    # The dependencies of this environment; its own .pth files, and so its editable clbench, are not followed.
    (purelib / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (tmp_path / "outside").mkdir()
    use(python, tmp_path / "outside")


@pytest.mark.slow
def test_the_wheel_installs_into_an_empty_environment_with_the_lock(wheel: Path, tmp_path: Path) -> None:
    do(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    do(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "requirements.lock", wheel, cwd=tmp_path)
    (tmp_path / "outside").mkdir()
    use(python, tmp_path / "outside")
