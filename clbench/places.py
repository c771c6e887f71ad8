"""Where configuration lies: beside the package in a checkout, inside it in a wheel; and what it holds."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from clbench.errors import BadInput, unknown

_PACKAGE = Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """The shipped folder ``conf`` or ``scenarios``."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def names(group: str, extra: Iterable[Path] = ()) -> dict[str, Path]:
    """Configurations of a group (``scenario``, ``strategy``, ``model`` ...) by name, with the user's own."""
    folders = [shipped("scenarios") if group == "scenario" else shipped("conf") / group]
    folders += [folder / group for folder in extra]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


@cache
def cards() -> dict[str, dict[str, Any]]:
    """The shipped scenario cards by name."""
    return {name: read_yaml(path) for name, path in names("scenario").items()}


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping; ``BadInput`` when the file is not one."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise BadInput(f"{path} is not readable YAML: {error}") from error
    if not isinstance(data, dict):
        raise BadInput(f"{path} must hold a mapping of names to values")
    return data


def config(group: str, name: str, extra: Iterable[Path] = ()) -> dict[str, Any]:
    """One configuration, shipped or in the user's folders; ``BadInput`` with the nearest name when there is none."""
    known = names(group, extra)
    if name not in known:
        raise unknown(group, name, known)
    found = read_yaml(known[name])
    found.pop("defaults", None)  # Hydra's, not the plugin's
    return found


def first_sentence(target: str) -> str:
    """The first line of the docstring of ``package.module.Class``, without importing it."""
    module, _, name = target.rpartition(".")
    package, *inside = module.split(".")  # the finder imports all parents of a module, so it is asked for the first
    try:
        spec = importlib.util.find_spec(package)
        folders = (spec.submodule_search_locations if spec else None) or []
        path = Path(folders[0], *inside).with_suffix(".py") if inside and folders else Path(str(spec and spec.origin))
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (ImportError, OSError, SyntaxError, ValueError):
        return ""
    found = [node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name]
    return (ast.get_docstring(found[0]) or "").split("\n\n")[0].replace("\n", " ") if found else ""
