"""Rules, the loops made from them, the arrays they may touch, and the cache of what was compiled."""
import os, shutil
import numpy as np, pytest
from conftest import ROOT, memory_growth, normal, python, same
from optim_nb import kernels
from optim_nb.kernels import Plan, check_parameter, compute_dtype, fused, maximum, minimum, sign, sqrt, where

jit = pytest.mark.skipif(not kernels.JIT, reason="Numba is absent or switched off")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
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

@pytest.fixture
def threads(monkeypatch):
    "Everything runs on the parallel kernel, in small chunks."
    monkeypatch.setattr(kernels, "PARALLEL_FROM", 0)
    monkeypatch.setattr(kernels, "CHUNK", 64)


# ---- a rule and its loops

def test_a_rule_is_still_a_function():
    g, p, b = row(heavy, (4,))
    new_p, new_b = heavy(g, p, b, 0.1, 0.9)
    assert same(new_b, 0.9 * b + g) and same(new_p, p - 0.1 * new_b)
    assert heavy.arrays == ("g", "p", "b") and heavy.coefficients == ("lr", "mu") and heavy.name == "heavy"
    assert heavy.__wrapped__ is heavy.rule and "heavy" in repr(heavy)
    for parallel in (False, True): assert "_rule(" in heavy.source(parallel) and ("prange" in heavy.source(parallel)) == parallel


def test_the_docstring_survives():
    @fused
    def rule(g, p): "Go downhill."; return (p - g,)
    assert rule.__doc__ == "Go downhill." and rule.__module__ == __name__


@pytest.mark.parametrize("wrong", [lambda g, p: p - g, lambda g, p, lr: None, lambda g, p: (p, p), lambda g, p: [p]])
def test_a_rule_must_return_the_tuple_of_new_values(wrong):
    with pytest.raises(TypeError, match="must return a tuple: new values"): fused(wrong)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.name)
def test_serial_and_parallel_loops_equal_the_rule(rule, dtype, monkeypatch):
    shapes = [(), (0,), (1,), (7,), (5, 3), (0, 4), (2, 3, 4), (1023,), (300, 7)]
    rows = [row(rule, s, dtype, i) for i, s in enumerate(shapes)]
    expected, many_threads, one_by_one = [reference(rule, r) for r in rows], copies(rows), copies(rows)
    plan = Plan(rule, rows)
    assert not plan.parallel
    plan.run(scalars(rule))
    check(rule, rows, expected)
    for r in one_by_one: Plan(rule, [r]).run(scalars(rule))
    assert same(one_by_one, rows)
    monkeypatch.setattr(kernels, "PARALLEL_FROM", 0)
    monkeypatch.setattr(kernels, "CHUNK", 64)
    plan = Plan(rule, many_threads)
    assert plan.parallel == kernels.JIT
    plan.run(scalars(rule))
    assert same(many_threads, rows)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("length", [kernels.PARALLEL_FROM - 1, kernels.PARALLEL_FROM, kernels.PARALLEL_FROM + 1, 3 * kernels.CHUNK + 5])
def test_large_arrays_at_the_real_thresholds(length, dtype, monkeypatch):
    first = row(mixed, (length,), dtype)
    second = tuple(a.copy() for a in first)
    for _ in range(2): Plan(mixed, [first]).run(scalars(mixed))
    monkeypatch.setattr(kernels, "PARALLEL_FROM", 2**62)
    for _ in range(2): Plan(mixed, [second]).run(scalars(mixed))
    assert same(first, second)


