"""What a record says of its tasks: classes, sizes, fingerprints, counts, costs and probes during training."""

from __future__ import annotations

from collections.abc import Iterator

from clbench.identity import shipped_card, stream_fingerprint
from clbench.invariants.outline import Data, number, text, whole

FEW = 2.001
YEARS = 1e10  # seconds, three hundred years: more is no measurement
MUCH = 1e30  # operations, joules or bytes


def tasks(data: Data) -> Iterator[str]:
    """There are as many as the card says; their classes are in order, and their sizes add up to those of the card."""
    card, own = data["card"], data["result"]["tasks"]
    if len(own) != card["n_tasks"]:
        yield f"it has {len(own)} tasks; its card says n_tasks {card['n_tasks']}"
    for k, task in enumerate(own, start=1):
        classes = task["classes"]
        if set(map(type, classes)) != {int} or sorted(set(classes)) != classes or classes[0] < 0:
            yield f"task {k}: its classes must be different numbers in ascending order; got {classes!r:.60}"
        if len(task["class_names"]) != len(classes):
            yield f"task {k} has {len(classes)} classes and {len(task['class_names'])} class names"
        if not text(task["name"], task["fingerprint"], *task["class_names"]):
            yield f"task {k}: its name, its fingerprint and the names of its classes must be text"
        if not (whole(task["n_train"], 1) and whole(task["n_test"], 1)):
            yield f"task {k}: n_train and n_test must be whole numbers from 1 on"
    for half in ("train", "test"):
        kept, sizes = (card.get("subset") or {}).get(half), [task[f"n_{half}"] for task in own]
        if kept is None or card["rule"] == "overlapping":  # samples of several tasks
            continue
        every = card["rule"] in ("permutation", "rotation")  # all samples are in all tasks
        if set(sizes) != {kept} if every else sum(sizes) != kept:
            yield f"its tasks have {sizes} {half} samples; its card has {kept}{' in each' if every else ' in all'}"


def stream(data: Data) -> Iterator[str]:
    """The stream's fingerprint is that of its tasks, and for seed 0 that of the card."""
    card, result = data["card"], data["result"]
    spec = result["spec"]
    if not text(spec["label_space"], spec["modality"]) or not all(
        whole(size) for shape in spec["inputs"].values() for size in shape
    ):
        yield f"its stream does not say label space, modality and shapes of inputs: {spec!r:.60}"
    if spec["protocol"] != card["protocol"]:
        yield f"its stream is {spec['protocol']}, its card {card['protocol']}"
    made = stream_fingerprint(card["protocol"], (t["fingerprint"] for t in result["tasks"]), card.get("augment"))
    if result["fingerprint"] != made:
        yield f"its stream has the fingerprint {result['fingerprint']!r:.40}, but its tasks make {made}"
    label = data["names"]["scenario"]
    official = None if "[" in label else (shipped_card(label) or card).get("fingerprint")
    if official and set(data["identity"]["seeds"].values()) == {0} and made != official:
        yield f"its stream has the fingerprint {made}; the card '{label}' says {official} for seed 0"
    n_classes = spec["n_classes"]
    if n_classes is not None and max(task["classes"][-1] for task in result["tasks"]) >= n_classes:
        yield f"a task has a class beyond the {n_classes} of the stream"


def counts(data: Data) -> Iterator[str]:
    """Counts and costs are of every task, and none is negative."""
    n_tasks = len(data["result"]["tasks"])
    for name, entries in (("counts", data["result"]["counts"]), ("costs", data["costs"])):
        if len(entries) != n_tasks:
            yield f"its {name} are of {len(entries)} tasks; it has {n_tasks}"
        needed = ("state_bytes", "stored_samples") if name == "counts" else ("train_seconds",)
        for k, entry in enumerate(entries, start=1):
            if missing := [key for key in needed if key not in entry]:
                yield f"task {k}: its {name} lack {missing[0]}"
            for key, value in entry.items():
                most = YEARS if key.endswith("seconds") else MUCH
                if name == "counts" and not whole(value):
                    yield f"task {k}: {key} must be a whole number from 0 on, below 2**63; got {value!r:.40}"
                elif name == "costs" and not (value is None or (number(value) and 0 <= value <= most)):
                    yield f"task {k}: {key} must be null or a number from 0 to {most:g}; got {value!r:.40}"


def curves(data: Data) -> Iterator[str]:
    """Probes during training give an accuracy of every task at every evaluation, in the order of training."""
    own, n_tasks = data["curves"], len(data["result"]["tasks"])
    if not own:
        return
    trained, steps, accuracy = own["task"], own["step"], own["accuracy"]
    if not (whole(own["every"], 1) and whole(own["samples"], 1)):
        yield "its curves do not say how often it was probed, and on how many samples"
    if len(accuracy) != n_tasks or {len(steps), *map(len, accuracy)} != {len(trained)}:
        lengths = [len(trained), len(steps), *map(len, accuracy)]
        yield f"its curves are of {len(accuracy)} tasks with {lengths} evaluations; it has {n_tasks} tasks"
    if not all(map(whole, [*trained, *steps])):
        yield "the tasks and steps of its curves must be whole numbers"
    points = list(zip(trained, steps, strict=True))
    if points != sorted(points) or sorted(set(trained)) != list(range(1, n_tasks + 1)):
        yield "the evaluations of its curves are not in order, or not of all tasks"
    for j, curve in enumerate(accuracy, start=1):
        for value in curve:
            if not (number(value) and 0 <= value <= 1):
                yield f"its curve of task {j} holds {value!r:.40}; an accuracy lies in [0, 1]"
    yield from _ends(own, data["result"])


def _ends(own: Data, result: Data) -> Iterator[str]:
    """The last evaluation of a task is the row of the matrix, where all test samples are probed.

    But for ``FEW`` samples: what a frozen branch makes of them is worked out anew for the matrix.
    """
    for j, (task, curve) in enumerate(zip(result["tasks"], own["accuracy"], strict=True)):
        if own["samples"] < task["n_test"]:
            continue
        for k, value in dict(zip(own["task"], curve, strict=True)).items():
            cell = result["matrices"]["accuracy"]["values"][k][j]
            if abs(value - cell) * task["n_test"] > FEW:
                yield f"its curve of task {j + 1} ends task {k} at {value}, but R[{k}, {j + 1}] is {cell}"
