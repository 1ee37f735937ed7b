"""The plotting rig: traces, style and every picture, under Agg."""
import re
import subprocess
import sys

import matplotlib
matplotlib.use("Agg")
from matplotlib.colors import to_rgb
import matplotlib.pyplot as plt
import numpy as np
import pytest

from optim_nb import SGD, Adam
from optim_nb.lr_scheduler import StepLR
from optim_nb.plot import (COLORS, FAMILIES, INK, STYLE, WIDTH, Trace, animate, colors, contours, curves, heatmap, lr_curve, race,
                           states, trace, use_style)
from optim_nb.problems import PROBLEMS, bowl, ellipse, noisy_quadratic, rosenbrock

@pytest.fixture(autouse=True)
def style():
    with plt.rc_context(STYLE): yield
    plt.close("all")

def sgd(lr, **options): return lambda params: SGD(params, lr=lr, **options)
def adam(lr, **options): return lambda params: Adam(params, lr=lr, **options)

# --- traces

def test_trace_records_every_step():
    problem = rosenbrock()
    run = trace(problem, adam(0.1), 30)
    assert run.path.shape == (31, 2) and run.loss.shape == (31,) and run.grad.shape == (30, 2) and run.lr.shape == (30,)
    assert list(run.state) == ["exp_avg", "exp_avg_sq"] and all(v.shape == (30, 2) for v in run.state.values())
    assert len(run) == 30 and not run.diverged
    np.testing.assert_array_equal(run.path[0], problem.start)
    np.testing.assert_allclose(run.loss, problem(run.path), rtol=1e-15)
    np.testing.assert_allclose(run.grad, problem.grad(run.path[:-1]), rtol=1e-10)
    m = np.zeros(2)
    for g, recorded in zip(run.grad, run.state["exp_avg"]):
        m = 0.9 * m + 0.1 * g
        np.testing.assert_allclose(recorded, m, rtol=1e-12)

def test_trace_leaves_the_problem_alone():
    problem = rosenbrock()
    start = np.array([0.5, 0.5])
    trace(problem, sgd(0.001), 5, start=start)
    trace(problem, sgd(0.001), 5)
    np.testing.assert_array_equal(start, [0.5, 0.5])
    np.testing.assert_array_equal(problem.start, rosenbrock().start)

def test_trace_in_any_dimension_and_with_no_steps():
    assert trace(rosenbrock(7), sgd(1e-4), 3).path.shape == (4, 7)
    none = trace(bowl(), sgd(0.1), 0)
    assert none.path.shape == (1, 2) and none.grad.shape == (0, 2) and not none.diverged

def test_trace_with_a_scheduler():
    run = trace(bowl(), sgd(0.1), 6, make_scheduler=lambda opt: StepLR(opt, 2, 0.5))
    np.testing.assert_allclose(run.lr, [0.1, 0.1, 0.05, 0.05, 0.025, 0.025])
    np.testing.assert_allclose(run.path[1:], run.path[:-1] - run.lr[:, None] * run.grad, rtol=1e-14)

@pytest.mark.parametrize("lr", [0.1, 1e3, 1e200])
def test_divergence_keeps_what_there_is(lr):
    run = trace(rosenbrock(), sgd(lr, momentum=0.9), 50)
    n = len(run)
    assert run.diverged and n < 50 and repr(run).endswith("diverged)")
    assert run.path.shape == (n + 1, 2) and run.loss.shape == (n + 1,) and run.grad.shape == (n, 2)
    assert np.isfinite(run.path).all() and np.isfinite(run.loss).all()
    assert all(v.shape == (n, 2) for v in run.state.values())
    contours(rosenbrock(), {"SGD": run}).figure.canvas.draw()

def test_a_diverged_run_scores_infinity():
    assert trace(rosenbrock(), sgd(1e200), 50).final == np.inf         # its last finite loss is the start's
    run = trace(rosenbrock(), sgd(1e-3), 50)
    assert run.final == run.loss[-1] and type(run.final) is float

def test_every_optimizer_meets_the_same_noise():
    problem = noisy_quadratic()
    first, again = (trace(problem, sgd(0.1), 10) for _ in range(2))
    np.testing.assert_array_equal(first.path, again.path)
    noise = first.grad - problem.grad(first.path[:-1])
    other = trace(problem, adam(0.1), 10)
    np.testing.assert_allclose(other.grad - problem.grad(other.path[:-1]), noise, atol=1e-12)
    np.testing.assert_allclose(first.loss, problem(first.path))

