"""The table of optimizers that every contract is tested on, and what the contract tests share."""
import gc, os, subprocess, sys, tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
import numpy as np, pytest
from optim_nb import (ASGD, Adadelta, Adafactor, Adagrad, Adam, AdamW, Adamax, LBFGS, Muon, NAdam, Parameter, RAdam, RMSprop, Rprop, SGD, SparseAdam,
                      batch)

ROOT = Path(__file__).resolve().parents[1]

if batch.STRUCTS: batch._asked = np.inf  # the compiled look from the first step on; `either_look` has the other


@pytest.fixture(params=["compiled look", "arrays asked in Python"])
def either_look(request, monkeypatch):
    "The two ways in which a step reads its arrays: compiled, and in Python as the first steps of a process do."
    if request.param == "arrays asked in Python": monkeypatch.setattr(batch, "_asked", -np.inf)


class Given(LBFGS):
    "LBFGS whose closure takes the gradients that are there, so that it can stand beside optimizers that need no closure."
    def step(self, closure=None):
        losses = []
        def given():
            losses.append(closure() if closure else None)
            return losses[-1] if hasattr(losses[-1], "__float__") else 0.0
        super().step(given)
        return losses[0]

Given.__name__ = "LBFGS"


@dataclass(frozen=True)
class Case:
    "One optimizer with valid options; a new optimizer joins every contract by a line in CASES."
    cls: type
    options: dict = field(default_factory=dict)
    buffers: tuple = ()
    counts: bool = True  # does its state hold "step"?
    exempt: dict = field(default_factory=dict)  # why a contract cannot hold, by (a part of) the name of its test
    ndim: int = 0  # how many dimensions a parameter needs, where it is the matrix that has a step: `shaped` sees to it
    elementwise: bool = True  # does an element's step depend on that element alone?
    complex: bool = True  # are complex parameters taken?
    lag: int = 0  # steps until a new lr is heard; ASGD decides at each step on the rate of the next, as torch's does
    spent: tuple = ()  # hyperparameters that only a parameter's first step reads
    factors: Callable | None = None  # the shape of a parameter of two dimensions or more → {buffer: its shape}, where not `buffers`
    signs: bool = False  # does it take of a gradient nothing but the sign, +1 for inf and as in torch 0 for NaN?

    def __call__(self, params, **options): return self.cls(params, **self.options | options)
    @property
    def module(self):
        "The module of optim_nb that defines the optimizer."
        return next(c.__module__ for c in self.cls.__mro__ if c.__module__.startswith("optim_nb."))
    def kept(self, p):
        "{name: shape} of the buffers that belong to the parameter."
        return self.factors(p.data.shape) if self.factors and p.data.ndim > 1 else dict.fromkeys(self.buffers, p.data.shape)
    def first_step(self, module):
        "Code that takes a step with the class in `module`; it prints True."
        closure = "lambda: 0.0" if self.cls is Given else ""
        if self.cls is DenseSparseAdam:
            return (f"from optim_nb.tensor import SparseGrad; p = {module}.Parameter(np.ones((3, 3))); "
                    f"p.grad = SparseGrad([0, 1, 2], np.ones((3, 3)), (3, 3)); {module}.SparseAdam([p], lr=0.5).step(); print(p.data.max() < 1)")
        return (f"p = {module}.Parameter(np.ones((3, 3))); p.grad = np.ones((3, 3)); {module}.{self.cls.__name__}([p], lr=0.5).step({closure}); "
                "print(p.data.max() < 1)")
    def __str__(self): return "-".join([self.cls.__name__, *(f"{k}={v}" for k, v in self.options.items() if k != "lr")])


class DenseSparseAdam(SparseAdam):
    "SparseAdam without its refusal of dense gradients, which are what the contracts give: every row is touched."
    refuses_dense = ""
DenseSparseAdam.__name__ = "SparseAdam"


