"""What is Adafactor's own: factors, norms of whole arrays, torch's messages, and where it parts from torch."""
import numpy as np, pytest
from conftest import give_grads, normal, parameters, same, snapshot, train
from optim_nb import Adafactor, Parameter, batch, kernels
from optim_nb.optimizers import adafactor

SHAPES = [(5, 3), (1, 1), (40, 1), (1, 40), (200, 700), (700, 200), (2, 3, 4), (64, 3, 3, 3), (3000, 1, 1)]


def step(p, g, **options):
    p = Parameter(p)
    opt, p.grad = Adafactor([p], **options), g
    opt.step()
    return p, opt


@pytest.mark.parametrize("options", [{}, dict(lr=0.3, d=5.0, eps=(1e-2, 0.5), weight_decay=0.2), dict(d=float("inf"), eps=(0.0, 0.0)), dict(maximize=True)])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_loops_are_the_rule(shape, dtype, options, monkeypatch):
    "Three passes without an array of their own, against the rule in NumPy."
    p, q = Parameter(normal(shape, dtype)), Parameter(normal(shape, dtype))
    opt, other = Adafactor([p], **options), Adafactor([q], **options)
    other.parts = lambda group: [(adafactor.factored_rule, adafactor.FACTORS, group["params"])]
    train(opt, [p], 4), train(other, [q], 4)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(p.data, q.data, rtol=40 * eps, atol=20 * eps)
    for name, value in other.state[q].items(): np.testing.assert_allclose(opt.state[p][name], value, rtol=40 * np.finfo(np.asarray(value).dtype.char if name != "step" else "f8").eps)


@pytest.mark.parametrize("shape", SHAPES)
def test_serial_and_parallel_loops_agree_in_every_bit(shape, monkeypatch):
    p, q = Parameter(normal(shape, "f4")), Parameter(normal(shape, "f4"))
    opt, other = Adafactor([p]), Adafactor([q])
    train(opt, [p], 3)
    monkeypatch.setattr(batch, "PARALLEL_FROM", 0)
    train(other, [q], 3)
    assert same(p.data, q.data) and same(dict(opt.state[p]), dict(other.state[q]))


def test_the_state_is_as_large_as_the_edges():
    p, opt = step(normal((60, 50), "f4"), normal((60, 50), "f4"))
    assert {k: np.shape(v) for k, v in opt.state[p].items()} == {"row_var": (60, 1), "col_var": (1, 50), "step": ()}
    p, opt = step(normal((9, 8, 3, 3)), normal((9, 8, 3, 3)))  # the last two dimensions, as torch has it
    assert opt.state[p]["row_var"].shape == (9, 8, 3, 1) and opt.state[p]["col_var"].shape == (9, 8, 1, 3)


BAD = {"lr": (-0.1, "Learning rate should be >= 0 but is: -0.1"), "beta2_decay": (0.1, "beta2_decay should be <= 0 but is: 0.1"),
       "eps": ((-1.0, 1e-3), "epsilon1 should be >= 0 but is: -1.0"), "eps ": ((None, -1e-3), "epsilon2 should be >= 0 but is: -0.001"),
       "d": (0.5, "Clipping threshold d should be >= 1 but is: 0.5"), "weight_decay": (-1.0, "weight_decay should be >= 0 but is: -1.0")}


@pytest.mark.parametrize("name", BAD)
def test_messages_are_torchs(name):
    value, message = BAD[name]
    with pytest.raises(ValueError, match=f"^{message}$"): Adafactor(parameters(), **{name.strip(): value})
    with pytest.raises(ValueError, match=f"^{message}$"): Adafactor([{"params": parameters(), name.strip(): value}])
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=f"^{message}$"): torch.optim.Adafactor([torch.zeros(2)], **{name.strip(): value})


@pytest.mark.parametrize("value", [1e-3, (1e-3,), (None, None), (1e-3, "small"), None])
def test_eps_is_a_pair(value):
    with pytest.raises(ValueError): Adafactor(parameters(), eps=value)
    Adafactor(parameters(), eps=[None, 0], beta2_decay=0, d=1, weight_decay=0, lr=0)


def test_complex_parameters_are_refused(unchanged):
    params = parameters((2, 2)) + parameters((2, 2), dtype="c8")
    opt = Adafactor(params)
    give_grads(params)
    with unchanged(opt), pytest.raises(RuntimeError, match="^Adafactor does not support complex parameters$"): opt.step()
    params[1].grad = None
    opt.step()


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3)])
def test_an_empty_parameter_takes_its_step(shape):
    p, opt = step(normal(shape), normal(shape))
    assert opt.state[p]["step"] == 1 and not any(np.any(v) for k, v in opt.state[p].items() if k != "step")


