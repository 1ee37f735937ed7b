"""Test problems: gradients against finite differences and autodiff, minima, shapes, dtypes, noise."""
import subprocess
import sys

import numpy as np
import pytest

from optim_nb.problems import MGH, PROBLEMS, Problem, best, ellipse, logistic, logistic_data, noisy_quadratic, rosenbrock, saddle
from optim_nb.tensor import Parameter, Tensor

MAKERS = PROBLEMS | {"rosenbrock_5": lambda: rosenbrock(5), "ellipse_1000": lambda: ellipse(1000, 77)}

@pytest.fixture(params=MAKERS, ids=str)
def problem(request): return MAKERS[request.param]()

@pytest.fixture
def points(problem):
    low, high = np.array(problem.bounds or [(-2, 2)] * problem.start.size).T
    return np.random.default_rng(7).uniform(low, high, (30, problem.start.size))

def exact(problem):
    problem.sigma = 0.0
    return problem

def test_gradient_equals_central_differences(problem, points, h=1e-5):
    by_hand = problem.grad(points)
    steps = h * np.eye(problem.start.size)
    differences = np.stack([problem(points + e) - problem(points - e) for e in steps], -1) / (2 * h)
    np.testing.assert_allclose(differences, by_hand, rtol=1e-6, atol=1e-8 * np.abs(by_hand).max())

def test_gradient_equals_autodiff_point_by_point(problem, points):
    problem = exact(problem)
    for p in points:
        leaf = Parameter(p)
        value = problem(leaf)
        value.backward()
        assert value.shape == ()
        np.testing.assert_allclose(value.data, problem(p), rtol=1e-14)
        np.testing.assert_allclose(leaf.grad, problem.grad(p), rtol=1e-10, atol=1e-10)

def test_hessian_equals_differences_of_the_gradient(problem, points, h=1e-5):
    steps = h * np.eye(problem.start.size)
    differences = np.stack([problem.grad(points + e) - problem.grad(points - e) for e in steps], -1) / (2 * h)
    hessian = problem.hessian(points)
    assert hessian.shape == (30, problem.start.size, problem.start.size)
    np.testing.assert_allclose(hessian, differences, rtol=1e-5, atol=1e-6 * np.abs(differences).max())

def test_minima_are_minima(problem):
    np.testing.assert_allclose(problem.grad(problem.minima), 0, atol=1e-10)
    np.testing.assert_allclose(problem(problem.minima), problem.fmin, atol=1e-14)
    assert (np.linalg.eigvalsh(problem.hessian(problem.minima)) > 0).all()

def test_nothing_in_the_picture_is_lower(problem):
    if problem.bounds is None: pytest.skip("not two-dimensional")
    grid = np.stack(np.meshgrid(*(np.linspace(*b, 300) for b in problem.bounds)), -1)
    assert (problem(grid) >= problem.fmin).all()
    low, high = np.array(problem.bounds).T
    for p in (problem.start, *problem.minima): assert ((low < p) & (p < high)).all()

def test_shapes_of_arrays(problem):
    d = problem.start.size
    for shape in ((), (4,), (4, 3), (0,)):
        p = np.ones((*shape, d))
        assert np.shape(problem(p)) == shape
        assert problem.grad(p).shape == (*shape, d)
    assert isinstance(problem(problem.start.tolist()), float)          # lists, and a scalar for one point

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(problem, dtype):
    p = problem.start.astype(dtype)
    assert problem(p).dtype == problem.grad(p).dtype == dtype
    leaf = Parameter(p)
    value = problem(leaf)
    value.backward()
    assert value.dtype == leaf.grad.dtype == dtype

def test_integers_are_read_as_floats(problem):
    p = np.ones(problem.start.size, dtype=int)
    assert problem(p) == problem(p.astype(float)) and problem.grad(p).dtype == np.float64

@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros(()), np.zeros((2, 4)), Tensor(np.zeros(3))], ids=repr)
def test_wrong_size_is_refused(wrong):
    with pytest.raises(ValueError, match=r"Rosenbrock: points must have shape \(\.\.\., 2\)"): rosenbrock()(wrong)

def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="kappa must be at least 1"): ellipse(kappa=0.5)
    with pytest.raises(ValueError, match="n >= 2"): rosenbrock(1)
    with pytest.raises(ValueError, match="sigma must not be negative"): noisy_quadratic(sigma=-1)

