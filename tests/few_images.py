"""A few real photographs, for what has to run in seconds: 64 of each of four CIFAR-10 classes."""

from __future__ import annotations

import zipfile
from pathlib import Path

from tests.real_data import DATA

N_TRAIN, N_TEST = 48, 16  # of each class
CLASSES = ("airplane", "automobile", "bird", "cat")
N_IMAGES = len(CLASSES) * (N_TRAIN + N_TEST)


def few_images(folder: Path, size: int = 32) -> list[str]:
    """Unpack the photographs into a folder; gives the words of ``clbench run`` for two tasks of two classes."""
    with zipfile.ZipFile(DATA / "cifar10_jpeg.zip") as archive:
        for name in sorted(archive.namelist()):
            split, kind, file = name.split("/") if name.count("/") == 2 else ("", "", "")
            wanted = int(file.partition(".")[0]) < (N_TRAIN if split == "train" else N_TEST) if file else False
            if kind in CLASSES and wanted:
                archive.extract(name, folder)
    data = [f"scenario.data.path={folder}", f"scenario.data.size={size}", "scenario.subset=null", "scenario.n_tasks=2"]
    return ["scenario=cifar10_lite0-v1", *data]
