"""Adadelta: ε under both roots, the old average of steps, lr at the end, and what it shares with its family."""
import numpy as np, pytest
from conftest import parameters, same, train
from optim_nb import SGD, Adadelta, Parameter


def steps(grads, **options):
    "The steps downhill that a parameter takes."
    p, path = Parameter(np.zeros(np.shape(grads)[1:])), []
    opt = Adadelta([p], **options)
    for g in grads:
        before = p.data.copy()
        p.grad = np.array(g)
        opt.step()
        path.append(before - p.data)
    return np.array(path), opt.state[p]


@pytest.mark.parametrize("bad, message", [
    (dict(lr=-1.0), "Invalid learning rate: -1.0"), (dict(rho=-0.1), "Invalid rho value: -0.1"), (dict(rho=1.1), "Invalid rho value: 1.1"),
    (dict(rho=float("nan")), "Invalid rho value: nan"), (dict(weight_decay=-0.1), "Invalid weight_decay value: -0.1"),
    (dict(eps=-1e-9), "Invalid epsilon value: -1e-09")])
def test_torchs_messages(bad, message):
    with pytest.raises(ValueError) as error: Adadelta(parameters(), **bad)
    assert str(error.value) == message


def test_both_roots_the_old_average_and_lr_at_the_end():
    rho, eps, lr, v, u, expected = 0.7, 0.3, 0.25, 0.0, 0.0, []
    grads = np.array([2.0, -1.0, 0.5, 0.0, 3.0])
    for g in grads:
        v = rho * v + (1 - rho) * g * g
        d = np.sqrt(u + eps) / np.sqrt(v + eps) * g
        u = rho * u + (1 - rho) * d * d  # of the step before lr
        expected.append(lr * d)
    path, state = steps(grads[:, None], lr=lr, rho=rho, eps=eps)
    np.testing.assert_allclose(path[:, 0], expected, rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose([state["square_avg"][0], state["acc_delta"][0], state["step"]], [v, u, 5], rtol=1e-13)


def test_rho_1_is_sgd_bit_for_bit():
    """Nothing enters the averages: ε over ε is 1, and the step is lr times the gradient."""
    a, b = parameters((50,), (3, 2)), parameters((50,), (3, 2))
    train(Adadelta(a, lr=0.1, rho=1, weight_decay=0.1), a, 5), train(SGD(b, lr=0.1, weight_decay=0.1), b, 5)
    assert all(same(p.data, q.data) for p, q in zip(a, b))


def test_rho_0_grows_by_eps_a_step():
    path, _ = steps(np.full((100, 1), 1e6), rho=0, eps=1e-6)
    np.testing.assert_allclose(path[:, 0], np.sqrt(1e-6 * np.arange(1, 101)), rtol=1e-9)


def test_no_eps_no_motion():
    path, _ = steps(np.full((10, 1), 2.0), eps=0)
    assert not path.any()
    with np.errstate(invalid="ignore"): assert np.isnan(steps(np.zeros((1, 1)), eps=0)[0]).all()  # as in torch


def test_lr_times_root_eps_is_one_number():
    """With gradients far above √ε, a factor c on lr and 1/c² on ε cancel."""
    grads = np.random.default_rng(0).normal(size=(50, 20)) * 1e4
    first, _ = steps(grads, lr=1.0, eps=1e-4)
    second, _ = steps(grads, lr=100.0, eps=1e-8)
    np.testing.assert_allclose(first, second, rtol=1e-6)


def test_zero_gradients_shrink_the_averages_and_move_nothing():
    path, state = steps(np.r_[np.ones((3, 2)), np.zeros((4, 2))])
    assert not path[3:].any() and path[:3].all()
    before = steps(np.ones((3, 2)))[1]
    for name in ("square_avg", "acc_delta"): np.testing.assert_allclose(state[name], 0.9**4 * before[name], rtol=1e-13)


def test_float16_zero_gradient():
    """torch adds ε in float16; here the state is float32 and so is the arithmetic."""
    p = Parameter(np.ones(2, np.float16))
    opt = Adadelta([p], eps=1e-8)
    p.grad = np.zeros(2, np.float16)
    opt.step()
    assert (p.data == 1).all() and opt.state[p]["square_avg"].dtype == np.float32
