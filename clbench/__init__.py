"""clbench: a benchmark harness for continual learning."""

__version__ = "0.1.0"
