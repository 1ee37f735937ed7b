"""optim_nb against trajectories recorded from PyTorch, and against PyTorch itself where it is installed."""
import ast
import inspect
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from golden.cases import CASES, DTYPES, RECORDED, RESUMED, Case, collect, run, start, torch_optimizers, ulps

import optim_nb

GOLDEN = Path(__file__).with_name("golden")
USUAL, MOST = 20, 40  # ulps, for 99 % of the elements and for all of them: tests/golden/README.md says why

all_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
resumable_cases = pytest.mark.parametrize("case", [c for c in CASES if c.resumable], ids=lambda case: case.name)
all_dtypes = pytest.mark.parametrize("dtype", DTYPES)


@cache
def recorded_runs(optimizer: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{optimizer}.npz") as data:
        return dict(data)


@pytest.fixture
def golden(request):
    """The recorded runs of the case's optimizer."""
    return recorded_runs(request.getfixturevalue("case").optimizer)


def entries(golden: dict, *path: str) -> dict[str, np.ndarray]:
    """Everything under `path`, by the rest of its name."""
    prefix = "/".join(path) + "/"
    return {key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)}


def tables(golden: dict, case: Case, dtype: str) -> dict[str, np.ndarray]:
    return {key: table for key, table in entries(golden, case.name, dtype).items()
            if table.ndim == 2 and "/" not in key}


def torch_state_dict(golden: dict, case: Case, dtype: str) -> dict:
    state: dict[int, dict[str, np.ndarray]] = {}
    for key, value in entries(golden, case.name, dtype, "state").items():
        index, name = key.split("/")
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": ast.literal_eval(str(golden[f"{case.name}/{dtype}/param_groups"]))}


def is_close(distances: dict[str, tuple[float, float]], tolerance: tuple[float, float] = (USUAL, MOST)) -> bool:
    return all(usual <= tolerance[0] and most <= tolerance[1] for usual, most in distances.values())


def assert_close(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray], case: Case, dtype: str) -> None:
    distances = ulps(actual, expected)
    assert is_close(distances, case.tolerance.get(dtype, (USUAL, MOST))), distances


def nb_run(case: Case, dtype: str, **options):
    return run(case, dtype, optim_nb, optim_nb.Parameter, **options)


@all_dtypes
@all_cases
def test_replays_torch(case, dtype, golden):
    """Parameters and every buffer of torch's state, under torch's names, present from the same step on."""
    assert_close(collect(nb_run(case, dtype), dtype), tables(golden, case, dtype), case, dtype)


@all_dtypes
@resumable_cases
def test_continues_from_torchs_state_dict(case, dtype, golden):
    """Half-way, torch's own state dict is loaded into a new optimizer; the rest of the run is torch's."""
    recorded = tables(golden, case, dtype)
    row = recorded["param"][RECORDED.index(RESUMED)]
    params = {name: start(name, dtype) for name in case.shapes}
    for array, piece in zip(params.values(), np.split(row, np.cumsum([array.size for array in params.values()])[:-1])):
        array[...] = piece.reshape(array.shape)
    resumed = nb_run(case, dtype, resume=(params, torch_state_dict(golden, case, dtype)))
    assert_close(collect(resumed, dtype), {key: table[RECORDED.index(RESUMED):] for key, table in recorded.items()}, case, dtype)


@all_dtypes
@pytest.mark.parametrize("slip", [
    pytest.param(dict(betas=(0.9, float(np.float32(0.999)))), id="1-beta2 from a float32 beta2"),
    pytest.param(dict(eps=2e-8), id="eps doubled"),
    pytest.param(dict(lr=0.05 * (1 + 4e-6)), id="step size 4e-6 off"),
    pytest.param(dict(weight_decay=1e-6), id="a trace of weight decay"),
])
def test_tolerance_notices(slip, dtype):
    """Errors of the kind a port makes are beyond the tolerance."""
    case, = (c for c in CASES if c.optimizer == "Adam" and c.options == dict(lr=0.05) and not c.second)
    wrong = replace(case, options=case.options | slip)
    assert not is_close(ulps(collect(nb_run(wrong, dtype), dtype), tables(recorded_runs("Adam"), case, dtype)))


