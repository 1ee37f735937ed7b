"""NAdam: two corrections of one momentum, their schedule, and the product that the state carries."""
from types import SimpleNamespace
import numpy as np, pytest
from conftest import normal
from golden.cases import CASES, collect, run
from optim_nb import Adam, NAdam, Parameter
from test_parity import all_dtypes, is_close, recorded_runs, tables, ulps

GRADIENTS = [normal((50,), seed=t) * 10.0**(t % 5 - 2) for t in range(30)]
ULPS = dict(rtol=1e-12, atol=1e-13)


class Single(NAdam):
    "NAdam that multiplies in float32, as torch does whatever the parameters are."
    def carry(self, group, t, mu_product=1): return dict(mu_product=float(np.float32(mu_product) * np.float32(self.mu(group, t))))


@all_dtypes
@pytest.mark.parametrize("case", [c for c in CASES if c.optimizer == "NAdam"], ids=lambda c: c.name)
def test_the_product_in_float32_is_all_that_torch_does_otherwise(case, dtype):
    ours = collect(run(case, dtype, SimpleNamespace(NAdam=Single), Parameter), dtype)
    distances = ulps(ours, tables(recorded_runs("NAdam"), case, dtype))
    assert is_close(distances), distances


def path(cls, gradients=GRADIENTS, **options):
    "The parameters after each gradient, from ones."
    p, points = Parameter(np.ones_like(gradients[0])), []
    opt = cls([p], **options)
    for g in gradients:
        p.grad = np.array(g)
        opt.step()
        points.append(p.data.copy())
    return np.array(points)


def by_hand(mus, lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8):
    "NAdam's paper line by line, with the products written out; mus[t] is μ of step t, from 1."
    theta, m, v, points = np.ones_like(GRADIENTS[0]), 0, 0, []
    for t, g in enumerate(GRADIENTS, 1):
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        m_bar = mus[t + 1] * m / (1 - np.prod(mus[1:t + 2])) + (1 - mus[t]) * g / (1 - np.prod(mus[1:t + 1]))
        theta = theta - lr * m_bar / (np.sqrt(v / (1 - beta2**t)) + eps)
        points.append(theta)
    return np.array(points)


@pytest.mark.parametrize("decay", [0, 4e-3, 1, 1e9, np.inf])
def test_products_run_through_t_and_through_t_plus_1(decay):
    "Neither contains a factor twice, as torch's did before its version 2."
    mus = 0.9 * (1 - 0.5 * 0.96**(decay * np.arange(1, 33)))
    np.testing.assert_allclose(path(NAdam, lr=0.1, momentum_decay=decay), by_hand([np.nan, *mus]), **ULPS)


def test_the_state_carries_the_product_as_a_float():
    p = Parameter(np.ones(2))
    opt, product = NAdam([p], momentum_decay=0.5), 1.0
    for t in range(1, 20):
        p.grad = np.ones(2)
        opt.step()
        product *= 0.9 * (1 - 0.5 * 0.96**(0.5 * t))
        assert type(opt.state[p]["mu_product"]) is float and list(opt.state[p]) == ["exp_avg", "exp_avg_sq", "step", "mu_product"]
        np.testing.assert_allclose(opt.state[p]["mu_product"], product, rtol=1e-15)


def test_a_momentum_decay_of_zero_halves_the_momentum_for_good():
    np.testing.assert_allclose(path(NAdam, lr=0.1, momentum_decay=0), by_hand(np.full(32, 0.45)), **ULPS)


def test_without_beta1_it_is_adam_without_beta1():
    for decay in (0, 4e-3, 1e9):
        np.testing.assert_allclose(path(NAdam, lr=0.1, betas=(0, 0.9), momentum_decay=decay), path(Adam, lr=0.1, betas=(0, 0.9)), **ULPS)


def test_late_steps_are_adams_with_the_momentum_one_step_ahead():
    "Once the products have died out: with μ = β₁, Adam fed the same gradient once more."
    states = []
    for cls in (NAdam, Adam):
        p = Parameter(np.zeros(50))
        opt = cls([p], lr=1.0, **dict(momentum_decay=1e9) if cls is NAdam else {})
        opt.state[p] |= dict(step=10**6, exp_avg=normal((50,), seed=1), exp_avg_sq=np.ones(50))
        if cls is NAdam: opt.state[p]["mu_product"] = 0.0
        p.grad = normal((50,), seed=2)
        opt.step()
        states.append((p.data.copy(), opt.state[p]))
    (nadam, _), (_, after) = states
    ahead = after["exp_avg"] + 0.1 * (normal((50,), seed=2) - after["exp_avg"])
    np.testing.assert_allclose(nadam, -ahead / (np.sqrt(after["exp_avg_sq"]) + 1e-8), **ULPS)


def test_two_kinds_of_weight_decay():
    zeros = [np.zeros(3)] * 5
    np.testing.assert_allclose(path(NAdam, zeros, lr=0.1, weight_decay=0.5, decoupled_weight_decay=True)[-1], 0.95**5, rtol=1e-14)
    assert (np.abs(path(NAdam, zeros, lr=0.1, weight_decay=0.5)[0] - (1 - 0.1 * 1.0563)) < 1e-4).all()


def test_parameters_that_began_at_different_steps_have_their_own_products():
    p, q = Parameter(np.ones(2)), Parameter(np.ones(2))
    opt = NAdam([p, q], lr=0.1)
    for t in range(6):
        p.grad, q.grad = np.ones(2), np.ones(2) if t >= 3 else None
        opt.step()
        if t == 2: alone = p.data.copy()
    np.testing.assert_array_equal(q.data, alone)
    assert opt.state[p]["mu_product"] < opt.state[q]["mu_product"]


def test_a_late_switch_of_the_schedule_keeps_the_product():
    p = Parameter(np.ones(1))
    opt = NAdam([p], momentum_decay=0)
    for decay in (0, 0, 1e9):
        opt.param_groups[0]["momentum_decay"], p.grad = decay, np.ones(1)
        opt.step()
    np.testing.assert_allclose(opt.state[p]["mu_product"], 0.45 * 0.45 * 0.9, rtol=1e-15)


@pytest.mark.parametrize("options, message", [
    (dict(lr=-1), "Invalid learning rate: -1"), (dict(eps=-1), "Invalid epsilon value: -1"),
    (dict(betas=(1.0, 0.9)), "Invalid beta parameter at index 0: 1.0"), (dict(weight_decay=-1), "Invalid weight_decay value: -1"),
    (dict(momentum_decay=-1), "Invalid momentum_decay value: -1")])
def test_torchs_messages(options, message):
    with pytest.raises(ValueError) as error: NAdam([Parameter(np.ones(1))], **options)
    assert str(error.value) == message
