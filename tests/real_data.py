"""Where the real data of the tests lie."""

import os
from pathlib import Path

DATA = Path(os.environ.get("CLBENCH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
