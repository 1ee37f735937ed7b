"""ASGD: what torch's does with eta, mu and ax, and what it reduces to."""
from types import SimpleNamespace
import numpy as np, pytest
from conftest import give_grads, normal, parameters, same, train
from golden.cases import CASES, collect, run, ulps
from test_parity import all_dtypes, recorded_runs, tables
from optim_nb import ASGD, SGD, Parameter
from optim_nb.lr_scheduler import StepLR

f32 = np.float32


def clone(params): return [Parameter(p.data.copy()) for p in params]


class Rounded(ASGD):
    "ASGD that keeps eta and mu as torch does: in float32, whatever the parameters are."
    __init__ = ASGD.__init__
    def initial(self, group): return {k: float(f32(v)) for k, v in super().initial(group).items()}
    def carry(self, *args, **carried): return {k: float(f32(v)) for k, v in super().carry(*args, **carried).items()}


@all_dtypes
@pytest.mark.parametrize("case", [c for c in CASES if c.optimizer == "ASGD"], ids=lambda c: c.name)
def test_rounding_eta_and_mu_is_all_that_torch_does_otherwise(case, dtype):
    ours = collect(run(case, dtype, SimpleNamespace(ASGD=Rounded), Parameter), dtype)
    distances = ulps(ours, tables(recorded_runs("ASGD"), case, dtype))
    assert all(most <= 4 for _, most in distances.values()), distances


def path(opt, p, steps, grad=None):
    "The parameter and its average after each step on noise, or on one gradient."
    rng, rows = np.random.default_rng(3), []
    for _ in range(steps):
        p.grad = rng.normal(size=p.shape) if grad is None else np.full(p.shape, grad)
        opt.step()
        rows.append((p.data.copy(), opt.state[p]["ax"].copy()))
    return map(np.array, zip(*rows))


@pytest.mark.parametrize("t0", [1e6, np.inf, 100, 7, 0, -1])
def test_ax_is_a_copy_until_t0_plus_2_and_then_the_mean(t0):
    [p] = parameters((5,))
    theta, ax = path(ASGD([p], lr=0.1, t0=t0), p, 40)
    first = int(min(max(t0 + 2, 1), 40))  # the first step that is averaged
    assert same(ax[:first], theta[:first])
    for t in range(first, 41): np.testing.assert_allclose(ax[t - 1], theta[first - 1:t].mean(0), rtol=1e-13)
    assert first == 40 or np.abs(ax[-1] - theta[-1]).max() > 1e-3


def test_the_copy_is_exact_where_a_mean_with_weight_one_is_not():
    p = Parameter(np.array([1e-3, 1.0, 1e8], f32))
    opt = ASGD([p], lr=1.0, lambd=0)
    for g in ([1e4, -1e-7, 3e8], [-1e4, 3.3, -1e8], [7.7, 1e9, 0.1]):
        p.grad = np.array(g, f32)
        opt.step()
        assert same(opt.state[p]["ax"], p.data)
    opt.state[p]["ax"][:] = np.inf
    opt.step()
    assert same(opt.state[p]["ax"], p.data)


def test_averaging_may_begin_at_any_time():
    [p] = parameters((5,))
    opt = ASGD([p], lr=0.1)
    theta, _ = path(opt, p, 10)
    opt.param_groups[0]["t0"] = opt.state[p]["step"] - 1
    later, ax = path(opt, p, 10)
    np.testing.assert_allclose(ax[-1], later.mean(0), rtol=1e-13)


def test_a_new_lr_is_heard_one_step_late():
    def strides(cls, **options):
        [p] = parameters((1,))
        start, opt = p.data.copy(), cls([p], lr=1.0, **options)
        scheduler, out = StepLR(opt, 3, 0.1), []
        for _ in range(6):
            p.grad = np.ones(1)
            opt.step(), scheduler.step()
            out.append(round(float(start[0] - p.data[0]), 12))
            start = p.data.copy()
        return out
    assert strides(SGD) == [1, 1, 1, 0.1, 0.1, 0.1]
    assert strides(ASGD, lambd=0) == [1, 1, 1, 1, 0.1, 0.1]


def test_eta_and_mu_by_hand():
    [p] = parameters((1,))
    opt = ASGD([p], lr=0.5, lambd=0.2, alpha=0.75, t0=2)
    for t in range(1, 8):
        p.grad = np.ones(1)
        opt.step()
        s = opt.state[p]
        assert set(s) == {"step", "ax", "eta", "mu"}
        assert type(s["eta"]) is type(s["mu"]) is float and s["step"] == t
        assert s["eta"] == pytest.approx(0.5 / (1 + 0.2 * 0.5 * t)**0.75, rel=1e-15)
        assert s["mu"] == [1, 1, 1, 1 / 2, 1 / 3, 1 / 4, 1 / 5][t - 1]


def test_without_a_gradient_nothing_moves_on():
    a, b = parameters((2,), (2,))
    opt = ASGD([a, b], lr=0.5, lambd=0.2, t0=0)
    for t in range(6):
        give_grads([a, b], t)
        if t % 2: b.grad = None
        opt.step()
    alone = ASGD([twin := parameters((2,), (2,))[1]], lr=0.5, lambd=0.2, t0=0)
    for t in (0, 2, 4):
        give_grads([a, b], t)
        twin.grad = b.grad
        alone.step()
    assert same(dict(opt.state[b]), dict(alone.state[twin])) and same(b.data, twin.data)
    assert opt.state[a]["mu"] == 1 / 6 and opt.state[b]["mu"] == 1 / 3


