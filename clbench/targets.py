"""Semantic targets: a unit vector per class, made of its name by a text encoder, once, and kept in tables."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from clbench.backbones import make_backbone
from clbench.data.cache import cache_folder
from clbench.errors import BadInput
from clbench.places import config, shipped


class EncoderMissing(BadInput):
    """Names that are in no stored table, and no text encoder to make their rows."""


@dataclass(frozen=True)
class Table:
    """Rows (C, d) of names of classes (underscores read as spaces), made with one template and one encoder.

    ``weights``: SHA-256 of the encoder's weights.
    """

    names: tuple[str, ...]
    template: str
    encoder: str
    weights: str
    rows: Tensor

    @property
    def checksum(self) -> str:
        """SHA-256 of the rows and of what they are."""
        what = json.dumps([self.names, self.template, self.encoder, self.weights, list(self.rows.shape)])
        return hashlib.sha256(what.encode() + self.rows.contiguous().numpy().tobytes()).hexdigest()

    def like(self, other: Table) -> bool:
        """Whether the two were made in the same way, so that their rows go with each other."""
        return (self.template, self.encoder, self.weights) == (other.template, other.encoder, other.weights)

    def write(self, path: Path) -> None:
        """Write the table in one step; ``BadInput`` when the file cannot be written."""
        from safetensors.torch import save

        about = {"names": json.dumps(self.names), "template": self.template, "encoder": self.encoder}
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            about |= {"weights": self.weights, "sha256": self.checksum}
            draft.write_bytes(save({"rows": self.rows.contiguous()}, metadata=about))
            draft.replace(path)
        except OSError as error:
            raise BadInput(f"the table of targets '{path}' cannot be written: {error.strerror or error}") from error


def read_table(path: Path) -> Table:
    """Read a table and verify its checksum; ``BadInput`` when it is damaged."""
    stat = path.stat()
    return _read(path, stat.st_size, stat.st_mtime_ns)


@cache
def _read(path: Path, size: int, changed: int) -> Table:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata()
            names = tuple(json.loads(about["names"]))
            table = Table(names, about["template"], about["encoder"], about["weights"], file.get_tensor("rows"))
        sound = table.checksum == about["sha256"] and len(names) == len(table.rows)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise BadInput(f"'{path}' is not a readable table of targets: {error}\n  {_MAKE_ANEW}") from error
    if not sound:
        raise BadInput(
            f"the table of targets '{path}' is damaged: its checksum is not that of its rows\n  {_MAKE_ANEW}"
        )
    return table


_MAKE_ANEW = "delete it and make it again: clbench targets CARD --out FILE"


def semantic_rows(names: Sequence[str], encoder: str = "minilm", template: str = "{}") -> Tensor:
    """Unit rows (C, d), float32, of the names of classes, underscores read as spaces.

    ``encoder``: the configuration of a text encoder in ``conf/backbone``. Rows come out of the shipped tables, then of
    the cache folder's, and only for names in neither from the encoder, whose rows the cache keeps.
    Raises ``BadInput`` for empty and for equal names, ``EncoderMissing`` where the encoder is needed and not there.

    Source: Ni et al., Enhancing Visual Continual Learning with Language-Guided Supervision, CVPR 2024 (one frozen
    target per class from a language model).
    """
    check_names(names)
    plain = [_plain(name) for name in names]
    tables = _tables(encoder, template)
    known = {name: row for table in tables for name, row in zip(table.names, table.rows, strict=True)}
    if missing := [name for name in plain if name not in known]:
        made = make_table(missing, encoder, template)
        if tables and not made.like(tables[-1]):
            raise BadInput(
                f"encoder {encoder} has other weights than those that the stored targets were made with; store all "
                f"of them anew: clbench targets CARD --encoder {encoder} --out FILE"
            )
        extend(made, cache_folder() / "targets" / f"{table_name(encoder, template)}.safetensors")
        known.update(zip(made.names, made.rows, strict=True))
    return torch.stack([known[name] for name in plain])


def check_names(names: Sequence[str]) -> None:
    """``BadInput`` for an empty name, and for two that read the same."""
    plain = [_plain(name) for name in names]
    if not all(plain):
        raise BadInput(f"class {plain.index('')} has an empty name; a language head needs a name of every class")
    twice = sorted({name for name in plain if plain.count(name) > 1})
    if twice:
        raise BadInput(f"two classes have the same name '{twice[0]}'; a language head tells classes apart by name")


def make_table(classes: Sequence[str], encoder: str, template: str) -> Table:
    """Run the encoder over the names of classes; each is encoded by itself, so that its row depends on nothing else."""
    from clbench.backbones.text_encoder import TextEncoder

    names = tuple(_plain(name) for name in classes)
    if template.count("{}") != 1:
        raise BadInput(
            f"a template of targets has one {{}} where the name goes, e.g. 'a photo of a {{}}'; got '{template}'"
        )
    backbone = make_backbone(config("backbone", encoder))
    if not isinstance(backbone, TextEncoder):
        raise BadInput(f"targets.encoder names a text encoder of conf/backbone, e.g. minilm; '{encoder}' is none")
    try:
        backbone.check_files()
    except BadInput as error:
        raise EncoderMissing(
            f"no stored target of class '{names[0]}' (encoder {encoder}, template '{template}'), and its encoder "
            f"cannot be run: {error}"
        ) from error
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # building a network draws weights
        network = backbone.network().eval()
        tokens, mask = backbone.tokenize([template.replace("{}", name) for name in names])
        rows = [network({"tokens": t[None], "mask": m[None]})[0] for t, m in zip(tokens, mask, strict=True)]
    unit = torch.nn.functional.normalize(torch.stack(rows).float(), dim=1)
    return Table(names, template, encoder, backbone.weights_hash(), unit)


def extend(made: Table, path: Path) -> None:
    """Put rows into the table at ``path``, which is begun anew where it was made with other weights or template."""
    from filelock import FileLock

    locks = cache_folder() / "targets"
    try:
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / f"{path.name}.lock"):
            old = read_table(path) if path.exists() else made
            whole = dict(zip(made.names, made.rows, strict=True))
            if old.like(made):
                whole |= dict(zip(old.names, old.rows, strict=True))
            names = tuple(sorted(whole))
            rows = torch.stack([whole[name] for name in names])
            Table(names, made.template, made.encoder, made.weights, rows).write(path)
    except OSError as error:
        raise BadInput(f"the table of targets '{path}' cannot be written: {error.strerror or error}") from error


def table_name(encoder: str, template: str) -> str:
    """The file a table is kept in: the encoder's name, and a hash of the template unless it is the bare name."""
    return encoder if template == "{}" else f"{encoder}-{hashlib.sha256(template.encode()).hexdigest()[:8]}"


def _tables(encoder: str, template: str) -> list[Table]:
    """The stored tables for these, of one encoder's weights: what is shipped comes last, and counts."""
    folders = (cache_folder() / "targets", shipped("scenarios") / "targets")
    tables = [read_table(path) for folder in folders for path in sorted(folder.glob("*.safetensors"))]
    found = [t for t in tables if (t.encoder, t.template) == (encoder, template)]
    return [t for t in found if t.like(found[-1])]


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").split())
