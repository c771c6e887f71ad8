"""``clbench verify`` and ``clbench merge``: repeat a run, and take other people's records in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from clbench.errors import BadInput, ClbenchError
from clbench.places import read_yaml
from clbench.record import FILE, Record, read_record
from clbench.store import record_files

SHOWN = 12  # lines of differences


def run_verify(places: Sequence[str], data_dir: str, config_dir: str | None, tolerance: float, *, trust: bool) -> int:
    """Repeat the runs of records and say what came of it; 1 if one is not reproduced, 2 if one cannot be repeated."""
    if not 0 <= tolerance < 1:
        raise BadInput(f"--tolerance is a share of the range of a score, from 0 to 1; got {tolerance}")
    from clbench.verify import verify

    codes = []
    for folder in [folder for place in places for folder in _folders(Path(place))]:
        try:
            record = read_record(folder)
            _say(f"{_title(record)} ({folder})")
            for line in _changed_card(record, config_dir):
                _say(f"  {line}")
            verdict = verify(record, Path(data_dir), tolerance=tolerance, trust=trust)
        except ClbenchError as error:
            sys.stderr.write(f"cannot be repeated: {folder}: {error}\n")
            codes.append(2)
            continue
        _say(f"  {verdict.grade}{_status(record)}")
        _list("", verdict.differences)
        _list("surroundings: ", verdict.surroundings)
        codes.append(1 if verdict.grade == "NOT reproduced" else 0)
    if len(codes) > 1:
        _say(f"{codes.count(0)} of {len(codes)} reproduced")
    return max(codes)


def _folders(place: Path) -> list[Path]:
    """The folders of the records that a path stands for: a record.json, its folder, or a folder of such folders."""
    if place.name == FILE:
        return [place.parent]
    found = [path.parent if path.name == FILE else path for path in record_files(place)]
    if not found:
        raise BadInput(f"'{place}' holds no {FILE}; give the folder of a record")
    return found


def _title(record: Record) -> str:
    return f"{record.names['scenario']} {record.names['strategy']} {record.names['model']} seed {record.seed}"


def _status(record: Record) -> str:
    return "" if record.status == "ok" else f": {record.status} again, for the same reason: {record.reason}"


def _changed_card(record: Record, config_dir: str | None) -> list[str]:
    """What differs between the card of the record and the user's own of the same name."""
    from clbench.compose import complete

    path = Path(config_dir) / "scenario" / f"{record.names['scenario']}.yaml" if config_dir else None
    if path is None or not path.is_file():
        return []
    own = complete(read_yaml(path))
    fields = sorted(k for k in own if own[k] != record.card.get(k))
    changed = f"the card in {path} has changed since, in: {', '.join(fields)}; the record's is repeated"
    return [changed] if fields else []


def _list(before: str, lines: Sequence[str]) -> None:
    for line in lines[:SHOWN]:
        _say(f"    {before}{line}")
    if len(lines) > SHOWN:
        _say(f"    and {len(lines) - SHOWN} more")


def run_merge(source: Path, into: Path, *, with_predictions: bool) -> int:
    """Take records in; 1 if any was left out."""
    from clbench.merge import merge

    merged = merge(source, into, with_predictions=with_predictions)
    for line in merged.left_out:
        sys.stderr.write(f"left out: {line}\n")
    _say(f"{len(merged.taken)} taken into {into}, {len(merged.there)} there already, {len(merged.left_out)} left out")
    for name in sorted(merged.foreign):
        _say(f"card '{name}' does not ship with this clbench: listed by its name, checked against nothing but itself")
    if merged.passed_over:
        files = ", ".join(f"{n} {name}" for name, n in sorted(merged.passed_over.items()))
        _say(f"not taken, since only records are: {files}")
    return 1 if merged.left_out else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
