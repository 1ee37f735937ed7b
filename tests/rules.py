"""Rules that the tests of kernels and batches share, and how one is applied to rows of arrays."""
import numpy as np, pytest
from conftest import normal
from optim_nb import batch as batching
from optim_nb.batch import Batch, Part, check_parameter, compute_dtype
from optim_nb.kernels import fused, maximum, minimum, sign, sqrt, where

DTYPES = ["f2", "f4", "f8", "c8", "c16"]


@fused
def bare(g, p): return (p - g,)

@fused
def descend(g, p, lr): return (p - lr * g,)

@fused
def heavy(g, p, b, lr, mu):
    b = mu * b + g
    return p - lr * b, b

@fused
def scaled(g, p, m, v, w1, w2, lr, eps):
    m = m + w1 * (g - m)
    v = v + w2 * (g * g - v)
    return p - lr * m / (sqrt(v) + eps), m, v

@fused
def many(g, p, a, b, c, d, e, f, lr):
    a, b, c, d, e, f = a + g, b + a, maximum(c, b), minimum(d, c), where(g > 0, e + d, e), f + sign(g)
    return p - lr * (a + b + c + d + e + f), a, b, c, d, e, f

@fused
def mixed(g, p, b, v, lr, mu, w1, w2):
    "Sums of two products, of which a compiler could fuse either."
    b = mu * b + w1 * g
    v = mu * v + w2 * (g * g)
    return p - lr * (g * w1 + mu * b) / (sqrt(v) * w2 + w1 * mu), b, v

SCALARS = dict(lr=0.1, mu=0.9, w1=0.1, w2=0.01, eps=1e-8)
RULES = [bare, heavy, scaled, mixed, many]


def scalars(rule): return {s: SCALARS[s] for s in rule.coefficients}

def state_dtype(dtype): return "f4" if np.dtype(dtype) == np.float16 else dtype

def row(rule, shape, dtype="f8", seed=0):
    "Arrays g, p, buffers for one parameter; buffers are positive, for roots."
    buffers = (np.asarray(np.abs(normal(shape, "c16", (seed, k))), state_dtype(dtype)) for k in range(2, len(rule.arrays)))
    return normal(shape, dtype, (seed, 0)), normal(shape, dtype, (seed, 1)), *buffers

def as_real(a, real):
    "The numbers a rule sees: complex as two reals, float16 widened."
    a = np.array(a, np.result_type(real, "c8") if np.iscomplexobj(a) else real)
    return a[..., None].view(real)

def reference(rule, row, sign=1):
    "What the rule gives on arrays: the new p and buffers."
    real = compute_dtype(row[1].dtype)
    g, *written = (as_real(a, real) for a in row)
    values = [real.type(v) for v in scalars(rule).values()]
    with np.errstate(all="ignore"): return [np.array(a) for a in rule(real.type(sign) * g, *written, *values)]

def check(rule, rows, expected, ulps=8):
    "Every written array of `rows` against its reference, within some rounding errors of the largest element."
    for r, new in zip(rows, expected):
        for a, e in zip(r[1:], new):
            stored = np.finfo(a.dtype).eps
            with np.errstate(all="ignore"): scale = np.abs(e[np.isfinite(e)]).max(initial=1)
            np.testing.assert_allclose(as_real(a, e.dtype), e, rtol=ulps * stored, atol=ulps * stored * scale)

def copies(rows): return [tuple(a.copy() for a in r) for r in rows]

class Named(Part):
    "A part whose parameters have names."
    names_given = None
    def name(self, i): return self.names_given[i] if self.names_given else super().name(i)


def apply(rule, rows, coefficients, maximize=False, names=None, decay=(0, 1), storages=(), batch=None, part=None):
    "One step of `rule` on rows (g, p, *buffers) of arrays."
    batch, part = batch or Batch(), part or Named(rule, len(rows), rule.arrays[2:], storages)
    if names: part.names_given = names
    if batch.look([part], [a for column in zip(*rows) for a in column]): batch.check()
    batch.set(0, coefficients, decay, maximize)
    batch.run()
    batch.release()


@pytest.fixture
def threads(monkeypatch):
    "Everything runs on the parallel kernel, in small chunks."
    monkeypatch.setattr(batching, "PARALLEL_FROM", 0)
    monkeypatch.setattr(batching, "CHUNK", 64)
