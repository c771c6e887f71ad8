"""Plugins: classes named in a configuration, imported and made from checked options."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

import clbench
from clbench.errors import BadInput, unknown

PLAIN_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}


def construct(cls: type[Any], options: Mapping[str, Any], what: str) -> Any:
    """An instance of a dataclass from options checked by name, type and choice; ``BadInput`` names what is wrong."""
    known = {f.name: getattr(f.type, "__name__", str(f.type)) for f in dataclasses.fields(cls) if f.init}
    hints = get_type_hints(cls)
    for name, value in options.items():
        if name not in known:
            raise unknown(f"option of {what}", name, known)
        allowed = get_args(hints[name]) if get_origin(hints[name]) is Literal else ()
        if allowed and value not in allowed:
            raise unknown(f"value of {name} in {what}", str(value), map(str, allowed))
        if not _fits(value, known[name]):
            raise BadInput(f"option '{name}' of {what} is of type {known[name]}; got {value!r}")
    try:
        return cls(**options)
    except TypeError as error:
        raise BadInput(f"{what} cannot be made from {dict(options)}: {error}") from error


def _fits(value: Any, kind: str) -> bool:
    """Whether a value is of a type as written: plain, ``X | None``, or a list of plain ones; others always fit."""
    kind, optional = kind.removesuffix(" | None"), kind.endswith(" | None")
    if value is None and optional:
        return True
    if kind.startswith("list["):
        return isinstance(value, list) and all(_fits(v, kind[5:-1]) for v in value)
    types = PLAIN_TYPES.get(kind)
    return types is None or (isinstance(value, types) and (not isinstance(value, bool) or bool in types))


def import_class(target: Any, kind: type[Any], what: str) -> type[Any]:
    """The class behind ``package.module.Class``; ``BadInput`` when it is not there or not of the kind."""
    if target is None:
        raise BadInput(f"the configuration of the {what} has no _target_; expected _target_: package.module.Class")
    if isinstance(target, str):
        module_name, _, name = target.replace(":", ".").rpartition(".")
        try:
            module = importlib.import_module(module_name)
        except Exception as error:  # whatever a user's own module does when it is imported
            raise BadInput(
                f"{what} _target_ '{target}' cannot be imported: {type(error).__name__}: {error}\n"
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


def require(extra: str, *modules: str, who: str) -> None:
    """``BadInput`` with the line to type when a module of an extra is not installed."""
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    if missing:
        raise BadInput(
            f"{who} needs {', '.join(missing)}, which is not installed\n"
            f"  type: pip install -c requirements.lock 'clbench[{extra}]'   (in a checkout: '.[{extra}]')"
        )
