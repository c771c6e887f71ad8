"""The command line: one function per command, heavy packages imported only by the command that needs them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import clbench
from clbench.errors import BadInput, ClbenchError

KINDS = ("scenarios", "strategies", "models", "backbones", "metrics", "datasets", "studies")

RUN_HELP = """\
usage: clbench run scenario=NAME [strategy=NAME] [backbone=NAME] [model=NAME] [seed=N] [key=value ...]

Run one strategy on one scenario, or a sweep of them with -m; every key of conf/ can be overridden.

  clbench run scenario=split_digits-v1 strategy=replay seed=0
  clbench run scenario=split_digits-v1 strategy=ewc strategy.strength=10 trainer.lr=0.01
  clbench run scenario=clinc150-v1 backbone=minilm strategy=simplecil
  clbench run scenario=split_digits-v1 strategy._target_=my_pkg.mine.Mine +strategy.alpha=0.5
  clbench run -m 'scenario=glob(split_digits*)' strategy=naive,replay,simplecil 'seed=range(5)'

  -m, --multirun       run every combination of a sweep
  --config-dir FOLDER  add your own strategy/, backbone/, model/, trainer/, scenario/ configurations
  --cfg job            print the resolved configuration and stop
  records=FOLDER       where records go (default: records)
  tracker=NAME         hand the record to tensorboard, mlflow or wandb too, in tracker_dir=FOLDER (default: tracked)
  data_dir=FOLDER      where image folders and zips are (default: $CLBENCH_DATA)

