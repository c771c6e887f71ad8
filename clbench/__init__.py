"""clbench: a benchmark harness for continual learning.

``clbench.run(...)`` runs one strategy on one scenario; ``clbench.load(...)`` loads a trained one back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clbench.session import load
    from clbench.session import run_once as run

__version__ = "0.1.0"
__all__ = ["__version__", "load", "run"]


def __getattr__(name: str) -> Any:
    """Import torch only when something is run."""
    if name in ("run", "load"):
        from clbench import session

        return session.run_once if name == "run" else session.load
    raise AttributeError(f"module 'clbench' has no attribute '{name}'")