def test_any_object_with_step_and_param_groups_can_be_traced():
    class Descent:
        def __init__(self, params): self.param_groups, self.state = [{"params": params, "lr": 0.5}], {}
        def zero_grad(self): self.param_groups[0]["params"][0].grad = None
        def step(self):
            p = self.param_groups[0]["params"][0]
            p.data -= 0.5 * p.grad
            self.state[p] = {"step": 1, "late": p.grad.copy()} if self.state else {"step": 0}
    run = trace(bowl(), Descent, 4)
    np.testing.assert_allclose(run.path[:, 0], -1.6 * 0.5**np.arange(5))
    assert list(run.state) == ["late"]
    assert np.isnan(run.state["late"][0]).all() and np.isfinite(run.state["late"][1:]).all()

def test_wrong_start_is_refused():
    with pytest.raises(ValueError, match=r"bowl: start must have shape \(2,\), got \(3,\)"):
        trace(bowl(), sgd(0.1), 1, start=[1, 2, 3])

# --- style

def luminance(color):
    c = np.array(to_rgb(color))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055)**2.4) @ [0.2126, 0.7152, 0.0722]

def contrast(a, b):
    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)

@pytest.mark.parametrize("paper", ["#ffffff", "#14181e"])
def test_contrast_on_both_papers(paper):
    assert contrast(INK, paper) >= 4
    assert min(contrast(c, paper) for c in COLORS) >= 3

# Machado, Oliveira and Fernandes (2009), severity 1: linear RGB as seen by protanopes and deuteranopes.
PROTANOPIA = np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                       [-0.003882, -0.048116, 1.051998]])
DEUTERANOPIA = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                         [-0.011820, 0.042940, 0.968881]])
LMS = np.array([[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005]])
OKLAB = np.array([[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
                  [0.0259040371, 0.7827717662, -0.8086757660]])

@pytest.mark.parametrize("vision", [np.eye(3), PROTANOPIA, DEUTERANOPIA], ids=["full", "protan", "deutan"])
def test_lines_differ_for_the_colour_blind(vision):
    rgb = np.array([to_rgb(c) for c in COLORS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055)**2.4)
    lab = np.cbrt(np.clip(linear @ vision.T, 0, 1) @ LMS.T) @ OKLAB.T
    distance = np.linalg.norm(lab[:, None] - lab, axis=-1) + np.eye(len(COLORS))
    assert distance.min() > 0.065                                      # 0.02 is just noticeable

def test_colors_follow_the_optimizer():
    assert colors(["SGD"])["SGD"] == colors(["Adam", "SGD, lr = 1"])["SGD, lr = 1"] == COLORS[0]
    assert colors(["AdamW"])["AdamW"] != colors(["Adam"])["Adam"] != colors(["AMSGrad"])["AMSGrad"]
    assert colors(["SGD, momentum 0.9"]) == {"SGD, momentum 0.9": colors(["momentum"])["momentum"]}
    two = colors(["Adam", "Adam, lr = 1", "x", "y"])
    assert two["Adam"] == colors(["Adam"])["Adam"] and len(set(two.values())) == 4
    many = colors(range(20))
    assert list(many) == list(range(20)) and len(set(list(many.values())[:7])) == 7

# Optimizers that a page is likely to draw in one figure.
NEIGHBOURS = ["SGD momentum Nesterov ASGD LBFGS Adam", "SGD momentum Adam Rprop Adagrad RMSprop Adadelta",
              "SGD momentum Adam AdamW AMSGrad Adamax NAdam RAdam", "momentum Nesterov Adam NAdam",
              "SGD momentum Adam AdamW Adafactor SparseAdam Muon Lion", "Adam AMSGrad Adagrad RMSprop", "LBFGS Muon SGD",
              "Adam Adamax Adagrad AMSGrad"]

@pytest.mark.parametrize("names", NEIGHBOURS)
def test_neighbours_have_colours_of_their_own_that_stay(names):
    names = names.split()
    alone = {name: colors([name])[name] for name in names}
    assert len(set(alone.values())) == len(names)
    for order in (names, names[::-1]): assert colors(f"{n}, lr = 0.1" for n in order) == {f"{n}, lr = 0.1": alone[n] for n in order}

def test_every_optimizer_of_torch_has_a_colour():
    torch = "Adadelta Adafactor Adagrad Adam AdamW SparseAdam Adamax ASGD LBFGS Muon NAdam RAdam RMSprop Rprop SGD".split()
    assert set(torch) <= {name for members in FAMILIES.values() for name in members}

def test_no_two_of_eight_lines_share_a_colour():
    for labels in (["Adagrad", "Lion", "RAdam"], ["Adam", *"abcdefg"], [f"SGD {k}" for k in range(8)]):
        assert len(set(colors(labels).values())) == len(labels)
    assert colors(["Adam", "x"])["x"] not in {colors([n])[n] for n in ("SGD", "momentum")}  # not mistaken for those
    assert colors(["SGD, Nesterov momentum"]).popitem()[1] == colors(["Nesterov"])["Nesterov"]
    assert colors(["Muon, momentum 0.95"]).popitem()[1] == colors(["Muon"])["Muon"]
    assert colors(["L-BFGS"]).popitem()[1] == colors(["LBFGS"])["LBFGS"]
    assert colors(["Adams"]).popitem()[1] == COLORS[0]                 # a word, not a part of one

def test_text_can_be_read_on_a_phone():
    "A figure is shrunk to the 342 pixels that a column has on a screen of 390; legends and ticks are the smallest text."
    ax = curves({"SGD": [1, 2]}, "x", "y")
    ax.figure.canvas.draw()
    texts = [*ax.get_xticklabels(), *ax.get_legend().get_texts(), ax.xaxis.label, ax.title]
    assert ax.figure.get_figwidth() == WIDTH
    assert min(t.get_fontsize() for t in texts) * 342 / (72 * WIDTH) >= 8

@pytest.mark.parametrize("labels", [["SGD, momentum 0.9 and more"] * 4, ["SGD"] * 5])
def test_the_legend_of_a_race_fits_the_figure(labels):
    race(bowl(), {f"{label} {k}": sgd(0.1) for k, label in enumerate(labels)}, 3)
    fig = plt.gcf()
    fig.canvas.draw()
    box = fig.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= fig.bbox.width

def test_use_style_sets_and_rc_context_restores():
    before = dict(matplotlib.rcParams)
    with plt.rc_context():
        use_style()
        assert matplotlib.rcParams["text.color"] == INK and matplotlib.rcParams["figure.facecolor"] == "none"
    assert dict(matplotlib.rcParams) == before

def test_import_changes_no_rcparams():
    code = ("import matplotlib; matplotlib.use('Agg'); import matplotlib.pyplot; before = dict(matplotlib.rcParams);"
            "import optim_nb.plot; assert dict(matplotlib.rcParams) == before")
    subprocess.run([sys.executable, "-c", code], check=True)

def test_background_is_transparent(tmp_path):
    contours(bowl()).figure.savefig(tmp_path / "a.png")
    image = plt.imread(tmp_path / "a.png")
    assert image.shape[1] == 910 and image[0, 0, 3] == 0 and image[..., 3].max() == 1

# --- pictures

@pytest.mark.parametrize("make", PROBLEMS.values(), ids=PROBLEMS)
def test_contours_of_every_problem(make):
    problem = make()
    ax = contours(problem, {"SGD": trace(problem, sgd(0.001), 5)})
    np.testing.assert_allclose(ax.get_xlim(), problem.bounds[0])
    np.testing.assert_allclose(ax.get_ylim(), problem.bounds[1])
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), trace(problem, sgd(0.001), 5).path)
    ax.figure.canvas.draw()