@resumable_cases
def test_leaves_gaps_of_strided_parameters_alone(case):
    """The array behind a strided parameter keeps its NaN everywhere else."""
    for _, buffers, _ in nb_run(case, "float32"):
        strided = buffers["param"]["strided"]
    assert np.count_nonzero(~np.isnan(strided.base)) == strided.size


@pytest.fixture
def torch():
    module = pytest.importorskip("torch", reason="torch is not installed: the recorded trajectories are tested alone")
    module.sparse.check_sparse_tensor_invariants.enable()  # torch's Adagrad makes sparse tensors, and warns unless one has chosen
    return module


def torch_run(torch, case: Case, dtype: str, **options):
    options = dict(foreach=False, fused=False) | options
    def coo(indices, values, shape): return torch.sparse_coo_tensor(torch.from_numpy(indices)[None], torch.from_numpy(values), shape)
    return run(case, dtype, torch_optimizers(torch, case), torch.from_numpy, torch.from_numpy, coo, **options)


@pytest.mark.parametrize("path", [{}, dict(foreach=True), dict(fused=True)], ids=["plain", "foreach", "fused"])
@all_dtypes
@all_cases
def test_equals_live_torch(case, dtype, path, torch):
    """The same cases, now all elements of the large parameter, and torch's other implementations."""
    if path.keys() - inspect.signature(getattr(torch.optim, case.optimizer)).parameters.keys():
        return  # torch has no such implementation of this optimizer
    if case.sparse and path:
        return  # nor of this one for sparse gradients
    fused = "fused" in path  # which writes a strided parameter to the wrong places, and needs groups of their own for SGD
    skip, separate = ("strided" if fused else ""), fused
    expected = collect(torch_run(torch, case, dtype, separate=separate, **path), dtype, np.ravel, skip)
    assert_close(collect(nb_run(case, dtype, separate=separate), dtype, np.ravel, skip), expected, case, dtype)


@all_dtypes
@resumable_cases
def test_live_torch_continues_from_our_state_dict(case, dtype, torch):
    """A state dict of optim_nb, its arrays made tensors, continues in torch."""
    expected = collect(nb_run(case, dtype), dtype)
    _, buffers, optimizer = next(item for item in nb_run(case, dtype) if item[0] == RESUMED)
    saved = optimizer.state_dict()
    for state in saved["state"].values():
        state |= {key: torch.tensor(value) for key, value in state.items() if value is not None}
    resumed = torch_run(torch, case, dtype, resume=(buffers["param"], saved))
    assert_close(collect(resumed, dtype), {key: table[RECORDED.index(RESUMED):] for key, table in expected.items()}, case, dtype)


SIGNATURES = json.loads((GOLDEN / "signatures.json").read_text())["optim"]


# Arguments of ours that torch has not: keyword-only, last, and torch's behaviour is the default.
EXTRA = {"LBFGS": [["tolerance_curvature", "KEYWORD_ONLY", "None"]],  # torch's test of curvature depends on the units of the loss
         "RMSprop": [["variance_floor", "KEYWORD_ONLY", "None"]]}  # torch's centered variance can be negative


def test_takes_torchs_arguments(optimizer):
    """Names, order, keyword-only or not, and defaults."""
    def arguments(cls): return [[p.name, p.kind.name, repr(p.default) if p.default is not p.empty else None]
                                for p in inspect.signature(cls).parameters.values()]
    assert arguments(optimizer) == SIGNATURES[optimizer.__name__] + EXTRA.get(optimizer.__name__, [])


def test_every_optimizer_has_golden_runs(optimizer):
    """A plain run and one that is resumed, recorded."""
    if optimizer.__name__ == "LBFGS":
        return  # it needs functions, not gradients: golden/closures.py, replayed and resumed in test_lbfgs.py
    cases = [c for c in CASES if c.optimizer == optimizer.__name__]
    assert any(c.resumable for c in cases) and any(not c.resumable for c in cases)
    assert {key.split("/")[0] for key in recorded_runs(optimizer.__name__)} - {"torch"} == {c.name for c in cases}
    assert all(c.reason for c in cases if c.tolerance)
