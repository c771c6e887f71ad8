"""Texts: the CLINC150 intents, a user's own CSV, and cards of a few lines for either and for a folder of images."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clbench.cards import Scenario
from clbench.data import load_source
from clbench.data.text import decode_texts
from clbench.errors import BadInput, DataMissing
from clbench.places import cards
from clbench.seeds import Seeds
from clbench.stream import Split, TaskStream
from tests.command import Answer, call, only, refused
from tests.real_data import DATA
from tests.toy_streams import build

CLINC: dict[str, Any] = json.loads((DATA / "clinc150_full.json").read_text())
DOMAINS: dict[str, list[str]] = json.loads((DATA / "clinc150_domains.json").read_text())


def stream(name: str, seed: int = 0) -> TaskStream:
    return Scenario.from_card(cards()[name]).build(Seeds.of(seed), DATA)


def read(split: Split) -> list[str]:
    return decode_texts(np.asarray(split.inputs["text"][torch.arange(len(split))]))


# --- CLINC150


def test_clinc150_gives_its_official_training_and_test_questions_with_their_intents() -> None:
    made = stream("clinc150-v1")
    assert [len(t.classes) for t in made.tasks] == [15] * 10
    names = {c: n for t in made.tasks for c, n in zip(t.classes, t.class_names, strict=True)}
    for half in ("train", "test"):
        found = [
            (text, names[label])
            for split in (getattr(t, half) for t in made.tasks)
            for text, label in zip(read(split), split.labels.tolist(), strict=True)
        ]
        assert sorted(found) == sorted((text, intent) for text, intent in CLINC[half])


@pytest.mark.parametrize("seed", [0, 1])
def test_the_tasks_of_clinc150_domains_are_its_domains(seed: int) -> None:
    made = stream("clinc150_domains-v1", seed)
    assert {t.name: sorted(t.class_names) for t in made.tasks} == {k: sorted(v) for k, v in DOMAINS.items()}
    assert made.spec.protocol == "task-incremental"
    assert [(len(t.train), len(t.test)) for t in made.tasks] == [(1500, 450)] * 10


def test_the_seed_orders_domains_and_the_card_can_keep_the_order_of_the_file() -> None:
    orders = [[t.name for t in stream("clinc150_domains-v1", seed).tasks] for seed in range(3)]
    assert orders[0] != orders[1] != orders[2]
    card = {**cards()["clinc150_domains-v1"], "domain_order": None}
    assert [t.name for t in Scenario.from_card(card).build(Seeds.of(0), DATA).tasks] == list(DOMAINS)


def test_rules_and_settings_for_pixels_are_refused_for_texts_and_groups_where_there_are_none() -> None:
    data = {"source": "clinc150"}
    with pytest.raises(BadInput, match="changes pixels; 'clinc150' holds texts"):
        build(data_dir=DATA, data=data, rule="permutation")
    with pytest.raises(BadInput, match="are for images"):
        build(data_dir=DATA, data=data, augment={"flip": True})
    with pytest.raises(BadInput, match="whose classes come in groups"):
        build(data_dir=DATA, data=data, rule="groups", n_tasks=10)
    with pytest.raises(BadInput, match="n_tasks is 5, but the classes come in 10 groups"):
        build(data_dir=DATA, data={**data, "domains": True}, rule="groups")


def test_missing_clinc150_says_what_is_expected_and_where(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"clinc150_full\.json'\n  expected data_full\.json of .*; set CLBENCH_DATA"):
        build(data_dir=tmp_path, data={"source": "clinc150"})
    (tmp_path / "clinc150_full.json").write_text('{"train": 3}')
    with pytest.raises(DataMissing, match="expected lists 'train' and 'test'"):
        build(data_dir=tmp_path, data={"source": "clinc150"})


# --- a user's own CSV

MOODS = [("what a day", "glad"), ('he said "no, never"', "sad"), ("größer\nals je", "glad"), ("so long", "sad")]


def write_csv(path: Path, rows: Sequence[tuple[str, ...]], header: str = "text,label") -> Path:
    quoted = [",".join('"{}"'.format(v.replace('"', '""')) for v in row) for row in rows]
    path.write_text("\n".join([header, *quoted]) + "\n", encoding="utf-8")
    return path


def from_csv(path: Path, **options: Any) -> Any:
    return load_source({"source": "csv", "path": path.name, **options}, path.parent)


def test_a_csv_gives_its_texts_and_labels_whatever_they_hold(tmp_path: Path) -> None:
    source = from_csv(write_csv(tmp_path / "moods.csv", MOODS))
    assert decode_texts(np.asarray(source.samples)) == [text for text, _ in MOODS]
    assert [source.class_names[k] for k in source.y] == [label for _, label in MOODS]
    assert source.class_names == ("glad", "sad") and source.is_test is None and source.modality == "text"


def test_columns_and_the_official_split_of_a_csv_are_named_by_the_card(tmp_path: Path) -> None:
    rows = [(label, half, text) for half in ("train", "test") for text, label in MOODS]
    path = write_csv(tmp_path / "moods.csv", rows, "mood,half,said")
    data = {"source": "csv", "path": "moods.csv", "text": "said", "label": "mood", "split": "half"}
    made = build(data_dir=tmp_path, data=data, n_tasks=2)
    assert [t.class_names for t in made.tasks] in ([("glad",), ("sad",)], [("sad",), ("glad",)])
    assert {int(r) for t in made.tasks for r in t.test.index} == {4, 5, 6, 7}
    other = write_csv(tmp_path / "other.csv", [*rows[:-1], ("sad", "test", "so short")], "mood,half,said")
    assert build(data_dir=tmp_path, data={**data, "path": other.name}, n_tasks=2).fingerprint != made.fingerprint
    assert from_csv(path, **{k: data[k] for k in ("text", "label")}).is_test is None


@pytest.mark.parametrize(
    ("content", "options", "parts"),
    [
        (b"text,mood\na,b\n", {}, ["line 1: unknown column 'label'", "known: mood, text"]),
        (b"text,label\na,b\n,c\n", {}, ["line 3: column 'text' is empty"]),
        (b'text,label\n"two\nlines",b\nc\n', {}, ["line 4: 1 fields, but the header has 2"]),
        (b"text,label\nno, never,b\n", {}, ["line 2: 3 fields", "holds commas"]),
        (
            b"text,label,part\na,b,train\na,c,dev\n",
            {"split": "part"},
            ["line 3", "'part' must say train or test", "dev"],
        ),
        (b"text,label,part\na,b,test\na,c,test\n", {"split": "part"}, ["needs both train and test rows"]),
        (b"text,label\na,b\n", {}, ["column 'label' needs at least two different labels"]),
        (b"text,label\n", {}, ["no rows below its header"]),
        (b"", {}, ["line 1: unknown column 'text'"]),
        (b"text,label\n\xff\xfe,b\n", {}, ["not UTF-8"]),
        (b'text,label\n"a" b,c\n', {}, ["line 2: not readable as CSV"]),
        (b'text,label\nc,d\n"never closed,c\n', {}, ["line 3: not readable as CSV"]),
    ],
)
def test_a_fault_in_a_csv_is_named_with_line_and_column(
    content: bytes, options: dict[str, str], parts: list[str], tmp_path: Path
) -> None:
    (tmp_path / "moods.csv").write_bytes(content)
    with pytest.raises(BadInput) as error:
        from_csv(tmp_path / "moods.csv", **options)
    for part in ["moods.csv", *parts]:
        assert part in str(error.value), error.value


# --- cards of at most twelve lines

MY_IMAGES = """
name: my_images-v1
summary: My pictures, two classes at a time.
data: {source: folder, path: my_images, size: 32}
rule: classes
n_tasks: 2
protocol: class-incremental
licence: mine
citation: none
"""
MY_TEXTS = """
name: my_texts-v1
summary: My texts, two labels at a time.
data: {source: csv, path: my_texts.csv, text: text, label: label}
rule: classes
n_tasks: 2
protocol: class-incremental
licence: mine
citation: none
"""


def put_images(folder: Path) -> None:
    from PIL import Image

    with zipfile.ZipFile(DATA / "cifar10_jpeg.zip") as archive:
        names = sorted(n for n in archive.namelist() if n.startswith("train/") and n.endswith(".jpg"))
        for name in names[0:8] + names[5000:5008] + names[10000:10008] + names[15000:15008]:
            picture = Image.open(io.BytesIO(archive.read(name)))
            target = folder / "my_images" / name.removeprefix("train/")
            target.parent.mkdir(parents=True, exist_ok=True)
            picture.resize((40, 36)).save(target)


def put_texts(folder: Path) -> None:
    wanted = sorted({intent for _, intent in CLINC["train"]})[:4]
    rows = [tuple(pair) for pair in CLINC["train"] if pair[1] in wanted]
    write_csv(folder / "my_texts.csv", rows)


def run(card: str, tmp_path: Path, *words: str) -> Answer:
    assert len(card.strip().splitlines()) <= 12
    (tmp_path / "conf" / "scenario").mkdir(parents=True)
    name = card.split()[1]
    (tmp_path / "conf" / "scenario" / f"{name}.yaml").write_text(card)
    quick = ("strategy=naive", "model=features", "trainer.epochs=1", "data_dir=data")
    return call("run", "--config-dir", "conf", f"scenario={name}", *quick, *words, cwd=tmp_path)


@pytest.mark.parametrize(
    ("card", "put", "words"),
    [(MY_IMAGES, put_images, ()), (MY_TEXTS, put_texts, ("backbone=tfidf",))],
    ids=["images", "texts"],
)
def test_a_card_of_a_few_lines_runs_on_a_users_own_data(
    card: str,
    put: Callable[[Path], None],
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    put(tmp_path / "data")
    answer = run(card, tmp_path, *words)
    assert answer.code == 0, answer
    result = only(tmp_path).result
    assert [len(t["class_names"]) for t in result["tasks"]] == [2, 2]
    assert "average accuracy" in answer.out


@pytest.mark.parametrize("card", [MY_IMAGES, MY_TEXTS], ids=["images", "texts"])
def test_a_card_whose_data_are_missing_says_where_it_looked_and_what_to_set(card: str, tmp_path: Path) -> None:
    refused(run(card, tmp_path), "no data at 'data/my_", "expected a", "CLBENCH_DATA (or data_dir=FOLDER)")
