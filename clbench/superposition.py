"""Which mask a sample is for, told by the outputs of all masks superposed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.func import functional_call, jvp

from clbench.masks import maskable
from clbench.models import Model
from clbench.stream import Inputs

Mask = Mapping[str, Tensor]  # bool, by the name of the weight


@torch.no_grad()
def infer(
    model: Model, inputs: Inputs, masks: Sequence[Mask], superfluous: Tensor | None, images: int, halving: bool
) -> Tensor:
    """The mask (B,), counted from 0, whose weight in the superposition would lower the objective most steeply.

    ``images`` consecutive samples get one mask together. One superposition of all masks decides, or with ``halving``
    the better half of them (one more where their number is odd) is superposed anew until one is left; of equal ones
    the first is the better. ``superfluous``: as in ``alpha_gradients``.

    Source: Wortsman et al., Supermasks in Superposition, NeurIPS 2020, section 3.3 (one-shot and binary).
    Differs: exactly half is kept, not all up to the median, so that it ends on ties.
    """
    n = len(next(iter(inputs.values())))
    device = model.head.weight.device
    group = torch.arange(n, device=device) // images
    left = torch.arange(len(masks), device=device).expand(-(-n // images), -1)
    while (k := left.shape[1]) > 1:
        gradients = torch.zeros(left.shape, device=device)
        for those in torch.unique(left, dim=0):  # groups with the same masks left share one superposition
            rows = (left == those).all(1)[group].nonzero()[:, 0]
            part = {name: values[rows] for name, values in inputs.items()}
            found = alpha_gradients(model, part, [masks[i] for i in those], superfluous)
            gradients.index_add_(0, group[rows], found)
        best = gradients.argsort(dim=1, stable=True)[:, : (k + 1) // 2 if halving else 1]
        left = left.gather(1, best.sort(dim=1).values)
    return left[:, 0][group]


@torch.no_grad()
def alpha_gradients(model: Model, inputs: Inputs, masks: Sequence[Mask], superfluous: Tensor | None = None) -> Tensor:
    """Derivatives (B, k) of the objective of each sample by the weights alpha of k superposed masks, all of them 1 / k.

    The objective is the entropy of all outputs; with ``superfluous`` (rows,), which outputs stand for no class learnt,
    it is their logsumexp G, to which the other outputs pass no gradient. Derivatives go forward through the network,
    one mask after the other for all samples at once.

    Source: Wortsman et al., Supermasks in Superposition, NeurIPS 2020, section 3.3; G in its appendix.
    """

    def logits(weights: dict[str, Tensor]) -> Tensor:
        outputs: Tensor = functional_call(model, weights, (dict(inputs),))
        return outputs

    base = {name: weight.detach() for name, weight in maskable(model).items()}
    total = {name: torch.stack([mask[name] for mask in masks]).sum(0) for name in base}
    mixed = {name: weight * (total[name] / len(masks)) for name, weight in base.items()}
    columns = []
    for mask in masks:
        z, slope = jvp(logits, (mixed,), ({name: w * mask[name] for name, w in base.items()},))[:2]
        log_p = z.log_softmax(1)
        p = log_p.exp()
        by_logit = -p * (log_p - (p * log_p).sum(1, keepdim=True))  # of the entropy
        if superfluous is not None:
            by_logit = p * superfluous  # of the logsumexp
        columns.append((by_logit * slope).sum(1))
    return torch.stack(columns, 1)
