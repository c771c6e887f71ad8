"""Tuning a pretrained network on one task: modules put into it, and the one loop that trains them."""

from clbench.tuning.first_session import Tune, Tuning
from clbench.tuning.inserted import network_of, redraw, trained

__all__ = ["Tune", "Tuning", "network_of", "redraw", "trained"]
