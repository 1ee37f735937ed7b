"""What the optimizers' table measures by running them: bytes of state, and the changes of a problem that do not change the path."""
import inspect
from functools import cache

import numpy as np

STEPS, SHAPE = 12, (6, 4)
CHANGES = {  # of a quadratic problem: what it is called in the table
    "loss": "loss × c", "terms": "g × D", "unit": "θ × c", "coordinates": "θ × D", "rotation": "rotation",
    "sides": "rotation of rows and columns",
}
IMPLIED = {"loss": "terms", "unit": "coordinates", "sides": "rotation"}  # not said where the other is
OPTIONS = {  # beside those of `options`
    "SGD": dict(momentum=0.9),
    "Adadelta": dict(lr=1e13),  # lr √eps is the length of its first step
    "Adafactor": dict(eps=(1e-30, 1e-30)),
    "LBFGS": dict(lr=1, line_search_fn="strong_wolfe", max_iter=1, max_eval=50, tolerance_grad=0, tolerance_change=0),
}


def options(cls):
    """Options under which the rule is seen alone: no decay, and an eps that plays no part."""
    plain = dict(lr=0.01, eps=1e-30, weight_decay=0, lambd=0)
    return {k: v for k, v in plain.items() if k in inspect.signature(cls).parameters} | OPTIONS.get(cls.__name__, {})


def run(cls, slope, start, steps=STEPS, shape=SHAPE, **chosen):
    """The path of an optimizer down ½ θ·slope(θ), one row a step, and the optimizer; θ is a vector here, a matrix there."""
    from optim_nb.tensor import Parameter, SparseGrad
    p = Parameter(start.reshape(shape).copy())
    opt, path = cls([p], **chosen), []

    def closure():
        g = slope(p.data.ravel()).reshape(shape)
        p.grad = SparseGrad(np.arange(shape[0]), g, shape) if getattr(cls, "refuses_dense", "") else g
        return float(np.vdot(p.data, g)) / 2

    for _ in range(steps):
        opt.step(closure)
        path.append(p.data.ravel().copy())
    return np.array(path), opt


def orthogonal(rng, n):
    """A random rotation (or reflection) of n dimensions."""
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


def problems():
    """For each change: the matrix of the problem, that of the changed problem, and the map T that should take path to path."""
    rng, n = np.random.default_rng(0), SHAPE[0] * SHAPE[1]
    curvature, D = np.geomspace(0.1, 10, n), np.diag(np.exp(rng.normal(size=n)))
    turn, plain = orthogonal(rng, n), np.eye(n)
    dense = turn.T @ np.diag(curvature) @ turn

    def moved(T): return dense, np.linalg.inv(T).T @ dense @ np.linalg.inv(T), T
    return {
        "loss": (dense, 7.3 * dense, plain),
        "terms": (np.diag(curvature), D @ np.diag(curvature), plain),  # a sum of terms, one for each coordinate
        "unit": moved(7.3 * plain), "coordinates": moved(D), "rotation": moved(orthogonal(rng, n)),
        "sides": moved(np.kron(orthogonal(rng, SHAPE[0]), orthogonal(rng, SHAPE[1]))),
    }


@cache
def errors(cls):
    """For each change, how far the path is from where it should be, relative to how far it goes."""
    start, found = np.random.default_rng(1).normal(size=SHAPE[0] * SHAPE[1]), {}
    for name, (H, changed, T) in problems().items():
        path, _ = run(cls, lambda x, H=H: H @ x, start, **options(cls))
        other, _ = run(cls, lambda x, H=changed: H @ x, T @ start, **options(cls))
        found[name] = float(abs(other - path @ T.T).max() / abs((path - start) @ T.T).max())
    return found


def unchanged(cls, tolerance=1e-8):
    """The changes that leave the path as it was, but for rounding."""
    return {name for name, error in errors(cls).items() if error < tolerance}


def invariances(cls):
    """The same in words, without what follows from another."""
    found = unchanged(cls)
    return ", ".join(text for name, text in CHANGES.items() if name in found and IMPLIED.get(name) not in found) or "none"


def size(cls, steps=1, **chosen):
    """Bytes of state for each element of a float32 matrix of 64 × 64, after some steps; counts of steps are left out."""
    slopes, start = np.linspace(1, 2, 4096, dtype=np.float32), np.ones(4096, np.float32)
    _, opt = run(cls, lambda x: slopes * x, start, steps, (64, 64), **chosen)
    def arrays(x):
        if isinstance(x, np.ndarray): return [x] if x.ndim else []
        return [a for v in (x.values() if isinstance(x, dict) else x if isinstance(x, (list, tuple)) else ()) for a in arrays(v)]
    return sum(a.nbytes for state in opt.state.values() for a in arrays(state)) / 4096


@cache
def state(cls):
    """The same as text; for a method that keeps pairs, as a function of their number m."""
    if "history_size" not in inspect.signature(cls).parameters: return f"{size(cls):g}"
    one, two = (size(cls, 4, history_size=m, max_iter=1) for m in (1, 2))
    return f"{2 * one - two:g} + {two - one:g}m"
