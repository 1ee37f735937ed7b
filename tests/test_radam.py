"""RAdam: the step from which it rectifies, what it reduces to, and torch's messages."""
import numpy as np, pytest
from conftest import same
from optim_nb import Adam, AdamW, Parameter, RAdam, SGD
from optim_nb.optimizers.radam import radam_rule, rectifier, sma_length


def gradients(steps, size=50, dtype=np.float64):
    return np.random.default_rng(3).standard_normal((steps, size)).astype(dtype)


def run(make, grads, p=None):
    "The parameter after each step."
    p = Parameter(np.ones_like(grads[0])) if p is None else p
    opt, path = make([p]), [p.data.copy()]
    for g in grads:
        p.grad = g.copy()
        opt.step()
        path.append(p.data.copy())
    return np.array(path), opt


@pytest.mark.parametrize("beta2, first", [(0.0, None), (0.5, None), (0.6, None), (0.65, None), (2 / 3, None), (0.67, 16), (0.7, 10),
                                          (0.8, 7), (0.9, 6), (0.95, 6), (0.99, 6), (0.999, 6), (0.9999, 6)])
def test_rectifies_from(beta2, first):
    "ρ_t > 5, which for β₂ up to 2/3 never comes: before it a step is lr·m̂, momentum SGD's with dampening, its bias corrected."
    opt = RAdam([Parameter(np.ones(1))], betas=(0.9, beta2))
    of = [opt.coefficients(opt.param_groups[0], t)["rectified"] for t in range(1, 2000)]
    assert of == [first is not None and t >= first for t in range(1, 2000)]
    grads = gradients(30)
    path, _ = run(lambda ps: RAdam(ps, lr=0.1, betas=(0.9, beta2)), grads)
    plain, m, steps = [np.ones(50)], 0, (first or 31) - 1
    for t, g in enumerate(grads[:steps], 1):
        m = 0.9 * m + 0.1 * g
        plain.append(plain[-1] - 0.1 * m / (1 - 0.9**t))
    np.testing.assert_allclose(path[:steps + 1], plain, rtol=1e-12)
    if first: assert np.abs(path[first] - path[first - 1] + 0.1 * (0.9 * m + 0.1 * grads[first - 1]) / (1 - 0.9**first)).max() > 1e-3


