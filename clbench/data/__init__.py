"""Where samples come from: sources, decoded once and kept as memory-mapped arrays."""

from clbench.data.sources import SOURCES, Source, load_source

__all__ = ["SOURCES", "Source", "load_source"]