@pytest.mark.parametrize("kappa", [1, 20, 1e4])
@pytest.mark.parametrize("angle", [0, 30, 135])
def test_ellipse_has_the_stated_curvature(kappa, angle):
    problem = ellipse(kappa, angle)
    values, vectors = np.linalg.eigh(problem.hessian(problem.start))
    np.testing.assert_allclose(values, [1, kappa], rtol=1e-8)
    np.testing.assert_allclose([problem.mu, problem.L, problem.kappa], [1, kappa, kappa], rtol=1e-8)
    flat = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    if kappa > 1: np.testing.assert_allclose(abs(vectors[:, 0] @ flat), 1, rtol=1e-8)

def test_curvature_stays_between_mu_and_L(problem, points):
    curvature = np.linalg.eigvalsh(problem.hessian(points))
    if problem.L is not None: assert curvature.max() <= problem.L * (1 + 1e-12)
    if problem.mu is not None: assert curvature.min() >= problem.mu * (1 - 1e-12)

def test_noise_has_the_stated_variance_and_can_be_repeated():
    problem = noisy_quadratic(sigma=0.5, seed=3)
    def draw():
        leaf = Parameter(problem.start.copy())
        problem(leaf).backward()
        return leaf.grad - problem.grad(problem.start)
    noise = np.array([draw() for _ in range(2000)])
    np.testing.assert_allclose(noise.var(0), 0.25, rtol=0.1)
    np.testing.assert_allclose(noise.mean(0), 0, atol=0.04)
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.1
    problem.reset()
    np.testing.assert_array_equal(draw(), noise[0])
    assert problem(problem.start) == problem(problem.start)            # arrays: exact

def test_noisy_value_and_gradient_belong_together():
    problem = noisy_quadratic()
    leaf = Parameter(problem.start.copy())
    value = problem(leaf)
    value.backward()
    noise = leaf.grad - problem.grad(problem.start)
    np.testing.assert_allclose(value.data, problem(problem.start) + noise @ problem.start, rtol=1e-14)

def test_logistic_optimum_and_extremes():
    problem = logistic()
    assert np.abs(problem.grad(problem.minima)).max() < 1e-10
    X, y = logistic_data()
    z = X @ problem.start
    np.testing.assert_allclose(problem(problem.start), np.mean(np.log(1 + np.exp(-(2 * y - 1) * z))), rtol=1e-14)
    for far in (1e4, -1e4):                                            # no overflow
        leaf = Parameter(np.array([far, far]))
        problem(leaf).backward()
        np.testing.assert_allclose(leaf.grad, problem.grad(leaf.data), rtol=1e-12)
    np.testing.assert_array_equal(logistic_data(seed=1)[0], logistic_data(seed=1)[0])

def test_saddle_point():
    problem = saddle()
    np.testing.assert_array_equal(problem.grad([0.0, 0.0]), 0)
    np.testing.assert_array_equal(np.linalg.eigvalsh(problem.hessian([0.0, 0.0])), [-1, 1])

def test_a_problem_of_ones_own():
    problem = Problem("line", lambda p: (p**4).sum(-1), lambda p: 4 * p**3, start=[2.0], minima=[0.0])
    leaf = Parameter(np.array([2.0]))
    problem(leaf).backward()
    np.testing.assert_allclose(leaf.grad, problem.grad(leaf.data))
    np.testing.assert_allclose(problem.hessian(leaf.data), [[48]], rtol=1e-6)
    assert repr(problem) == "Problem('line', start=[2.0], minima=[[0.0]])" and problem.kappa is None

@pytest.mark.parametrize("name", MGH)
def test_a_function_of_1981_has_its_gradient_in_any_number_of_points(name):
    problem = MGH[name]()
    points = problem.start + 0.01 * np.random.default_rng(3).normal(size=(2, 3, problem.start.size))
    steps = 1e-6 * np.maximum(1, np.abs(problem.start)) * np.eye(problem.start.size)
    differences = np.stack([(problem(points + e) - problem(points - e)) / (2 * e.max()) for e in steps], -1)
    scale = np.abs(differences).max()
    assert problem(points).shape == (2, 3) and problem.grad(points).shape == points.shape
    np.testing.assert_allclose(problem.grad(points) / scale, differences / scale, atol=1e-4)
    np.testing.assert_allclose(problem.grad(points)[1, 2], problem.grad(points[1, 2]), rtol=1e-10)
    assert problem.minima.shape == (0, problem.start.size) and problem(problem.start) > problem.fmin >= 0

