"""Image files in a folder or a zip: decoded once, then memory-mapped from the cache folder for ever."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clbench.data.cache import Arrays, cached
from clbench.data.sources import Source
from clbench.errors import BadInput, DataMissing

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
LAYOUTS = ("class", "split/class", "domain/class")
TEST_NAMES = frozenset({"test", "val", "valid", "validation"})
FORMAT = 1  # of the cached arrays; a change makes old entries unused, not wrong


def read_images(data_dir: Path, path: str, *, layout: str, size: int | None, grey: bool) -> Source:
    """Read a folder or zip of images laid out as ``class/``, ``split/class/`` or ``domain/class/``.

    Files are sorted by name, so the same content gives the same rows on every machine. ``size`` resizes to
    size x size pixels; without it all images must already be equal in size.
    """
    if layout not in LAYOUTS:
        raise BadInput(f"unknown layout '{layout}' of image folder '{path}'; expected one of: {', '.join(LAYOUTS)}")
    root = _locate(data_dir, path)
    names, read, stamp = _list_zip(root) if root.is_file() else _list_folder(root)
    depth = layout.count("/") + 2
    names = sorted(n for n in names if PurePosixPath(n).suffix.lower() in SUFFIXES)
    wrong = next((n for n in names if len(PurePosixPath(n).parts) != depth), None)
    if wrong is not None:
        raise DataMissing(f"{root}: layout '{layout}' expects files at {layout}/FILE; found '{wrong}'")
    if not names:
        raise DataMissing(f"{root} holds no image files; expected {layout}/FILE with {', '.join(sorted(SUFFIXES))}")
    classes = tuple(sorted({PurePosixPath(n).parts[-2] for n in names}))
    if len(classes) < 2:
        raise DataMissing(f"{root} holds one class only ('{classes[0]}'); a class is a folder, and two are needed")
    key = hashlib.sha256(json.dumps([FORMAT, str(root), stamp, layout, size, grey]).encode()).hexdigest()[:32]
    arrays = cached(key, lambda: _decode(names, read, size, grey))
    content = arrays["content"].tobytes().hex()
    if size is not None:  # the same files at another size are other data
        content = hashlib.sha256(f"{content}|{size}".encode()).hexdigest()
    return _assemble(path, layout, names, classes, arrays["images"], content)


def _assemble(
    path: str, layout: str, names: list[str], classes: tuple[str, ...], images: NDArray[np.uint8], content: str
) -> Source:
    parts = [PurePosixPath(n).parts for n in names]
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


def _locate(data_dir: Path, path: str) -> Path:
    root = Path(path).expanduser()
    root = root if root.is_absolute() else data_dir / root
    if not root.exists():
        raise DataMissing(
            f"no data at '{root}'\n  expected a folder or zip of images with one folder per class; "
            "set CLBENCH_DATA (or data_dir=FOLDER) to the folder that holds it"
        )
    return root


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


def _decode(names: Iterable[str], read: Callable[[str], bytes], size: int | None, grey: bool) -> Arrays:
    """Decode all files; ``content`` is the SHA-256 of their names and bytes, whatever decoder is installed."""
    from PIL import Image, UnidentifiedImageError

    digest, decoded = hashlib.sha256(), []
    for name in names:
        try:
            data = read(name)
        except (OSError, zipfile.BadZipFile, RuntimeError) as error:  # RuntimeError: an encrypted zip
            raise DataMissing(f"image file '{name}' cannot be read: {error}") from error
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
        try:
            picture: Image.Image = Image.open(io.BytesIO(data))
            if picture.has_transparency_data:  # a transparent background needs one fixed colour
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
            picture = picture.convert("L" if grey else "RGB")
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:  # as Pillow's decoders raise
            raise DataMissing(f"image file '{name}' cannot be decoded: {error}") from error
        if size is not None and picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.BILINEAR)
        pixels = np.asarray(picture, dtype=np.uint8)
        decoded.append(pixels[None] if grey else pixels.transpose(2, 0, 1))
        if decoded[-1].shape != decoded[0].shape:
            raise DataMissing(
                f"image '{name}' is {picture.size[0]}x{picture.size[1]} pixels, unlike the ones before it; "
                "give the card a size (data: {size: 32}) to resize all"
            )
    return {"images": np.stack(decoded), "content": np.frombuffer(digest.digest(), np.uint8)}