@pytest.mark.parametrize("steps, dots", [(10, 11), (89, 90), (90, 46), (300, 76)])
def test_dots_are_thinned_in_long_runs(steps, dots):
    line = contours(bowl(), {"SGD": trace(bowl(), sgd(0.01), steps)}).lines[0]
    assert len(line.get_xydata()[::line.get_markevery()]) == dots

def test_contours_needs_two_parameters():
    problem = rosenbrock(3)
    for draw in (lambda: contours(problem), lambda: race(problem, {"SGD": sgd(0.1)}, 3),
                 lambda: animate(problem, {"SGD": trace(problem, sgd(0.0), 3)})):
        with pytest.raises(ValueError, match="Rosenbrock, n = 3 has no bounds to draw"): draw()

def test_contours_draws_on_given_axes():
    ax = plt.subplots()[1]
    assert contours(bowl(), ax=ax) is ax and len(plt.get_fignums()) == 1

def test_race_is_one_start_one_budget():
    traces = race(ellipse(), {"SGD": sgd(0.05), "Adam": adam(0.1)}, 12, start=(1.0, 1.0))
    assert list(traces) == ["SGD", "Adam"] and all(isinstance(t, Trace) and len(t) == 12 for t in traces.values())
    assert all((t.path[0] == 1).all() for t in traces.values())
    left, right = plt.gcf().axes
    assert right.get_yscale() == "log"
    np.testing.assert_allclose(right.lines[0].get_ydata(), traces["SGD"].loss)
    plt.gcf().canvas.draw()

def test_race_survives_divergence_and_exact_zeros():
    traces = race(bowl(), {"exact": sgd(1.0), "wild": sgd(1e200)}, 10)
    assert traces["wild"].diverged and traces["exact"].loss[-1] == 0
    plt.gcf().canvas.draw()

