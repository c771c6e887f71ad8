"""``clbench check``: the contract, clause by clause, for a plugin author."""

from __future__ import annotations

import sys


def run_checks(target: str) -> int:
    """Hold ``package.module:Class`` against every clause; exit code 1 when one is broken."""
    from clbench.checks import check

    report = check(target)
    for outcome in report.outcomes:
        where = f" [{outcome.protocol}]" if outcome.protocol else ""
        sys.stdout.write(f"{outcome.status:>14}  {outcome.clause}{where}: {outcome.sentence}\n")
        if outcome.message:
            sys.stdout.write(f"{'':16}{outcome.message}\n")
    sys.stdout.write(f"{target}: {'keeps the contract' if report.ok else 'breaks the contract'}\n")
    return 0 if report.ok else 1
