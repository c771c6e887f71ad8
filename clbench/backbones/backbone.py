"""What every backbone is, and the network inside the pretrained ones."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clbench.data.features import stored_features
from clbench.data.rows import SourceRows
from clbench.errors import BadInput
from clbench.identity import PLACES
from clbench.plugins import code_version, construct, import_class, import_path
from clbench.stream import Inputs, Modality, Rows, StreamSpec

BATCH = {"cpu": 32, "cuda": 256}  # samples of a frozen forward pass; on a CPU 32 are 2 to 4 times as fast as 256


@dataclass
class Filling:
    """How features are worked out: where, who is told of the progress, and how many samples it took."""

    device: torch.device
    progress: Callable[[int, int], None] | None = None
    forwarded: int = 0


@dataclass(frozen=True, kw_only=True)
class Backbone(ABC):
    """A feature extractor; dataclass fields are its configuration. ``licence``: of its weights."""

    modality: ClassVar[Modality]

    licence: str = ""

    def check_files(self) -> None:  # noqa: B027 (some have nothing to miss)
        """Raise ``BadInput`` when an extra, a name, weights or a tokenizer are not there; needs no data."""

    @abstractmethod
    def check(self, spec: StreamSpec) -> None:
        """Raise ``BadInput`` for whatever would keep it from reading this stream, before any work is done."""

    @property
    @abstractmethod
    def transform(self) -> str:
        """What happens to a sample before the network, in words."""

    @abstractmethod
    def features(self, parts: Sequence[SourceRows], filling: Filling) -> list[Rows]:
        """Features (N, D) of each part, the training rows of the first task being the first part."""

    def inputs(self, rows: SourceRows) -> dict[str, SourceRows]:
        """The named inputs that its network reads, made from raw rows."""
        return {}

    def config(self) -> dict[str, Any]:
        """``_target_`` and fields: all that is needed to make it again."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "licence"}
        return {"_target_": import_path(type(self)), **own}

    def key(self) -> dict[str, Any]:
        """What its features depend on besides data and device; ``transform`` says the normalisation."""
        settings = {k: v for k, v in self.config().items() if k not in PLACES}
        return {"backbone": settings, "code": code_version(type(self)), "transform": self.transform}

    def check_modality(self, spec: StreamSpec) -> None:
        """``BadInput`` when the stream holds another kind of data."""
        if spec.modality != self.modality:
            raise BadInput(
                f"backbone {type(self).__name__} reads {self.modality}s; the scenario gives {spec.modality}s"
            )


class Network(nn.Module, ABC):
    """A pretrained network from inputs to features (B, ``n_features``); ``body`` is the library's own module."""

    body: nn.Module
    n_features: int

    @abstractmethod
    def forward(self, inputs: Inputs) -> Tensor:
        """Features of a batch, from raw pixels in [0, 1] or tokens with their mask."""


@dataclass(frozen=True, kw_only=True)
class PretrainedBackbone(Backbone):
    """A backbone with pretrained weights; frozen, its features are kept in the cache."""

    @abstractmethod
    def network(self) -> Network:
        """The network with its pretrained weights, in evaluation mode."""

    @abstractmethod
    def weights_hash(self) -> str:
        """SHA-256 of the weights."""

    def inputs(self, rows: SourceRows) -> dict[str, SourceRows]:
        """Images in [0, 1]; the network normalises them itself."""
        return {"image": rows.plain() if hasattr(rows, "plain") else rows}

    def key(self) -> dict[str, Any]:
        """What its features depend on, its weights among it."""
        return super().key() | {"weights": self.weights_hash(), "dtype": "float32"}

    @property
    @abstractmethod
    def n_features(self) -> int:
        """Size of its features."""

    def features(self, parts: Sequence[SourceRows], filling: Filling) -> list[Rows]:
        """Features from the cache, which is filled where they are not there yet, as soon as the first one is read."""
        inputs = [self.inputs(part) for part in parts]
        contents = [next(iter(named.values())).content for named in inputs]

        def filled(content: str) -> NDArray[np.float32]:
            whole = {k: v.whole() for k, v in inputs[contents.index(content)].items()}
            network: list[Network] = []  # loaded when the first sample has to be forwarded, dropped after the last

            def compute(rows: NDArray[np.int64]) -> NDArray[np.float32]:
                if not network:
                    network.append(self.network().to(filling.device))
                filling.forwarded += len(rows)
                samples = {k: v[torch.from_numpy(rows)] for k, v in whole.items()}
                return extract(network[0], samples, filling.device).cpu().numpy()

            needed = [part.rows for part, c in zip(parts, contents, strict=True) if c == content]
            n_rows = next(iter(whole.values())).shape[0]
            key = {"content": content, "device": filling.device.type, **self.key()}
            return stored_features(key, n_rows, needed, compute, filling.progress)

        arrays = {content: cache(partial(filled, content)) for content in contents}
        n_features = self.n_features
        return [FeatureRows(arrays[c], part.rows, n_features) for c, part in zip(contents, parts, strict=True)]


class FeatureRows:
    """Rows of features that are worked out, or found in the cache, when the first of them is read."""

    def __init__(self, array: Callable[[], NDArray[np.float32]], rows: NDArray[np.int64], n_features: int) -> None:
        self._array, self._rows, self._n_features = array, rows, n_features

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D)."""
        return (len(self._rows), self._n_features)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Features at these positions."""
        return torch.from_numpy(np.asarray(self._array()[self._rows[rows.cpu().numpy()]]))


@torch.no_grad()
def extract(network: Callable[[Inputs], Tensor], inputs: Inputs, device: torch.device) -> Tensor:
    """Features (N, D) on the device, in batches; sentences of like length together, so that little is padding."""
    n = len(next(iter(inputs.values())))
    order = torch.argsort(inputs["mask"].sum(1).cpu(), stable=True) if "mask" in inputs else torch.arange(n)
    size = BATCH.get(device.type, 32)
    batches = [order[start : start + size] for start in range(0, n, size)]
    features = torch.cat([network({k: v[b].to(device) for k, v in inputs.items()}) for b in batches])
    return features[torch.argsort(order)]


def make_backbone(config: Mapping[str, Any]) -> Backbone:
    """The backbone of a configuration; ``BadInput`` names what is wrong with it."""
    cls = import_class(config.get("_target_"), Backbone, "backbone")
    options = {k: v for k, v in config.items() if k != "_target_"}
    if unset := [k for k, v in options.items() if v == "???"]:  # Hydra's mark
        raise BadInput(f"backbone {cls.__name__} needs a {unset[0]}; give backbone.{unset[0]}=...")
    made = construct(cls, options, f"backbone {cls.__name__}")
    assert isinstance(made, Backbone)
    return made


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    return _hash_of(path, path.stat().st_size, path.stat().st_mtime_ns)


@cache
def _hash_of(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
