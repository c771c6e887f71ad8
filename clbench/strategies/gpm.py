"""Gradient projection memory."""

from __future__ import annotations

from dataclasses import dataclass

from clbench.projection import ProjectedSGD


@dataclass(kw_only=True)
class GPM(ProjectedSGD):
    """Update every layer only in directions in which no old task has inputs.

    After a task, the basis of a layer gets the fewest directions that let it hold the share ``threshold`` of the
    energy of the layer's inputs, and each later update dW becomes dW - dW M MT.

    Source: Saha et al., Gradient Projection Memory for Continual Learning, ICLR 2021, Eqs. 5-9.
    Differs: the whole update is projected after the step, not the gradient before it, so that momentum and weight
    decay cannot break it; the first basis is not one vector short, as it is in the public code; biases and the
    affine part of norms are dropped (the public code trains the latter in the first task), those of a pretrained
    network left as they are; batch norm keeps statistics per task; the inputs of all ``n_samples`` are used in every
    layer; of a head only rows that an earlier task has trained are projected; no learning-rate schedule.
    """
