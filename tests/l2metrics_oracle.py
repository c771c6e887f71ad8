"""l2metrics itself, in a process of its own: ``python l2metrics_oracle.py PLACE...`` prints its figures as JSON.

Each place is an ``L2DATA`` folder: its ``experts/`` are stored first; the figures are of its ``logs/``, by folder.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

COLUMN = "performance"


def figures(folder: Path) -> dict[str, Any]:
    """What l2metrics finds, of scores as they are."""
    from l2metrics.report import MetricsReport

    report = MetricsReport(
        log_dir=folder,
        perf_measure=COLUMN,
        maintenance_method="both",
        transfer_method="both",
        normalization_method="none",
        smoothing_method="none",
    )
    report.calculate()
    found: dict[str, Any] = report.ll_metrics_dict
    return found


def main(places: list[Path]) -> None:
    import numpy

    vars(numpy)["NaN"] = numpy.nan  # numpy 2 has lost the name; without it l2metrics stops
    from l2metrics.util import store_ste_data

    found: dict[str, Any] = {}
    for place in places:
        os.environ["L2DATA"] = str(place)
        for folder in sorted(place.glob("experts/*")):
            store_ste_data(folder, "a")
        found |= {str(folder): figures(folder) for folder in sorted(place.glob("logs/*"))}
    sys.stdout.write(json.dumps(found, default=float))


if __name__ == "__main__":
    main([Path(word) for word in sys.argv[1:]])
