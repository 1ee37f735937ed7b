"""The runs that are compared with PyTorch: parameters, gradients, options, and how two runs are compared.

`record.py` runs them through torch, `test_parity.py` through optim_nb.
"""
import inspect
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from optim_nb.tensor import SparseGrad

STEPS = 40
RECORDED = (0, 1, 2, 20, 40)  # the steps after which values are compared
RESUMED = 20  # the step after which torch's state dict is stored
DTYPES = "float32", "float64"
NUMBERS = {"step", "eta", "mu", "mu_product"}  # in a state: one number, whatever the shape of the parameter
BLOCK = 997  # a large array is stored as every 997th element and the norm of every 997 elements

# Shapes of the parameters. "strided" is every second row and every second column of a larger array. "idle" never
# gets a gradient. The large one does not divide into blocks, cache lines or vectors.
SHAPES = {"scalar": (), "empty": (0,), "vector": (7,), "matrix": (5, 3), "strided": (4, 3), "idle": (2,),
          "large": (100_003,)}
MATRICES = {"wide": (6, 40), "tall": (40, 6), "cube": (2, 3, 4), "square": (8, 8)}  # only in cases that name them
ALL = SHAPES | MATRICES

Buffers = dict[str, dict[str, np.ndarray]]  # {buffer: {parameter: array}}; the parameters are the buffer "param"


@dataclass(frozen=True)
class Case:
    """One optimizer with its options; the second half of the parameters is a group with `second`'s options."""
    optimizer: str
    options: dict[str, Any] = field(default_factory=dict)
    second: dict[str, Any] = field(default_factory=dict)
    resumable: bool = False  # store torch's state dict half-way; such a case has no large parameter
    params: tuple[str, ...] = tuple(SHAPES)  # names of the parameters, where not all
    sparse: bool = False  # give gradients as some of their rows
    tolerance: dict[str, tuple[float, float]] = field(default_factory=dict)  # by dtype, where not the usual one
    reason: str = ""  # why another tolerance
    widened: bool = False  # torch works in the parameter's dtype where it would have cast to bfloat16: see `torch_optimizers`

    @property
    def name(self) -> str:
        first, second = (" ".join(f"{k}={v}" for k, v in options.items()) for options in (self.options, self.second))
        return (f"{self.optimizer} {first}".strip() + f" | {second}" * bool(second) + " | sparse" * self.sparse
                + " | resumable" * self.resumable + " | without bfloat16" * self.widened)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {k: ALL[k] for k in self.params if not (self.resumable and k == "large")}


ROWS = "empty", "vector", "matrix", "strided", "idle", "large"  # what has rows
momentum = dict(lr=0.05, momentum=0.9)
nesterov = dict(**momentum, nesterov=True)
matrices = "matrix", "strided", "wide", "tall", "square"
muon = dict(lr=0.02, weight_decay=0.1)
shapes_of_adafactor = *(name for name in SHAPES if name not in ("empty", "large")), *MATRICES  # torch: ZeroDivisionError on an empty one
short = dict(betas=(0.6, 0.8))  # short memories: the maximum that AMSGrad keeps is soon above the average

MUON = [
    (muon,), (dict(**muon, nesterov=False),),
    (dict(lr=0.02, momentum=0, weight_decay=0, adjust_lr_fn="original"),), (dict(**muon, adjust_lr_fn="match_rms_adamw"),),
    (dict(**muon, ns_coefficients=(1.5, -0.5, 0.0), ns_steps=12),), (dict(**muon, ns_steps=0, eps=100.0),),
    (muon, dict(momentum=0.3, adjust_lr_fn="match_rms_adamw", ns_steps=3)),
]


def in_bfloat16(lr: float) -> dict[str, Any]:
    """A tolerance in proportion to the rate: a step errs by some units of 2^-8, forty of them by 1 % of the way they go.

    Measured: 1840 ulps of float32 for 99 % of the elements and 3570 for all, at lr 0.001 and parameters between 1/2 and 1.
    """
    usual, most = 2.5e6 * lr, 5e6 * lr
    return dict(tolerance=dict(float32=(usual, most), float64=(usual * 2**29, most * 2**29)),
                reason="torch iterates in bfloat16, whose unit is 2^-8; see the same runs `without bfloat16`")

single: dict[str, Any] = dict(
    tolerance={"float64": (2**28, 2**28)},
    reason="torch keeps mu_product in float32; with it rounded so, test_nadam.py holds every run to the usual tolerance")

