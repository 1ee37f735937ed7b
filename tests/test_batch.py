"""The arrays that a step may touch, one call for all of them, threads and processes."""
import os
import numpy as np, pytest
from conftest import memory_growth, normal, python, same
from rules import *
from optim_nb import kernels

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


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
    before = {*rule._loops}
    apply(rule, rows, scalars(rule))
    assert not any(parallel for parallel, _ in {*rule._loops} - before)
    check(rule, rows, expected)
    for r in one_by_one: apply(rule, [r], scalars(rule))
    assert same(one_by_one, rows)
    monkeypatch.setattr(batching, "PARALLEL_FROM", 0)
    monkeypatch.setattr(batching, "CHUNK", 64)
    apply(rule, many_threads, scalars(rule))
    assert any(parallel for parallel, _ in rule._loops) == kernels.JIT
    assert same(many_threads, rows)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("length", [batching.PARALLEL_FROM - 1, batching.PARALLEL_FROM, batching.PARALLEL_FROM + 1, 3 * batching.CHUNK + 5])
def test_large_arrays_at_the_real_thresholds(length, dtype, monkeypatch):
    first = row(mixed, (length,), dtype)
    second = tuple(a.copy() for a in first)
    for _ in range(2): apply(mixed, [first], scalars(mixed))
    monkeypatch.setattr(batching, "PARALLEL_FROM", 2**62)
    for _ in range(2): apply(mixed, [second], scalars(mixed))
    assert same(first, second)