def test_ten_thousand_tensors_in_one_call(threads):
    big = row(descend, (20_000,), "f4")
    p = big[1].copy()
    rows = [(big[0][i:i + 2], p[i:i + 2]) for i in range(0, 20_000, 2)]
    Plan(descend, rows).run(dict(lr=0.1))
    Plan(descend, [big]).run(dict(lr=0.1))
    assert same(p, big[1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_maximize_flips_the_gradient(dtype):
    up = [row(heavy, (9,), dtype)]
    down = [(-up[0][0], *(a.copy() for a in up[0][1:]))]
    Plan(heavy, up).run(scalars(heavy), maximize=True)
    Plan(heavy, down).run(scalars(heavy))
    assert same(up[0][1:], down[0][1:])


def test_scalars_are_given_by_name():
    rows = [row(heavy, (3,))]
    expected = reference(heavy, rows[0])
    Plan(heavy, rows).run(dict(mu=0.9, lr=0.1))
    check(heavy, rows, [expected])
    before = copies(rows)
    for wrong in (dict(lr=0.1), dict(lr=0.1, mu=0.9, eps=1), dict(lr=0.1, beta=0.9), {}):
        with pytest.raises(TypeError, match="heavy takes the coefficients"): Plan(heavy, rows).run(wrong)
    for wrong in (None, "x", [0.1], np.ones(2)):
        with pytest.raises((TypeError, ValueError)): Plan(heavy, rows).run(dict(lr=wrong, mu=0.9))
    assert same(rows, before)


def test_scalars_are_rounded_once_to_the_dtype_of_the_array():
    g, p = np.ones(3, np.float32), np.zeros(3, np.float32)
    Plan(descend, [(g, p)]).run(dict(lr=1 - 0.999))
    assert same(p, np.full(3, -np.float32(1 - 0.999)))  # and not 1 - float32(0.999), which is 1.3e-5 of it smaller


def test_gradients_are_never_written(threads):
    rows = [row(many, s, d) for s, d in (((7,), "f8"), ((3, 4), "c16"))]
    before = [r[0].copy() for r in rows]
    Plan(many, rows).run(scalars(many), maximize=True)
    assert same([r[0] for r in rows], before)


# ---- functions for rules

SPECIAL = [np.nan, -np.nan, 0.0, -0.0, np.inf, -np.inf, 1.0, -1.0, 0.5, 1e-40, -1e-40, 3e38, -3e38]

@fused
def elementary(g, p, greater, lesser, signs, chosen, root):
    return p, maximum(g, p), minimum(g, p), sign(g), where(g > p, g, -p), sqrt(g)


@pytest.mark.parametrize("loop", ["serial", "parallel"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_elementary_functions_are_those_of_numpy(dtype, loop, request):
    if loop == "parallel": request.getfixturevalue("threads")
    g, p = (np.ravel(a).astype(dtype) for a in np.meshgrid(SPECIAL, SPECIAL))
    out = [np.zeros_like(g) for _ in range(5)]
    Plan(elementary, [(g, p, *out)]).run({})
    with np.errstate(invalid="ignore"):
        expected = np.maximum(g, p), np.minimum(g, p), np.sign(g), np.where(g > p, g, -p), np.sqrt(g)
    for name, got, right in zip(elementary.arrays[2:], out, expected):
        np.testing.assert_array_equal(got, right.astype(dtype), err_msg=name)  # 0 equals -0 here
    np.testing.assert_allclose(out[4], expected[4], rtol=0)


def test_elementary_functions_on_numbers_and_arrays():
    assert maximum(1, 2) == 2 and minimum(1, 2) == 1 and sign(-3.0) == -1 and where(True, 1, 2) == 1 and sqrt(4) == 2
    np.testing.assert_array_equal(where(np.array([True, False]), np.array([1, 2]), 5), [1, 5])
    assert np.isnan([maximum(np.nan, 1), maximum(1, np.nan), minimum(1, np.nan), sign(np.nan)]).all()


def test_literals_in_a_float32_rule_stay_close_to_numpy():
    @fused
    def rule(g, p, b, lr):
        b = 0.9 * b + 0.1 * g
        return p - lr * where(b > 0, 1, b) / 3, b
    rows = [row(rule, (100,), "f4")]
    expected = reference(rule, rows[0])
    Plan(rule, rows).run(dict(lr=0.1))
    check(rule, rows, [expected])


def test_flags_select_a_branch():
    @fused
    def rule(g, p, lr, flag): return (p - lr * g if flag else p + lr * g,)
    for flag, end in ((True, 0.5), (False, 1.5)):
        p = np.ones(3, np.float32)
        Plan(rule, [(np.ones(3, np.float32), p)]).run(dict(lr=0.5, flag=flag))
        assert (p == end).all()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rule", [heavy, scaled], ids=lambda r: r.name)
def test_nan_and_inf_travel_as_in_numpy(rule, value, dtype):
    rows = [row(rule, (33,), dtype)]
    rows[0][0][5] = value
    expected = reference(rule, rows[0])
    Plan(rule, rows).run(scalars(rule))
    check(rule, rows, [expected])
    assert not np.isfinite(rows[0][1][5]) and np.isfinite(np.delete(rows[0][1], 5)).all()


# ---- helpers and constants of a rule

STEP = 0.25

def half(x): return x / 2

def quarter(x): return half(half(x))

def test_a_rule_may_call_functions_and_read_constants():
    local = 2.0
    @fused
    def rule(g, p, lr): return (p - lr * STEP * local * quarter(g),)
    p = np.ones(3)
    Plan(rule, [(np.ones(3), p)]).run(dict(lr=1.0))
    assert (p == 1 - 0.125).all()


# ---- layouts

def strided(a):
    "`a` in every second element of every axis of a larger array full of NaN."
    out = np.full([2 * n for n in a.shape], np.nan, a.dtype)[tuple(slice(None, None, 2) for _ in a.shape)]
    out[...] = a
    return out

LAYOUTS = {
    "contiguous": lambda a: a.copy(),
    "Fortran": lambda a: np.asfortranarray(a.copy()),
    "transposed": lambda a: a.transpose(1, 2, 0).copy().transpose(2, 0, 1),
    "strided": strided,
    "reversed": lambda a: a[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "strided big-endian": lambda a: strided(a.astype(a.dtype.newbyteorder(">"))),
    "field of a record": lambda a: _field(a),
    "unaligned": lambda a: _unaligned(a),
}

def _field(a):
    record = np.zeros(a.shape, [("flag", "u1"), ("value", a.dtype)])
    record["value"] = a
    return record["value"]

def _unaligned(a):
    out = np.zeros(a.nbytes + 1, "u1")[1:].view(a.dtype).reshape(a.shape)
    out[...] = a
    return out


@pytest.mark.parametrize("loop", ["serial", "parallel"])
@pytest.mark.parametrize("dtype", ["f4", "c16"])
@pytest.mark.parametrize("gradient", LAYOUTS)
@pytest.mark.parametrize("parameter", LAYOUTS)
def test_every_layout_is_updated_in_place(parameter, gradient, dtype, loop, request):
    if loop == "parallel": request.getfixturevalue("threads")
    plain = row(heavy, (4, 3, 5), dtype)
    p, g = LAYOUTS[parameter](plain[1]), LAYOUTS[gradient](plain[0])
    buffer, base = LAYOUTS[gradient](plain[2]), p.base
    gaps = np.isnan(base).sum() if parameter.startswith("strided") else None
    plan = Plan(heavy, [(g, p, buffer)])
    for _ in range(2): plan.run(scalars(heavy))
    other = Plan(heavy, [plain])
    for _ in range(2): other.run(scalars(heavy))
    np.testing.assert_array_equal(p, plain[1])
    np.testing.assert_array_equal(buffer, plain[2])
    if gaps is not None: assert np.isnan(base).sum() == gaps  # nothing between the elements was touched


def test_the_array_the_user_holds_changes():
    base = np.arange(24.0).reshape(4, 6)
    expected = base.copy()
    expected[1:3, ::-2] -= 1
    Plan(descend, [(np.ones((2, 3)), base[1:3, ::-2])]).run(dict(lr=1.0))
    assert same(base, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_dimensional_and_empty_arrays(dtype):
    p, empty = np.array(1, dtype), np.zeros((0, 3), dtype)
    Plan(descend, [(np.array(1, dtype), p), (np.zeros((0, 3), dtype), empty)]).run(dict(lr=0.5))
    assert p == 0.5 and p.shape == () and empty.shape == (0, 3)
    Plan(descend, [(empty, empty.copy())]).run(dict(lr=0.5))


def test_complex_numbers_are_pairs_of_reals():
    g, p, m, v = row(scaled, (50,), "c16")
    parts = [tuple(np.ascontiguousarray(getattr(a, part)) for a in (g, p, m, v)) for part in ("real", "imag")]
    Plan(scaled, [(g, p, m, v)]).run(scalars(scaled))
    Plan(scaled, parts).run(scalars(scaled))
    for a, re, im in zip((p, m, v), parts[0][1:], parts[1][1:]): assert same(a.real.copy(), re) and same(a.imag.copy(), im)


def test_float16_is_computed_in_float32():
    p, g = np.ones(4, np.float16), np.full(4, 1e-5, np.float16)
    m, v = np.zeros(4, np.float32), np.zeros(4, np.float32)
    Plan(scaled, [(g, p, m, v)]).run(dict(w1=1.0, w2=1.0, lr=0.25, eps=1e-12))
    np.testing.assert_allclose(v, np.float32(g) ** 2, rtol=1e-6)  # 1e-10 would be zero in float16
    np.testing.assert_allclose(p, 0.75, rtol=1e-3)
    assert p.dtype == np.float16


def test_a_memory_mapped_file(tmp_path):
    a = np.memmap(tmp_path / "p", "f4", "w+", shape=(100,))
    a[:] = 1
    Plan(descend, [(np.ones(100, "f4"), a)]).run(dict(lr=0.25))
    a.flush()
    assert (np.fromfile(tmp_path / "p", "f4") == 0.75).all()


def test_gradients_may_be_read_only_or_broadcast():
    g = np.broadcast_to(np.float64(1), (3, 4))
    p = np.ones((3, 4))
    plan = Plan(descend, [(g, p)])
    plan.run(dict(lr=0.25))
    frozen = np.ones((3, 4))
    frozen.flags.writeable = False
    plan.rebind([frozen]).run(dict(lr=0.25))
    assert (p == 0.5).all()


# ---- refusals: nothing is written

def frozen(a):
    a.flags.writeable = False
    return a

BAD_PARAMETERS = {
    "read-only": (lambda: frozen(np.ones(4)), ValueError, "read-only"),
    "integer": (lambda: np.ones(4, int), TypeError, "can't optimize dtype int64"),
    "bool": (lambda: np.ones(4, bool), TypeError, "can't optimize dtype bool"),
    "long double": (lambda: np.ones(4, np.longdouble), TypeError, "can't optimize dtype"),
    "object": (lambda: np.ones(4, object), TypeError, "can't optimize dtype object"),
    "a list": (lambda: [1.0] * 4, TypeError, "must hold a NumPy array, got list"),
    "a number": (lambda: np.float64(1), TypeError, "must hold a NumPy array, got float64"),
    "broadcast": (lambda: np.lib.stride_tricks.as_strided(np.ones(1), (4,), (0,)), ValueError, "share memory"),
    "sliding window": (lambda: np.lib.stride_tricks.as_strided(np.ones(5), (2, 4), (8, 8)), ValueError, "share memory"),
    "interlocked": (lambda: np.lib.stride_tricks.as_strided(np.ones(99), (5, 4), (3 * 8, 4 * 8)), ValueError, "share memory"),
}


@pytest.mark.parametrize("make, error, message", BAD_PARAMETERS.values(), ids=BAD_PARAMETERS)
def test_bad_parameters_are_refused(make, error, message):
    bad, good = make(), np.ones(3)
    with pytest.raises(error, match="weights.*" + message): check_parameter(bad, "weights")
    with pytest.raises(error, match="second.*" + message):
        Plan(descend, [(np.ones(3), good), (np.ones_like(bad), bad)], ["first", "second"])
    if isinstance(bad, np.ndarray):  # as a state buffer
        with pytest.raises((error, ValueError)):
            Plan(heavy, [(np.ones(bad.shape), np.ones(bad.shape), bad)])
    assert (good == 1).all() and np.all(np.asarray(bad) == 1)


@pytest.mark.parametrize("shape, strides", [((3, 4), (7, 2)), ((3, 4), (2, 7)), ((2, 3, 4), (1, 2, 6)), ((4, 5), (4, 3)), ((3, 4), (4, 6))])
def test_self_overlap_is_found_exactly(shape, strides):
    view = np.lib.stride_tricks.as_strided(np.ones(100), shape, [8 * s for s in strides])
    offsets = [sum(i * s for i, s in zip(index, strides)) for index in np.ndindex(shape)]
    if len(set(offsets)) == len(offsets): check_parameter(view)
    else:
        with pytest.raises(ValueError, match="share memory"): check_parameter(view)


BAD_GRADIENTS = {
    "shape": (np.ones((3, 1)), RuntimeError, r"grad has shape \(3, 1\), but the parameter has shape \(3,\)"),
    "dtype": (np.ones(3, "f4"), RuntimeError, "grad has dtype float32, but the parameter has dtype float64"),
    "integers": (np.ones(3, int), RuntimeError, "grad has dtype int64"),
    "list": ([1.0, 1.0, 1.0], TypeError, "grad must be a NumPy array, got list"),
}


@pytest.mark.parametrize("bad, error, message", BAD_GRADIENTS.values(), ids=BAD_GRADIENTS)
def test_bad_gradients_are_refused(bad, error, message):
    ps, good = [np.ones(3), np.ones(3)], np.ones(3)
    with pytest.raises(error, match="parameter 1.*" + message): Plan(descend, [(good, ps[0]), (bad, ps[1])])
    plan = Plan(descend, [(good, ps[0]), (good, ps[1])])
    with pytest.raises(error, match="parameter 1.*" + message): plan.rebind([good.copy(), bad])
    assert same(ps, [np.ones(3)] * 2)
    plan.run(dict(lr=0.5))  # the plan still holds the gradients it had
    assert same(ps, [np.full(3, 0.5)] * 2)


@pytest.mark.parametrize("buffer, error", [(np.ones(4), ValueError), (np.ones((3, 1)), ValueError), (np.ones(3, "f4"), TypeError),
                                           (np.ones(3, "c16"), TypeError), (np.ones(3, int), TypeError)])
def test_bad_buffers_are_refused(buffer, error):
    p, before = np.ones(3), buffer.copy()
    with pytest.raises(error, match="b of parameter 0"): Plan(heavy, [(np.ones(3), p, buffer)])
    assert same((p, buffer), (np.ones(3), before))


def test_the_number_of_arrays_must_fit():
    with pytest.raises(TypeError, match=r"heavy takes the arrays \(g, p, b\), got 2 arrays"): Plan(heavy, [(np.ones(3), np.ones(3))])
    with pytest.raises(TypeError, match="share their compute dtype"):
        Plan(descend, [(np.ones(3), np.ones(3)), (np.ones(3, "f4"), np.ones(3, "f4"))])


OVERLAPS = {
    "the same array": lambda a: (a[:4], a[:4]),
    "one element": lambda a: (a[:4], a[3:7]),
    "strided and run": lambda a: (a[::3], a[6:8]),
    "strided": lambda a: (a[::2], a[::3]),
    "reversed": lambda a: (a[:5], a[4:9][::-1]),
    "real part": lambda a: (a[:4], a[:4].view("c16").real),
}


@pytest.mark.parametrize("views", OVERLAPS.values(), ids=OVERLAPS)
@pytest.mark.parametrize("swap", [False, True])
def test_two_parameters_in_the_same_memory_are_refused(views, swap):
    a = normal((12,))
    before, pair = a.copy(), list(views(a))[:: -1 if swap else 1]
    others = [(np.ones(3), np.ones(3)) for _ in range(3)]
    with pytest.raises(ValueError, match="one.*two.*share memory|two.*one.*share memory"):
        Plan(descend, [*others, *((np.ones(p.shape), p) for p in pair)], ["x", "y", "z", "one", "two"])
    assert same(a, before)


def test_parameter_and_buffer_in_the_same_memory_are_refused():
    p = np.ones(4)
    for buffer in (p, p[::-1]):
        with pytest.raises(ValueError, match="share memory"): Plan(heavy, [(np.ones(4), p, buffer)])
    b = np.ones(4)
    with pytest.raises(ValueError, match="share memory"): Plan(heavy, [(np.ones(4), p, b), (np.ones(4), p.copy(), b)])
    assert (p == 1).all() and (b == 1).all()


DISJOINT = {
    "every second": lambda a: [a.ravel()[::2], a.ravel()[1::2]],
    "columns": lambda a: [a[:, j] for j in range(a.shape[1])],
    "blocks": lambda a: [a[:3, :2], a[:3, 2:], a[3:, ::2], a[3:, 1::2]],
    "neighbours": lambda a: [a[:2], a[2:4], a[4:]],
    "parts": lambda a: [a.ravel().view("c16").real, a.ravel().view("c16").imag],
}


@pytest.mark.parametrize("views", DISJOINT.values(), ids=DISJOINT)
def test_interleaved_views_of_one_array_are_fine(views, threads):
    a = normal((6, 4))
    before = a.copy()
    Plan(descend, [(np.ones(p.shape), p) for p in views(a)]).run(dict(lr=0.5))
    assert same(a, before - 0.5)


# ---- gradients that are someone's memory

ALIASES = {
    "its own parameter": lambda p, q, b: (p, np.ones(40)),
    "its own parameter backwards": lambda p, q, b: (p[::-1], np.ones(40)),
    "the other parameter": lambda p, q, b: (q, p),
    "part of both": lambda p, q, b: (np.concatenate([p, q])[5:45], p.base[20:60]),
    "a buffer": lambda p, q, b: (b, b[::-1]),
    "one gradient for both": lambda p, q, b: (g := np.arange(40.0), g),
}


@pytest.mark.parametrize("loop", ["serial", "parallel"])
@pytest.mark.parametrize("rebound", [False, True])
@pytest.mark.parametrize("alias", ALIASES.values(), ids=ALIASES)
def test_an_aliased_gradient_gives_the_simultaneous_update(alias, rebound, loop, request):
    if loop == "parallel": request.getfixturevalue("threads")
    both = normal((80,))
    p, q = both[:40], both[40:]
    bp, bq = normal((40,), seed=5), normal((40,), seed=6)
    gp, gq = alias(p, q, bp)
    free = [(gp.copy(), p.copy(), bp.copy()), (gq.copy(), q.copy(), bq.copy())]
    if rebound: plan = Plan(heavy, [(np.ones(40), p, bp), (np.ones(40), q, bq)]).rebind([gp, gq])
    else: plan = Plan(heavy, [(gp, p, bp), (gq, q, bq)])
    for step in range(3):
        plan.run(scalars(heavy))
        Plan(heavy, free).run(scalars(heavy))
        assert same((p, bp, q, bq), (*free[0][1:], *free[1][1:]))
        gradients = alias(p, q, bp)
        plan = plan.rebind(list(gradients))
        free = [(g.copy(), *r[1:]) for g, r in zip(gradients, free)]


def test_new_gradients_are_taken_up():
    p = np.zeros(3)
    plan = Plan(descend, [(np.ones(3), p)])
    plan.run(dict(lr=1.0))
    plan = plan.rebind([np.full(3, 10.0)])
    plan.run(dict(lr=1.0))
    plan = plan.rebind([np.full(6, 100.0)[::2]])
    plan.run(dict(lr=1.0))
    plan = plan.rebind([np.full(3, 1000.0)])
    plan.run(dict(lr=1.0))
    plan = plan.rebind([np.full(3, 1e4).astype(">f8")])
    plan.run(dict(lr=1.0))
    assert (p == -11111).all()


def test_a_plan_holds_its_arrays():
    def make():
        p = np.ones(5000)
        return Plan(descend, [(np.ones(5000), p)]), p
    plan, p = make()
    junk = [np.full(5000, 7.0) for _ in range(50)]  # would reuse freed memory
    plan.run(dict(lr=0.5))
    assert (p == 0.5).all() and len(junk) == 50


def test_no_memory_is_lost_over_many_calls():
    rows = [row(heavy, (1000,), "f4"), row(heavy, (500, 2), "f4")]
    def work():
        plan = Plan(heavy, rows)
        for _ in range(300):
            plan = plan.rebind([g.copy() for g, *_ in rows])
            plan.run(scalars(heavy))
    assert memory_growth(work) < 20_000


# ---- the cache on disk

@pytest.fixture(scope="module")
def package(tmp_path_factory):
    "A copy of the package that has never been run."
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "optim_nb", folder / "optim_nb", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


RULE = '''
import numpy as np
from optim_nb.kernels import Plan, fused
from numba.extending import register_jitable
STEP = 2.0
LIMITS = (1.0, 3.0)
@register_jitable
def inner(x): return x * 5.0
@register_jitable
def helper(x, factor=1.0): return inner(x) * factor
@fused
def rule(g, p, lr): return (p - lr * STEP * LIMITS[0] * helper(g) * 1.0,)
p = np.zeros(4)
Plan(rule, [(np.ones(4), p)]).run(dict(lr=1.0))
stats = rule.loop().stats
result = -p[0], sum(stats.cache_hits.values()), sum(stats.cache_misses.values())
'''

VARIANTS = '''
import sys, types
def run(*edit):
    module = sys.modules["rules"] = types.ModuleType("rules")
    exec(compile(RULE.replace(*edit), "rules.py", "exec"), module.__dict__)
    return module.result
print(run("", ""))
if SECOND:
    for edit in [("* 1.0,", "* 3.0,"), ("STEP = 2.0", "STEP = 4.0"), ("(1.0, 3.0)", "(7.0, 3.0)"), ("x * 5.0", "x * 6.0"),
                 ("factor=1.0", "factor=9.0"), ("p - lr", "p + lr"), ("@fused", "#\\n@fused")]: print(run(*edit))
'''


@jit
def test_the_cache_hits_in_a_second_process_and_misses_after_an_edit(package):
    code = f"RULE = {RULE!r}\nSECOND = %s" + VARIANTS
    assert python(code % False, package) == "(np.float64(10.0), 0, 1)\n"
    unedited, *edited, moved = python(code % True, package).splitlines()
    assert unedited == "(np.float64(10.0), 1, 0)"
    expected = [30, 20, 70, 12, 90, -10]
    assert edited == [f"(np.float64({e:.1f}), 0, 1)" for e in expected]
    assert moved == unedited  # the same code further down


@jit
def test_the_cache_of_an_optimizer_hits_in_a_second_process(package):
    code = '''
import numpy as np, optim_nb
from optim_nb.optimizers.adam import adam_rule
p = optim_nb.Parameter(np.ones(4, np.float32)); p.grad = np.ones(4, np.float32)
opt = optim_nb.Adam([p]); opt.step(); opt.step()
stats = adam_rule.loop().stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
'''
    assert [python(code, package) for _ in range(2)] == ["0 1\n", "1 0\n"]


@jit
def test_a_place_where_nothing_can_be_written(tmp_path):
    "Files where the cache folders would be: a step then compiles for this process alone."
    shutil.copytree(ROOT / "optim_nb", tmp_path / "optim_nb", ignore=shutil.ignore_patterns("__pycache__"))
    for blocked in ("optim_nb/__pycache__", "home"): (tmp_path / blocked).touch()
    home = str(tmp_path / "home")
    code = '''
import numpy as np, optim_nb
p = optim_nb.Parameter(np.ones(4)); p.grad = np.ones(4)
optim_nb.SGD([p], lr=0.5).step()
print(p.data)
'''
    out = python(code, tmp_path, HOME=home, XDG_CACHE_HOME=home, LOCALAPPDATA=home, PYTHONDONTWRITEBYTECODE="1")
    assert out == "[0.5 0.5 0.5 0.5]\n" and (tmp_path / "optim_nb/__pycache__").is_file()


# ---- processes and threads

@forks
def test_forked_children_and_threads():
    "Parallel steps in the parent, then in forked children, then in two threads at once: no deadlock, the same numbers."
    code = '''
import multiprocessing, os, threading, warnings
import numpy as np
from optim_nb import Adam, Parameter, SGD, kernels
warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads

def trained(make, steps=3):
    p = Parameter(np.ones(2 * kernels.PARALLEL_FROM, np.float32))
    p.grad = np.linspace(-1, 1, p.data.size, dtype=np.float32)
    opt = make([p])
    for _ in range(steps): opt.step()
    return p.data.tobytes()

def adam(p): return Adam(p, lr=0.1)
def sgd(p): return SGD(p, lr=0.1, momentum=0.9)
expected = {make: trained(make) for make in (adam, sgd)}

def child(make): os._exit(0 if trained(make) == expected[make] else 1)
context = multiprocessing.get_context("fork")
children = [context.Process(target=child, args=(make,)) for make in expected]
for c in children: c.start()
for c in children: c.join(60)
assert [c.exitcode for c in children] == [0, 0], children
pid = os.fork()
if not pid: child(adam)
assert os.waitpid(pid, 0)[1] == 0

results, start = {}, threading.Barrier(4)
def work(k, make):
    start.wait()
    results[k] = trained(make, 30)
threads = [threading.Thread(target=work, args=(k, make)) for k, make in enumerate((adam, sgd, adam, sgd))]
for t in threads: t.start()
for t in threads: t.join()
assert results == {k: trained(make, 30) for k, make in enumerate((adam, sgd, adam, sgd))}
print("fine")
'''
    assert python(code) == "fine\n"


# ---- without Numba

@jit
@pytest.mark.parametrize("how, suite", [("switched off", ["kernels", "optimizer", "lr_scheduler", "examples"]), ("absent", ["lr_scheduler", "examples"])])
def test_the_same_tests_pass_without_numba(how, suite):
    "Both are the same to the package, so that one of them runs everything and the other a little."
    block = "import sys; sys.modules['numba'] = None; " if how == "absent" else ""
    args = ["-x", "-p", "no:cacheprovider", "-k", "not memory and not forked", *(f"tests/test_{name}.py" for name in suite)]
    python(f"{block}import sys, pytest; from optim_nb import kernels; assert not kernels.JIT; sys.exit(pytest.main({args}))", ROOT,
           timeout=300, NUMBA_DISABLE_JIT="1" if how == "switched off" else "0")
