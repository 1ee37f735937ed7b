"""RMSprop: torch's messages, options switched late, what it becomes beside its kin, and the variance that turns NaN."""
import copy
import numpy as np, pytest
from conftest import normal, parameters, same, train
from optim_nb import Adam, Parameter, RMSprop, SGD


def final(make, gradients, each=None):
    "The parameters after the gradients; `each(group, t)` edits the group before step t."
    p = Parameter(np.linspace(-1, 1, gradients.shape[1]).astype(gradients.dtype))
    opt = make([p])
    for t, g in enumerate(gradients, 1):
        if each: each(opt.param_groups[0], t)
        p.grad = g.copy()
        opt.step()
    return p.data


GRADIENTS = normal((50, 9)) * np.geomspace(1e-3, 10, 9)


@pytest.mark.parametrize("options, message", [
    (dict(alpha=-0.1), "^Invalid alpha value: -0.1$"), (dict(alpha=float("nan")), "^Invalid alpha value: nan$"),
    (dict(momentum=-0.5), "^Invalid momentum value: -0.5$"), (dict(lr=-1), "^Invalid learning rate: -1$"),
    (dict(eps=-1.0), "^Invalid epsilon value: -1.0$"), (dict(weight_decay=-1.0), "^Invalid weight_decay value: -1.0$"),
    (dict(variance_floor=-0.1), "^Invalid variance_floor value: -0.1$"), (dict(variance_floor=1.0), "^Invalid variance_floor value: 1.0$"),
    (dict(variance_floor="low"), "^Invalid variance_floor value: low$")], ids=str)
def test_messages(options, message):
    with pytest.raises(ValueError, match=message): RMSprop(parameters(), **options)
    with pytest.raises(ValueError, match=message): RMSprop([{"params": parameters(), **options}])


@pytest.mark.parametrize("options, late, buffers", [
    ({}, dict(momentum=0.9), {"square_avg", "momentum_buffer"}), ({}, dict(centered=True), {"square_avg", "grad_avg"}),
    (dict(momentum=0.5), dict(centered=True), {"square_avg", "momentum_buffer", "grad_avg"}),
    (dict(momentum=0.5, centered=True), dict(momentum=0, centered=False), {"square_avg", "momentum_buffer", "grad_avg"}),
    (dict(centered=True), dict(variance_floor=0.5), {"square_avg", "grad_avg"}),
    ({}, dict(alpha=0.5, eps=0.1, weight_decay=0.1, maximize=True), {"square_avg"})], ids=str)
def test_switches_in_mid_training(options, late, buffers):
    "A buffer that is missing begins at 0, where torch raises KeyError; one that is no longer needed stays."
    params, twins = parameters(), parameters()
    opt, fresh = RMSprop(params, **options), RMSprop(twins, **options | late)
    train(opt, params, 3)
    for p, q in zip(params, twins):
        q.data[...] = p.data
        fresh.state[q].update(copy.deepcopy(opt.state[p]))
    opt.param_groups[0].update(late)
    train(opt, params, 3, 3), train(fresh, twins, 3, 3)
    for p, q in zip(params, twins):
        assert same(p.data, q.data) and same(opt.state[p], fresh.state[q])
        assert set(opt.state[p]) == buffers | {"step"}


def test_without_memory_it_is_sign_descent():
    path = final(lambda ps: RMSprop(ps, 0.125, alpha=0, eps=0), GRADIENTS)
    np.testing.assert_allclose(path, np.linspace(-1, 1, 9) - 0.125 * np.sign(GRADIENTS).sum(0), rtol=0, atol=1e-14)


def test_with_bias_correction_it_is_adam_without_momentum():
    "The correction of v is a factor on the learning rate, as long as eps is 0."
    def correct(group, t): group["lr"] = 0.1 * (1 - 0.99**t)**0.5
    np.testing.assert_allclose(final(lambda ps: RMSprop(ps, eps=0), GRADIENTS, correct),
                               final(lambda ps: Adam(ps, 0.1, (0, 0.99), 0), GRADIENTS), rtol=1e-13, atol=1e-14)


def test_with_alpha_one_minus_one_over_t_it_is_adagrad():
    def spread(group, t): group.update(alpha=1 - 1 / t, lr=0.1 / t**0.5)
    theta, s = np.linspace(-1, 1, 9), 0
    for g in GRADIENTS:
        s = s + g**2
        theta = theta - 0.1 * g / np.sqrt(s)
    np.testing.assert_allclose(final(lambda ps: RMSprop(ps, eps=0), GRADIENTS, spread), theta, rtol=1e-13, atol=1e-14)