def test_ten_thousand_tensors_in_one_call(threads):
    big = row(descend, (20_000,), "f4")
    p = big[1].copy()
    rows = [(big[0][i:i + 2], p[i:i + 2]) for i in range(0, 20_000, 2)]
    apply(descend, rows, dict(lr=0.1))
    apply(descend, [big], dict(lr=0.1))
    assert same(p, big[1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_maximize_flips_the_gradient(dtype):
    up = [row(heavy, (9,), dtype)]
    down = [(-up[0][0], *(a.copy() for a in up[0][1:]))]
    apply(heavy, up, scalars(heavy), maximize=True)
    apply(heavy, down, scalars(heavy))
    assert same(up[0][1:], down[0][1:])


def test_scalars_are_given_by_name():
    rows = [row(heavy, (3,))]
    expected = reference(heavy, rows[0])
    apply(heavy, rows, dict(mu=0.9, lr=0.1))
    check(heavy, rows, [expected])
    before = copies(rows)
    for wrong in (dict(lr=0.1), dict(lr=0.1, mu=0.9, eps=1), dict(lr=0.1, beta=0.9), {}):
        with pytest.raises(TypeError, match="heavy takes the coefficients"): apply(heavy, rows, wrong)
    for wrong in (None, "x", [0.1], np.ones(2)):
        with pytest.raises((TypeError, ValueError)): apply(heavy, rows, dict(lr=wrong, mu=0.9))
    assert same(rows, before)


def test_scalars_are_rounded_once_to_the_dtype_of_the_array():
    g, p = np.ones(3, np.float32), np.zeros(3, np.float32)
    apply(descend, [(g, p)], dict(lr=1 - 0.999))
    assert same(p, np.full(3, -np.float32(1 - 0.999)))  # and not 1 - float32(0.999), which is 1.3e-5 of it smaller


def test_gradients_are_never_written(threads):
    rows = [row(many, s, d) for s, d in (((7,), "f8"), ((3, 4), "c16"))]
    before = [r[0].copy() for r in rows]
    apply(many, rows, scalars(many), maximize=True)
    assert same([r[0] for r in rows], before)


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
    for _ in range(2): apply(heavy, [(g, p, buffer)], scalars(heavy))
    for _ in range(2): apply(heavy, [plain], scalars(heavy))
    np.testing.assert_array_equal(p, plain[1])
    np.testing.assert_array_equal(buffer, plain[2])
    if gaps is not None: assert np.isnan(base).sum() == gaps  # nothing between the elements was touched


def test_the_array_the_user_holds_changes():
    base = np.arange(24.0).reshape(4, 6)
    expected = base.copy()
    expected[1:3, ::-2] -= 1
    apply(descend, [(np.ones((2, 3)), base[1:3, ::-2])], dict(lr=1.0))
    assert same(base, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_dimensional_and_empty_arrays(dtype):
    p, empty = np.array(1, dtype), np.zeros((0, 3), dtype)
    apply(descend, [(np.array(1, dtype), p), (np.zeros((0, 3), dtype), empty)], dict(lr=0.5))
    assert p == 0.5 and p.shape == () and empty.shape == (0, 3)
    apply(descend, [(empty, empty.copy())], dict(lr=0.5))


def test_complex_numbers_are_pairs_of_reals():
    g, p, m, v = row(scaled, (50,), "c16")
    parts = [tuple(np.ascontiguousarray(getattr(a, part)) for a in (g, p, m, v)) for part in ("real", "imag")]
    apply(scaled, [(g, p, m, v)], scalars(scaled))
    apply(scaled, parts, scalars(scaled))
    for a, re, im in zip((p, m, v), parts[0][1:], parts[1][1:]): assert same(a.real.copy(), re) and same(a.imag.copy(), im)


def test_float16_is_computed_in_float32():
    p, g = np.ones(4, np.float16), np.full(4, 1e-5, np.float16)
    m, v = np.zeros(4, np.float32), np.zeros(4, np.float32)
    apply(scaled, [(g, p, m, v)], dict(w1=1.0, w2=1.0, lr=0.25, eps=1e-12))
    np.testing.assert_allclose(v, np.float32(g) ** 2, rtol=1e-6)  # 1e-10 would be zero in float16
    np.testing.assert_allclose(p, 0.75, rtol=1e-3)
    assert p.dtype == np.float16


def test_a_memory_mapped_file(tmp_path):
    a = np.memmap(tmp_path / "p", "f4", "w+", shape=(100,))
    a[:] = 1
    apply(descend, [(np.ones(100, "f4"), a)], dict(lr=0.25))
    a.flush()
    assert (np.fromfile(tmp_path / "p", "f4") == 0.75).all()


def test_gradients_may_be_read_only_or_broadcast():
    g = np.broadcast_to(np.float64(1), (3, 4))
    p = np.ones((3, 4))
    apply(descend, [(g, p)], dict(lr=0.25))
    frozen = np.ones((3, 4))
    frozen.flags.writeable = False
    apply(descend, [(frozen, p)], dict(lr=0.25))
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
        apply(descend, [(np.ones(3), good), (np.ones_like(bad), bad)], dict(lr=1.0), names=["first", "second"])
    if isinstance(bad, np.ndarray):  # as a state buffer
        with pytest.raises((error, ValueError)):
            apply(heavy, [(np.ones(bad.shape), np.ones(bad.shape), bad)], scalars(heavy))
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
    with pytest.raises(error, match="parameter 1.*" + message): apply(descend, [(good, ps[0]), (bad, ps[1])], dict(lr=0.5))
    assert same(ps, [np.ones(3)] * 2)


@pytest.mark.parametrize("buffer, error", [(np.ones(4), ValueError), (np.ones((3, 1)), ValueError), (np.ones(3, "f4"), TypeError),
                                           (np.ones(3, "c16"), TypeError), (np.ones(3, int), TypeError)])
def test_bad_buffers_are_refused(buffer, error):
    p, before = np.ones(3), buffer.copy()
    with pytest.raises(error, match="b of parameter 0"): apply(heavy, [(np.ones(3), p, buffer)], scalars(heavy))
    assert same((p, buffer), (np.ones(3), before))


def test_the_number_of_buffers_must_fit():
    with pytest.raises(TypeError, match=r"heavy takes the buffers \(b\), got \(\)"): Part(heavy, 1)


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
        apply(descend, [*others, *((np.ones(p.shape), p) for p in pair)], dict(lr=1.0), names=["x", "y", "z", "one", "two"])
    assert same(a, before)


def test_parameter_and_buffer_in_the_same_memory_are_refused():
    p = np.ones(4)
    for buffer in (p, p[::-1]):
        with pytest.raises(ValueError, match="share memory"): apply(heavy, [(np.ones(4), p, buffer)], scalars(heavy))
    b = np.ones(4)
    with pytest.raises(ValueError, match="share memory"): apply(heavy, [(np.ones(4), p, b), (np.ones(4), p.copy(), b)], scalars(heavy))
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
    apply(descend, [(np.ones(p.shape), p) for p in views(a)], dict(lr=0.5))
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
@pytest.mark.parametrize("alias", ALIASES.values(), ids=ALIASES)
def test_an_aliased_gradient_gives_the_simultaneous_update(alias, loop, request):
    if loop == "parallel": request.getfixturevalue("threads")
    both = normal((80,))
    p, q = both[:40], both[40:]
    bp, bq = normal((40,), seed=5), normal((40,), seed=6)
    gp, gq = alias(p, q, bp)
    free = [(gp.copy(), p.copy(), bp.copy()), (gq.copy(), q.copy(), bq.copy())]
    for step in range(3):
        apply(heavy, [(gp, p, bp), (gq, q, bq)], scalars(heavy))
        apply(heavy, free, scalars(heavy))
        assert same((p, bp, q, bq), (*free[0][1:], *free[1][1:]))
        gp, gq = alias(p, q, bp)
        free = [(g.copy(), *r[1:]) for g, r in zip((gp, gq), free)]


def test_no_memory_is_lost_over_many_calls():
    rows = [row(heavy, (1000,), "f4"), row(heavy, (500, 2), "f4")]
    def work():
        batch, part = Batch(), Part(heavy, 2, ("b",))
        for _ in range(300): apply(heavy, [(g.copy(), *r) for g, *r in rows], scalars(heavy), batch=batch, part=part)
    assert memory_growth(work) < 20_000


# ---- processes and threads

@forks
def test_forked_children_and_threads():
    "Parallel steps in the parent, then in forked children, then in two threads at once: no deadlock, the same numbers."
    code = '''
import multiprocessing, os, threading, warnings
import numpy as np
from optim_nb import Adam, Parameter, SGD, batch
warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads

def trained(make, steps=3):
    p = Parameter(np.ones(2 * batch.PARALLEL_FROM, np.float32))
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