ONE_GROUP = "LBFGS refuses a second group, as torch does: tested in test_lbfgs.py"
ONE_VECTOR = "LBFGS joins its parameters to one vector: no part of it is updated as it would be alone"
OWN_STATE = "LBFGS keeps one state, with other names, for all parameters: tested in test_lbfgs.py"
EXEMPT = dict.fromkeys(
    ["test_add_param_group_in_mid_training", "test_a_round_trip_continues_bit_for_bit", "test_bad_gradients_are_refused",
     "test_bad_state_dicts_change_nothing", "test_both_looks_lead_to_the_same_step", "test_defaults_and_overrides", "test_pickle_and_deepcopy",
     "test_groups_may_be_edited", "test_two_groups_that_are_both_out_of_step_keep_their_own_settings", "test_zero_grad",
     "generator of groups", "one parameter per group", "named in groups", "test_what_the_user_gave_is_not_changed", "test_whatever_fails_in_a_step_changes_nothing"], ONE_GROUP) | dict.fromkeys(
    ["test_a_group_is_its_parameters_one_by_one", "test_duplicates_warn_and_are_updated_once", "test_gradients_come_and_go",
     "test_gradients_that_come_and_go", "test_many_small_parameters"], ONE_VECTOR) | dict.fromkeys(
    ["test_a_resized_array_is_not_written_where_it_was", "test_no_gradient_means_no_change", "test_state_dict_is_torchs_format"], OWN_STATE) | dict(
    test_maximize="LBFGS has no maximize, as in torch",
    test_nan_and_inf_gradients_do_what_torch_does="LBFGS does not move to or from a point that is not finite: tested in test_lbfgs.py")
matrices = dict(buffers=("momentum_buffer",), counts=False, ndim=2, elementwise=False, complex=False)

CASES = [
    Case(SGD, dict(lr=0.1), counts=False),
    Case(SGD, dict(lr=0.1, weight_decay=0.1), counts=False),
    Case(SGD, dict(lr=0.1, momentum=0.9, dampening=0.5), ("momentum_buffer",), counts=False),
    Case(SGD, dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1), ("momentum_buffer",), counts=False),
    Case(Adam, dict(lr=0.1), ("exp_avg", "exp_avg_sq")),
    Case(Adam, dict(lr=0.1, weight_decay=0.1, amsgrad=True), ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")),
    Case(AdamW, dict(lr=0.1, weight_decay=0.1), ("exp_avg", "exp_avg_sq")),
    Case(AdamW, dict(lr=0.1, amsgrad=True, maximize=True), ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")),
    Case(Adagrad, dict(lr=0.1), ("sum",)),
    Case(Adagrad, dict(lr=0.1, lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.1), ("sum",)),
    Case(Adadelta, dict(lr=0.1), ("square_avg", "acc_delta")),
    Case(Adadelta, dict(lr=0.1, rho=0.5, weight_decay=0.1, maximize=True), ("square_avg", "acc_delta")),
    Case(DenseSparseAdam, dict(lr=0.1), ("exp_avg", "exp_avg_sq"), complex=False),
    Case(Given, dict(lr=0.1, max_iter=1, history_size=3), counts=False, exempt=EXEMPT),
    Case(Muon, dict(lr=0.1), **matrices),
    Case(Muon, dict(lr=0.1, momentum=0.5, nesterov=False, adjust_lr_fn="match_rms_adamw", ns_steps=3), **matrices),
    Case(Adamax, dict(lr=0.1), ("exp_avg", "exp_inf")),
    Case(Adamax, dict(lr=0.1, weight_decay=0.1, maximize=True), ("exp_avg", "exp_inf")),
    Case(NAdam, dict(lr=0.1), ("exp_avg", "exp_avg_sq")),
    Case(NAdam, dict(lr=0.1, weight_decay=0.1, momentum_decay=1, decoupled_weight_decay=True, maximize=True), ("exp_avg", "exp_avg_sq")),
    Case(RAdam, dict(lr=0.1), ("exp_avg", "exp_avg_sq")),
    Case(RAdam, dict(lr=0.1, betas=(0.9, 0.9), weight_decay=0.1, decoupled_weight_decay=True), ("exp_avg", "exp_avg_sq")),
    Case(ASGD, dict(lr=0.1), ("ax",), lag=1),
    Case(ASGD, dict(lr=0.1, lambd=0.5, alpha=0.6, t0=0, weight_decay=0.1, maximize=True), ("ax",), lag=1),
    Case(RMSprop, dict(lr=0.1), ("square_avg",)),
    Case(RMSprop, dict(lr=0.1, momentum=0.9, weight_decay=0.1), ("square_avg", "momentum_buffer")),
    Case(RMSprop, dict(lr=0.1, centered=True, variance_floor=0.1), ("square_avg", "grad_avg")),
    Case(RMSprop, dict(lr=0.1, alpha=0.9, momentum=0.5, centered=True, maximize=True), ("square_avg", "momentum_buffer", "grad_avg")),
    Case(Rprop, dict(lr=0.1), ("prev", "step_size"), spent=("lr",), signs=True),
    Case(Rprop, dict(lr=0.1, etas=(0.3, 2), step_sizes=(0.01, 0.4), maximize=True), ("prev", "step_size"), spent=("lr",), signs=True),
    *(Case(Adafactor, options, ("variance",), factors=lambda s: {"row_var": (*s[:-1], 1), "col_var": (*s[:-2], 1, s[-1])},
           elementwise=False, complex=False)  # the clipping looks at the RMS of the whole update, the step at the parameter's
      for options in (dict(lr=0.1), dict(lr=0.1, weight_decay=0.1, d=2.0, eps=(1e-6, 1e-2), beta2_decay=-0.5, maximize=True))),
]


_ndim = 0  # of the case under test


def shaped(*shape):
    "This shape, with as many axes of 2 behind it as the case under test asks for: (3,) becomes (3, 2) for matrices."
    return shape + (2,) * (_ndim - len(shape))


@pytest.fixture(params=CASES, ids=str)
def case(request):
    reason = next((why for name, why in request.param.exempt.items() if name in request.node.name), None)
    if request.param.cls is Given and request.node.callspec.params.get("groups") == 2: reason = ONE_GROUP
    if reason: pytest.skip(reason)
    global _ndim
    _ndim = request.param.ndim
    yield request.param
    _ndim = 0


@pytest.fixture(params=list({c.cls: c for c in CASES}.values()), ids=lambda c: c.cls.__name__)
def optimizer(request):
    "Every optimizer once, whatever its options."
    global _ndim
    _ndim = request.param.ndim
    yield request.param.cls
    _ndim = 0


def normal(shape=(3,), dtype=np.float64, seed=0):
    rng, shape = np.random.default_rng(seed), shaped(*shape)
    real = rng.normal(size=shape)
    return np.asarray(real + 1j * rng.normal(size=shape) if np.dtype(dtype).kind == "c" else real).astype(dtype)


def parameters(*shapes, dtype=np.float64, seed=0):
    return [Parameter(normal(s, dtype, (seed, i))) for i, s in enumerate(shapes or [(3,), (2, 2)])]


def give_grads(params, seed=0):
    "A gradient for every parameter, the same for the same seed."
    for i, p in enumerate(params): p.grad = normal(p.data.shape, p.data.dtype, (7, seed, i))


def train(optimizer, params, steps, start=0):
    for t in range(start, start + steps):
        give_grads(params, t)
        optimizer.step()


def same(a, b):
    "Equal in every bit, through dicts and sequences; an array equals only an array of its dtype and shape."
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return (isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape
                and a.tobytes() == b.tobytes())
    if isinstance(a, Mapping): return isinstance(b, Mapping) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)): return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a and b != b)


