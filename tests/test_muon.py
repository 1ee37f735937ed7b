"""What is Muon's own: matrices only, an orthogonal step, torch's traps."""
from dataclasses import replace
import numpy as np, pytest
from conftest import give_grads, normal, same, train
from golden.cases import CASES, DTYPES, collect, ulps
from optim_nb import Muon, Parameter, SGD
from optim_nb.optimizers.muon import newton_schulz
from test_parity import is_close, nb_run, recorded_runs, tables

nan = float("nan")


def matrix(shape=(4, 6), dtype="f8", seed=0): return Parameter(normal(shape, dtype, seed))


def stepped(p, grads, **options):
    "The optimizer after a step with each of these gradients."
    opt = Muon([p], **dict(lr=0.1, weight_decay=0) | options)
    for g in grads:
        p.grad = np.array(g, p.data.dtype)
        opt.step()
    return opt


# ---- what is refused

@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_only_matrices_are_taken(shape, unchanged):
    message = r"^Muon only supports 2D parameters whereas we found a parameter with size: \(.*\)$"
    with pytest.raises(ValueError, match=message): Muon([matrix(), matrix(shape)])
    opt = Muon([matrix()])
    with unchanged(opt), pytest.raises(ValueError, match=message): opt.add_param_group({"params": [matrix(shape)]})
    p = matrix()
    late = Muon([p], momentum=0.5)
    p.data, p.grad = normal(shape), normal(shape)
    with unchanged(late), pytest.raises(ValueError, match="^Param gradient must be a 2D matrix$|has shape"): late.step()


@pytest.mark.parametrize("dtype", ["c8", "c16"])
def test_complex_matrices_are_refused(dtype, unchanged):
    with pytest.raises(RuntimeError, match="^Muon does not support complex parameters$"): Muon([matrix(dtype=dtype)])
    p = matrix()
    opt = Muon([p])
    p.data, p.grad = normal((4, 6), dtype), normal((4, 6), dtype)
    with unchanged(opt), pytest.raises(RuntimeError, match="^Muon does not support complex parameters$"): opt.step()


BAD = [(dict(lr=-1.0), "^Learning rate should be >= 0 but is: -1.0$"), (dict(lr=nan), "^Learning rate should be >= 0 but is: nan$"),
       (dict(momentum=-0.1), "^momentum should be >= 0 but is: -0.1$"), (dict(weight_decay=-0.1), "^weight decay should be >= 0 but is: -0.1$"),
       (dict(adjust_lr_fn="adam"), "^Adjust learning rate function adam is not supported$"), (dict(eps=-1.0), "^Invalid epsilon value: -1.0$"),
       (dict(ns_coefficients=(1.5, -0.5)), "^Coefficients must be a tuple of exactly 3 values$"),
       (dict(ns_steps=100), "^Number of steps must be less than 100 for computational efficiency$")]


@pytest.mark.parametrize("options, message", BAD, ids=lambda x: str(x) if isinstance(x, dict) else "")
def test_bad_options_are_refused_in_torchs_words(options, message, unchanged):
    with pytest.raises(ValueError, match=message): Muon([matrix()], **options)
    with pytest.raises(ValueError, match=message): Muon([{"params": [matrix()], **options}])
    opt = Muon([matrix()])
    saved = opt.state_dict()
    saved["param_groups"][0].update(options)
    with unchanged(opt), pytest.raises(ValueError, match=message): opt.load_state_dict(saved)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("adjust", [None, "match_rms_adamw"])
def test_a_matrix_without_elements_is_no_error(shape, adjust):
    p = matrix(shape)
    stepped(p, [np.zeros(shape)], adjust_lr_fn=adjust)  # torch divides by zero for 3 × 0
    assert p.data.shape == shape


# ---- the step

