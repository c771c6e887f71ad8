"""What tunes a pretrained network on one task: modules put in, and the loop that trains them under a cosine head."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clbench.backbones import Network
from clbench.errors import BadInput, unknown
from clbench.strategy import check_finite
from clbench.stream import Inputs, TaskView
from clbench.tuning.adapter import insert_adapters
from clbench.tuning.batch_norm import check_batch_norm, re_estimate
from clbench.tuning.inserted import batch_norms, is_transformer
from clbench.tuning.prompts import TokenInit, insert_prompts
from clbench.tuning.scale_shift import insert_scale_shift

Tune = Literal["finetune", "vpt_shallow", "vpt_deep", "ssf", "adapter", "batch_norm"]
TUNES: tuple[Tune, ...] = get_args(Tune)
PHASE = "tune"
SENTENCES = 16  # of one forward pass in training


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What is trained in a pretrained network, and how: SGD with momentum 0.9, its step falling to 0 as a cosine.

    ``tune``: ``finetune`` (everything), ``vpt_shallow``, ``vpt_deep`` (``n_tokens`` prompts), ``ssf``, ``adapter``
    (of size ``bottleneck``), ``batch_norm`` (statistics only, ``epochs`` passes, no gradient). While it is trained,
    the network's own dropout and stochastic depth are on; frozen batch norm keeps its statistics.
    """

    tune: Tune
    epochs: int
    lr: float = 0.01
    batch_size: int = 48
    weight_decay: float = 5e-4
    n_tokens: int = 5
    token_init: TokenInit = "zero"
    bottleneck: int = 64

    def insert(self, network: Network) -> None:
        """Put the new modules in and let nothing else be trained (all of it under ``finetune``).

        ``BadInput`` where the network cannot take them.
        """
        self._check()
        device = next(network.parameters()).device
        network.requires_grad_(self.tune == "finetune")
        if self.tune == "ssf":
            insert_scale_shift(network)
        elif self.tune == "adapter":
            insert_adapters(network, self.bottleneck)
        elif self.tune in ("vpt_shallow", "vpt_deep"):
            insert_prompts(network, self.n_tokens, deep=self.tune == "vpt_deep", init=self.token_init)
        elif self.tune == "batch_norm":
            check_batch_norm(network)
        network.to(device)
        if not is_transformer(network):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast on a CPU

    def fit(self, network: Network, task: TaskView) -> None:
        """Train on the augmented samples of one task; the network is in evaluation mode afterwards.

        Raises ``NonFiniteLoss`` at the end of an epoch in which the loss was not finite.
        """
        batches = task.batches(self.batch_size, self.epochs, phase=PHASE)
        if self.tune == "batch_norm":
            re_estimate(network, batches)
            return
        device = next(network.parameters()).device
        classes = torch.tensor(task.classes, device=device)
        head = CosineHead(network.n_features, len(classes)).to(device)
        parameters = [p for p in (*network.parameters(), *head.parameters()) if p.requires_grad]
        optimizer = torch.optim.SGD(parameters, lr=self.lr, momentum=0.9, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(self.epochs, 1))
        losses: list[Tensor] = []
        _train_mode(network)
        for batch in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(head(_features(network, batch.inputs)), torch.searchsorted(classes, batch.y))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.detach())
            if batch.last:
                check_finite(losses, batch.epoch)
                losses.clear()
                schedule.step()
        network.eval()
        optimizer.zero_grad()

    def _check(self) -> None:
        if self.tune not in TUNES:
            raise unknown("way to tune", str(self.tune), TUNES)
        if self.token_init not in get_args(TokenInit):
            raise unknown("token_init", str(self.token_init), get_args(TokenInit))
        if self.epochs < 0 or min(self.batch_size, self.n_tokens, self.bottleneck) < 1 or not 0 < self.lr < math.inf:
            raise BadInput(
                "tuning needs epochs >= 0, a finite lr > 0, and batch_size, n_tokens, bottleneck >= 1; "
                f"got epochs={self.epochs}, lr={self.lr}, batch_size={self.batch_size}, n_tokens={self.n_tokens}, "
                f"bottleneck={self.bottleneck}"
            )


class CosineHead(nn.Module):
    """Cosines of features and ``n`` rows, times one learnt scale that begins at 1."""

    def __init__(self, n_features: int, n: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(n_features)
        self.rows = nn.Parameter(torch.empty(n, n_features).uniform_(-bound, bound))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, features: Tensor) -> Tensor:
        """(B, n_features) to logits (B, n)."""
        return self.scale * F.linear(F.normalize(features, dim=1), F.normalize(self.rows, dim=1))


def _features(network: Network, inputs: Inputs) -> Tensor:
    """Features of a batch; sentences of like length go together, which saves a quarter of the time in padding."""
    if "mask" not in inputs:
        features: Tensor = network(inputs)
        return features
    order = inputs["mask"].sum(1).argsort(stable=True)
    parts = [network({k: v[rows] for k, v in inputs.items()}) for rows in torch.split(order, SENTENCES)]
    return torch.cat(parts)[order.argsort()]


def _train_mode(network: Network) -> None:
    """Training mode; batch norm that is not trained keeps its statistics."""
    network.train()
    for norm in batch_norms(network):
        if norm.weight is None or not norm.weight.requires_grad:
            norm.eval()