def arrays_in(x):
    "Every array in nested dicts and sequences."
    if isinstance(x, np.ndarray): yield x
    elif isinstance(x, Mapping):
        for v in x.values(): yield from arrays_in(v)
    elif isinstance(x, (list, tuple)):
        for v in x: yield from arrays_in(v)


def snapshot(opt, params=()):
    "Copies of everything a step or a load may change, for comparing with `same`."
    members = list(dict.fromkeys([p for g in opt.param_groups for p in g["params"]] + list(params)))
    def plain(v): return v.copy() if isinstance(v, np.ndarray) else v
    return dict(data=[p.data.copy() for p in members], ids=[[id(p) for p in g["params"]] for g in opt.param_groups],
                groups=[{k: plain(v) for k, v in g.items() if k != "params"} for g in opt.param_groups],
                state={id(p): {k: plain(v) for k, v in s.items()} for p, s in opt.state.items()})


@pytest.fixture
def unchanged():
    "Context manager: the optimizer's parameters, groups and state are in the end what they were, bit for bit."
    from contextlib import contextmanager
    @contextmanager
    def check(opt, params=()):
        before = snapshot(opt, params)
        yield
        assert same(snapshot(opt, params), before)
    return check


def memory_growth(work, rounds=3):
    "Bytes that calling `work` leaves behind in the best of some rounds: Python's own tables grow now and then."
    grown = []
    for _ in range(rounds + 1):
        gc.collect()
        tracemalloc.start()
        work()
        gc.collect()
        grown.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    return min(grown[1:])


def python(code, *path, timeout=120, **env):
    "Run code in a fresh interpreter that turns warnings into errors and imports from `path`, else from this checkout."
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=timeout,
                          env=inherited | dict(PYTHONPATH=os.pathsep.join(map(str, path or [ROOT])), **env),
                          cwd=path[0] if path else ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