# --- best

def test_best_finds_the_lowest_inside_and_tries_each_setting_once():
    tried = []
    def score(lr, beta):
        tried.append((lr, beta))
        return (lr - 0.3)**2 + (beta - 0.9)**2
    settings, low = best(score, lr=np.array([0.1, 0.3, 1.0]), beta=[0.8, 0.9, 0.95, 0.99])
    assert settings == {"lr": 0.3, "beta": 0.9} and low == 0 and type(low) is float
    assert all(type(v) is float for v in settings.values())            # printed as numbers
    assert tried == [(lr, beta) for lr in (0.1, 0.3, 1.0) for beta in (0.8, 0.9, 0.95, 0.99)]
    assert best(lambda n: abs(n - 20), n=[10, 20, 30]) == ({"n": 20}, 0.0)
    assert type(best(lambda n: abs(n - 20), n=[10, 20, 30])[0]["n"]) is int

@pytest.mark.parametrize("peak, message", [((1, 5), "a = 1 is the first value tried: try lower"),
                                           ((9, 5), "a = 9 is the last value tried: try higher"),
                                           ((5, 1), "b = 1 is the first value tried: try lower"),
                                           ((5, 9), "b = 9 is the last value tried: try higher"), ((9, 1), "a = 9"),
                                           ((-3, 5), "a = 1"), ((5, 20), "b = 9")])
def test_best_refuses_a_winner_at_the_edge_of_either_grid(peak, message):
    with pytest.raises(ValueError, match=message):
        best(lambda a, b: abs(a - peak[0]) + abs(b - peak[1]), a=[1, 5, 9], b=[1, 5, 9])

def test_best_and_ties():
    assert best(lambda a: max(abs(a - 3), 1), a=[1, 2, 3, 4, 5])[0] == {"a": 2}     # 2, 3 and 4 are as good: the first
    for grid in ([2, 3, 5], [1, 3, 4], [2, 3, 4]):                                  # a tie that may go on beyond
        with pytest.raises(ValueError, match="tried"): best(lambda a: max(abs(a - 3), 1), a=grid)
    def saddle_of_equals(a, b): return 0 if (a, b) in {(2, 2), (2, 3)} else 1       # in two dimensions one is outside
    with pytest.raises(ValueError, match="b = 3 is the last"): best(saddle_of_equals, a=[1, 2, 3], b=[1, 2, 3])

def test_best_where_a_grid_begins_at_a_natural_zero():
    assert best(lambda a: a, a=[0, 1, 2]) == ({"a": 0}, 0.0)
    assert best(lambda a: a, a=[0.0, 1e-4, 1e-3])[0] == {"a": 0.0}
    with pytest.raises(ValueError, match="last"): best(lambda a: -a, a=[0, 1, 2])
    with pytest.raises(ValueError, match="a = 0 is the last"): best(lambda a: -a, a=[-2, -1, 0])  # above 0 there is room
    with pytest.raises(ValueError, match="first"): best(lambda a: a, a=[-1, 0, 1])

def test_best_and_scores_that_are_not_numbers():
    scores = {1: np.nan, 2: 5.0, 3: 4.0, 4: np.inf, 5: np.nan}
    assert best(lambda a: scores[a], a=[1, 2, 3, 4, 5]) == ({"a": 3}, 4.0)
    for nothing in (np.nan, np.inf):
        with pytest.raises(ValueError, match="no setting gave a finite score: a, b"):
            best(lambda a, b, score=nothing: score, a=[1, 2, 3], b=[1, 2, 3])
    assert best(lambda a: np.float32(abs(a - 2)), a=[1, 2, 3])[1] == 0.0

@pytest.mark.parametrize("grid", [[1, 2], [], [1, 3, 2], [1, 1, 2], [1, 2, np.nan], [[1, 2], [3, 4], [5, 6]]], ids=str)
def test_best_refuses_what_is_no_grid(grid):
    with pytest.raises(ValueError, match="lr: a grid needs three values or more, ascending"):
        best(lambda lr: pytest.fail("scored"), lr=grid)

def test_imports_without_matplotlib():
    code = "import sys; sys.modules['matplotlib'] = None; import optim_nb.problems as p; p.beale()([0.0, 0.0])"
    subprocess.run([sys.executable, "-c", code], check=True)
