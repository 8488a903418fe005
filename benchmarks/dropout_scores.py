"""With dropout on, are the scores of packed trials those of trials run alone? Twenty seeds of each, and the tests.

    python -m benchmarks.dropout_scores
    python -m benchmarks.dropout_scores --quick

With dropout off a packed trial is its solo run to rounding, which tests hold. With dropout on both draw other masks,
and only the distribution of scores can agree. Both sides train LoRA on a starter task with the same seeds: the same
rows, order, head and adapter start, so that scores are paired. Asked is whether their means differ

- by seed: a sign-flip permutation test of the paired differences (exact for up to 12 pairs, else 9,999 random flips);
- as samples: Welch's t-test, and Mann-Whitney's U for any shift of the distribution.

They are called indistinguishable if no p-value is below 0.05. That no difference was found says little without the size
of a difference that would have been: the 95 % interval of the mean paired difference is printed beside the spread over
seeds. As a control a third group is run alone under other seeds: what two samples of the same thing show by chance.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks import _common as common
from benchmarks._grid import STARTER, Grid, Row, workplace
from harness.devices import pick_device

Scores = NDArray[np.float64]
LEVEL = 0.05


def sign_flip(first: Scores, second: Scores) -> float:
    """Two-sided p-value of the mean paired difference under flips of its signs; 1 where nothing differs."""
    difference = first - second
    if not difference.any():
        return 1.0
    found = stats.permutation_test(
        (difference,), np.mean, permutation_type="samples", n_resamples=9999, vectorized=False, rng=0
    )
    return float(found.pvalue)


def p_values(first: Scores, second: Scores) -> tuple[float, float]:
    """(Welch, Mann-Whitney) of two samples, two-sided; 1 where both are one constant."""
    if np.ptp(np.concatenate([first, second])) == 0:
        return 1.0, 1.0
    welch = stats.ttest_ind(first, second, equal_var=False).pvalue
    return float(welch), float(stats.mannwhitneyu(first, second).pvalue)


def interval(first: Scores, second: Scores) -> tuple[float, float]:
    """95 % interval of the mean paired difference, by Student's t."""
    difference = first - second
    half = stats.t.ppf(1 - LEVEL / 2, len(difference) - 1) * stats.sem(difference) if len(difference) > 1 else np.nan
    return float(difference.mean() - half), float(difference.mean() + half)


def comparison(name: str, first: Scores, second: Scores, paired: bool) -> tuple[common.Cell, ...]:
    """A row of the table: differences in points, and p-values."""
    low, high = interval(first, second) if paired else (None, None)
    points = [None if value is None else 100 * value for value in (float((first - second).mean()), low, high)]
    return (name, *points, sign_flip(first, second) if paired else None, *p_values(first, second))


COLUMNS = ("compared", "mean difference", "95 % from", "to", "p, sign flip", "p, Welch", "p, Mann-Whitney")


def scores_table(groups: dict[str, Scores]) -> common.Table:
    """Mean and spread of each group, × 100."""
    rows = tuple(
        (
            name,
            len(values),
            100 * float(values.mean()),
            100 * float(values.std(ddof=1)),
            100 * float(values.min()),
            100 * float(values.max()),
        )
        for name, values in groups.items()
    )
    return common.Table(
        "Score after the last epoch, × 100", ("group", "seeds", "mean", "spread", "least", "most"), rows
    )


def benchmark(options: argparse.Namespace) -> common.Result:
    """Train three groups and compare them."""
    recipe = {"epochs": options.epochs, "batch_size": 32, "backbone_dropout": options.dropout, "select_rows": 64}
    rows = [Row("lora", options.rate, {"targets": "q,v,o,up,down"})]
    seeds = range(options.seeds)
    others = range(1000, 1000 + options.seeds)
    with workplace(options.device, options.threads) as work:
        facts = common.machine(work.settings)

        def scores(numbers: Sequence[int], pack: str) -> Scores:
            run = work.run(Grid(rows, (options.task,), numbers, STARTER, recipe, options.rows), pack)
            found: Scores = run.frame.sort_values("seed")["score_last"].to_numpy(dtype=np.float64)
            return found

        groups = {
            "packed": scores(seeds, options.pack),
            "alone": scores(seeds, "off"),
            "alone, other seeds": scores(others, "off"),
        }
    packed, alone, other = groups.values()
    compared = (
        comparison("packed - alone", packed, alone, paired=True),
        comparison("alone, other seeds - alone", other, alone, paired=False),
    )
    smallest = min(float(value) for value in compared[0][4:] if value is not None)
    judged = None if options.quick else smallest >= LEVEL
    return common.Result(
        name=f"dropout_scores-{pick_device(options.device).type}",
        title=f"Scores with dropout {options.dropout:g}, packed and alone: {options.task} on the starter encoder",
        command=options.command,
        quick=options.quick,
        options=common.plain_options(options),
        notes=(f"pack = {options.pack}", f"{options.rows} rows, {options.epochs} epochs, differences × 100"),
        tables=(scores_table(groups), common.Table("Differences, × 100, and p-values", COLUMNS, compared)),
        targets=(common.Target("smallest p-value, packed against alone", f"at least {LEVEL:g}", smallest, judged),),
        machine=facts,
    )


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    made = common.parser(__doc__)
    made.add_argument("--task", default="paraphrase", help="a generated task of classification or regression")
    made.add_argument("--seeds", type=int, default=20)
    made.add_argument("--rows", type=int, default=512, help="training rows")
    made.add_argument("--epochs", type=int, default=2)
    made.add_argument("--rate", type=float, default=3e-3)
    made.add_argument("--dropout", type=float, default=0.1, help="inside the backbone and before the head")
    made.add_argument("--pack", default="10", help="trials in a pack; auto packs none of this size on a CPU")
    return common.parse(made, "dropout_scores", arguments, seeds=2, rows=32, epochs=1)


def main(arguments: Sequence[str]) -> None:
    """Train, print, write."""
    options = parsed(arguments)
    common.report(benchmark(options), options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
