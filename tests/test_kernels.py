"""Rules, the loops made from them, and the cache of what was compiled."""
import shutil
import numpy as np, pytest
from conftest import ROOT, python
from rules import *
from optim_nb import kernels

jit = pytest.mark.skipif(not kernels.JIT, reason="Numba is absent or switched off")


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
    apply(elementary, [(g, p, *out)], {})
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
    apply(rule, rows, dict(lr=0.1))
    check(rule, rows, [expected])


def test_flags_select_a_branch():
    @fused
    def rule(g, p, lr, flag): return (p - lr * g if flag else p + lr * g,)
    for flag, end in ((True, 0.5), (False, 1.5)):
        p = np.ones(3, np.float32)
        apply(rule, [(np.ones(3, np.float32), p)], dict(lr=0.5, flag=flag))
        assert (p == end).all()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rule", [heavy, scaled], ids=lambda r: r.name)
def test_nan_and_inf_travel_as_in_numpy(rule, value, dtype):
    rows = [row(rule, (33,), dtype)]
    rows[0][0][5] = value
    expected = reference(rule, rows[0])
    apply(rule, rows, scalars(rule))
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
    apply(rule, [(np.ones(3), p)], dict(lr=1.0))
    assert (p == 1 - 0.125).all()


# ---- the cache on disk

@pytest.fixture(scope="module")
def package(tmp_path_factory):
    "A copy of the package that has never been run."
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "optim_nb", folder / "optim_nb", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


RULE = '''
import numpy as np
from optim_nb.batch import Batch, Part
from optim_nb.kernels import fused
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
batch = Batch()
if batch.look([Part(rule, 1)], [np.ones(4), p]): batch.check()
batch.set(0, dict(lr=1.0))
batch.run()
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


# ---- without Numba

@jit
@pytest.mark.parametrize("how, suite", [("switched off", ["kernels", "batch", "lr_scheduler", "examples"]), ("absent", ["lr_scheduler", "examples"])])
def test_the_same_tests_pass_without_numba(how, suite):
    "Both are the same to the package. `make test` runs everything else with Numba switched off, too."
    block = "import sys; sys.modules['numba'] = None; " if how == "absent" else ""
    args = ["-x", "-p", "no:cacheprovider", "-k", "not memory and not forked", *(f"tests/test_{name}.py" for name in suite)]
    python(f"{block}import sys, pytest; from optim_nb import kernels; assert not kernels.JIT; sys.exit(pytest.main({args}))", ROOT,
           timeout=300, NUMBA_DISABLE_JIT="1" if how == "switched off" else "0")


def test_a_lambda_can_be_a_rule():
    source = kernels.fused(lambda g, p: (p - g,)).source()
    compile(source, "rule", "exec")
    assert source.startswith("def lambda_")