def test_the_lr_of_the_first_gradient_is_the_first_eta():
    [p] = parameters((1,))
    opt = ASGD([p], lr=1.0, lambd=0)
    opt.step()
    opt.param_groups[0]["lr"] = 0.25
    before, p.grad = p.data.copy(), np.ones(1)
    opt.step()
    assert before - p.data == 0.25


# ---- what it reduces to

@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("options", [{}, dict(weight_decay=0.1), dict(maximize=True), dict(weight_decay=0.1, maximize=True)], ids=str)
@pytest.mark.parametrize("alpha", [0, 0.75, 3])
def test_without_lambd_it_is_sgd(options, alpha, dtype):
    params = parameters((3,), (20, 70), dtype=dtype)
    twins = clone(params)
    opt, plain = ASGD(params, lr=0.1, lambd=0, alpha=alpha, t0=np.inf, **options), SGD(twins, lr=0.1, **options)
    train(opt, params, 10), train(plain, twins, 10)
    for p, q in zip(params, twins): assert same(p.data, q.data) and (opt.state[p]["ax"] == p.data).all() == (dtype != "f2")


def test_with_alpha_0_lambd_is_a_weight_decay():
    params = parameters()
    twins = clone(params)
    opt, plain = ASGD(params, lr=0.1, lambd=0.3, alpha=0, weight_decay=0.2), SGD(twins, lr=0.1, weight_decay=0.5)
    train(opt, params, 20), train(plain, twins, 20)
    for p, q in zip(params, twins): np.testing.assert_allclose(p.data, q.data, rtol=1e-13, atol=1e-15)


def test_lambd_also_slows_down_and_weight_decay_does_not():
    etas = []
    for options in (dict(lambd=0.5), dict(lambd=0, weight_decay=0.5)):
        params = parameters()
        opt = ASGD(params, lr=0.1, **options)
        train(opt, params, 20)
        etas.append(opt.state[params[0]]["eta"])
    assert etas == [pytest.approx(0.1 / 2**0.75), 0.1]


def test_complex_is_two_reals():
    z = Parameter(normal((4,), "c16"))
    x = Parameter(z.data.view("f8").copy())
    opt, real = (ASGD([p], lr=0.1, lambd=0.5, t0=2) for p in (z, x))
    for t in range(8):
        z.grad = normal((4,), "c16", t)
        x.grad = z.grad.view("f8")
        opt.step(), real.step()
    assert same(z.data.view("f8"), x.data) and same(opt.state[z]["ax"].view("f8"), real.state[x]["ax"])


# ---- options and state dicts

@pytest.mark.parametrize("options, message", [
    (dict(lr=-0.1), "^Invalid learning rate: -0.1$"), (dict(lr=float("nan")), "^Invalid learning rate: nan$"),
    (dict(weight_decay=-1), "^Invalid weight_decay value: -1$"), (dict(lambd=-0.1), "^Invalid lambd value: -0.1$")])
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message): ASGD(parameters(), **options)
    with pytest.raises(ValueError, match=message): ASGD([{"params": parameters(), **options}])


@pytest.mark.parametrize("options", [dict(t0=-5), dict(t0=np.inf), dict(alpha=-1), dict(alpha=0), dict(alpha=2)], ids=str)
def test_options_that_torch_takes(options):
    params = parameters()
    train(ASGD(params, lr=0.1, **options), params, 5)
    assert all(np.isfinite(p.data).all() for p in params)


def test_torchs_tensors_become_numbers():
    [p] = parameters((2,))
    opt = ASGD([p], lr=0.1, lambd=0.5)
    saved = opt.state_dict()
    tensors = dict(step=np.array(7, f32), eta=np.array(0.05, f32), mu=np.array(0.25, f32), ax=np.array([1, 2], f32))
    opt.load_state_dict({"state": {0: tensors}, "param_groups": saved["param_groups"]})
    s = opt.state[p]
    assert s["step"] == 7 and type(s["step"]) is int and s["ax"].dtype == "f8"
    assert s["eta"] == float(f32(0.05)) and s["mu"] == 0.25 and type(s["eta"]) is type(s["mu"]) is float
    start, p.grad, eta = p.data.copy(), np.ones(2), s["eta"]
    opt.step()
    np.testing.assert_allclose(p.data, (1 - 0.5 * eta) * start - eta, rtol=1e-15)
    np.testing.assert_allclose(opt.state[p]["ax"], 0.75 * np.array([1, 2]) + 0.25 * p.data, rtol=1e-15)


def test_a_state_without_eta_begins_with_lr():
    [p] = parameters((2,))
    opt = ASGD([p], lr=0.1, lambd=0)
    opt.state[p] = dict(step=5, ax=np.zeros(2))
    start, p.grad = p.data.copy(), np.ones(2)
    opt.step()
    np.testing.assert_allclose(start - p.data, 0.1, rtol=1e-14)
