"""Runs of LBFGS, which calls a closure: on functions, not on given gradients. `record.py LBFGS` runs them through torch,
`test_lbfgs.py` through optim_nb. The functions are NumPy in both, so two runs differ by the optimizer's arithmetic alone."""
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np


@cache
def logistic() -> tuple[Callable, np.ndarray]:
    """Logistic regression on 569 tumours, 30 standardised features and an intercept, with a small L2 penalty."""
    from sklearn.datasets import load_breast_cancer
    x, y = load_breast_cancer(return_X_y=True)
    x = np.column_stack([(x - x.mean(0)) / x.std(0), np.ones(len(x))])
    sign = 2.0 * y - 1

    def f(w):
        z = sign * (x @ w)
        return np.logaddexp(0, -z).mean() + 5e-4 * (w @ w), -(x.T @ (sign / (1 + np.exp(z)))) / len(x) + 1e-3 * w
    return f, np.zeros(31)


def rosenbrock(n: int) -> tuple[Callable, np.ndarray]:
    def f(p):
        x, y, g = p[:-1], p[1:], np.zeros_like(p)
        g[:-1] = -2 * (1 - x) - 400 * x * (y - x**2)
        g[1:] += 200 * (y - x**2)
        return ((1 - x)**2 + 100 * (y - x**2)**2).sum(), g
    return f, np.where(np.arange(n) % 2, 1.0, -1.2)


def barrier() -> tuple[Callable, np.ndarray]:
    """100 x - log x, which has its minimum at 0.01 and no value left of 0."""
    def f(p):
        with np.errstate(all="ignore"):
            return (100 * p - np.log(p)).sum(), 100 - 1 / p
    return f, np.array([0.4])


FUNCTIONS = {"rosenbrock 2": lambda: rosenbrock(2), "rosenbrock 10": lambda: rosenbrock(10), "logistic": logistic,
             "barrier": barrier}
RESUMED = 2  # the step after which torch's state dict is stored
VECTORS = "d", "prev_flat_grad", "old_dirs", "old_stps"  # in the state; the other entries are numbers


@dataclass(frozen=True)
class Run:
    """A function, options, and how far from torch the parameters may be at the end."""
    function: str
    options: dict[str, Any] = field(default_factory=dict)
    steps: int = 6
    tolerance: float = 1e-9
    dtype: str = "float64"
    shapes: tuple[tuple[int, ...], ...] = ()  # of the parameters, where not one vector
    differs: bool = False  # recorded to be shown beside, not to be matched

    @property
    def name(self) -> str:
        options = " ".join(f"{k}={v}" for k, v in self.options.items())
        return f"{self.function} {self.dtype} {options}".strip() + f" {self.shapes}" * bool(self.shapes)


wolfe = dict(line_search_fn="strong_wolfe")
RUNS = [
    Run("rosenbrock 2"),
    Run("rosenbrock 2", dict(lr=0.5), steps=5, tolerance=1e-6),
    Run("rosenbrock 2", dict(tolerance_grad=1e-2, tolerance_change=1e-3)),
    Run("rosenbrock 2", dict(max_iter=4, max_eval=3)),
    Run("rosenbrock 2", wolfe),
    Run("rosenbrock 2", wolfe | dict(max_iter=1, max_eval=30), steps=30),
    Run("rosenbrock 2", wolfe | dict(max_iter=3, max_eval=9, history_size=2), steps=12),
    Run("rosenbrock 2", wolfe | dict(lr=0.1, max_eval=60), steps=4),
    Run("rosenbrock 10", steps=3, tolerance=1e-5),
    Run("rosenbrock 10", wolfe, tolerance=1e-6),
    Run("rosenbrock 10", wolfe, tolerance=1e-6, shapes=((), (3,), (2, 3))),
    Run("rosenbrock 10", wolfe | dict(max_iter=5, max_eval=15, history_size=3), steps=8, tolerance=1e-6),
    Run("rosenbrock 10", wolfe | dict(tolerance_grad=0.1), tolerance=1e-6),
    Run("logistic", dict(max_iter=10), steps=4, tolerance=1e-8),
    Run("logistic", wolfe | dict(max_iter=10), steps=4, tolerance=1e-8),
    Run("logistic", wolfe | dict(max_iter=10, history_size=5), steps=4, tolerance=1e-8),
    Run("logistic", wolfe | dict(max_iter=5), steps=3, tolerance=1e-3, dtype="float32"),
    Run("rosenbrock 2", wolfe | dict(max_iter=5, max_eval=15), steps=3, tolerance=1e-3, dtype="float32"),
    Run("rosenbrock 2", wolfe | dict(max_eval=1), steps=2, differs=True),
    Run("barrier", wolfe, differs=True),
    Run("barrier", dict(), differs=True),
]


