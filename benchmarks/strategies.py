"""Every strategy of distillation on four cases, against plain response and no distillation.

OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/strategies.py &
OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/strategies.py     both share the work
python benchmarks/strategies.py --quick                            cuts of the data; writes nothing

Each run (case, strategy, seed) is a stage of the store in --work: processes take what no other is
at, a killed one loses the epoch it was in, and one that finds all done writes docs/results. With
--cases, --strategies or --quick the tables are printed instead.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from edgedistill.cli.progress import PlainLines
from edgedistill.core.events import Listener
from edgedistill.pipeline.packaging import machine
from results import Result, tell, write_results
from strategies_cases import all_cases
from strategies_catalogue import chosen
from strategies_page import claims, gains, notes, table_of
from strategies_pooled import Spread
from strategies_runs import Workshop, runs_of

COMMAND = "python benchmarks/strategies.py"
#: What a cut shows that everything works with.
QUICK = ("feature", "curriculum", "two teachers", "reverse KL")


def main() -> int:
    arguments = _arguments()
    known, quick = all_cases(), arguments.quick
    names = arguments.strategies or (QUICK if quick else None)
    cases = [
        replace(case, strategies=chosen(case.strategies, names))
        for name, case in known.items()
        if name in (arguments.cases or known)
    ]
    seeds = [0] if quick else arguments.seeds
    workshop = Workshop(arguments.work, quick, _quietly(PlainLines(sys.stderr)))
    workshop.work_off(runs_of(cases, seeds))

    command = f"{COMMAND} --seeds {' '.join(map(str, seeds))}"

    def make(claim: str, values: Spread, unit: str, bar: str, holds: bool) -> Result:
        return Result(claim, *values, unit, bar, bool(holds), list(seeds), command, machine())

    tables = [table_of(workshop, case, seeds) for case in cases]
    rows, told = claims(tables, make), notes(tables, seeds)
    if not (quick or arguments.cases or arguments.strategies):
        title = "Strategies of distillation"
        write_results("strategies", title, rows, told, gains(tables, make))
    print("\n".join(told))
    tell(rows)
    return 0


def _quietly(listener: Listener) -> Listener:
    """Without what stands as it was, which is asked for thousands of times."""
    return lambda event: None if event.kind == "reused" else listener(event)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = all_cases()
    names = sorted({s.name for case in known.values() for s in case.strategies})
    parser.add_argument("--quick", action="store_true", help="cuts of the data; writes nothing")
    parser.add_argument("--cases", nargs="+", choices=list(known), help="left out: all")
    parser.add_argument(
        "--strategies", nargs="+", choices=names, metavar="NAME",
        help=f"beside the baselines; left out: all of {'; '.join(names)}",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("runs/strategies"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
