"""The command line as the tests use it: in this process where that is enough, in one of its own where it matters."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from clbench.cli import main
from clbench.record import FILE, Record, read_record

QUICK = ("trainer.epochs=1", "trainer.batch_size=64", "model.width=32")


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


def call(*words: object, cwd: Path) -> Answer:
    """``clbench WORDS`` typed in the folder ``cwd``, in this process."""
    out, err, path = io.StringIO(), io.StringIO(), list(sys.path)
    try:
        with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main([str(word) for word in words])
            except SystemExit as end:  # argparse
                code = int(end.code or 0)
    finally:
        sys.path[:] = path
        for name, module in list(sys.modules.items()):  # the next test has modules of its own
            if str(getattr(module, "__file__", None) or "").startswith(f"{cwd}{os.sep}"):
                del sys.modules[name]
    return Answer(code, out.getvalue(), err.getvalue())


def quick(*words: object, cwd: Path, scenario: str = "split_digits-v1") -> Answer:
    """``clbench run`` of a second or less."""
    return call("run", f"scenario={scenario}", *QUICK, *words, cwd=cwd)


def start(*words: object, cwd: Path) -> subprocess.Popen[str]:
    """``clbench WORDS`` in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "clbench", *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=environment, stdout=pipe, stderr=pipe, text=True)


def spawn(*words: object, cwd: Path) -> Answer:
    """``clbench WORDS`` in a process of its own, to its end."""
    process = start(*words, cwd=cwd)
    out, err = process.communicate(timeout=300)
    return Answer(process.returncode, out, err)


def records(root: Path) -> list[Record]:
    """All records under a folder, by path."""
    return [read_record(path.parent) for path in sorted(root.rglob(FILE))]


def only(root: Path) -> Record:
    """The one record under a folder."""
    (record,) = records(root)
    return record


def refused(answer: Answer, *parts: str, code: int = 2) -> None:
    """Assert a refusal a person can act on: the exit code, every part of the message, and no traceback."""
    assert answer.code == code, answer
    shown = answer.err + (answer.out if code == 1 else "")
    for part in parts:
        assert part in shown, shown
    assert "Traceback" not in answer.err + answer.out
    assert len(shown.strip().splitlines()) <= 8, "one line or a short block"