def run(case: Run, library: ModuleType, parameter: Callable, tensor: Callable = np.asarray,
        resume: tuple[np.ndarray, dict] | None = None) -> Iterator[tuple[int, dict, Any]]:
    """Yield `(step, values, optimizer)` after each step; `resume` has the point and the state dict after step RESUMED."""
    function, start = FUNCTIONS[case.function]()
    start = (start if resume is None else resume[0]).astype(case.dtype)
    shapes, calls = case.shapes or (start.shape,), 0
    ends = np.cumsum([int(np.prod(s)) for s in shapes])
    arrays = [a.reshape(s).copy() for a, s in zip(np.split(start, ends[:-1]), shapes)]
    leaves = [parameter(a) for a in arrays]
    optimizer = library.LBFGS(leaves, **case.options)
    if resume:
        optimizer.load_state_dict(resume[1])

    def closure():
        nonlocal calls
        calls += 1
        loss, grad = function(np.concatenate([a.ravel() for a in arrays]).astype("float64"))
        for leaf, piece, shape in zip(leaves, np.split(grad.astype(case.dtype), ends[:-1]), shapes):
            leaf.grad = tensor(piece.reshape(shape))
        return tensor(np.asarray(loss))
    for step in range(RESUMED + 1 if resume else 1, case.steps + 1):
        loss = float(optimizer.step(closure))
        state = dict(optimizer.state[leaves[0]])
        values = dict(loss=loss, calls=calls, pairs=len(state.get("old_dirs") or ()),
                      param=np.concatenate([a.ravel() for a in arrays]).astype("float64"))
        yield step, values, optimizer


def collect(steps: Iterator) -> dict[str, np.ndarray]:
    """A table of each value, a row for each step; the numbers and vectors of the state after the last."""
    rows: dict[str, list] = {}
    for _, values, optimizer in steps:
        for key, value in values.items():
            rows.setdefault(key, []).append(value)
        state, = optimizer.state.values()
        for key in ("func_evals", "n_iter", "t", "H_diag", "prev_loss"):
            rows.setdefault(key, []).append(float(state.get(key, np.nan)))
    return {key: np.array(row) for key, row in rows.items()}


def evaluations(problem, library: ModuleType, parameter: Callable, tensor: Callable = np.asarray, left: float = 1e-6, calls: int = 500,
                **options: Any) -> int | None:
    """After how many evaluations of a problem of `MGH` LBFGS has `left` of the first gap to the published minimum; None: never."""
    array, seen = problem.start.copy(), []
    leaf = parameter(array)

    def closure():
        with np.errstate(all="ignore"):
            seen.append(float(problem(array)))
            leaf.grad = tensor(problem.grad(array))
        return tensor(np.asarray(seen[-1]))
    library.LBFGS([leaf], max_iter=10**6, max_eval=calls, tolerance_grad=0, tolerance_change=0, history_size=10,
                  line_search_fn="strong_wolfe", **options).step(closure)
    hit = np.flatnonzero(np.array(seen) - problem.fmin < left * (seen[0] - problem.fmin))
    return int(hit[0]) + 1 if hit.size else None
