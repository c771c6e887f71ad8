"""How much the harness costs: ratios measured in one run, both sides in turn. Run it with ``make benchmark``.

1. clbench's training loop against a bare PyTorch loop that does the same maths, at batch 32 and 256.
2. A whole run of split_mnist5k-v1, all probes scored after every task, against Avalanche's Naive doing the same.
"""

from __future__ import annotations

import argparse
import itertools
import platform
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
LR, MOMENTUM = 0.05, 0.9  # as in conf/trainer/sgd.yaml
EPOCHS = 5  # short runs, many pairs: other work on the machine then meets both sides alike
RUN_EPOCHS = 3
GOALS = {32: 0.10, 256: 0.05}  # share of the bare loop's time that the harness may add


def build(**changes: Any) -> TaskStream:
    """The stream of split_mnist5k-v1 with changes, as tensors in memory."""
    card = {**cards()["split_mnist5k-v1"], "fingerprint": None, **changes}
    return Scenario.from_card(card).build(Seeds.of(0))


def bare_loop(stream: TaskStream, batch_size: int) -> Callable[[], float]:
    """The same network, data, loss and optimiser in plain PyTorch; what runs it once and gives its seconds."""
    split = stream.tasks[0].train.on(CPU)
    x, y = split.inputs["image"], split.labels
    closed = torch.tensor([c not in stream.tasks[0].classes for c in range(10)])
    masked = bool(closed.any())

    def once() -> float:
        sizes = [784, 256, 256]
        layers = [m for a, b in itertools.pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
        model = nn.Sequential(nn.Flatten(), *layers, nn.Linear(256, 10))
        generator = np.random.default_rng(0)
        begin = time.process_time()
        optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
        for _ in range(EPOCHS):
            order = torch.from_numpy(generator.permutation(len(y)))
            for start in range(0, len(y), batch_size):
                rows = order[start : start + batch_size]
                optimizer.zero_grad()
                logits = model(x[rows])
                if masked:
                    logits = logits.masked_fill(closed, -torch.inf)
                F.cross_entropy(logits, y[rows]).backward()  # type: ignore[no-untyped-call]  # torch's own
                optimizer.step()
        return time.process_time() - begin

    return once


def harness_loop(stream: TaskStream, batch_size: int) -> Callable[[], float]:
    """``train_one`` with the naive strategy: view, shuffling, batches, counting, masks, closing."""
    trainer = Trainer(epochs=EPOCHS, batch_size=batch_size, lr=LR, momentum=MOMENTUM)

    def once() -> float:
        strategy = Naive(trainer=trainer)
        prepare(strategy, MLP, stream, Seeds.of(0), CPU)
        begin = time.process_time()
        train_one(strategy, stream, 1, Seeds.of(0), CPU)
        return time.process_time() - begin

    return once


def whole_run(stream: TaskStream) -> Callable[[], float]:
    """All of a clbench run but its record: five tasks, six rows of the score matrix."""

    def once() -> float:
        begin = time.process_time()
        strategy = Naive(trainer=Trainer(epochs=RUN_EPOCHS, batch_size=32, lr=LR, momentum=MOMENTUM))
        prepare(strategy, MLP, stream, Seeds.of(0), CPU)
        run(strategy, stream, Seeds.of(0), CPU)
        return time.process_time() - begin

    return once


def avalanche_run(stream: TaskStream) -> Callable[[], float]:
    """Avalanche's Naive on the same tasks, with its own evaluation (accuracy only) before and after each."""
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
            train_epochs=RUN_EPOCHS,
            evaluator=EvaluationPlugin(accuracy_metrics(experience=True), loggers=[]),
        )
        strategy.eval(benchmark.test_stream)
        for experience in benchmark.train_stream:
            strategy.train(experience)
            strategy.eval(benchmark.test_stream)
        return time.process_time() - begin

    return once


Pairs = list[tuple[float, float]]


def compare(ours: Callable[[], float], theirs: Callable[[], float], repeats: int) -> Pairs:
    """Seconds of both sides, run in turn, who begins alternating; the first pair thrown away."""
    pairs = []
    for repeat in range(repeats + 1):
        if repeat % 2:
            pairs.append((ours(), theirs()))
        else:
            other = theirs()
            pairs.append((ours(), other))
    return pairs[1:]


def line(name: str, other: str, pairs: Pairs, goal: str) -> str:
    """One row of the table."""
    ours, theirs = np.array(pairs).T
    low, middle, high = np.quantile(ours / theirs, [0.25, 0.5, 0.75])
    ratios = f"{middle:.3f} ({low:.3f} to {high:.3f}) | {ours.min() / theirs.min():.3f}"
    return f"| {name} | {np.median(ours):.3f} | {other} | {np.median(theirs):.3f} | {ratios} | {goal} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40, help="pairs that are measured (default 40)")
    parser.add_argument("--out", type=Path, default=Path("reports/speed.md"), help="the page that is written")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    whole = build(rule="permutation", n_tasks=1, protocol="domain-incremental")  # all ten classes in one task
    rows = []
    split = build()
    for batch_size, stream, note in ((32, whole, ""), (256, whole, ""), (32, split, ", loss masked to 2 classes")):
        result = compare(harness_loop(stream, batch_size), bare_loop(stream, batch_size), options.repeats)
        rows.append(
            line(f"clbench, batch {batch_size}{note}", "bare loop", result, f"at most {1 + GOALS[batch_size]:.2f}")
        )
    result = compare(whole_run(split), avalanche_run(split), max(3, options.repeats // 4))
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
            f"{repeats} pairs ({max(3, repeats // 4)} for the whole run) after one that is thrown away. The ratio is",
            "the median over pairs (quartiles in brackets), below 1 where clbench is faster. On a machine that does",
            "other work too, the ratio of the fastest runs is the steadier figure.",
            "",
            "| this | CPU s | against | CPU s | ratio | fastest to fastest | goal |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"Loops: one task, {EPOCHS} epochs, MLP 784-256-256-10, 4,000 MNIST images (800 of two classes where the",
            "loss is masked), SGD with momentum. The bare loop does the same maths on tensors sliced by a permutation;",
            "it makes no view of the task, counts, closes and checks nothing.",
            "",
            f"Whole run: split_mnist5k-v1, {RUN_EPOCHS} epochs a task at batch 32, all five test sets scored before",
            "the first and after every task (batches of 512). Both networks have the same sizes.",
            "",
            f"Machine: {facts['processor']}, {facts['cores']} cores, {facts['platform']}.",
            f"Versions: clbench {facts['clbench']}, {versions}, Avalanche {avalanche.__version__}.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
