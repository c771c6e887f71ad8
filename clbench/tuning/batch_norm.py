"""The statistics of batch norm layers, worked out anew on other data."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from clbench.backbones import Network
from clbench.errors import BadInput
from clbench.stream import Batch
from clbench.tuning.inserted import batch_norms


def check_batch_norm(network: Network) -> None:
    """``BadInput`` for a network without batch norm."""
    if not any(norm.track_running_stats for norm in batch_norms(network)):
        raise BadInput(
            f"batch_norm works out the statistics of batch norm layers anew; {type(network.body).__name__} has none\n"
            "  a transformer takes: finetune, ssf, adapter, vpt_shallow, vpt_deep"
        )


@torch.no_grad()
def re_estimate(network: Network, batches: Iterable[Batch]) -> None:
    """Replace mean and variance of every batch norm layer by their averages over these augmented batches.

    Source: Zhou et al., Revisiting class-incremental learning with pre-trained models, IJCV 2024, section 4.2 (BN).
    Differs: every batch counts the same; with momentum 0.1 and statistics from zero, the authors' n batches leave a
    bias of 0.9^n towards zero. No dropout or stochastic depth while the statistics are gathered.
    """
    network.eval()
    norms = list(batch_norms(network))
    momenta = [norm.momentum for norm in norms]
    for k, batch in enumerate(batches):
        if k == 0:  # without a batch the statistics stay as they are
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the average over all batches
                norm.train()
        network(batch.inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
