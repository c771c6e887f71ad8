"""The shape of the package: imports go one way, files and functions stay small, heavy libraries come late."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import clbench

ROOT = Path(clbench.__file__).resolve().parent

# From the bottom up; a module may import from layers below its own and from its own line, never from above.
LAYERS = [
    ["errors", "seeds", "statistics", "statistics.*", "torchvision_schemas"],
    ["matrix", "state", "places", "plugins"],
    ["metrics", "metrics.*", "compose"],
    ["identity"],
    ["invariants", "invariants.*"],
    ["data", "data.*"],
    ["generators"],
    ["split"],
    ["stream"],  # DESIGN has cards below models; both only need what a stream is
    ["cards"],
    ["backbones", "backbones.*"],
    ["targets"],
    ["models", "models.*", "buffer"],
    ["features"],
    ["strategy"],
    ["prototypes", "tuning", "tuning.*", "masks", "isolation", "superposition", "capture", "projection"],
    ["strategies.*"],
    ["evaluate"],
    ["costs", "avalanche", "probing"],
    ["loop"],
    ["record"],
    ["agreement"],
    ["store", "oracles", "measured"],
    ["columns"],
    ["entries"],
    ["overall", "doubts"],
    ["experiment"],
    ["checkpoint"],
    ["session"],
    ["verify", "merge"],
    ["leaderboard", "comparison", "l2m_log", "trackers", "trackers.*"],
    ["report", "report.*"],
    ["checks", "checks.*"],
    ["cli", "cli.*", "__main__"],
]
# Imports that go up all the same, and why.
EXCUSED = {
    ("__init__", "session"): "clbench.run and clbench.load are the public face; imported when first asked for",
    ("costs", "__init__"): "the version number",
    ("plugins", "__init__"): "the version number",
    ("cli", "__init__"): "the version number",
}
LONG = 300  # lines of a module
DEEP = 40  # lines of a function
VAGUE = {"utils", "util", "base", "common", "manager", "helpers", "misc"}
HEAVY = {"torch", "sklearn", "avalanche", "matplotlib", "pandas", "torchvision", "scipy", "hydra", "timm"}
HEAVY |= {"transformers", "efficientnet_lite_pytorch", "scikit_posthocs"}
LIGHT = [
    "__init__",
    "cli",
    "cli.listing",
    "places",
    "compose",
    "matrix",
    "metrics",
    "statistics",
    "store",
    "record",
    "errors",
]


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package by its name below ``clbench``."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def lines_of(name: str) -> int:
    path = ROOT.joinpath(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return len(path.read_text(encoding="utf-8").splitlines())


def imports(name: str, top_level: bool = False) -> Iterator[str]:
    """Full names that a module imports: anywhere, also in functions and under TYPE_CHECKING, or at top level only."""
    tree = modules()[name]
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def own(full: str) -> str | None:
    """The clbench module that a full name stands for, None for others."""
    parts = full.split(".")
    if parts[0] != "clbench":
        return None
    for end in range(len(parts), 1, -1):
        if ".".join(parts[1:end]) in modules():
            return ".".join(parts[1:end])
    return "__init__"


def layer(name: str) -> int:
    for number, names in enumerate(LAYERS):
        if name in names or any(n.endswith(".*") and name.startswith(n[:-1]) for n in names):
            return number
    raise AssertionError(f"clbench.{name} is in no layer; add it to LAYERS where it belongs")


def test_every_module_is_in_a_layer_and_every_layer_exists() -> None:
    known = modules()
    for name in known:
        if name not in ("__init__", "strategies"):
            layer(name)
    listed = [n for names in LAYERS for n in names]
    assert len(listed) == len(set(listed))
    for n in listed:
        assert n in known or (n.endswith(".*") and any(k.startswith(n[:-1]) for k in known)), f"{n} is gone"


def test_imports_go_one_way() -> None:
    wrong = []
    for name in modules():
        for target in {own(full) for full in imports(name)} - {None, name}:
            assert target is not None
            if (name, target) in EXCUSED or "strategies" in (name, target):
                continue
            if name == "__init__" or target == "__init__" or layer(target) > layer(name):
                wrong.append(f"clbench.{name} imports clbench.{target}")
    assert not wrong, "\n".join(wrong)


def test_every_excused_import_is_still_there() -> None:
    for name, target in EXCUSED:
        assert target in {own(full) for full in imports(name)}, f"clbench.{name} no longer imports clbench.{target}"


def test_no_two_modules_of_the_package_import_each_other_in_a_circle_at_the_top() -> None:
    graph = {n: {t for t in (own(f) for f in imports(n, top_level=True)) if t not in (None, n)} for n in modules()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path, name))
        if name not in done:
            for target in graph[name]:
                if not (name.startswith(f"{target}.") or target == "__init__"):  # a package and its own parts
                    visit(target or "", (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_no_module_is_longer_than_300_lines() -> None:
    assert not {name: n for name in modules() if (n := lines_of(name)) > LONG}


def test_no_function_is_longer_than_40_lines() -> None:
    long = {}
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                documented = ast.get_docstring(node) is not None
                first = node.body[1] if documented and len(node.body) > 1 else node.body[0]
                n = (node.end_lineno or 0) - first.lineno + 1
                if n > DEEP:
                    long[f"{name}.{node.name}"] = n
    assert not long


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [name for name in modules() if set(name.split(".")) & VAGUE]


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("avalanche", {"avalanche"}),
        ("torchvision", set()),
        ("hydra", {"compose", "cli.sweep"}),
        ("mlxtend", {"data.sources"}),
        ("safetensors", {"state", "targets"}),
        ("joblib", {"data.files"}),
        ("scikit_posthocs", {"statistics.ranking"}),
        ("efficientnet_lite_pytorch", {"backbones.efficientnet_lite"}),
        ("timm", {"backbones.timm_model", "checks.small_backbone"}),
        ("transformers", {"backbones.text_encoder"}),
        ("tensorboard", {"trackers.tensorboard"}),
        ("mlflow", {"trackers.mlflow"}),
        ("wandb", {"trackers.wandb"}),
    ],
)
def test_an_integration_lives_in_its_own_file_and_is_imported_late(library: str, allowed: set[str]) -> None:
    users = {name for name in modules() if any(full.split(".")[0] == library for full in imports(name))}
    assert users <= allowed
    for name in users:
        assert library not in {full.split(".")[0] for full in imports(name, top_level=True)}, name


@pytest.mark.parametrize("name", LIGHT)
def test_light_modules_import_nothing_heavy_at_the_top(name: str) -> None:
    def reached(module: str, seen: set[str]) -> Iterator[tuple[str, str]]:
        seen.add(module)
        for full in imports(module, top_level=True):
            target = own(full)
            if target is None:
                yield full.split(".")[0], module
            elif target not in seen:
                yield from reached(target, seen)

    assert not {(library, by) for library, by in reached(name, set()) if library in HEAVY}


def test_the_command_line_starts_without_torch() -> None:
    code = (
        "import sys, clbench, clbench.cli, clbench.cli.listing, clbench.store, clbench.metrics; print([m for m in "
        f"{sorted(HEAVY)!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