in_float32: dict[str, Any] = dict(
    tolerance={"float32": (30, 40), "float64": (2**30, 2**30)},
    reason="torch keeps eta and mu in float32, half an ulp of which is 2²⁸ ulps of float64, and its foreach also computes them "
           "so, 1.4 ulps off; with λ = 1e-4 foreach's p - η(g + λp) and the loop's (1 - ηλ)p - ηg part by 24 ulps. Rounding "
           "as the loop does, test_asgd.py holds every run to 4 ulps")
averaging = dict(lr=0.05, lambd=0.5, t0=3)  # the rate falls to a half, and the mean begins, within the run

CASES = [
    Case("SGD"),
    Case("SGD", dict(lr=0.1)),
    Case("SGD", dict(lr=0.1, weight_decay=0.1)),
    Case("SGD", dict(lr=0.1, weight_decay=0.1, maximize=True)),
    Case("SGD", momentum),
    Case("SGD", dict(**momentum, dampening=0.5)),
    Case("SGD", dict(**momentum, dampening=1)),
    Case("SGD", dict(**momentum, dampening=0.5, weight_decay=0.1, maximize=True)),
    Case("SGD", dict(**momentum, weight_decay=0.1)),
    Case("SGD", nesterov),
    Case("SGD", dict(**nesterov, weight_decay=0.1, maximize=True)),
    Case("SGD", momentum, dict(lr=0.01, momentum=0.5, nesterov=True)),
    Case("SGD", momentum, dict(momentum=0), resumable=True),
    Case("SGD", dict(lr=0.1), sparse=True, params=ROWS),
    Case("SGD", momentum, dict(nesterov=True), sparse=True, params=ROWS),
    Case("Adam"),
    Case("Adam", dict(lr=0.05)),
    Case("Adam", dict(lr=0.05, betas=(0.0, 0.999))),
    Case("Adam", dict(lr=0.05, betas=(0.9, 0.5))),
    Case("Adam", dict(lr=0.05, eps=1e-3)),
    Case("Adam", dict(lr=0.01, weight_decay=0.1)),
    Case("Adam", dict(lr=0.05, weight_decay=0.1, decoupled_weight_decay=True)),
    Case("Adam", dict(lr=0.01, weight_decay=0.1, maximize=True)),
    Case("Adam", dict(lr=0.05, **short)),
    Case("Adam", dict(lr=0.05, **short, amsgrad=True)),
    Case("Adam", dict(lr=0.01, **short, amsgrad=True, weight_decay=0.1, maximize=True)),
    Case("Adam", dict(lr=0.05), dict(lr=0.01, betas=(0.5, 0.999), amsgrad=True)),
    Case("Adam", dict(lr=0.01, **short, weight_decay=0.1), dict(amsgrad=True), resumable=True),
    Case("AdamW"),
    Case("AdamW", dict(lr=0.05, weight_decay=0.1)),
    Case("AdamW", dict(lr=0.05, weight_decay=0)),
    Case("AdamW", dict(lr=0.05, betas=(0.8, 0.99), eps=1e-3)),
    Case("AdamW", dict(lr=0.05, weight_decay=0.1, maximize=True)),
    Case("AdamW", dict(lr=0.05, **short, amsgrad=True)),
    Case("AdamW", dict(lr=0.05, **short, amsgrad=True, weight_decay=0.1, maximize=True)),
    Case("AdamW", dict(lr=0.05), dict(weight_decay=0, eps=1e-6)),
    Case("AdamW", dict(lr=0.05, **short, weight_decay=0.1), dict(amsgrad=True), resumable=True),
    Case("Adagrad"),
    Case("Adagrad", dict(lr=0.1)),
    Case("Adagrad", dict(lr=0.1, lr_decay=0.1)),
    Case("Adagrad", dict(lr=0.1, initial_accumulator_value=0.1)),
    Case("Adagrad", dict(lr=0.1, eps=1e-3)),
    Case("Adagrad", dict(lr=0.1, weight_decay=0.1)),
    Case("Adagrad", dict(lr=0.1, weight_decay=0.1, maximize=True)),
    Case("Adagrad", dict(lr=0.1, lr_decay=0.1, weight_decay=0.1, initial_accumulator_value=0.1, eps=1e-3, maximize=True)),
    Case("Adagrad", dict(lr=0.1), dict(lr=0.05, lr_decay=0.2, weight_decay=0.1)),
    Case("Adagrad", dict(lr=0.1, initial_accumulator_value=0.1), dict(initial_accumulator_value=4.0)),
    Case("Adagrad", dict(lr=0.1, lr_decay=0.1, initial_accumulator_value=0.1), dict(eps=1e-3), resumable=True),
    Case("Adagrad", dict(lr=0.1), sparse=True, params=ROWS),
    Case("Adagrad", dict(lr=0.1, lr_decay=0.1, initial_accumulator_value=0.1, eps=1e-3, maximize=True), sparse=True, params=ROWS),
    Case("Adadelta"),
    Case("Adadelta", dict(lr=0.5)),
    Case("Adadelta", dict(rho=0.5)),
    Case("Adadelta", dict(rho=0)),
    Case("Adadelta", dict(lr=0.01, rho=1)),
    Case("Adadelta", dict(eps=1e-2)),
    Case("Adadelta", dict(lr=0.5, weight_decay=0.1)),
    Case("Adadelta", dict(lr=0.5, rho=0.7, eps=1e-3, weight_decay=0.1, maximize=True)),
    Case("Adadelta", dict(lr=0.5), dict(lr=0.1, rho=0.95, eps=1e-4, weight_decay=0.1)),
    Case("Adadelta", dict(lr=0.5, eps=1e-3), dict(rho=0.5), resumable=True),
    *(Case("Muon", *options, params=matrices, resumable=len(options) > 1, widened=True) for options in MUON),
    Case("Muon", params=matrices, **in_bfloat16(0.001)),
    Case("Muon", *MUON[-1], params=matrices, resumable=True, **in_bfloat16(0.02)),
    Case("Adamax"),
    Case("Adamax", dict(lr=0.05)),
    Case("Adamax", dict(lr=0.05, betas=(0.0, 0.999))),
    Case("Adamax", dict(lr=0.05, betas=(0.9, 0.5))),
    Case("Adamax", dict(lr=0.05, **short)),
    Case("Adamax", dict(lr=0.05, eps=1e-3)),
    Case("Adamax", dict(lr=0.01, weight_decay=0.1)),
    Case("Adamax", dict(lr=0.01, **short, weight_decay=0.1, maximize=True)),
    Case("Adamax", dict(lr=0.05), dict(lr=0.01, betas=(0.5, 0.9), eps=1e-6)),
    Case("Adamax", dict(lr=0.01, **short, weight_decay=0.1), dict(weight_decay=0), resumable=True),
    Case("NAdam", **single),
    Case("NAdam", dict(lr=0.05), **single),
    Case("NAdam", dict(lr=0.05, betas=(0.0, 0.999))),
    Case("NAdam", dict(lr=0.05, **short), **single),
    Case("NAdam", dict(lr=0.05, eps=1e-3), **single),
    Case("NAdam", dict(lr=0.05, momentum_decay=0), **single),
    Case("NAdam", dict(lr=0.05, momentum_decay=10), **single),
    Case("NAdam", dict(lr=0.01, weight_decay=0.1), **single),
    Case("NAdam", dict(lr=0.05, weight_decay=0.1, decoupled_weight_decay=True), **single),
    Case("NAdam", dict(lr=0.01, weight_decay=0.1, momentum_decay=0.5, maximize=True), **single),
    Case("NAdam", dict(lr=0.05, weight_decay=0.1, decoupled_weight_decay=True, maximize=True), **single),
    Case("NAdam", dict(lr=0.05), dict(lr=0.01, betas=(0.5, 0.999), momentum_decay=2), **single),
    Case("NAdam", dict(lr=0.01, **short, weight_decay=0.1), dict(decoupled_weight_decay=True), resumable=True, **single),
    Case("RAdam"),
    Case("RAdam", dict(lr=0.05)),
    Case("RAdam", dict(lr=0.05, betas=(0.0, 0.9))),
    Case("RAdam", dict(lr=0.05, betas=(0.9, 0.6))),  # never rectified
    Case("RAdam", dict(lr=0.05, betas=(0.9, 0.67))),  # from step 16 on
    Case("RAdam", dict(lr=0.05, betas=(0.8, 0.9), eps=1e-3)),
    Case("RAdam", dict(lr=0.01, weight_decay=0.1)),
    Case("RAdam", dict(lr=0.05, weight_decay=0.1, decoupled_weight_decay=True)),
    Case("RAdam", dict(lr=0.01, weight_decay=0.1, maximize=True)),
    Case("RAdam", dict(lr=0.05, weight_decay=0.1, decoupled_weight_decay=True, maximize=True)),
    Case("RAdam", dict(lr=0.05), dict(lr=0.01, betas=(0.5, 0.6))),
    Case("RAdam", dict(lr=0.01, betas=(0.9, 0.7), weight_decay=0.1), dict(decoupled_weight_decay=True), resumable=True),
    Case("ASGD", **in_float32),
    Case("ASGD", averaging, **in_float32),
    Case("ASGD", dict(lr=0.05, lambd=0, t0=0), **in_float32),
    Case("ASGD", averaging | dict(alpha=0), **in_float32),
    Case("ASGD", averaging | dict(alpha=1, t0=-2), **in_float32),
    Case("ASGD", averaging | dict(alpha=0.5, t0=2.5), **in_float32),
    Case("ASGD", averaging | dict(t0=math.inf), **in_float32),
    Case("ASGD", averaging | dict(weight_decay=0.1), **in_float32),
    Case("ASGD", averaging | dict(weight_decay=0.1, maximize=True), **in_float32),
    Case("ASGD", averaging, dict(lr=0.01, lambd=0.1, alpha=0.6, t0=20), **in_float32),
    Case("ASGD", averaging | dict(weight_decay=0.1), dict(t0=30, maximize=True), resumable=True, **in_float32),
    Case("SparseAdam", sparse=True, params=ROWS),
    Case("SparseAdam", dict(lr=0.05), sparse=True, params=ROWS),
    Case("SparseAdam", dict(lr=0.05, betas=(0.5, 0.8), eps=1e-3, maximize=True), sparse=True, params=ROWS),
    Case("SparseAdam", dict(lr=0.05), dict(lr=0.01, betas=(0.0, 0.9)), sparse=True, params=ROWS, resumable=True),
    Case("RMSprop"),
    Case("RMSprop", dict(alpha=0.9)),
    Case("RMSprop", dict(alpha=0.0, eps=1e-3)),
    Case("RMSprop", dict(weight_decay=0.1)),
    Case("RMSprop", dict(weight_decay=0.1, maximize=True)),
    Case("RMSprop", dict(momentum=0.9)),
    Case("RMSprop", dict(momentum=0.5, alpha=0.9, weight_decay=0.1, maximize=True)),
    Case("RMSprop", dict(centered=True)),
    Case("RMSprop", dict(centered=True, alpha=0.9, eps=1e-3, weight_decay=0.1, maximize=True)),
    Case("RMSprop", dict(centered=True, momentum=0.9)),
    Case("RMSprop", dict(alpha=0.9), dict(lr=0.001, momentum=0.5, centered=True)),
    Case("RMSprop", dict(alpha=0.9, momentum=0.9, weight_decay=0.1), dict(centered=True), resumable=True),
    Case("RMSprop", dict(centered=True, maximize=True), dict(centered=False), resumable=True),
    Case("Rprop"),
    Case("Rprop", dict(lr=0.05, etas=(0.7, 1.1))),
    Case("Rprop", dict(lr=0.05, step_sizes=(0.01, 0.07))),
    Case("Rprop", dict(lr=1e-9)),
    Case("Rprop", dict(maximize=True)),
    Case("Rprop", dict(lr=0.02), dict(lr=0.1, etas=(0.3, 1.5), step_sizes=(0.001, 0.2))),
    Case("Rprop", dict(lr=0.02), dict(lr=0.1, step_sizes=(0.001, 0.2)), resumable=True),
    Case("Rprop", dict(lr=0.02, etas=(0.7, 1.1), maximize=True), resumable=True),
    Case("Adafactor", params=(*shapes_of_adafactor, "large")),
    *(Case("Adafactor", *options, params=shapes_of_adafactor) for options in [
        (dict(lr=0.1, beta2_decay=-0.3),), (dict(lr=0.1, eps=(1e-3, 0.1)),), (dict(lr=0.1, eps=(1e-30, 1.0)),),
        (dict(lr=0.1, d=1.5),), (dict(lr=0.1, d=1000.0),), (dict(lr=0.1, weight_decay=0.1),), (dict(lr=0.1, weight_decay=0.1, maximize=True, d=2.0),),
        (dict(lr=0.1), dict(lr=0.01, d=3.0, eps=(1e-4, 0.01), weight_decay=0.1))]),
    Case("Adafactor", dict(lr=0.1, beta2_decay=0), params=shapes_of_adafactor, tolerance=dict.fromkeys(DTYPES, (50, 250)),
         reason="torch squares a rounded norm where we sum squares; without memory one element of the wide matrix is shown that 40-fold, "
                "by the loops and by the rule in NumPy alike"),
    Case("Adafactor", dict(lr=0.1), dict(beta2_decay=-0.5, weight_decay=0.1), resumable=True, params=shapes_of_adafactor),
]


