"""Record the reference trajectories with torch's plain loop, or report how far other implementations are from it.

    python tests/golden/record.py [OPTIMIZER …]            # writes OPTIMIZER.npz, of all without arguments, and signatures.json
    python tests/golden/record.py --report [OPTIMIZER …]   # prints the table of README.md

Needs torch and optim_nb in one environment.
"""
import inspect
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import closures
import numpy as np
import torch
from cases import CASES, DTYPES, RESUMED, Case, collect, run, torch_optimizers, ulps

import optim_nb
from optim_nb.problems import MGH

FOLDER = Path(__file__).parent
torch.sparse.check_sparse_tensor_invariants.enable()  # torch's Adagrad makes sparse tensors, and warns unless one has chosen


def coo(indices: np.ndarray, values: np.ndarray, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.sparse_coo_tensor(torch.from_numpy(indices)[None], torch.from_numpy(values), shape)


def torch_run(case: Case, dtype: str, foreach: bool = False, fused: bool = False, **options: bool) -> Iterator:
    return run(case, dtype, torch_optimizers(torch, case), torch.from_numpy, torch.from_numpy, coo,
               foreach=foreach, fused=fused, **options)


# torch's fused kernels write a strided parameter to the wrong places, so the report leaves it out; and fused SGD fails
# where one parameter of a group has a momentum buffer and another has none yet, so there each is a group of its own.
OTHERS = {"torch foreach": partial(torch_run, foreach=True),
          "torch fused": partial(torch_run, fused=True, separate=True),
          "optim_nb": partial(run, optimizers=optim_nb, parameter=optim_nb.Parameter)}


def state_dict_arrays(state_dict: dict) -> dict[str, np.ndarray]:
    """torch's state dict as arrays: `state/{index}/{name}`, and the groups as the text of a Python literal."""
    states = {f"state/{i}/{name}": np.asarray(value).copy() for i, state in state_dict["state"].items()
              for name, value in state.items()}
    return {**states, "param_groups": np.array(repr(state_dict["param_groups"]))}


def record(optimizer: str) -> None:
    """Write the tables of an optimizer's cases, and torch's state dict half-way through those that are to be resumed."""
    path = FOLDER / f"{optimizer}.npz"
    data = {"torch": np.array(torch.__version__.split("+")[0])}
    for case in (c for c in CASES if c.optimizer == optimizer):
        for dtype in DTYPES:
            prefix = f"{case.name}/{dtype}"
            data |= {f"{prefix}/{key}": table for key, table in collect(torch_run(case, dtype), dtype).items()}
            if case.resumable:
                half_way = next(optimizer for step, _, optimizer in torch_run(case, dtype) if step == RESUMED)
                data |= {f"{prefix}/{k}": v for k, v in state_dict_arrays(half_way.state_dict()).items()}
    np.savez_compressed(path, **data)
    print(f"{path.name}: {len(data)} arrays, {path.stat().st_size / 1e6:.2f} MB, torch {data['torch']}")


def record_closures(optimizer: str = "LBFGS") -> None:
    """Write the runs of `closures.py`, and torch's state dict within each that is to be matched."""
    data = {"torch": np.array(torch.__version__.split("+")[0])}
    for case in closures.RUNS:
        data |= {f"{case.name}/{k}": v for k, v in closures.collect(closures.run(case, torch.optim, torch.from_numpy, torch.from_numpy)).items()}
        for step, values, half_way in closures.run(case, torch.optim, torch.from_numpy, torch.from_numpy):
            if step == closures.RESUMED and not case.differs:
                saved = half_way.state_dict()
                state = {k: np.array([np.nan if x is None else np.asarray(x) for x in v]) if isinstance(v, list) else np.asarray(v).copy()
                         for k, v in saved["state"][0].items()}
                data |= {f"{case.name}/state/{k}": v for k, v in state.items()}
                data[f"{case.name}/param_groups"] = np.array(repr(saved["param_groups"]))
    path = FOLDER / f"{optimizer}.npz"
    np.savez_compressed(path, **data)
    print(f"{path.name}: {len(data)} arrays, {path.stat().st_size / 1e6:.2f} MB, torch {data['torch']}")


def record_evaluations() -> None:
    """Write how many evaluations torch's LBFGS needs on the functions of Moré, Garbow and Hillstrom; null where it stops short."""
    found = {name: closures.evaluations(make(), torch.optim, torch.from_numpy, torch.from_numpy) for name, make in MGH.items()}
    (FOLDER / "evaluations.json").write_text(json.dumps(found, indent=1) + "\n")


def record_signatures() -> None:
    """Write the arguments of torch's optimizers and schedulers: name, kind, default as text."""
    def arguments(cls): return [[p.name, p.kind.name, repr(p.default) if p.default is not p.empty else None]
                                for p in inspect.signature(cls).parameters.values()]
    found = {}
    for module in (torch.optim, torch.optim.lr_scheduler, torch.optim.swa_utils):
        classes = {name: cls for name, cls in vars(module).items() if name in module.__all__ and isinstance(cls, type)}
        found[module.__name__.removeprefix("torch.")] = {name: arguments(cls) for name, cls in sorted(classes.items())}
    (FOLDER / "signatures.json").write_text(json.dumps(found, indent=1) + "\n")


def report(optimizers: set[str]) -> None:
    """Print how far the other implementations are from torch's plain loop, the worst over the cases, as ulps."""
    worst: dict[tuple[str, str, str], dict[str, tuple[float, float]]] = {}
    for case in (c for c in CASES if c.optimizer in optimizers):
        for dtype in DTYPES:
            plain = collect(torch_run(case, dtype), dtype, np.ravel, skip="strided")
            for name, other in OTHERS.items():
                for key, pair in ulps(collect(other(case, dtype), dtype, np.ravel, skip="strided"), plain).items():
                    cells = worst.setdefault((case.optimizer, key, dtype), {})
                    cells[name] = tuple(map(max, pair, cells.get(name, pair)))
    print("| optimizer | buffer | dtype |", *[f"{name} |" for name in OTHERS])
    print("|---|---|---|", "---|" * len(OTHERS), sep="")
    for (optimizer, key, dtype), cells in sorted(worst.items()):
        print(f"| {optimizer} | `{key}` | {dtype} |", *[f"{usual:.1f} / {most:.1f} |" for usual, most in cells.values()])


if __name__ == "__main__":
    wanted = {a for a in sys.argv[1:] if not a.startswith("-")} or {c.optimizer for c in CASES}
    if "--report" in sys.argv[1:]:
        report(wanted)
    else:
        record_signatures()
        for name in sorted(wanted - {"LBFGS"}):
            record(name)
        if "LBFGS" in wanted or not sys.argv[1:]:
            record_closures()
            record_evaluations()
