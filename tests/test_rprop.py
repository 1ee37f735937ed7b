"""Rprop: torch's messages, its state machine step by step, and what does not reach it: lr, schedules, sizes."""
import numpy as np, pytest
from conftest import normal, parameters, same, train
from optim_nb import Parameter, Rprop
from optim_nb.lr_scheduler import StepLR


@pytest.mark.parametrize("options, message", [
    (dict(lr=-1), "^Invalid learning rate: -1$"), (dict(lr=float("nan")), "^Invalid learning rate: nan$"),
    (dict(etas=(0.0, 1.2)), "^Invalid eta values: 0.0, 1.2$"), (dict(etas=(0.5, 1.0)), "^Invalid eta values: 0.5, 1.0$"),
    (dict(etas=(1.2, 0.5)), "^Invalid eta values: 1.2, 0.5$"), (dict(etas=0.5), "^Invalid etas: 0.5, need a pair of numbers$"),
    (dict(etas=(0.5, float("nan"))), "^Invalid eta values: 0.5, nan$"), (dict(step_sizes=(1e-6,)), "^Invalid step_sizes: .* need a pair of numbers$"),
    (dict(step_sizes=(1, 0.1)), "^Invalid step sizes: 1, 0.1$"), (dict(step_sizes=(-1, 50)), "^Invalid step sizes: -1, 50$")], ids=str)
def test_messages(options, message):
    with pytest.raises(ValueError, match=message): Rprop(parameters(), **options)
    with pytest.raises(ValueError, match=message): Rprop([{"params": parameters(), **options}])


def steps(gradients, dtype="f8", **options):
    "Of one number: the moves, step sizes and prevs."
    p, found = Parameter(np.zeros(1, dtype)), []
    opt = Rprop([p], **options)
    for g in gradients:
        p.grad, before = np.array([g], dtype), p.data.copy()
        opt.step()
        found.append(((p.data - before).item(), opt.state[p]["step_size"].item(), opt.state[p]["prev"].item()))
    return np.array(found).T


def test_step_by_step():
    "First step lr; same sign × 1.2; a flip halves, does not move, and sets prev to 0; then the size is kept; so it is at a gradient of 0."
    moves, sizes, prevs = steps([3, 2, -5, -5, -1, 0, 4, 4, -4, 4], lr=1.0)
    np.testing.assert_allclose(sizes, [1, 1.2, 0.6, 0.6, 0.72, 0.72, 0.72, 0.864, 0.432, 0.432], rtol=1e-14)
    np.testing.assert_allclose(moves, [-1, -1.2, 0, 0.6, 0.72, 0, -0.72, -0.864, 0, -0.432], rtol=1e-14)
    np.testing.assert_array_equal(prevs, [3, 2, 0, -5, -1, 0, 4, 4, 0, 4])


def test_step_sizes_bind_at_once():
    for lr, size in ((100.0, 50.0), (1e-9, 1e-6), (0.0, 1e-6)):
        moves, sizes, _ = steps([1.0, 1.0], lr=lr)
        np.testing.assert_allclose(sizes, [size, min(50, size * 1.2)], rtol=1e-14)
        np.testing.assert_allclose(moves, -sizes, rtol=1e-7)


def final(gradients, scheduled=False, **options):
    p = Parameter(np.zeros(gradients.shape[1], gradients.dtype))
    opt = Rprop([p], **options)
    scheduler = StepLR(opt, 3, 0.1) if scheduled else None
    for g in gradients:
        p.grad = g.copy()
        opt.step()
        if scheduler: scheduler.step()
    return p.data


GRADIENTS = normal((50, 9))


def test_a_schedule_does_nothing():
    assert same(final(GRADIENTS), final(GRADIENTS, scheduled=True))