def test_with_a_large_eps_it_is_sgd():
    for momentum in (0, 0.9):
        np.testing.assert_allclose(final(lambda ps: RMSprop(ps, 0.1 * 2.0**40, eps=2.0**40, momentum=momentum), GRADIENTS),
                                   final(lambda ps: SGD(ps, 0.1, momentum=momentum), GRADIENTS), rtol=1e-9)


def test_little_momentum_is_none():
    for centered in (False, True):
        np.testing.assert_allclose(final(lambda ps: RMSprop(ps, momentum=1e-300, centered=centered), GRADIENTS),
                                   final(lambda ps: RMSprop(ps, centered=centered), GRADIENTS), rtol=1e-13, atol=1e-15)


def constant(steps=3000, dtype="f4", **options):
    "Parameters and the largest step in learning rates, on 256 constant gradients."
    p = Parameter(np.zeros(256, dtype))
    opt, longest = RMSprop([p], lr=1.0, centered=True, **options), 0.0
    g = normal((256,), dtype)
    for _ in range(steps):
        p.grad, before = g.copy(), p.data.copy()
        opt.step()
        longest = max(longest, np.nanmax(np.abs(p.data - before)))
    return p.data, longest


def test_the_centred_variance_of_a_constant_turns_nan():
    "As in torch: v - ḡ² falls to its rounding error, whose sign is a matter of luck."
    assert np.isnan(constant()[0]).any()
    assert np.isfinite(constant(steps=1000)[0]).all()
    theta, longest = constant(variance_floor=0.0)
    assert np.isfinite(theta).all() and longest > 1e5  # no NaN, but a variance of 0 under a gradient
    theta, longest = constant(variance_floor=0.01)
    assert np.isfinite(theta).all() and longest < 10.1  # at most 1/√floor where v is g²; 10.05 is the first step


def test_the_floor_binds_only_below_it():
    noisy = normal((50, 9))
    for momentum in (0, 0.9):
        plain = final(lambda ps: RMSprop(ps, centered=True, momentum=momentum), noisy)
        assert same(plain, final(lambda ps: RMSprop(ps, centered=True, momentum=momentum, variance_floor=1e-6), noisy))
        assert not same(plain, final(lambda ps: RMSprop(ps, centered=True, momentum=momentum, variance_floor=0.995), noisy))
        assert same(final(lambda ps: RMSprop(ps, momentum=momentum), noisy),
                    final(lambda ps: RMSprop(ps, momentum=momentum, variance_floor=0.5), noisy))  # not centred: no variance


def test_nan_gradients_pass_the_floor():
    "A maximum that took the larger number would hide them."
    p = Parameter(np.zeros(2))
    p.grad = np.array([np.nan, 1.0])
    RMSprop([p], centered=True, variance_floor=0.5).step()
    assert np.isnan(p.data[0]) and np.isfinite(p.data[1])


def test_complex_numbers_are_pairs_of_reals():
    z, pair = Parameter(normal((5,), "c16")), Parameter(normal((5,), "c16").view("f8"))
    options = dict(momentum=0.5, centered=True, variance_floor=0.1, weight_decay=0.1)
    a, b = RMSprop([z], **options), RMSprop([pair], **options)
    for t in range(5):
        z.grad = normal((5,), "c16", t)
        pair.grad = z.grad.view("f8").copy()
        a.step(), b.step()
    assert same(z.data.view("f8"), pair.data) and same(a.state[z]["square_avg"].view("f8"), b.state[pair]["square_avg"])


# ---- beside torch itself, where it is installed

@pytest.fixture
def torch(): return pytest.importorskip("torch")


def test_torch_turns_nan_too(torch):
    p = torch.zeros(256)
    opt, g = torch.optim.RMSprop([p], lr=1e-4, centered=True), torch.from_numpy(normal((256,), "f4"))
    for _ in range(3000):
        p.grad = g
        opt.step()
    assert p.isnan().any()


@pytest.mark.parametrize("late", [dict(momentum=0.9), dict(centered=True)], ids=str)
def test_torch_cannot_switch_late(torch, late):
    p = torch.zeros(3)
    p.grad = torch.ones(3)
    opt = torch.optim.RMSprop([p])
    opt.step()
    opt.param_groups[0].update(late)
    with pytest.raises(KeyError): opt.step()


def test_complex_numbers_as_in_torch(torch):
    ours, theirs = Parameter(normal((5,), "c16")), torch.from_numpy(normal((5,), "c16"))
    options = dict(momentum=0.5, centered=True)
    a, b = RMSprop([ours], **options), torch.optim.RMSprop([theirs], **options)
    for t in range(5):
        ours.grad = normal((5,), "c16", t)
        theirs.grad = torch.from_numpy(ours.grad.copy())
        a.step(), b.step()
    np.testing.assert_allclose(ours.data, theirs.numpy(), rtol=1e-13)