def test_gradients_that_are_another_matrix():
    "The update is simultaneous, though each matrix is written where it lies."
    both = normal((8, 6), "f4")
    p, q = Parameter(both[:4]), Parameter(both[4:])
    a, b = Parameter(both[:4].copy()), Parameter(both[4:].copy())
    opt, other = Adafactor([p, q], lr=0.5), Adafactor([a, b], lr=0.5)
    for _ in range(3):
        p.grad, q.grad = q.data, p.data
        a.grad, b.grad = b.data.copy(), a.data.copy()
        opt.step(), other.step()
        assert same(p.data, a.data) and same(q.data, b.data)


def test_the_decay_does_not_shorten_the_step():
    "α looks at the parameter as it was; even a decay to 0 leaves the step whole."
    for shape in ((4,), (4, 3)):
        p, g = normal(shape), normal(shape, seed=1)
        plain, _ = step(p.copy(), g, lr=0.5)
        gone, _ = step(p.copy(), g, lr=0.5, weight_decay=2.0)
        np.testing.assert_allclose(gone.data, plain.data - p, rtol=1e-12)


def test_a_step_does_not_depend_on_the_other_parameters_dtype():
    "In torch the first parameter's eps is that of the whole group."
    a, b, c = parameters((3, 3), dtype="f4") + parameters((3, 3)) + parameters((3, 3))
    opt, alone = Adafactor([a, b]), Adafactor([c])
    for p in (a, b, c): p.grad = np.full((3, 3), 1e-6, p.data.dtype)
    opt.step(), alone.step()
    assert same(b.data, c.data)


def test_a_layout_costs_no_digit():
    held = np.asfortranarray(normal((4, 6), "f4"))
    p, opt = step(held, np.asfortranarray(normal((4, 6), "f4", 1)))
    q, _ = step(np.ascontiguousarray(normal((4, 6), "f4")), normal((4, 6), "f4", 1))
    assert p.data is held and (held == q.data).all()


def test_options_may_change_between_steps():
    params, twins = parameters((4, 3), (5,)), parameters((4, 3), (5,))
    opt, other = Adafactor(params), Adafactor(twins, lr=0.2, d=3.0, eps=(1e-4, 0.1), beta2_decay=-0.5, weight_decay=0.1)
    train(opt, params, 2)
    for p, q in zip(params, twins):
        q.data[...] = p.data
        other.state[q] = {k: np.copy(v) if k != "step" else v for k, v in opt.state[p].items()}
    opt.param_groups[0].update({k: v for k, v in other.param_groups[0].items() if k != "params"})
    train(opt, params, 2, 2), train(other, twins, 2, 2)
    assert same(snapshot(opt)["data"], snapshot(other)["data"])


def test_one_row_or_column_is_no_guess():
    "A matrix of rank one in its squares is what the factors hold: the step is that of a vector."
    for shape in ((1, 30), (30, 1)):
        p, q = normal(shape), normal((30,), seed=0)
        q[...] = p.ravel()
        options = dict(eps=(1e-30, 1e-3))
        p, q = Parameter(p), Parameter(q)
        opt, other = Adafactor([p], **options), Adafactor([q], **options)
        for t in range(4):
            p.grad = normal(shape, seed=t)
            q.grad = p.grad.ravel().copy()
            opt.step(), other.step()
        np.testing.assert_allclose(p.data.ravel(), q.data, rtol=1e-12)


@pytest.mark.parametrize("rule", ["factored_loops", "factored_rule"][not kernels.JIT:])  # the loops are compiled
@pytest.mark.parametrize("size, expected", [(1e-2, 1), (1e-4, 2**-11.5 / 1e-4), (1e-7, 2**23 * 1e-7)])
def test_eps1_bounds_the_mean_and_the_root(rule, size, expected):
    "The mean of the rows by ε₁, the root of the guess by ε₁ too: what small gradients make of it, as in torch."
    p = Parameter(np.ones((4, 3), "f4"))
    opt, p.grad = Adafactor([p], lr=0.1, d=np.inf), np.full((4, 3), size, "f4")
    opt.parts = lambda group: [(getattr(adafactor, rule), adafactor.FACTORS, group["params"])]
    opt.step()
    np.testing.assert_allclose((1 - p.data) / 0.1, expected, rtol=1e-4)


def test_the_relative_step_falls_as_the_root_of_t():
    p = Parameter(np.ones((4, 3)))
    opt = Adafactor([p], lr=0.4)
    for t in range(1, 40):
        before, p.grad = p.data.copy(), -np.ones((4, 3))
        opt.step()
        np.testing.assert_allclose(p.data / before - 1, min(0.4, t**-0.5), rtol=1e-9)
