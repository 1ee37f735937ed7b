"""Record the reference trajectories with torch's plain loop, or report how far torch's other loops are from it.

    python tests/golden/record.py            # writes trajectories.npz
    python tests/golden/record.py --report   # prints the table of README.md
"""
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from cases import CASES, DTYPES, RECORDED, RESUMED, Case, Ruler, pack, run

PLAIN = dict(foreach=False, fused=False)
# Fused SGD fails if one parameter of a group has a momentum buffer and another has none yet: one group for each.
OTHERS = {"foreach": dict(foreach=True), "fused": dict(fused=True, separate=True)}


def torch_run(case: Case, dtype: str, **flags: bool) -> Iterator:
    return run(case, dtype, torch.optim, torch.from_numpy, torch.from_numpy, **flags)


def state_dict_arrays(state_dict: dict) -> dict[str, np.ndarray]:
    """torch's state dict as arrays: `state/{index}/{name}`, and the groups as the text of a Python literal."""
    states = {f"state/{i}/{name}": np.asarray(value).copy() for i, state in state_dict["state"].items()
              for name, value in state.items()}
    return {**states, "param_groups": np.array(repr(state_dict["param_groups"]))}


def record(path: Path) -> None:
    """Write one array per case, dtype and buffer: a row per recorded step, NaN where the buffer did not exist."""
    data = {"torch": np.array(torch.__version__.split("+")[0])}
    for case in CASES:
        for dtype in DTYPES:
            rows, prefix = [], f"{case.name}/{dtype}"
            for step, buffers, optimizer in torch_run(case, dtype, **PLAIN):
                if step in RECORDED:
                    rows.append(pack(buffers, dtype))
                if case.resumable and step == RESUMED:
                    data |= {f"{prefix}/{k}": v for k, v in state_dict_arrays(optimizer.state_dict()).items()}
            for key in rows[-1]:
                missing = np.full_like(rows[-1][key], np.nan)
                data[f"{prefix}/{key}"] = np.stack([row.get(key, missing) for row in rows])
    np.savez_compressed(path, **data)
    print(f"{path.name}: {len(data)} arrays, {path.stat().st_size / 1e6:.2f} MB, torch {data['torch']}")


def report() -> None:
    """Print, for every optimizer, dtype and buffer, torch's largest distance from its own plain loop, in ulps."""
    worst: dict[tuple[str, str, str], dict[str, float]] = defaultdict(lambda: dict.fromkeys(OTHERS, 0.0))
    for case in CASES:
        for dtype in DTYPES:
            for name, flags in OTHERS.items():
                ruler = Ruler()
                for (_, a, _), (_, b, _) in zip(torch_run(case, dtype, **flags), torch_run(case, dtype, **PLAIN)):
                    for key, ulps in ruler(pack(a, dtype, np.ravel), pack(b, dtype, np.ravel)).items():
                        cell = worst[case.optimizer, dtype, key]
                        cell[name] = max(cell[name], ulps)
    print("| optimizer | dtype | buffer |", " | ".join(OTHERS), "|\n|---|---|---|", "---|" * len(OTHERS), sep="")
    for (*row, key), cells in worst.items():
        print("|", " | ".join([*row, f"`{key}`", *[f"{ulps:.1f}" for ulps in cells.values()]]), "|")


if __name__ == "__main__":
    report() if "--report" in sys.argv[1:] else record(Path(__file__).with_name("trajectories.npz"))
