"""How much the harness costs: ratios measured in one run, both sides in turn. Run it with ``make benchmark``.

1. clbench's training loop against a bare PyTorch loop that does the same maths, at batch 32 and 256.
2. A whole run of split_mnist5k-v1, all probes scored after every task, against Avalanche's Naive doing the same.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from clbench.avalanche import as_avalanche
from clbench.cards import Scenario
from clbench.costs import environment
from clbench.loop import prepare, run, train_one
from clbench.models import MLP
from clbench.places import cards
from clbench.seeds import Seeds
from clbench.strategies.naive import Naive
from clbench.strategy import Trainer
from clbench.stream import TaskStream

CPU = torch.device("cpu")
LR, MOMENTUM = 0.05, 0.9
GOALS = {32: 0.10, 256: 0.05}  # share of the bare loop's time that the harness may add


def build(**changes: Any) -> TaskStream:
    """The stream of split_mnist5k-v1 with changes, as tensors in memory."""
    card = {**cards()["split_mnist5k-v1"], "fingerprint": None, **changes}
    return Scenario.from_card(card).build(Seeds.of(0))


def bare_loop(stream: TaskStream, batch_size: int, epochs: int) -> Callable[[], float]:
    """The same network, data and optimiser in plain PyTorch; returns what runs it once and gives its seconds."""
    split = stream.tasks[0].train.on(CPU)
    x, y = split.inputs["image"], split.labels

    def once() -> float:
        sizes = [784, 256, 256]
        layers = [m for a, b in zip(sizes, sizes[1:], strict=False) for m in (nn.Linear(a, b), nn.ReLU())]
        model = nn.Sequential(nn.Flatten(), *layers, nn.Linear(256, 10))
        generator = np.random.default_rng(0)
        begin = time.process_time()
        optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
        for _ in range(epochs):
            order = torch.from_numpy(generator.permutation(len(y)))
            for start in range(0, len(y), batch_size):
                rows = order[start : start + batch_size]
                optimizer.zero_grad()
                F.cross_entropy(model(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return time.process_time() - begin

    return once


def harness_loop(stream: TaskStream, batch_size: int, epochs: int) -> Callable[[], float]:
    """``train_one`` with the naive strategy: view, shuffling, batches, counting, masks, closing."""
    trainer = Trainer(epochs=epochs, batch_size=batch_size, lr=LR, momentum=MOMENTUM)

    def once() -> float:
        strategy = Naive(trainer=trainer)
        prepare(strategy, MLP, stream, Seeds.of(0), CPU)
        begin = time.process_time()
        train_one(strategy, stream, 1, Seeds.of(0), CPU)
        return time.process_time() - begin

    return once


def whole_run(stream: TaskStream, epochs: int) -> Callable[[], float]:
    """All of a clbench run but its record: five tasks, six rows of the score matrix."""

    def once() -> float:
        begin = time.process_time()
        strategy = Naive(trainer=Trainer(epochs=epochs, batch_size=32, lr=LR, momentum=MOMENTUM))
        prepare(strategy, MLP, stream, Seeds.of(0), CPU)
        run(strategy, stream, Seeds.of(0), CPU)
        return time.process_time() - begin

    return once


def avalanche_run(stream: TaskStream, epochs: int) -> Callable[[], float]:
    """Avalanche's Naive on the same tasks; its own evaluation of all experiences before and after each, accuracy only."""
    benchmark = as_avalanche(stream)
    from avalanche.evaluation.metrics import accuracy_metrics
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import Naive as TheirNaive

    def once() -> float:
        begin = time.process_time()
        layers = [nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)]
        model = nn.Sequential(nn.Flatten(), *layers)
        strategy = TheirNaive(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM),
            criterion=nn.CrossEntropyLoss(),
            train_mb_size=32,
            eval_mb_size=512,
            train_epochs=epochs,
            evaluator=EvaluationPlugin(accuracy_metrics(experience=True), loggers=[]),
        )
        strategy.eval(benchmark.test_stream)
        for experience in benchmark.train_stream:
            strategy.train(experience)
            strategy.eval(benchmark.test_stream)
        return time.process_time() - begin

    return once


def compare(ours: Callable[[], float], theirs: Callable[[], float], repeats: int) -> tuple[float, float, list[float]]:
    """Median seconds of both sides and the ratio of every pair, run in turn, the first pair thrown away."""
    pairs = []
    for repeat in range(repeats + 1):
        pair = (ours(), theirs()) if repeat % 2 else (theirs(), ours())[::-1]
        pairs.append(pair)
    kept = pairs[1:]
    ratios = [a / b for a, b in kept]
    return statistics.median(a for a, _ in kept), statistics.median(b for _, b in kept), ratios


def line(name: str, other: str, result: tuple[float, float, list[float]], goal: str) -> str:
    """One row of the table."""
    ours, theirs, ratios = result
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return f"| {name} | {ours:.3f} | {other} | {theirs:.3f} | {middle:.3f} ({low:.3f} to {high:.3f}) | {goal} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="pairs that are measured (default 15)")
    parser.add_argument("--out", type=Path, default=Path("reports/speed.md"), help="the page that is written")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    whole = build(rule="permutation", n_tasks=1, protocol="domain-incremental")  # all ten classes in one task
    rows = []
    for batch_size, epochs in ((32, 5), (256, 10)):
        result = compare(harness_loop(whole, batch_size, epochs), bare_loop(whole, batch_size, epochs), options.repeats)
        rows.append(line(f"clbench, batch {batch_size}", "bare loop", result, f"at most {1 + GOALS[batch_size]:.2f}"))
    split = build()
    result = compare(harness_loop(split, 32, 25), bare_loop(split, 32, 25), options.repeats)
    rows.append(
        line("clbench, batch 32, loss masked to 2 classes", "bare loop", result, f"at most {1 + GOALS[32]:.2f}")
    )
    result = compare(whole_run(split, 3), avalanche_run(split, 3), max(3, options.repeats // 3))
    rows.append(line("clbench, whole run", "Avalanche Naive", result, "-"))
    page = render(rows, options.repeats)
    print(page)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page, encoding="utf-8")


def render(rows: list[str], repeats: int) -> str:
    """The page in Markdown."""
    import avalanche

    facts = environment(CPU)
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, NumPy {np.__version__}"
    return "\n".join(
        [
            "# Speed",
            "",
            "`make benchmark`. Processor seconds of one thread; both sides run in turn in one process, medians of",
            f"{repeats} pairs ({max(3, repeats // 3)} for the whole run) after one that is thrown away. The ratio is the",
            "median over pairs (quartiles in brackets), below 1 where clbench is faster.",
            "",
            "| this | CPU s | against | CPU s | ratio | goal |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            "Loops: MLP 784-256-256-10, 3,750 MNIST images (750 where the loss is masked), 5 to 25 epochs, SGD with",
            "momentum. The bare loop slices tensors by a permutation; it masks, counts, closes and checks nothing. Whole run: split_mnist5k-v1, 3 epochs",
            "a task at batch 32, all five test sets scored before the first and after every task (batches of 512).",
            "",
            f"Machine: {facts['processor']}, {facts['cores']} cores, {facts['platform']}.",
            f"Versions: clbench {facts['clbench']}, {versions}, Avalanche {avalanche.__version__}.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