def test_a_parameter_that_comes_late_starts_with_the_lr_of_that_step():
    a, b = parameters((2,), (2,))
    opt = Rprop([a, b], lr=0.1)
    train(opt, [a], 2)
    opt.param_groups[0]["lr"] = 0.3
    train(opt, [a, b], 1, 2)
    assert (opt.state[b]["step_size"] == 0.3).all() and opt.state[b]["step"] == 1


def test_only_signs_count():
    assert same(final(GRADIENTS), final(np.sign(GRADIENTS))) and same(final(GRADIENTS), final(GRADIENTS**3 * 1e9))


def test_limits_changed_late_bind_at_the_next_step():
    p = Parameter(np.zeros(1))
    opt = Rprop([p], lr=1.0)
    p.grad = np.ones(1)
    opt.step()
    opt.param_groups[0].update(step_sizes=(1e-6, 0.25), etas=(0.5, 2))
    opt.step()
    assert opt.state[p]["step_size"] == 0.25 and p.data == -1.25


def test_equal_etas_without_growth_are_sign_descent():
    "With both limits at lr there is one step size, but a flip still costs a step."
    moves, _, _ = steps([1, 1, -1, -1, 1], lr=0.5, step_sizes=(0.5, 0.5))
    np.testing.assert_array_equal(moves, [-0.5, -0.5, 0, 0.5, 0])


def test_products_of_tiny_gradients_underflow_as_in_torch():
    "In float32 the product of two gradients below 1e-23 is 0, so that they count as neither alike nor opposed."
    assert (steps([1e-23] * 3, "f4", lr=1.0)[1] == 1).all() and steps([1e-23] * 3, "f8", lr=1.0)[1][-1] > 1.4


def test_nan_is_no_vote_as_in_torch():
    "torch's sign of NaN is 0: no move, no change of the step size, now or at the next step."
    moves, sizes, _ = steps([1.0, np.nan, 1.0, 1.0], lr=1.0)
    np.testing.assert_allclose(moves, [-1, 0, -1, -1.2], rtol=1e-14)
    np.testing.assert_array_equal(sizes, [1, 1, 1, 1.2])


def test_complex_numbers_are_pairs_of_reals():
    z, pair = Parameter(normal((5,), "c8")), Parameter(normal((5,), "c8").view("f4"))
    a, b = Rprop([z], lr=0.1), Rprop([pair], lr=0.1)
    for t in range(5):
        z.grad = normal((5,), "c8", t)
        pair.grad = z.grad.view("f4").copy()
        a.step(), b.step()
        if not t: assert (a.state[z]["step_size"] == np.complex64(0.1 + 0.1j)).all()
    assert same(z.data.view("f4"), pair.data) and same(a.state[z]["step_size"].view("f4"), b.state[pair]["step_size"])


def test_odd_gradients_as_in_torch():
    "Infinite, zero, tiny and NaN ones, real and complex, bit for bit: nothing is rounded but products with η."
    torch = pytest.importorskip("torch")
    odd = np.array([np.inf, -np.inf, 0, -0.0, 1e-30, -1e-30, 1e-23, 1, -1, np.nan], "f4")
    for dtype in ("f4", "c8"):
        rng = np.random.default_rng(0)
        ours, theirs = Parameter(np.zeros(200, dtype)), torch.zeros(200, dtype=torch.float32 if dtype == "f4" else torch.complex64)
        a, b = Rprop([ours]), torch.optim.Rprop([theirs])
        for _ in range(6):
            ours.grad = rng.choice(odd, 200 * (1 + (dtype == "c8")), p=[0.08] * 5 + [0.1] * 3 + [0.28, 0.02]).view(dtype)
            theirs.grad = torch.from_numpy(ours.grad.copy())
            a.step(), b.step()
        for x, y in ((ours.data, theirs), *((a.state[ours][k], b.state[theirs][k]) for k in ("prev", "step_size"))):
            np.testing.assert_allclose(x.view("f4"), y.numpy().view("f4"), rtol=1e-6)
