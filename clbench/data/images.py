"""Image files in a folder or a zip: decoded once, then memory-mapped from the cache folder for ever."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.data.cache import Arrays, cached
from clbench.data.files import ImageFiles, Size, fitted, opened, output_size, pixels_of
from clbench.data.sources import Source
from clbench.errors import BadInput, DataMissing, unknown

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
LAYOUTS = ("class", "split/class", "domain/class")
DECODE = ("once", "ondemand")
TEST_NAMES = frozenset({"test", "val", "valid", "validation"})
FORMAT = 1  # of the cached arrays; a change makes old entries unused, not wrong


def read_images(
    data_dir: Path, path: str, *, layout: str, size: Size, grey: bool, decode: str, n_classes: int | None
) -> Source:
    """Read a folder or zip of images laid out as ``class/``, ``split/class/`` or ``domain/class/``.

    Files are sorted by name, so the same content gives the same rows on every machine. ``size`` resizes (see
    ``clbench.data.files.fitted``); without it all images must already be equal in size. ``decode``: ``once``, kept in
    the cache folder, or ``ondemand``, each time from the files of a folder. ``n_classes``: how many there must be.
    """
    if layout not in LAYOUTS:
        raise BadInput(f"unknown layout '{layout}' of image folder '{path}'; expected one of: {', '.join(LAYOUTS)}")
    if decode not in DECODE:
        raise unknown("decode", str(decode), DECODE)
    output_size(size)
    root = locate(data_dir, path)
    names, read, stamp = list_files(root)
    names = sorted(n for n in names if f".{n.rpartition('.')[2]}".lower() in SUFFIXES)
    classes = _classes(root, layout, names, n_classes)
    if decode == "ondemand":
        if not root.is_dir():
            raise BadInput(f"{root}: decode: ondemand needs the images in a folder, not in a zip; unpack it")
        key = hashlib.sha256(json.dumps([FORMAT, str(root), stamp]).encode()).hexdigest()[:32]
        read_once = cached(key, lambda: _hash_files(names, read))["content"]
        content = _sized(read_once.tobytes().hex(), [size, grey])
        return _assemble(path, layout, names, classes, ImageFiles(root, names, size, grey), content)
    key = hashlib.sha256(json.dumps([FORMAT, str(root), stamp, layout, size, grey]).encode()).hexdigest()[:32]
    images, content = decoded(key, names, read, size, grey)
    return _assemble(path, layout, names, classes, images, content)


def _classes(root: Path, layout: str, names: list[str], n_classes: int | None) -> tuple[str, ...]:
    """The class folders, sorted; ``DataMissing`` when the files do not lie as expected."""
    depth = layout.count("/") + 2
    wrong = next((n for n in names if n.count("/") != depth - 1), None)
    if wrong is not None:
        raise DataMissing(f"{root}: layout '{layout}' expects files at {layout}/FILE; found '{wrong}'")
    if not names:
        raise DataMissing(f"{root} holds no image files; expected {layout}/FILE with {', '.join(sorted(SUFFIXES))}")
    classes = tuple(sorted({n.split("/")[-2] for n in names}))
    if len(classes) < 2:
        raise DataMissing(f"{root} holds one class only ('{classes[0]}'); a class is a folder, and two are needed")
    if n_classes is not None and len(classes) != n_classes:
        raise DataMissing(f"{root} holds {len(classes)} class folders ({layout}/FILE); the card needs {n_classes}")
    return classes


def decoded(
    key: str, names: Iterable[str], read: Callable[[str], bytes], size: Size, grey: bool = False
) -> tuple[NDArray[np.uint8], str]:
    """The images (N, C, H, W) of these files, decoded once for a key; and the hash of what they are made of."""
    arrays = cached(key, lambda: _decode(names, read, size, grey))
    content = arrays["content"].tobytes().hex()
    return arrays["images"], content if size is None else _sized(content, size)


def _sized(content: str, size: Any) -> str:
    """The hash of the same files at a size: other data."""
    return hashlib.sha256(f"{content}|{json.dumps(size, sort_keys=True)}".encode()).hexdigest()


def _assemble(
    path: str,
    layout: str,
    names: list[str],
    classes: tuple[str, ...],
    images: NDArray[np.uint8] | ImageFiles,
    content: str,
) -> Source:
    parts = [n.split("/") for n in names]
    y = np.array([classes.index(p[-2]) for p in parts], dtype=np.int64)
    name = PurePosixPath(path).stem
    if layout == "split/class":
        is_test = np.array([p[0].lower() in TEST_NAMES for p in parts])
        if is_test.all() or not is_test.any():
            raise DataMissing(f"'{path}' with layout split/class needs a train and a test folder; found {parts[0][0]}")
        return Source(name, images, y, classes, content, is_test=is_test)
    if layout == "domain/class":
        domains = tuple(sorted({p[0] for p in parts}))
        domain = np.array([domains.index(p[0]) for p in parts], dtype=np.int64)
        return Source(name, images, y, classes, content, domain=domain, domain_names=domains)
    return Source(name, images, y, classes, content)


def locate(data_dir: Path, path: str, expected: str = "a folder or zip of images with one folder per class") -> Path:
    """The folder or file at a path, relative ones below ``data_dir``; ``DataMissing`` when there is none."""
    root = Path(path).expanduser()
    root = root if root.is_absolute() else data_dir / root
    if not root.exists():
        raise DataMissing(
            f"no data at '{root}'\n  expected {expected}; "
            "set CLBENCH_DATA (or data_dir=FOLDER) to the folder that holds it"
        )
    return root


def list_files(root: Path) -> tuple[list[str], Callable[[str], bytes], Any]:
    """Names of the files in a folder or zip, what reads one of them, and a stamp that changes when they do."""
    return _list_zip(root) if root.is_file() else _list_folder(root)


def _list_zip(root: Path) -> tuple[list[str], Callable[[str], bytes], Any]:
    try:
        archive = zipfile.ZipFile(root)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataMissing(f"{root} cannot be read as a zip of images: {error}") from error
    names = [i.filename for i in archive.infolist() if not i.is_dir()]
    stat = root.stat()
    return names, archive.read, [stat.st_size, stat.st_mtime_ns]


def _list_folder(root: Path) -> tuple[list[str], Callable[[str], bytes], Any]:
    try:
        files = sorted(p for p in root.rglob("*") if p.is_file())
        stamp = [[p.relative_to(root).as_posix(), p.stat().st_size, p.stat().st_mtime_ns] for p in files]
    except OSError as error:
        raise DataMissing(f"{root} cannot be read: {error}") from error
    return [str(s[0]) for s in stamp], lambda name: (root / name).read_bytes(), stamp


def _decode(names: Iterable[str], read: Callable[[str], bytes], size: Size, grey: bool) -> Arrays:
    """Decode all files; ``content`` is the SHA-256 of their names and bytes, whatever decoder is installed."""
    digest, decoded = hashlib.sha256(), []
    for name, data in _contents(names, read, digest):
        picture = fitted(opened(name, data, grey), size)
        decoded.append(pixels_of(picture))
        if decoded[-1].shape != decoded[0].shape:
            raise DataMissing(
                f"image '{name}' is {picture.size[0]}x{picture.size[1]} pixels, unlike the ones before it; "
                "give the card a size (data: {size: 32}) to resize all"
            )
    return {"images": np.stack(decoded), "content": np.frombuffer(digest.digest(), np.uint8)}


def _hash_files(names: Iterable[str], read: Callable[[str], bytes]) -> Arrays:
    digest = hashlib.sha256()
    for _ in _contents(names, read, digest):
        pass
    return {"content": np.frombuffer(digest.digest(), np.uint8)}


def _contents(names: Iterable[str], read: Callable[[str], bytes], digest: Any) -> Iterator[tuple[str, bytes]]:
    for name in names:
        try:
            data = read(name)
        except (OSError, zipfile.BadZipFile, RuntimeError) as error:  # RuntimeError: an encrypted zip
            raise DataMissing(f"image file '{name}' cannot be read: {error}") from error
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
        yield name, data