def test_never_rectified_without_momentum_is_sgd():
    grads = gradients(50)
    path, _ = run(lambda ps: RAdam(ps, lr=0.1, betas=(0.0, 0.6)), grads)
    expected, _ = run(lambda ps: SGD(ps, lr=0.1), grads)
    np.testing.assert_allclose(path, expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("decoupled", [False, True])
def test_later_steps_are_adams_times_the_rectifier(decoupled):
    "With ε = 0, at every t: an Adam whose lr follows r_t; for t → ∞ Adam itself."
    beta2, grads = 0.99, gradients(3000)
    base = AdamW if decoupled else Adam
    p, q = Parameter(np.ones(50)), Parameter(np.ones(50))
    opt = RAdam([p], lr=0.01, betas=(0.9, beta2), eps=0, weight_decay=0.1, decoupled_weight_decay=decoupled)
    adam = base([q], lr=0.01, betas=(0.9, beta2), eps=0, weight_decay=0)
    for t, g in enumerate(grads, 1):
        q.data[...] = p.data
        p.grad = g.copy()
        opt.step()
        q.grad = g + 0.1 * q.data if not decoupled else g.copy()
        r = rectifier(sma_length(beta2, t), 2 / (1 - beta2) - 1) if t > 5 else np.nan
        adam.param_groups[0]["lr"] = 0.01 * r
        if decoupled: q.data *= 1 - 0.01 * 0.1
        adam.step()
        if t > 5: np.testing.assert_allclose(p.data, q.data, rtol=1e-12, atol=1e-14)
    assert 1 - 1e-9 < r <= 1


def test_eps_joins_the_uncorrected_root():
    "As torch has it: at step t it weighs ε/√(1-β₂ᵗ) next to √v̂. With a gradient of 1 the step is lr·r·√bc2/(√bc2 + ε)."
    path, _ = run(lambda ps: RAdam(ps, lr=1.0, eps=0.5), np.ones((6, 1)))
    bc2, r = 1 - 0.999**6, rectifier(sma_length(0.999, 6), 1999)
    np.testing.assert_allclose(path[5] - path[6], r * np.sqrt(bc2) / (np.sqrt(bc2) + 0.5), rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_early_steps_do_not_look_at_v(dtype):
    "Neither v = 0 with ε = 0 nor v overflowed may touch a step of momentum alone."
    huge = 1e200 if dtype == np.float64 else 1e25
    grads = np.tile(np.array([0, 1, huge], dtype), (5, 1))
    with np.errstate(over="ignore"): path, opt = run(lambda ps: RAdam(ps, lr=0.1, eps=0), grads)
    state, = opt.state.values()
    assert state["exp_avg_sq"][0] == 0 and np.isinf(state["exp_avg_sq"][2])
    np.testing.assert_allclose(path[-1], 1 - 0.5 * grads[0], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [50, 300_000])
def test_kernel_is_the_rule_on_both_sides_of_the_switch(dtype, size):
    "Bit for bit, serial and parallel, in steps 1 to 8."
    grads = gradients(8, size, dtype)
    p = Parameter(np.ones(size, dtype))
    arrays = np.ones(size, dtype), np.zeros(size, dtype), np.zeros(size, dtype)
    opt = RAdam([p], lr=0.1)
    for t, g in enumerate(grads, 1):
        p.grad = g
        opt.step()
        values = opt.coefficients(opt.param_groups[0], t)
        arrays = radam_rule(g, *arrays, *(dtype(values[name]) for name in radam_rule.coefficients))
        assert same(p.data, arrays[0])


def test_late_switches():
    "Every option is read afresh: β₂, weight decay and its kind may change after the first steps."
    grads = gradients(12)
    p = Parameter(np.ones(50))
    opt = RAdam([p], lr=0.1, betas=(0.9, 0.6))
    group = opt.param_groups[0]
    for t, g in enumerate(grads, 1):
        if t == 7: group["betas"] = (0.9, 0.9)
        if t == 9: group |= dict(weight_decay=0.1)
        if t == 11: group |= dict(decoupled_weight_decay=True)
        before, p.grad = p.data.copy(), g
        opt.step()
        values = opt.coefficients(group, t)
        assert values["rectified"] == (t >= 7)
        keep = 1 - 0.01 if t >= 11 else 1
        state = opt.state[p]
        root = np.sqrt(state["exp_avg_sq"]) + 1e-8 if t >= 7 else 1
        np.testing.assert_allclose(p.data, keep * before - values["step_size"] * state["exp_avg"] / root, rtol=1e-10, atol=1e-12)


def test_groups_out_of_step_switch_at_their_own_step():
    a, b = Parameter(np.ones(3)), Parameter(np.ones(3))
    opt = RAdam([a, b], lr=0.1)
    for t in range(1, 9):
        a.grad, b.grad = np.full(3, 10.0), np.full(3, 10.0) if t > 2 else None
        before = a.data.copy(), b.data.copy()
        opt.step()
        moved = [(old - p.data)[0] for old, p in zip(before, (a, b))]
        for n, d in ((t, moved[0]), (t - 2, moved[1])):
            r = rectifier(sma_length(0.999, n), 1999) if n > 5 else 0
            np.testing.assert_allclose(d, 0.1 * r if n > 5 else 1.0 if n > 0 else 0, rtol=1e-5)


@pytest.mark.parametrize("options, message", [
    (dict(lr=-1.0), "Invalid learning rate: -1.0"), (dict(eps=-1e-8), "Invalid epsilon value: -1e-08"),
    (dict(betas=(1.0, 0.9)), "Invalid beta parameter at index 0: 1.0"), (dict(betas=(0.9, -0.1)), "Invalid beta parameter at index 1: -0.1"),
    (dict(weight_decay=-0.1), "Invalid weight_decay value: -0.1")])
def test_messages_are_torchs(options, message):
    with pytest.raises(ValueError) as error: RAdam([Parameter(np.ones(1))], **options)
    assert str(error.value) == message
    torch = pytest.importorskip("torch", reason="torch is not installed")
    with pytest.raises(ValueError) as error: torch.optim.RAdam([torch.ones(1)], **options)
    assert str(error.value) == message
