"""Hard attention to the task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from clbench.errors import BadInput
from clbench.isolation import own_head
from clbench.masks import TaskParts
from clbench.models import Model
from clbench.strategy import SGDStrategy
from clbench.stream import Batch, Inputs, ProtocolName, Query, StreamSpec, TaskView, batch_bounds

GATED = (nn.Linear, nn.Conv2d)
TRANSPARENT = (nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Dropout, nn.Identity)
STEEPEST, LARGEST = 50.0, 6.0  # bounds of s * embedding in the compensation, and of an embedding


@dataclass(kw_only=True)
class HAT(SGDStrategy):
    """Learn for each task which units to use; weights between units that earlier tasks use are hardly changed.

    A unit's gate is sigmoid(s * embedding), s rising from 1 / ``smax`` to ``smax`` within each epoch. ``strength``:
    lambda, the price of units that no earlier task uses. ``clip``: largest norm of the gradient. For feed-forward
    networks (a ``body`` of linear and convolutional layers, ReLU and pooling), trained by SGD without weight decay.

    Source: Serra et al., Overcoming catastrophic forgetting with hard attention to the task, ICML 2018, section 2.
    Differs: gates scale weights and biases of a layer, which is the same before a ReLU; embeddings of each task are
    tensors of their own; momentum is allowed, since it adds up gradients that are scaled alike; no schedule by a
    validation set; the head's bias is not trained. Gates are not thresholded, as there: old answers drift a little.
    """

    protocols: ClassVar[frozenset[ProtocolName]] = frozenset({"task-incremental"})
    protocols_because: ClassVar[str] = "its task label says which units answer a sample"

    strength: float = 0.75
    smax: float = 400.0
    clip: float = 10000.0

    def __post_init__(self) -> None:
        if self.strength < 0 or not self.smax > 1 or not self.clip > 0:
            raise BadInput(
                f"hat needs strength >= 0, smax > 1 and clip > 0; got {self.strength}, {self.smax}, {self.clip}"
            )
        if self.trainer.optimizer != "sgd" or self.trainer.weight_decay:
            got = f"{self.trainer.optimizer} with weight_decay={self.trainer.weight_decay}"
            raise BadInput(
                "hat protects old tasks by scaling gradients: Adam would scale them back, weight decay moves weights "
                f"without a gradient; use trainer=sgd or plain_sgd with weight_decay=0; got {got}"
            )

    def setup(self, model: Model, spec: StreamSpec, rng: np.random.Generator) -> None:
        """Find the layers whose units are gated; ``BadInput`` for a network that is not feed-forward."""
        super().setup(model, spec, rng)
        self._layers = layers_of(model)
        self.embeddings_: dict[int, dict[str, Tensor]] = {}  # by task and layer: (units,)
        self.own_ = TaskParts(model, head_only=True)

    def train_task(self, task: TaskView) -> None:
        """Train embeddings, layers and the head by one optimiser."""
        self.observe(task)
        self.before_task(task)
        self.model_.requires_grad_(False)
        rows = self.model_.head.rows(task.classes, task.label)
        head = [p for p, _ in own_head(self.model_, rows, head_only=True)]  # other rows get no gradient, nor decay
        layers = [p for layer in self._layers.values() for p in layer.parameters()]
        trained = [p.requires_grad_() for p in (*layers, *head, *self.embeddings_[self.label_].values())]
        self.optimise(task, parameters=trained)
        self.own_.end(self.label_, rows)

    def before_task(self, task: TaskView) -> None:
        """Draw the task's embeddings, and note how much earlier tasks use each unit."""
        self._n_steps = len(batch_bounds(len(task.data), self.trainer.batch_size))
        self._used = {name: layer.weight.new_zeros(len(layer.weight)) for name, layer in self._layers.items()}
        for earlier in self.embeddings_:
            gates = self._gates(earlier, self.smax)
            self._used = {name: torch.maximum(used, gates[name].detach()) for name, used in self._used.items()}
        self.own_.begin(self.label_)
        self.embeddings_[self.label_] = {name: torch.randn_like(used) for name, used in self._used.items()}

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy, and the price of units that are not used yet."""
        part = (batch.step - 1) / (self._n_steps - 1) if self._n_steps > 1 else 1.0
        self._s = 1 / self.smax + (self.smax - 1 / self.smax) * part
        gates = self._gates(self.label_, self._s)
        logits = functional_call(self.model_, self._gated(gates), (batch.inputs,))
        unused = 1 - torch.cat(list(self._used.values()))
        price = (torch.cat(list(gates.values())) * unused).sum() / unused.sum().clamp(min=1e-12)
        return self.cross_entropy(logits, batch.y) + self.strength * price

    @torch.no_grad()
    def after_backward(self, batch: Batch) -> None:
        """Hold what earlier tasks use, and give embeddings the gradient they have at s = 1."""
        before = torch.ones(1, device=self.model_.head.weight.device)  # use of the units that a layer reads: all inputs
        for name, layer in self._layers.items():
            used = self._used[name]
            read = before.repeat_interleave(layer.weight.shape[1] // len(before))  # each channel at all its places
            free = 1 - torch.minimum(used[:, None], read)
            free = free.view(*free.shape, *[1] * (layer.weight.dim() - 2))
            for parameter, share in ((layer.weight, free), (layer.bias, 1 - used)):
                if parameter is not None and parameter.grad is not None:
                    parameter.grad.mul_(share)
            before = used
        for e in self.embeddings_[self.label_].values():
            if e.grad is not None:
                steep = torch.cosh((self._s * e).clamp(-STEEPEST, STEEPEST)) + 1
                e.grad.mul_(self.smax / self._s * steep / (torch.cosh(e) + 1))
        trained = [p for p in self.model_.parameters() if p.requires_grad]
        nn.utils.clip_grad_norm_([*trained, *self.embeddings_[self.label_].values()], self.clip)

    @torch.no_grad()
    def after_step(self, batch: Batch) -> None:
        """Keep embeddings where a gradient can still reach them."""
        for e in self.embeddings_[self.label_].values():
            e.clamp_(-LARGEST, LARGEST)

    @torch.no_grad()
    def predict(self, inputs: Inputs, query: Query) -> Tensor:
        """Scores of the units that the task uses; of all units for a task not seen yet."""
        self.model_.eval()
        label = query.task_label or 0
        if label not in self.embeddings_:
            return self.model_.scores(inputs, query)
        weights = self._gated(self._gates(label, self.smax)) | self.own_.of(label)
        return self.model_.scores(inputs, query, weights)

    def _gates(self, label: int, s: float) -> dict[str, Tensor]:
        return {name: torch.sigmoid(s * e) for name, e in self.embeddings_[label].items()}

    def _gated(self, gates: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights and biases with every unit's scaled by its gate."""
        return {
            f"{name}.{part}": parameter * gates[name].view(-1, *[1] * (parameter.dim() - 1))
            for name, layer in self._layers.items()
            for part, parameter in layer.named_parameters()
        }


def layers_of(model: Model) -> dict[str, nn.Linear | nn.Conv2d]:
    """The layers of a feed-forward network by name, in the order they follow each other; else ``BadInput``."""
    body = getattr(model, "body", None)
    parts = dict(body.named_children()) if isinstance(body, nn.Sequential) else {}
    layers = {f"body.{name}": layer for name, layer in parts.items() if isinstance(layer, GATED)}
    if model.head.projector is not None:
        layers["head.projector"] = model.head.projector
    odd = {type(p).__name__ for p in parts.values() if not isinstance(p, (*GATED, *TRANSPARENT))}
    odd |= {"grouped Conv2d" for p in layers.values() if isinstance(p, nn.Conv2d) and p.groups > 1}
    loose = {n for n, _ in model.named_parameters() if not n.startswith(("body.", "head."))}
    if not layers or odd or loose:
        because = f"; it has {', '.join(sorted(odd | loose))}" if odd | loose else ""
        raise BadInput(
            "hat gates the units of a feed-forward network, whose body is a sequence of linear and convolutional "
            f"layers, ReLU and pooling; {type(model).__name__} is none{because}\n"
            "  shortcuts and norms would carry what the gates close; use model=mlp or model=cnn"
        )
    return layers
