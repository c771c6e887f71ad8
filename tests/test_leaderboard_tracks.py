"""Tracks, tie groups, and what scenarios say together."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from clbench.identity import shipped_card
from clbench.leaderboard import Leaderboard, make_leaderboard
from clbench.record import Record
from clbench.report.latex import to_latex
from clbench.report.markdown import to_markdown
from tests.toy_records import Pages, entry, several, toy_matrix, toy_record


def run(strategy: str, final: float, seeds: int = 4, **changes: Any) -> list[Record]:
    """Runs whose scores scatter a little, each strategy in its own way."""
    memory, backbone = changes.pop("memory", None), changes.pop("backbone", None)
    found = []
    for seed in range(seeds):
        noise = random.Random(f"{strategy}{seed}{changes.get('scenario')}").uniform(-0.02, 0.02)
        record = toy_record(strategy, seed, matrix=toy_matrix(final + noise, 0), **changes)
        parameters = {} if memory is None else {"memory": memory}
        identity = record.identity | {"strategy": {"target": strategy, "parameters": parameters}}
        names = record.names
        if backbone:
            identity, names = identity | {"backbone": {"name": backbone}}, names | {"model": f"features on {backbone}"}
        found.append(Record(**{**_fields(record), "identity": identity, "names": names}))
    return found


def _fields(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def shown(board: Leaderboard) -> list[tuple[str, str, int | None]]:
    return [(e.track, e.names["strategy"], e.rank) for e in board.official[0].entries]


def test_replay_budgets_and_pretrained_backbones_rank_in_tracks_of_their_own() -> None:
    board = make_leaderboard(
        [
            *run("naive", 0.2),
            *run("lwf", 0.4),
            *run("replay", 0.7, memory=200),
            *run("small", 0.5, memory=50),
            *run("simplecil", 0.9, backbone="lite0"),
            *run("joint", 0.95, reference=True),
        ]
    )
    assert shown(board) == [
        ("no stored samples", "lwf", 1),
        ("no stored samples", "naive", 2),
        ("50 stored samples", "small", 1),
        ("200 stored samples", "replay", 1),
        ("on lite0, no stored samples", "simplecil", 1),
        ("references", "joint", None),
    ]
    assert board.official[0].tracks == tuple(dict.fromkeys(track for track, _, rank in shown(board) if rank))
    assert "200 stored samples" in board.official[0].standing.lower()


def test_what_was_stored_decides_the_track_whatever_the_field_is_called() -> None:
    records = [*run("naive", 0.2), *run("mine", 0.9), *run("yours", 0.8, memory=60)]
    for record in records:
        if record.names["strategy"] in ("mine", "yours"):
            record.result["counts"] = [count | {"stored_samples": 55} for count in record.result["counts"]]
    assert shown(make_leaderboard(records)) == [
        ("no stored samples", "naive", 1),
        ("55 stored samples", "mine", 1),
        ("60 stored samples", "yours", 1),
    ]


def test_an_entry_stands_in_the_track_of_the_most_that_it_stored_with_any_seed() -> None:
    records = run("mine", 0.9)
    for record in records[:2]:  # the seed with most is neither the first nor the last
        amount = 10 * (1 + record.seed)
        record.result["counts"] = [count | {"stored_samples": amount} for count in record.result["counts"]]
    failed = Record(**{**_fields(records[0]), "status": "failed", "reason": "boom", "result": {}, "costs": []})
    for some in (records, [failed, *records[1:]]):
        assert [track for track, _, _ in shown(make_leaderboard(some))] == ["20 stored samples"]


def test_references_are_one_track_sorted_by_their_scores() -> None:
    records = [*run("independent", 0.8, reference=True), *run("joint", 0.9, reference=True)]
    for record in records[4:]:
        record.result["counts"] = [count | {"stored_samples": 5000} for count in record.result["counts"]]
    assert [label for _, label, _ in shown(make_leaderboard(records))] == ["joint", "independent"]


def test_a_study_of_three_seeds_is_complete_beside_five_with_another_trainer_on_the_same_model() -> None:
    few = run("naive", 0.3, 3, names={"trainer": "plain_sgd"})
    (one, other) = make_leaderboard([*run("naive", 0.2, 5), *few]).official[0].entries
    assert one.complete and other.complete and (one.missing, other.missing) == ((), ())


def test_one_entry_under_two_labels_is_one_row_under_the_shorter() -> None:
    records = run("replay", 0.6, 6)
    spelt = [
        Record(**{**_fields(r), "names": r.names | {"strategy": "replay[memory=200]"}}) if r.seed % 2 else r
        for r in records
    ]
    (entry,) = make_leaderboard(spelt).official[0].entries
    assert (entry.label, entry.names["strategy"], entry.seeds, entry.rank) == ("replay", "replay", (*range(6),), 1)


def test_what_a_shipped_card_says_of_itself_is_not_taken_from_a_record() -> None:
    records = run("naive", 0.2, scenario="split_digits-v1")
    forged = [Record(**{**_fields(r), "card": r.card | {"licence": "mine", "notes": "buy now"}}) for r in records]
    card = make_leaderboard(forged).official[0].card
    own = shipped_card("split_digits-v1")
    assert own is not None and (card["licence"], card["notes"]) == (own["licence"], own["notes"])


def test_printed_tables_say_which_track_a_rank_belongs_to() -> None:
    board = make_leaderboard([*run("naive", 0.2), *run("ncm", 0.6, backbone="lite0")])
    latex = to_latex(board)
    tracks = ["no stored samples", "on lite0, no stored samples"]
    assert re.findall(r"\\multicolumn\{8\}\{l\}\{\\emph\{([^}]*)\}\}", latex) == tracks
    assert latex.count(r"\mathbf") == 2 and "the first of each track" in latex
    assert re.findall(r"\| 1 \| (?:naive|ncm).*?<br>([^|]*) \|", to_markdown(board)) == tracks
    alone = make_leaderboard(run("naive", 0.2))
    assert "multicolumn" not in to_latex(alone) and "naive<br>" not in to_markdown(alone)


def test_neighbours_that_the_seeds_cannot_separate_share_a_rank() -> None:
    board = make_leaderboard([*run("a", 0.600), *run("b", 0.601), *run("c", 0.3)])
    ranks = {strategy: rank for _, strategy, rank in shown(board)}
    assert ranks == {"a": 1, "b": 1, "c": 3}
    assert "Rank 1 is shared by 2 without a step between neighbours (b, a)" in board.official[0].standing


def test_a_study_with_fewer_seeds_is_not_incomplete_beside_one_with_more_on_another_model() -> None:
    board = make_leaderboard([*run("a", 0.6, seeds=6), *run("a", 0.5, seeds=3, names={"model": "cnn"})])
    few = entry(board, "a · cnn")
    assert (few.rank, few.missing, len(few.expected)) == (2, (), 3)
    gap = make_leaderboard([*run("a", 0.6, seeds=6), *run("b", 0.5, seeds=3)])
    assert (entry(gap, "b").rank, entry(gap, "b").missing) == (None, (3, 4, 5))


def test_one_more_run_with_a_new_seed_does_not_make_all_others_incomplete() -> None:
    board = make_leaderboard([*run("a", 0.6, seeds=5), *run("b", 0.5), *run("c", 0.4)])
    assert [(e.label, e.rank, len(e.expected), e.complete) for e in board.official[0].entries] == [
        ("a", 1, 5, True),
        ("b", 2, 4, True),
        ("c", 3, 4, True),
    ]


def scenarios(n: int, *strategies: tuple[str, float], seeds: int = 3) -> list[Record]:
    found = []
    for k in range(n):
        for strategy, final in strategies:
            records = run(strategy, final, seeds, scenario=f"split_toy{k}-v1")
            found += [_of_data(record, f"data{k}") for record in records]
    return found


def _of_data(record: Record, source: str) -> Record:
    return Record(**{**_fields(record), "card": record.card | {"data": {"source": source}}})


def test_scenarios_of_a_protocol_are_averaged_over_methods_that_were_run_on_all_of_them() -> None:
    records = scenarios(2, ("a", 0.8), ("b", 0.4), ("c", 0.3))
    lacking = [r for r in records if not (r.names["strategy"] == "c" and "toy1" in r.names["scenario"])]
    (overall,) = make_leaderboard(lacking).overall
    assert [method.label for method in overall.methods] == ["a · mlp", "b · mlp"]
    assert overall.apart == ("c · mlp: not on split_toy1-v1",)
    best = overall.methods[0]
    assert best.mean == pytest.approx(best.scores.mean())
    assert best.scores.shape == (3, 2)
    assert best.mean_ends[0] <= best.mean <= best.mean_ends[1]
    assert (best.better, overall.methods[1].better) == (1.0, 0.0)
    assert overall.ranking is None
    assert "2 methods need at least 6 independent data sets, here are 2" in overall.because


def test_methods_of_another_track_are_compared_among_themselves() -> None:
    records = scenarios(2, ("a", 0.8), ("b", 0.4))
    for k in range(2):
        for strategy, final in (("c", 0.9), ("d", 0.2)):
            records += run(strategy, final, 3, scenario=f"split_toy{k}-v1", memory=200)
    plain, stored = make_leaderboard(records).overall
    assert [(some.track, [m.label for m in some.methods]) for some in (plain, stored)] == [
        ("no stored samples", ["a · mlp", "b · mlp"]),
        ("200 stored samples", ["c · mlp", "d · mlp"]),
    ]
    assert [m.better for m in (*plain.methods, *stored.methods)] == [1.0, 0.0, 1.0, 0.0]


def test_scenarios_are_put_together_so_that_methods_are_left_and_the_others_say_why_they_have_no_mean() -> None:
    few, many = (("a", 0.8), ("b", 0.4)), [(name, 0.5) for name in "cdefgh"]
    wide = [r for r in scenarios(3, *many) if "toy2" in r.names["scenario"]]  # shares no method with the others
    gap = [r for r in scenarios(2, ("x", 0.3)) if "toy0" in r.names["scenario"] or r.seed < 2]
    twice = run("y", 0.3, 3, scenario="split_toy0-v1", names={"trainer": "adam"})
    (overall,) = make_leaderboard([*scenarios(2, *few, ("y", 0.2)), *wide, *gap, *twice]).overall
    assert overall.scenarios == ("split_toy0-v1", "split_toy1-v1")
    assert [m.label for m in overall.methods] == ["a · mlp", "b · mlp"]
    assert overall.apart == (
        "x · mlp: not ranked on split_toy1-v1",
        "y · mlp: several entries on split_toy0-v1",
    )


def test_enough_independent_data_sets_give_a_ranking_and_streams_of_one_do_not() -> None:
    methods = (("a", 0.8), ("b", 0.6), ("c", 0.3))
    (overall,) = make_leaderboard(scenarios(8, *methods)).overall
    assert overall.ranking is not None
    assert overall.ranking.names[0] == "a · mlp"
    assert overall.ranking.friedman_p < 0.01
    (one,) = make_leaderboard([_of_data(r, "digits") for r in scenarios(8, *methods)]).overall
    assert one.ranking is None
    assert one.data == ("digits",)


def test_the_order_of_records_changes_nothing() -> None:
    records = [*scenarios(2, ("a", 0.8), ("b", 0.4)), *run("joint", 0.9, reference=True), toy_record("b", 7, 0.9)]
    boards = []
    for seed in range(3):
        random.Random(seed).shuffle(records)
        boards.append(repr(make_leaderboard(records)).replace("\n", ""))
    assert _without_addresses(boards[0]) == _without_addresses(boards[1]) == _without_addresses(boards[2])


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def test_runs_on_several_kinds_of_processor_give_a_warning_and_stay() -> None:
    def made_on(record: Record, **environment: str) -> Record:
        return Record(**{**_fields(record), "environment": environment})

    one, two, three = several("naive", 0.2)
    old = made_on(one, processor="EPYC")  # an older record, which does not say the instructions
    board = make_leaderboard([old, made_on(two, processor="EPYC", instructions="AVX2"), made_on(three)])
    assert board.warnings == (), "none of them is known to be another"
    board = make_leaderboard([old, made_on(two, processor="Xeon"), made_on(three)])
    assert len(entry(board, "naive").records) == 3
    assert "2 kinds of processor (EPYC, Xeon)" in board.warnings[0]


def test_bold_is_what_is_level_with_the_first_on_every_page_and_ranks_are_steps_between_neighbours(
    pages: Pages, tmp_path: Path
) -> None:
    wobble = {"a": (3, -2, 1, 0, -2), "b": (-2, 3, -1, 2, 0), "c": (1, -3, 3, -2, 2), "d": (-1, 2, -3, 3, 0)}
    finals = {name: [0.6 - 0.03 * k + 0.01 * w for w in some] for k, (name, some) in enumerate(wobble.items())}
    md, data, html = pages(*(toy_record(n, s, final) for n, some in finals.items() for s, final in enumerate(some)))
    entries = data["scenarios"][0]["entries"]
    assert [(e["strategy"], e["rank"]) for e in entries] == [("a", 1), ("b", 1), ("c", 1), ("d", 1)]
    level = [e["strategy"] for e in entries if e["best"]]
    assert level == ["a", "b"], "the last is separated from the first, though no neighbours are"
    assert "4 ranked, best a (72.0 %), 1 other not separated from it; 1 rank by separated neighbours" in md
    assert "No two neighbours of the 4 ranked entries are separated" in md
    assert len(re.findall(r"\| \*\*[\d.]+ ± [\d.]+\*\* \|", md)) == len(level)
    assert len(re.findall(r'<td class="[^"]* best"', html)) == len(level)
    assert (tmp_path / "out" / "leaderboard.tex").read_text().count(r"\mathbf") == len(level)
