"""TF-IDF: the text baseline without a pretrained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from clbench.backbones.backbone import Backbone, Filling
from clbench.data.rows import ArrayRows, SourceRows
from clbench.data.text import decode_texts
from clbench.errors import BadInput
from clbench.stream import Modality, Rows, StreamSpec


@dataclass(frozen=True, kw_only=True)
class TfIdf(Backbone):
    """Term frequencies weighted by inverse document frequency, of length 1; words are those of the first task.

    Source: Salton and Buckley, Term-weighting approaches in automatic text retrieval, 1988.
    Differs: fitted on the training texts of the first task only, as a stream allows nothing else.
    """

    modality: ClassVar[Modality] = "text"

    @property
    def transform(self) -> str:
        """Lower case words."""
        return "lower case, words of two letters and more that occur in the first task"

    def check(self, spec: StreamSpec) -> None:
        """scikit-learn is always there."""
        self.check_modality(spec)

    def features(self, parts: Sequence[SourceRows], filling: Filling) -> list[Rows]:
        """Fit on the first part, transform all."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        texts = [decode_texts(part[torch.arange(part.shape[0])].numpy()) for part in parts]
        try:
            vectorizer = TfidfVectorizer(dtype=np.float32).fit(texts[0])
        except ValueError as error:
            raise BadInput(f"TF-IDF finds no words in the training texts of the first task: {error}") from error
        return [ArrayRows(vectorizer.transform(part).toarray()) for part in texts]
