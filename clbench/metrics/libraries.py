"""What other libraries print under the same words: for comparison tables only, never on a leaderboard.

Rules are those read in their public code. Where a library gives 0 for one task or fills missing cells with 0, these
are NaN as all metrics are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from clbench.matrix import ScoreMatrix
from clbench.metrics.accuracy import ACCURACY
from clbench.metrics.diaz import DIAZ_2018
from clbench.metrics.forgetting import FORGETTING
from clbench.metrics.library_rules import (
    coda_forgetting,
    continuum_forward,
    continuum_incremental,
    libcontinual_backward,
    libcontinual_forgetting,
    mammoth_rows,
    mammoth_run,
    pooled,
    pycil_forgetting,
    pyclad_backward,
    pyclad_forgetting,
    shortcut_plasticity,
)
from clbench.metrics.metric import Array, Metric, mean
from clbench.metrics.mtil import MTIL
from clbench.metrics.transfer import TRANSFER

NOT_OURS = "the library gives 0 for one task"


_BWT, _FORGETTING, _FWT = "backward transfer", "forgetting", "forward transfer"
_ACC, _AIA, _ALL_ROWS = "average accuracy", "average incremental accuracy", "accuracy over all rows"
_ZERO_SHOT = "zero-shot transfer"
_FIRST_LAST, _GEM_BWT, _DIAZ_BWT = "forgetting.first_last", "backward_transfer.gem2017", "backward_transfer.diaz2018"
_SINCE, _NONNEG, _RWALK = "forgetting.since_learned", "forgetting.since_learned_nonneg", "forgetting.rwalk2018"
_GEM_FWT, _MICRO, _LAST = "forward_transfer.gem2017", "average_accuracy.micro", "average_accuracy.gem2017"
_DIAZ_ACC = "accuracy.diaz2018"
_MACRO_AIA, _MICRO_AIA = (f"average_incremental_accuracy.icarl2017_{kind}" for kind in ("macro", "micro"))
_PAPERS: tuple[tuple[str, str, str], ...] = (
    (_ACC, "GEM", _LAST),
    (_ACC, "over samples", _MICRO),
    (_ALL_ROWS, "Díaz-Rodríguez et al.", _DIAZ_ACC),
    (_AIA, "iCaRL", _MACRO_AIA),
    (_AIA, "iCaRL, over samples", _MICRO_AIA),
    (_BWT, "GEM", _GEM_BWT),
    (_BWT, "GEM, released code", f"{_GEM_BWT}_code"),
    (_BWT, "Díaz-Rodríguez et al.", _DIAZ_BWT),
    (_FORGETTING, "RWalk", _RWALK),
    (_FORGETTING, "since learned", _SINCE),
    (_FORGETTING, "since learned, never negative", _NONNEG),
    (_FORGETTING, "first to last", _FIRST_LAST),
    (_FWT, "GEM", _GEM_FWT),
    (_FWT, "GEM, released code", f"{_GEM_FWT}_code"),
    (_FWT, "Díaz-Rodríguez et al.", "forward_transfer.diaz2018"),
    (_ZERO_SHOT, "MTIL", "transfer.mtil2023"),
)
_OURS = {m.id: m for m in (*ACCURACY, *DIAZ_2018, *FORGETTING, *TRANSFER, *MTIL)}


class _Printed(NamedTuple):
    """A quantity that a library prints; ``rule`` is the id of the definition it follows, or its own function."""

    library: str
    name: str
    quantity: str
    rule: str | Callable[..., float]
    formula: str = ""
    differs: str = ""


_PRINTED = (
    _Printed("Avalanche", "stream_accuracy", _ACC, _MICRO),
    _Printed("Renate", "average_accuracy", _ACC, _LAST),
    _Printed("Renate", "micro_average_accuracy", _ACC, _MICRO),
    _Printed("mammoth", "accuracy", _ACC, _LAST),
    _Printed("PyCIL", "total", _ACC, _MICRO),
    _Printed("FusionBench", "average_accuracy", _ACC, _LAST),
    _Printed("Continuum", "accuracy", _ALL_ROWS, _DIAZ_ACC),
    _Printed("pyCLAD", "accuracy", _ALL_ROWS, _DIAZ_ACC),
    _Printed("PyCIL", "average_accuracy", _AIA, _MICRO_AIA),
    _Printed(
        "Continuum",
        "average_incremental_accuracy",
        _AIA,
        continuum_incremental,
        "(1/T²) sum_{i,j} R[i,j]: tasks not learned yet count",
        differs="of tasks with equally many test samples; the library weights samples equally",
    ),
    _Printed("Avalanche", "backward_transfer", _BWT, _GEM_BWT),
    _Printed("Renate", "backward_transfer", _BWT, _GEM_BWT),
    _Printed("mammoth", "backward_transfer", _BWT, _GEM_BWT),
    _Printed("BeGin", "average_forgetting", _BWT, f"{_GEM_BWT}_code"),
    _Printed("FusionBench", "backward_transfer", _BWT, f"{_GEM_BWT}_code"),
    _Printed("Continuum", "backward_transfer", _BWT, _DIAZ_BWT, differs="from its docstring, which names GEM"),
    _Printed("CapyMOA", "backward_transfer", _BWT, _DIAZ_BWT),
    _Printed(
        "pyCLAD",
        "backward_transfer",
        _BWT,
        pyclad_backward,
        "sum_{i>j} (R[i,j] - R[i-1,j]) / (T(T-1)/2) = (2/T) backward_transfer.gem2017",
        differs=f"from its documentation, which states {_DIAZ_BWT}; {NOT_OURS}",
    ),
    _Printed(
        "LibContinual",
        "backward_transfer",
        _BWT,
        libcontinual_backward,
        "sum_{i>j+1} (R[i,j] - R[j,j]) / (T(T-1)/2): off by one task",
        differs=NOT_OURS,
    ),
    _Printed("Avalanche", "forgetting", _FORGETTING, _FIRST_LAST),
    _Printed("Renate", "forgetting", _FORGETTING, _RWALK, differs=NOT_OURS),
    _Printed(
        "A-GEM",
        "forgetting",
        _FORGETTING,
        _RWALK,
        differs="where future tasks are not evaluated it is since learned",
    ),
    _Printed(
        "FACIL",
        "forgetting",
        _FORGETTING,
        _SINCE,
        differs="literally all earlier rows, with 0 above the diagonal",
    ),
    _Printed("Continuum", "forgetting", _FORGETTING, _SINCE, differs=NOT_OURS),
    _Printed("CL-Gym", "forgetting", _FORGETTING, _NONNEG, differs=NOT_OURS),
    _Printed("PyCIL", "forgetting", _FORGETTING, pycil_forgetting, f"{_NONNEG} of percentages rounded to 2 decimals"),
    _Printed(
        "mammoth",
        "forgetting_function_on_lower_triangle",
        _FORGETTING,
        _NONNEG,
        differs="the function by itself; in a run see lib.mammoth.forgetting_run",
    ),
    _Printed(
        "mammoth",
        "forgetting_run",
        _FORGETTING,
        mammoth_run,
        "(1/(T-1)) sum_{j<T} (max_{l=j-1..T, l>=1} R[l,j] - R[T,j]): inside a run with extra metrics",
    ),
    _Printed(
        "LibContinual",
        "forgetting",
        _FORGETTING,
        libcontinual_forgetting,
        "(1/(T-1)) sum_{j<T-1} (R[j,j] - R[T,j]): off by one task",
        differs=NOT_OURS,
    ),
    _Printed(
        "pyCLAD",
        "forgetting_last_step",
        _FORGETTING,
        pyclad_forgetting,
        "(1/T) sum_{j<=T} (max_{l=1..T-1} R[l,j] - R[T,j]): the last task counts too",
        differs=NOT_OURS,
    ),
    _Printed(
        "CODA-Prompt",
        "forgetting",
        _FORGETTING,
        coda_forgetting,
        "(1/(T-1)) sum_{t>=2} (1/(t-1)) sum_{j<t} (R[t-1,j] - R[t,j]): mean drop per step",
    ),
    _Printed("Avalanche", "forward_transfer", _FWT, _GEM_FWT),
    _Printed("Renate", "forward_transfer", _FWT, _GEM_FWT),
    _Printed("mammoth", "forward_transfer", _FWT, _GEM_FWT),
    _Printed("BeGin", "forward_transfer", _FWT, f"{_GEM_FWT}_code"),
    _Printed(
        "Continuum",
        "forward_transfer",
        _FWT,
        continuum_forward,
        "(1/(T-1)) sum_{j>=2} R[j-1,j]; no baseline",
        differs=NOT_OURS,
    ),
    _Printed("pyCLAD", "forward_transfer", _FWT, "forward_transfer.diaz2018"),
    _Printed(
        "mammoth",
        "transfer_rows",
        _ZERO_SHOT,
        mammoth_rows,
        "(1/(T-1)) sum_{i<T} mean_{j>i} R[i,j]: mean of row means",
    ),
)


def _metric(printed: _Printed) -> Metric:
    library = printed.library.lower().replace("a-gem", "agem").replace("-", "_")
    id = f"lib.{library}.{printed.name}"
    title, source = f"{printed.quantity} ({printed.library})", f"the public code of {printed.library}"
    if isinstance(printed.rule, str):
        rule = _OURS[printed.rule]
        return replace(rule, id=id, title=title, source=f"{source}; follows {rule.id}", differs=printed.differs)
    score = printed.quantity in (_AIA, _ZERO_SHOT) or printed.rule is continuum_forward
    return Metric(
        id,
        title,
        printed.formula,
        source,
        printed.quantity != _FORGETTING,
        (0.0 if score or printed.rule in (pycil_forgetting, mammoth_run) else -1.0, 1.0),
        printed.rule,
        is_difference=not score,
        differs=printed.differs,
    )


LIBRARIES = (
    *map(_metric, _PRINTED),
    Metric(
        "lib.avalanche.amca",
        "average mean class accuracy (Avalanche)",
        "mean over experiences of the mean accuracy over classes",
        "the public code of Avalanche",
        True,
        (0.0, 1.0),
        mean,
        reads=("class_rows",),
        is_difference=False,
    ),
    Metric(
        "lib.continual_evaluation.windowed_plasticity[w=10]",
        "largest rise within 10 evaluations (released code)",
        "as windowed_plasticity.delange2023, but only a new maximum of the window is a start point",
        "Mattdl/ContinualEvaluation",
        True,
        (0.0, 1.0),
        shortcut_plasticity,
        reads=("curves",),
        parameters={"w": 10},
    ),
    Metric(
        "lib.pooled_error",
        "error over all samples of all domains",
        "100 sum_d w_d / sum_d n_d",
        "evaluation loops that pool domains",
        False,
        (0.0, 100.0),
        pooled,
        reads=("wrong", "counts"),
        unit="percent",
    ),
)


class Variant(NamedTuple):
    """One number under a name that several papers and libraries use: whose it is, its id, and its value."""

    quantity: str
    by: str
    id: str
    value: float


def side_by_side(matrix: ScoreMatrix, test_sizes: Array | None = None) -> list[Variant]:
    """Lay the variants of every quantity of one matrix side by side: the papers' definitions, then each library.

    ``test_sizes`` (T,): without them averages over samples are NaN.
    """
    named = [(quantity, by, _OURS[id]) for quantity, by, id in _PAPERS]
    named += [(p.quantity, p.library, m) for p, m in zip(_PRINTED, LIBRARIES, strict=False)]
    rows = [Variant(quantity, by, m.id, m(matrix, test_sizes=test_sizes)) for quantity, by, m in named]
    order = list(dict.fromkeys(quantity for quantity, _, _ in _PAPERS))
    return sorted(rows, key=lambda row: order.index(row.quantity))  # stable: papers before libraries