def test_curves_take_values_or_pairs():
    ax = curves({"a": [1, 2, 3], "b": (np.array([0, 5]), [2, 1])}, "x", "y", logy=True)
    np.testing.assert_array_equal(ax.lines[1].get_xdata(), [0, 5])
    assert ax.get_xlabel() == "x" and ax.get_yscale() == "log" and ax.get_xscale() == "linear"

def test_lr_curve_with_and_without_optimizer():
    axes = lr_curve({"plain": lambda opt: StepLR(opt, 2, 0.1), "mine": (adam(0.5), lambda opt: StepLR(opt, 3, 0.1))}, 6)
    assert len(axes) == 1
    np.testing.assert_allclose(axes[0].lines[0].get_ydata(), [1, 1, 0.1, 0.1, 0.01, 0.01])
    np.testing.assert_allclose(axes[0].lines[1].get_ydata(), [0.5] * 3 + [0.05] * 3)

def test_lr_curve_shows_momentum_that_moves():
    class Ramp:
        def __init__(self, optimizer): self.group = optimizer.param_groups[0]
        def step(self): self.group["momentum"] -= 0.1
    axes = lr_curve({"ramp": Ramp}, 3)
    assert len(axes) == 2
    np.testing.assert_allclose(axes[1].lines[0].get_ydata(), [0.9, 0.8, 0.7])

def test_states_draws_gradient_and_buffers():
    run = trace(ellipse(), adam(0.1), 20)
    axes = states(run, title="Adam")
    assert [ax.get_ylabel() for ax in axes] == ["gradient", "exp_avg", "exp_avg_sq"]
    np.testing.assert_array_equal(axes[2].lines[1].get_ydata(), run.state["exp_avg_sq"][:, 1])
    assert len(states(run, ["exp_avg"])) == 2 and len(states(trace(bowl(), sgd(0.1), 3))) == 1
    with pytest.raises(KeyError, match="no state .*'momentum_buffer'.* it has .*'exp_avg'"):
        states(run, ["momentum_buffer"])

def test_heatmap_with_a_boundary():
    x, y = np.geomspace(1, 10, 5), np.geomspace(0.1, 1, 4)
    values = np.arange(20.0).reshape(4, 5)
    values[0, 0] = np.nan
    ax = heatmap(x, y, values, "x", "y", "v", boundary={"f": lambda x: 1 / x, "g": (x, x)}, logx=True, logy=True)
    assert ax.get_xscale() == ax.get_yscale() == "log" and len(ax.lines) == 2
    ax.figure.canvas.draw()
    with pytest.raises(ValueError, match=r"values must have shape \(len\(y\), len\(x\)\) = \(4, 5\), got \(5, 4\)"):
        heatmap(x, y, values.T)

@pytest.mark.parametrize("values", [[[0.5, 1.5]], [[0.2, 0.9]], [[1.1, 1.3]], [[1.0, 1.0]], [[np.nan, 0.5]]], ids=str)
def test_diverging_colours_turn_at_the_threshold(values):
    mesh = heatmap([1, 2], [1], values, center=1).collections[0]
    blue, white, red = mesh.cmap(mesh.norm([mesh.norm.vmin, 1.0, mesh.norm.vmax]))
    assert blue[2] > blue[0] and red[0] > red[2] and min(white[:3]) > 0.9
    below = mesh.to_rgba(0.95 if np.nanmin(values) < 0.9 else 1 - 1e-4)
    assert below[2] > below[0]                                         # even just below it: blue

def test_heatmap_keeps_the_limits_it_is_given():
    mesh = heatmap([1, 2], [1], [[-3.0, 20.0]], center=0, vmin=-8, vmax=8).collections[0]
    assert (mesh.norm.vmin, mesh.norm.vmax) == (-8, 8)

def test_animation_says_what_is_seen():
    traces = {"SGD": trace(bowl(), sgd(0.1), 3)}
    assert 'alt="paths of SGD on bowl"' in animate(bowl(), traces, frames=2)
    assert 'alt="a &quot;b&quot;"' in animate(bowl(), traces, frames=2, alt='a "b"')

def test_animation_is_small_and_offline():
    problem = rosenbrock()
    figures = plt.get_fignums()
    player = animate(problem, {"SGD": trace(problem, sgd(0.001), 100), "wild": trace(problem, sgd(0.1), 100)})
    assert len(player) < 400_000 and plt.get_fignums() == figures
    assert player._repr_html_() == str(player) and repr(player).startswith("Animation(")
    assert not re.search("https?:|//cdn|src=\"(?!data:)", player)
    assert len(re.findall('"data:image/png;base64,', player)) == 40 + 2    # frames, surface, the picture before playing
    first, again = (animate(problem, {"SGD": trace(problem, sgd(0.001), 10)}, frames=3) for _ in range(2))
    assert first == again
