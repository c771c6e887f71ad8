"""``python -m clbench`` is ``clbench``."""

import sys

from clbench.cli import main

if __name__ == "__main__":
    sys.exit(main())
