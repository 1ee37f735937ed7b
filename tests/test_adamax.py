"""Adamax: the maximum in place of Adam's average, and where ε stands in it."""
import numpy as np, pytest
from conftest import normal
from optim_nb import Adam, Adamax, Parameter

GRADIENTS = [normal((50,), seed=t) * 10.0**(t % 5 - 2) for t in range(30)]


def path(cls, gradients=GRADIENTS, **options):
    "The parameters after each gradient, from zeros."
    p, points = Parameter(np.zeros_like(gradients[0])), []
    opt = cls([p], **options)
    for g in gradients:
        p.grad = np.array(g)
        opt.step()
        points.append(p.data.copy())
    return np.array(points)


def test_epsilon_stands_inside_the_maximum():
    p = Parameter(np.zeros(3))
    opt = Adamax([p], lr=1.0, betas=(0.0, 0.5), eps=0.25)
    for grad, u in (([4, 0, 1], [4.25, 0.25, 1.25]), ([0, 0, 1], [2.125, 0.25, 1.25])):
        p.grad = np.array(grad, float)
        opt.step()
        np.testing.assert_array_equal(opt.state[p]["exp_inf"], u)


def test_without_epsilon_a_first_gradient_of_zero_is_nan():
    "As in torch; any epsilon that the dtype can hold prevents it."
    for dtype, tiny in (("f4", 1e-45), ("f8", 5e-324)):
        for eps, data in ((0, [np.nan, -1]), (tiny, [0, -1])):
            p = Parameter(np.zeros(2, dtype))
            p.grad = np.array([0, 3], dtype)
            Adamax([p], lr=1.0, betas=(0.0, 0.999), eps=eps).step()
            np.testing.assert_allclose(p.data, data, rtol=1e-7)


def test_only_the_numerator_is_corrected():
    np.testing.assert_allclose(path(Adamax, [np.full(3, 5.0)] * 10, lr=1.0, eps=0)[:, 0], -np.arange(1, 11), rtol=1e-14)


@pytest.mark.parametrize("beta1", [0.0, 0.9])
def test_with_beta2_of_zero_it_is_adam_with_beta2_of_zero(beta1):
    "Both divide by |g| + ε then."
    gradients = [np.sign(g) * (0.1 + np.abs(g)) for g in GRADIENTS]  # a divisor near 0 would show the rounding of m
    adamax, adam = (path(cls, gradients, lr=1.0, betas=(beta1, 0.0), eps=1e-3) for cls in (Adamax, Adam))
    np.testing.assert_allclose(adamax, adam, rtol=1e-9, atol=1e-9)


def test_with_both_betas_of_zero_it_is_sign_descent():
    np.testing.assert_allclose(path(Adamax, lr=0.5, betas=(0, 0), eps=0), -0.5 * np.cumsum(np.sign(GRADIENTS), 0), atol=1e-9)


def test_a_growing_gradient_alone_makes_the_maximum_its_size():
    "Then each step is |m̂| / |g|, whatever β₂."
    growing = [np.full(2, 1.5**t) for t in range(20)]
    np.testing.assert_array_equal(path(Adamax, growing, betas=(0.9, 0.5)), path(Adamax, growing, betas=(0.9, 0.999)))


def test_a_zero_gradient_moves_and_forgets_none_does_not():
    p, q = Parameter(np.zeros(1)), Parameter(np.zeros(1))
    opt = Adamax([p, q], lr=1.0)
    p.grad, q.grad = np.ones(1), np.ones(1)
    opt.step()
    p.grad, q.grad = np.zeros(1), None
    opt.step()
    np.testing.assert_allclose(opt.state[p]["exp_inf"], 0.999 * (1 + 1e-8), rtol=1e-15)
    np.testing.assert_allclose(opt.state[q]["exp_inf"], 1 + 1e-8, rtol=1e-15)
    assert p.data < -1.4 and q.data > -1.01 and (opt.state[p]["step"], opt.state[q]["step"]) == (2, 1)


def test_options_changed_late_count_from_the_next_step():
    p = Parameter(np.zeros(1))
    opt = Adamax([p], lr=1.0, betas=(0.0, 0.999), eps=0)
    p.grad = np.ones(1)
    opt.step()
    opt.param_groups[0]["betas"] = (0.0, 0.5)
    p.grad = np.array([0.25])
    opt.step()
    np.testing.assert_allclose([opt.state[p]["exp_inf"][0], p.data[0]], [0.5, -1.5], rtol=1e-15)


@pytest.mark.parametrize("options, message", [
    (dict(lr=-1), "Invalid learning rate: -1"), (dict(eps=-1), "Invalid epsilon value: -1"),
    (dict(betas=(1.0, 0.9)), "Invalid beta parameter at index 0: 1.0"), (dict(betas=(0.9, -1.0)), "Invalid beta parameter at index 1: -1.0"),
    (dict(weight_decay=-1), "Invalid weight_decay value: -1")])
def test_torchs_messages(options, message):
    with pytest.raises(ValueError) as error: Adamax([Parameter(np.ones(1))], **options)
    assert str(error.value) == message