def torch_optimizers(torch: ModuleType, case: Case) -> Any:
    """torch.optim; for a `widened` case an optimizer that takes its steps while `bfloat16()` is a mere copy."""
    if not case.widened:
        return torch.optim
    cls, cast = getattr(torch.optim, case.optimizer), torch.Tensor.bfloat16

    class Widened(cls):
        __doc__ = None

        def step(self, closure: Callable | None = None) -> Any:
            torch.Tensor.bfloat16 = torch.Tensor.clone
            try:
                return super().step(closure)
            finally:
                torch.Tensor.bfloat16 = cast
    return SimpleNamespace(**{case.optimizer: Widened})


def uniform(seed: tuple[int, ...], shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Numbers in [-1, 1) on a grid of 2^-23: exact in both dtypes, and the same on every machine and NumPy.

    NumPy promises a fixed stream for a bit generator's raw integers, not for `Generator.random`.
    """
    raw = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(math.prod(shape))
    return np.asarray(np.ldexp((raw >> np.uint64(40)).astype(dtype), -23) - np.ones((), dtype)).reshape(shape)


def start(name: str, dtype: str) -> np.ndarray:
    """The parameter called `name` before the first step; the strided one is a view with NaN in the gaps.

    Magnitudes are between 1/2 and 1, well above a step: an element no larger than one step would show in full the
    cancellation of a gradient with the weight decay added to it, which no two ways of rounding agree on.
    """
    noise = uniform((0, list(ALL).index(name)), ALL[name], dtype)
    values = np.copysign((1 + np.abs(noise)) / 2, noise, out=noise)
    if name != "strided":
        return values
    rows, columns = values.shape
    view = np.full((2 * rows, 2 * columns), np.nan, dtype)[::2, 1::2]
    view[:] = values
    return view


@cache
def gradient(name: str, step: int, dtype: str) -> np.ndarray | None:
    """The gradient of the parameter called `name` before step `step` (from 1): None, zeros or noise.

    It does not depend on the parameter, so that two runs differ by the optimizer's arithmetic alone. Elements differ
    in size by up to 2^12 and all shrink by half every 8 steps, as gradients do on the way to a minimum.
    """
    i = list(ALL).index(name)
    if name == "idle" or (step + i) % 7 == 3:
        return None
    if (step + 2 * i) % 9 == 1:
        return np.zeros(ALL[name], dtype)
    noise = uniform((step, i), ALL[name], dtype)
    exponent = np.arange(noise.size).reshape(noise.shape) % 13 + step // 8
    return np.asarray(np.ldexp(noise, -exponent), dtype)


def rows(name: str, step: int, dtype: str) -> tuple | None:
    """`gradient` as indices, values and shape: two rows of five, some steps none; one of them is given twice."""
    grad = gradient(name, step, dtype)
    if grad is None:
        return None
    index = np.flatnonzero((np.arange(len(grad)) + step) % 5 < 2 * (step % 6 > 0))
    return np.append(index, index[:1]), np.concatenate([grad[index], grad[index[:1]]]), grad.shape


def run(case: Case, dtype: str, optimizers: ModuleType, parameter: Callable, tensor: Callable = np.asarray,
        sparse: Callable = SparseGrad,
        resume: tuple[dict[str, np.ndarray], dict] | None = None, separate: bool = False, **flags: Any,
        ) -> Iterator[tuple[int, Buffers, Any]]:
    """Run a case and yield `(step, buffers, optimizer)` before the first step and after each; the lr falls half-way.

    `parameter` makes the library's parameter from an array and shares its memory; `tensor` makes its gradient, from
    an array, `sparse` from indices, values and shape.
    `resume` holds the parameters and the state dict to continue from, as they were after step `RESUMED`.
    `separate` gives each parameter a group of its own.
    """
    arrays, state_dict = resume or ({name: start(name, dtype) for name in case.shapes}, None)
    leaves = {name: parameter(array) for name, array in arrays.items()}
    params, half = list(leaves.values()), len(leaves) // 2
    groups = [{"params": params[:half]}, {"params": params[half:], **case.second}] if case.second else params
    if separate:
        groups = [{"params": [p], **(case.second if i >= half else {})} for i, p in enumerate(params)]
    cls = getattr(optimizers, case.optimizer)
    flags = {name: flag for name, flag in flags.items() if name in inspect.signature(cls).parameters}
    optimizer = cls(groups, **case.options, **flags)
    if state_dict:
        optimizer.load_state_dict(state_dict)
    for step in range(RESUMED if resume else 0, STEPS + 1):
        if step > (RESUMED if resume else 0):
            for name, leaf in leaves.items():
                grad = rows(name, step, dtype) if case.sparse else gradient(name, step, dtype)
                if grad is None:
                    leaf.grad = None
                else:  # a copy, because torch's foreach Nesterov writes into it
                    leaf.grad = sparse(*grad) if case.sparse else tensor(grad.copy())
            optimizer.step()
        buffers: Buffers = {"param": arrays}
        for name, leaf in leaves.items():
            for key, value in optimizer.state.get(leaf, {}).items():
                if value is not None:
                    if getattr(value, "is_sparse", False):  # torch's momentum of sparse gradients
                        value = value.to_dense()
                    buffers.setdefault(key, {})[name] = np.asarray(value)
        yield step, buffers, optimizer
        if step == RESUMED:
            for group in optimizer.param_groups:
                group["lr"] *= 0.1


def digest(array: np.ndarray) -> np.ndarray:
    """What is stored of an array: all of a small one; a sample of a large one, and the norm of each of its blocks."""
    flat = array.reshape(-1)
    if flat.size <= BLOCK:
        return flat
    squares = np.add.reduceat(np.square(flat, dtype="float64"), np.arange(0, flat.size, BLOCK))
    return np.concatenate([flat[::BLOCK], np.sqrt(squares).astype(flat.dtype)])


def padded(values: np.ndarray, size: int) -> np.ndarray:
    """The values, and NaN up to the parameter's size: a buffer may be missing, or have fewer elements."""
    return np.pad(values, (0, size - values.size), constant_values=np.nan)


def collect(steps: Iterable, dtype: str, what: Callable = digest, skip: str = "") -> dict[str, np.ndarray]:
    """One table per buffer of a run: in a row the elements of all parameters but `skip`, NaN where there is no buffer.

    A row for each recorded step, and a last one with the largest magnitude of each element over all steps.
    """
    rows: dict[str, list[np.ndarray]] = {}
    peak: dict[str, np.ndarray] = {}
    for step, buffers, _ in steps:
        sizes = {name: what(array).size for name, array in buffers["param"].items() if name != skip}
        for key, arrays in buffers.items():
            row = np.concatenate([padded(what(arrays[name]).astype(dtype) if name in arrays else np.empty(0, dtype),
                                         1 if key in NUMBERS else size) for name, size in sizes.items()])
            peak[key] = np.fmax(peak.get(key, np.nan), np.abs(row))
            if step in RECORDED:
                earlier = len(rows["param"]) - 1 if key != "param" else 0
                rows.setdefault(key, [np.full_like(row, np.nan)] * earlier).append(row)
    return {key: np.stack([*rows[key], peak[key]]) for key in rows}


def ulps(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """How far apart two runs are, by buffer: the distance that 99 % of the elements keep within, and the largest.

    In ulps of each element's largest value: an element keeps the error it got while it was large, so ulps of the value
    it has now would say little. A buffer that one run has and the other has not is infinitely far away.
    """
    def distance(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
        if not np.array_equal(np.isnan(a), np.isnan(b)):
            return math.inf, math.inf
        *b, peak = b
        worst = np.fmax.reduce(np.abs(a[:-1] - b)) / np.spacing(peak).astype("float64")
        return tuple(np.quantile(worst[~np.isnan(worst)], (0.99, 1)).tolist())
    return {key: distance(actual[key], expected[key]) if key in actual and key in expected else (math.inf, math.inf)
            for key in sorted(actual.keys() | expected.keys())}