Names: clbench list scenarios | strategies | models | backbones
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 a run failed, 2 bad input."""
    words = list(sys.argv[1:] if argv is None else argv)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # so that `_target_: my_pkg.mine.Mine` is found from here
    try:
        if words[:1] == ["run"]:
            return _run(words[1:])
        return _dispatch(_parser().parse_args(words))
    except ClbenchError as error:
        sys.stderr.write(f"clbench: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("clbench: interrupted; the same command goes on from the last finished task\n")
        return 130
    except BrokenPipeError:
        return 0


def _run(words: list[str]) -> int:
    if not words or "-h" in words or "--help" in words:
        sys.stdout.write(RUN_HELP)
        return 0 if words else 2
    from clbench.cli.sweep import sweep

    return sweep(words)


def _dispatch(args: argparse.Namespace) -> int:
    if args.command == "list":
        from clbench.cli.listing import show_list

        return show_list(args.kind)
    if args.command == "study":
        from clbench.cli.study import run_study

        out = Path(args.out) if args.out else None
        return run_study(args.name, Path(args.records), out, jobs=args.jobs, fresh=args.fresh, dry=args.dry_run)
    if args.command == "check":
        from clbench.cli.checking import run_checks

        return run_checks(args.target)
    if args.command == "targets":
        from clbench.cli.targets import run_targets

        return run_targets(args.card, args.encoder, args.template, Path(args.out) if args.out else None)
    if args.command == "cache":
        from clbench.cli.cache import run_cache

        return run_cache(args.action, args.names, older_than=args.older_than, everything=args.all)
    return _dispatch_on_records(args)


def _dispatch_on_records(args: argparse.Namespace) -> int:
    if args.command == "report":
        from clbench.cli.reporting import make_report

        return make_report(Path(args.records), Path(args.out or args.records), costs=not args.without_costs)
    if args.command == "export":
        from clbench.cli.exporting import export_l2m

        return export_l2m(Path(args.records), Path(args.out))
    if args.command == "metrics":
        from clbench.cli.metrics_of import show_metrics

        return show_metrics(Path(args.record), Path(args.references) if args.references else None)
    if args.command == "compare":
        from clbench.cli.comparing import compare_runs

        return compare_runs(Path(args.first), Path(args.second), args.metric, args.matrix, as_json=args.json)
    if args.command == "track":
        from clbench.cli.tracking import track_records

        return track_records(Path(args.records), args.to, Path(args.out))
    if args.command == "verify":
        from clbench.cli.trusting import run_verify

        return run_verify(args.records, args.data_dir, args.config_dir, args.tolerance, trust=args.trust_imports)
    if args.command == "merge":
        from clbench.cli.trusting import run_merge

        return run_merge(Path(args.source), Path(args.into), with_predictions=args.with_predictions)
    raise BadInput("which command? see: clbench --help")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clbench", description="Benchmark harness for continual learning.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"clbench {clbench.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("run", help="run a strategy on a scenario, or a sweep with -m", add_help=False)
    study = commands.add_parser("study", help="run a named sweep and write its report; resumable")
    study.add_argument("name", help="see: clbench list studies; or the path of a YAML file of your own")
    study.add_argument("--records", default="runs", help="working folder for records (default: runs)")
    study.add_argument("--out", help="where the report goes (default: reports/NAME)")
    study.add_argument("--jobs", type=int, help="processes side by side (default: as the study says)")
    study.add_argument("--fresh", action="store_true", help="do not start from committed records")
    study.add_argument("--dry-run", action="store_true", help="print the plan and the time estimate only")
    listing = commands.add_parser("list", help="what there is")
    listing.add_argument("kind", choices=KINDS)
    _commands_on_records(commands)
    check = commands.add_parser("check", help="hold a strategy, scenario or metric against the contract")
    check.add_argument("target", help="my_pkg.mine:Mine")
    targets = commands.add_parser("targets", help="store the sentence embeddings of a card's class names")
    targets.add_argument("card", help="see: clbench list scenarios")
    targets.add_argument("--encoder", default="minilm", help="a text backbone (default: minilm)")
    targets.add_argument("--template", default="{}", help='e.g. "a photo of a {}" (default: "{}")')
    targets.add_argument("--out", help="the file (default: the shipped table of the encoder)")
    cache = commands.add_parser("cache", help="what is kept of frozen networks and decoded data")
    cache.add_argument("action", choices=("list", "verify", "prune"))
    cache.add_argument("names", nargs="*", metavar="NAME", help="entries, as listed (prune)")
    cache.add_argument("--older-than", type=float, default=30.0, metavar="DAYS", help="prune: not used for so long")
    cache.add_argument("--all", action="store_true", help="prune: everything")
    return parser


def _commands_on_records(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    verify = commands.add_parser("verify", help="repeat the runs of records: bit-identical, within tolerance, or not")
    verify.add_argument("records", nargs="+", metavar="RECORD", help="a record.json, its folder, or a folder of those")
    verify.add_argument(
        "--data-dir", default=os.environ.get("CLBENCH_DATA", "data"), help="as data_dir= of clbench run"
    )
    verify.add_argument("--config-dir", metavar="FOLDER", help="say whether your own card there has changed since")
    tolerance = "on another machine or build, by how much of its range an average may differ (default: 0.03)"
    verify.add_argument("--tolerance", type=float, default=0.03, metavar="SHARE", help=tolerance)
    trust = "import and run the code that records name outside clbench"
    verify.add_argument("--trust-imports", action="store_true", help=trust)
    merge = commands.add_parser(
        "merge", help="take other people's records in; what fails a check is named and left out"
    )
    merge.add_argument("source", metavar="FOLDER", help="of records; or a zip or tar archive of it")
    merge.add_argument("--into", default="records", metavar="FOLDER", help="where they go (default: records)")
    merge.add_argument("--with-predictions", action="store_true", help="take kept predictions too, checked")
    report = commands.add_parser("report", help="records folder -> leaderboard.html, .md, .csv, .json, .tex")
    report.add_argument("records", nargs="?", default="records", help="folder of records (default: records)")
    report.add_argument("--out", help="where the files go (default: the records folder)")
    report.add_argument("--without-costs", action="store_true", help="leave out what depends on the machine")
    metrics = commands.add_parser("metrics", help="every metric of a record, and what other libraries would print")
    metrics.add_argument("record", metavar="RECORD", help="a record.json or its folder")
    metrics.add_argument("--references", metavar="FOLDER", help="records with the runs of reference strategies")
    export = commands.add_parser("export", help="records folder -> logs that another tool reads")
    export.add_argument("format", choices=("l2m",), help="l2m: lifetimes as l2logger writes and l2metrics reads them")
    export.add_argument("records", nargs="?", default="records", help="folder of records (default: records)")
    export.add_argument("--out", required=True, metavar="FOLDER", help="where the logs go")
    compare = commands.add_parser("compare", help="two entries, seed by seed: difference, interval, probability")
    compare.add_argument("first", metavar="RUN_A", help="folder of a record, or of all records of one entry")
    compare.add_argument("second", metavar="RUN_B", help="the same of another entry on the same scenario")
    compare.add_argument("--metric", metavar="ID", help="see: clbench list metrics (default: four usual ones)")
    compare.add_argument("--matrix", metavar="NAME", help="of the records, e.g. task_masked_accuracy")
    compare.add_argument("--json", action="store_true", help="for a program")
    track = commands.add_parser("track", help="records folder -> TensorBoard, MLflow or Weights & Biases (extras)")
    track.add_argument("records", nargs="?", default="records", help="folder of records (default: records)")
    track.add_argument("--to", required=True, metavar="TRACKER", help="tensorboard, mlflow or wandb")
    track.add_argument("--out", required=True, metavar="FOLDER", help="where the tracker keeps its files")
