"""Records in zip and tar archives: read without being unpacked, whole or cut off, and never out of their folder."""

from __future__ import annotations

import io
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from clbench.record import FILE
from tests.command import call, quick, refused
from tests.test_merge import merge, record_files


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, as they were left."""
    cwd = tmp_path_factory.mktemp("good")
    assert quick("-m", "seed=0,1", "scenario.n_tasks=2", cwd=cwd).code == 0
    return cwd / "records"


def test_archives_are_read_without_being_unpacked(good: Path, tmp_path: Path) -> None:
    for number, form in enumerate(("zip", "gztar")):
        archive = shutil.make_archive(str(tmp_path / "archive"), form, good)
        (tmp_path / form).mkdir()
        answer = call("merge", archive, "--into", f"into{number}", "--with-predictions", cwd=tmp_path)
        assert answer.code == 0, answer
        assert "2 taken" in answer.out
        assert record_files(tmp_path / f"into{number}") == record_files(good)


OUTSIDE = ("../up/record.json", "/clbench-evil/record.json", "a/../../b/record.json", "C:/x/record.json")


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_names_and_links_of_an_archive_that_lead_elsewhere_are_named_and_nothing_is_written_there(
    form: str, good: Path, tmp_path: Path
) -> None:
    content = next(good.rglob(FILE)).read_bytes()
    inside = tmp_path / "inside"
    inside.mkdir()
    with zipfile.ZipFile(inside / "a.zip", "w") as zipped, tarfile.open(inside / "a.tar", "w") as tarred:
        for name in (*OUTSIDE, "good/record.json"):
            zipped.writestr(name, content)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tarred.addfile(member, io.BytesIO(content))
        link = zipfile.ZipInfo("link/record.json")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(link, str(next(good.rglob(FILE))))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            member = tarfile.TarInfo(f"link{kind!r}/record.json")
            member.type, member.linkname = kind, str(next(good.rglob(FILE)))
            tarred.addfile(member)
    answer = call("merge", f"a.{form}", "--into", "into", cwd=inside)
    assert answer.code == 1
    lines = answer.err.splitlines()
    assert [name for name in OUTSIDE if not any(f"'{name}' has a name that leads out" in line for line in lines)] == []
    assert answer.err.count("is a link, which is not followed") == (1 if form == "zip" else 2)
    assert "1 taken into into" in answer.out
    assert {p.name for p in tmp_path.iterdir()} == {"inside"}
    assert {p.name for p in inside.iterdir()} == {"a.zip", "a.tar", "into"}
    assert not Path("/clbench-evil").exists()


@pytest.mark.parametrize("form", ["gztar", "bztar", "xztar"])
def test_a_damaged_archive_is_named_without_a_traceback(form: str, good: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "archive"), form, good))
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 255
    archive.write_bytes(content)
    answer = call("merge", archive, "--into", "into", cwd=tmp_path)
    assert answer.code in (1, 2) and "Traceback" not in answer.err
    assert "archive" in answer.err


@pytest.mark.parametrize(("form", "whole"), [("tar", 1), ("tar", 0), ("gztar", 0)])
def test_of_an_archive_that_ends_early_the_rest_is_taken_and_the_loss_is_said(
    form: str, whole: int, good: Path, tmp_path: Path
) -> None:
    """Cut off where the second record begins, and in the middle of it."""
    archive = Path(shutil.make_archive(str(tmp_path / "archive"), form, good))
    if form == "tar":
        with tarfile.open(archive) as members:
            second = [member for member in members if member.name.endswith(FILE)][1]
        content = archive.read_bytes()[: second.offset if whole else second.offset_data + 3000]
    else:
        content = archive.read_bytes()[:-2000]
    archive.write_bytes(content)
    answer = merge(archive, tmp_path)
    assert answer.code == 1
    assert "'the end' is missing or damaged: what followed is lost" in answer.err
    if form == "tar":
        assert "1 taken into" in answer.out


def test_a_damaged_archive_and_what_is_none_are_refused(good: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "archive"), "zip", good))
    (tmp_path / "text").write_text("no archive")
    (tmp_path / "empty").mkdir()
    refused(merge("text", tmp_path), "is no folder, and no zip or tar archive, of records")
    refused(merge("nowhere", tmp_path), "is no folder, and no zip or tar archive, of records")
    refused(merge("empty", tmp_path), "'empty' holds no record.json")
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as zipped:
        info = next(i for i in zipped.infolist() if i.filename.endswith(FILE))
    content[info.header_offset + 120 : info.header_offset + 140] = b"\0" * 20
    archive.write_bytes(content)
    answer = merge(archive, tmp_path)
    assert answer.code == 1
    assert "is truncated, or cannot be read" in answer.err
    assert "1 taken" in answer.out, "the other one"
