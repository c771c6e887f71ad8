"""Any image model of timm, by name."""

from __future__ import annotations

import difflib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from clbench.backbones.backbone import Network, PretrainedBackbone, file_hash
from clbench.errors import BadInput
from clbench.plugins import require
from clbench.stream import Inputs, Modality, StreamSpec
from clbench.torchvision_schemas import declare_torchvision_schemas

RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class TimmModel(PretrainedBackbone):
    """A timm model without its classifier, for images of ``size`` x ``size`` pixels.

    ``weights``: a file (.safetensors, .pth, .bin, .npz), None for timm's own cache, or ``random`` for an untrained
    network, the control of what pretraining gives. ``mean``, ``std``: of the normalisation; None for the model's own.

    Source: Wightman, PyTorch Image Models, 2019.
    Differs: nothing is downloaded; the normalisation is stated, because published figures depend on it.
    """

    modality: ClassVar[Modality] = "image"
    name: str
    size: int = 224
    weights: str | None = None
    mean: list[float] | None = None
    std: list[float] | None = None

    @property
    def transform(self) -> str:
        """Normalisation of pixels in [0, 1]; grey images in three equal channels."""
        mean, std = self._normalisation()
        return f"({self.size} x {self.size} pixels in [0, 1] - {mean}) / {std}, grey to three channels"

    def check_files(self) -> None:
        """The extra, a model of this name and its weights."""
        require("vision", "timm", who=f"backbone {self.name}")
        _check_name(self.name)
        if self.weights != RANDOM:
            self._file()

    def check(self, spec: StreamSpec) -> None:
        """The files must be there, and the images of its size."""
        self.check_modality(spec)
        self.check_files()
        channels, height, width = spec.inputs["image"]
        if channels not in (1, 3) or (height, width) != (self.size, self.size):
            raise BadInput(
                f"backbone {self.name} takes grey or RGB images of {self.size} x {self.size} pixels (backbone.size); "
                f"the scenario gives {channels} x {height} x {width}\n"
                f"  image files are resized by ++scenario.data.size={self.size}"
            )
        self._check_forward()

    @property
    def n_features(self) -> int:
        """As the model says."""
        return self.network_on("meta").n_features

    def weights_hash(self) -> str:
        """SHA-256 of the weights file."""
        return RANDOM if self.weights == RANDOM else file_hash(self._file())

    def network(self) -> Network:
        """The network with its weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the weights where they are random
            network = self.network_on("cpu")
        if self.weights != RANDOM:
            _load(network.body, self._file(), self.name)
        return network

    def network_on(self, device: str) -> TimmNetwork:
        """The network as timm makes it, without pretrained weights."""
        own = _config(self.name)
        import timm

        other = own.get("fixed_input_size") and own["input_size"][-1] != self.size
        try:
            with torch.device(device):
                options: dict[str, Any] = {"img_size": self.size} if other else {}
                body = timm.create_model(self.name, pretrained=False, num_classes=0, **options)
        except (AssertionError, TypeError, ValueError, RuntimeError) as error:
            raise BadInput(f"timm cannot make {self.name} for {self.size} x {self.size} pixels: {error}") from error
        return TimmNetwork(body, *self._normalisation())

    def _check_forward(self) -> None:
        """Send nothing but shapes through the network: one that needs larger images, or gives no vectors, says so."""
        network = self.network_on("meta").to("meta")
        try:
            shape = tuple(network({"image": torch.empty(1, 3, self.size, self.size, device="meta")}).shape)
        except NotImplementedError:  # a network that looks at values cannot be asked
            return
        except (AssertionError, ValueError, RuntimeError) as error:
            raise BadInput(f"{self.name} does not take {self.size} x {self.size} pixels: {error}") from error
        if shape != (1, network.n_features):
            raise BadInput(f"{self.name} gives features of shape {shape}; expected (1, {network.n_features})")

    def _normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        own = _config(self.name)
        mean, std = tuple(self.mean or own["mean"]), tuple(self.std or own["std"])
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise BadInput(f"backbone {self.name}: mean and std are three numbers each, std above 0; got {mean}, {std}")
        return mean, std

    def _file(self) -> Path:
        if self.weights is not None:
            path = Path(self.weights).expanduser()
            if not path.is_file():
                raise BadInput(f"backbone {self.name}: no weights file at '{path}' (backbone.weights)")
            return path
        from huggingface_hub import constants, try_to_load_from_cache

        repository = _config(self.name).get("hf_hub_id")
        for name in ("model.safetensors", "pytorch_model.bin"):
            found = try_to_load_from_cache(repository, name) if repository else None
            if isinstance(found, str):
                return Path(found)
        raise BadInput(
            f"backbone {self.name}: no weights in timm's cache ({constants.HF_HUB_CACHE}), and clbench downloads none\n"
            f"  where there is internet: python -c \"import timm; timm.create_model('{self.name}', pretrained=True)\"\n"
            "  or give a file: backbone.weights=FILE"
        )


class TimmNetwork(Network):
    """A timm model that normalises its own input."""

    mean: Tensor
    std: Tensor

    def __init__(self, body: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.body = body
        self.n_features = int(
            getattr(body, "head_hidden_size", None) or body.num_features
        )  # some widen before the head
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        self.eval()

    def forward(self, inputs: Inputs) -> Tensor:
        """(B, 1 or 3, H, W) in [0, 1] to (B, n_features), pooled as the model does it."""
        features: Tensor = self.body((inputs["image"].expand(-1, 3, -1, -1) - self.mean) / self.std)
        return features


def _load(body: Any, path: Path, name: str) -> None:
    """Load weights; ``BadInput`` when the file is not of this model, which timm would pass over in silence."""
    from timm.models import load_checkpoint

    adapt = getattr(sys.modules[type(body).__module__], "checkpoint_filter_fn", None)  # other sizes, older names
    try:
        found = load_checkpoint(body, str(path), strict=False, filter_fn=adapt)
    except Exception as error:  # whatever a library makes of somebody's file
        raise BadInput(f"{path} does not hold weights of {name}: {error}") from error
    if found is not None and found.missing_keys:
        raise BadInput(f"{path} does not hold weights of {name}: it lacks {', '.join(found.missing_keys[:3])}")


def _check_name(name: str) -> None:
    declare_torchvision_schemas()
    import timm

    try:
        known = timm.is_model(name) and bool(_config(name))
    except RuntimeError:  # a tag of other weights than there are
        known = False
    if not known:
        every = timm.list_models() + timm.list_pretrained()
        near = ", ".join(difflib.get_close_matches(name, every, n=5, cutoff=0.5))
        hint = f"; did you mean: {near}?" if near else ""
        raise BadInput(
            f"timm has no model '{name}'{hint}\n  all of them: python -c 'import timm; print(timm.list_models())'"
        )


def _config(name: str) -> dict[str, Any]:
    declare_torchvision_schemas()
    import timm

    found: Any = timm.models.get_pretrained_cfg(name)
    return {} if found is None else dict(found.to_dict())