@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5), (1, 7), (7, 1)])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_singular_values_follow_the_polynomial_and_vectors_stay(shape, dtype):
    a = normal(shape, dtype)
    u, s, vt = np.linalg.svd(a.astype("f8"), full_matrices=False)
    x = s / np.sqrt((s * s).sum())
    for _ in range(5): x = 3.4445 * x - 4.775 * x**3 + 2.0315 * x**5
    np.testing.assert_allclose(newton_schulz(a), (u * x) @ vt, rtol=0, atol=2e-5 if dtype == "f4" else 1e-13)
    assert newton_schulz(a).dtype == dtype


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5)])
@pytest.mark.parametrize("nesterov", [True, False])
def test_the_buffer_is_the_docstrings_times_one_minus_momentum(shape, nesterov):
    grads, p, beta, b = [normal(shape, seed=t) for t in range(6)], matrix(shape, seed=9), 0.95, 0
    theta = p.data.copy()
    for g in grads:
        b = beta * b + g  # as torch's docstring has it
        theta -= 0.1 * np.sqrt(max(1, shape[0] / shape[1])) * newton_schulz(g + beta * b if nesterov else b)
    opt = stepped(p, grads, nesterov=nesterov)
    np.testing.assert_allclose(opt.state[p]["momentum_buffer"], (1 - beta) * b, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(p.data, theta, rtol=1e-10, atol=1e-12)  # the same steps


@pytest.mark.parametrize("adjust, factor", [(None, 2), ("original", 2), ("match_rms_adamw", 0.2 * np.sqrt(24))])
def test_the_rate_is_adjusted_for_the_step_and_not_for_the_decay(adjust, factor):
    p, q = matrix((24, 6)), matrix((24, 6))
    opt = stepped(p, [np.zeros((24, 6))], weight_decay=0.5, adjust_lr_fn=adjust)
    np.testing.assert_allclose(p.data, 0.95 * q.data, rtol=1e-15)
    assert not opt.state[p]["momentum_buffer"].any()
    g, p = normal((24, 6), seed=1), matrix((24, 6))
    stepped(p, [g], adjust_lr_fn=adjust)
    np.testing.assert_allclose(q.data - p.data, 0.1 * factor * newton_schulz(g), rtol=1e-11, atol=1e-14)


def test_a_transposed_problem_has_the_transposed_solution():
    grads = [normal((4, 9), seed=t) for t in range(5)]
    wide, tall = matrix((4, 9)), Parameter(np.ascontiguousarray(normal((4, 9)).T))
    stepped(wide, grads, adjust_lr_fn="match_rms_adamw")
    stepped(tall, [g.T for g in grads], adjust_lr_fn="match_rms_adamw")
    assert same(wide.data, np.ascontiguousarray(tall.data.T))


def test_a_rotated_problem_has_the_rotated_solution():
    (u, _), (v, _) = np.linalg.qr(normal((4, 4), seed=5)), np.linalg.qr(normal((6, 6), seed=6))
    grads, p = [normal((4, 6), seed=t) for t in range(5)], matrix()
    q = Parameter(u @ p.data @ v)
    stepped(p, grads), stepped(q, [u @ g @ v for g in grads])
    np.testing.assert_allclose(q.data, u @ p.data @ v, atol=1e-12)


def test_without_iterations_it_is_normalised_sgd():
    grads, p, q = [normal((4, 6), seed=t) for t in range(4)], matrix(), matrix()
    stepped(p, grads, momentum=0, ns_steps=0)
    sgd = SGD([q], lr=0.1)
    for g in grads:
        q.grad = g / np.linalg.norm(g)
        sgd.step()
    np.testing.assert_allclose(p.data, q.data, rtol=1e-14)


def test_a_gradients_size_does_not_matter_down_to_eps():
    g = normal((4, 6))
    for scale in (1e-5, 1e3): np.testing.assert_allclose(newton_schulz(scale * g), newton_schulz(g), rtol=1e-12)
    assert np.linalg.norm(newton_schulz(1e-12 * g), 2) < 0.1  # below eps it does
    assert np.linalg.norm(newton_schulz(1e-12 * g, eps=0), 2) > 0.6


def test_float16_is_float32_rounded():
    p, q = matrix(dtype="f2"), Parameter(normal((4, 6), "f2").astype("f4"))
    opt, other = Muon([p], lr=0.1), Muon([q], lr=0.1)
    for t in range(4):
        give_grads([p], t)
        q.grad = p.grad.astype("f4")
        opt.step(), other.step()
        q.data[...] = q.data.astype("f2")
    assert same(p.data, q.data.astype("f2")) and same(opt.state[p]["momentum_buffer"], other.state[q]["momentum_buffer"])


@pytest.mark.parametrize("late", [dict(nesterov=False), dict(ns_steps=2), dict(momentum=0), dict(adjust_lr_fn="match_rms_adamw"), dict(lr=1.0)])
def test_late_switches(late):
    p, q = matrix(), matrix()
    opt, other = Muon([p], lr=0.1), Muon([q], lr=0.1)
    train(opt, [p], 2), train(other, [q], 2)
    fresh = Muon([q], **dict(lr=0.1) | late)
    fresh.load_state_dict(fresh.state_dict() | {"state": other.state_dict()["state"]})
    opt.param_groups[0].update(late)
    train(opt, [p], 3, 2), train(fresh, [q], 3, 2)
    assert same(p.data, q.data) and same(dict(opt.state[p]), dict(fresh.state[q]))


# ---- errors of the kind a port makes are beyond the tolerance of the runs without bfloat16

@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("slip", [dict(momentum=0.95001), dict(nesterov=False), dict(ns_steps=4), dict(ns_steps=6), dict(weight_decay=0.10001),
                                  dict(lr=0.02 * (1 + 2e-5)), dict(ns_coefficients=(3.4445, -4.775, 2.0316)), dict(adjust_lr_fn="match_rms_adamw"),
                                  dict(eps=1.0)], ids=str)
def test_tolerance_notices(slip, dtype):
    case = next(c for c in CASES if c.optimizer == "Muon" and c.widened and c.options == dict(lr=0.02, weight_decay=0.1) and not c.second)
    wrong = replace(case, options=case.options | slip)
    assert not is_close(ulps(collect(nb_run(wrong, dtype), dtype), tables(recorded_runs("Muon"), case, dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("slip", [dict(lr=0.00105), dict(nesterov=False), dict(ns_steps=4), dict(weight_decay=0.4)], ids=str)
def test_even_the_tolerance_for_bfloat16_notices(slip, dtype):
    case = next(c for c in CASES if c.optimizer == "Muon" and not c.widened and not c.options)
    wrong = replace(case, options=case.options | slip)
    assert not is_close(ulps(collect(nb_run(wrong, dtype), dtype), tables(recorded_runs("Muon"), case, dtype)), case.tolerance[dtype])
