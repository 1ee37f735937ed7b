"""Every derivative in optim_nb.tensor against central differences, and the rules around `backward`."""
import copy, gc, math, pickle, re, threading, weakref
from types import SimpleNamespace
import numpy as np, pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, mutually_broadcastable_shapes
import optim_nb.tensor as T
from optim_nb.tensor import (Parameter, Tensor, clip, concatenate, cross_entropy, enable_grad, gather, is_grad_enabled,
                             log_softmax, nll_loss, no_grad, op, stack, unbroadcast, where)

fixed = settings(derandomize=True, deadline=None, max_examples=40, database=None)
seeds = st.integers(0, 2**32 - 1)
shapes = array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=4)


def points(rng, shape, positive=False):
    "Distinct values, at least 0.05 apart and as far from 0 and ±1: finite differences never straddle a kink or a tie."
    n = math.prod(shape)
    x = (rng.permutation(n) + 0.5) * 0.13 + 0.03
    return np.asarray(x if positive else x - 0.13 * (n // 2 + 0.5)).reshape(shape)


def numeric(f, arrays, i, h=1e-6):
    "Central differences of the scalar `f(*arrays)` in every element of `arrays[i]`."
    out = np.empty_like(arrays[i])
    for j in np.ndindex(out.shape):
        def at(step, j=j):
            moved = [a.copy() for a in arrays]
            moved[i][j] += step
            return f(*moved)
        out[j] = (at(h) - at(-h)) / (2 * h)
    return out


def check(f, reference, *arrays, seed=0, rtol=2e-6):
    "Value against a NumPy reference, gradient against the reference's central differences, then both in float32."
    value = np.asarray(reference(*arrays))
    weights = np.random.default_rng(seed).normal(size=value.shape)
    inputs = [Parameter(a.copy()) for a in arrays]
    out = f(*inputs)
    assert out.shape == value.shape and not out.is_leaf and out.requires_grad
    np.testing.assert_allclose(out.data, value, rtol=1e-12, atol=1e-14)
    out.backward(weights)
    for i, p in enumerate(inputs):
        expected = numeric(lambda *a: (weights * reference(*a)).sum(), arrays, i)
        np.testing.assert_allclose(p.grad, expected, rtol=rtol, atol=1e-7 * max(1, np.abs(expected).max(initial=0)))
    single = [Parameter(a.astype(np.float32)) for a in arrays]
    out = f(*single)
    out.backward(weights.astype(np.float32))
    assert out.dtype == np.float32
    for p, q in zip(inputs, single):
        assert q.grad.dtype == np.float32
        np.testing.assert_allclose(q.grad, p.grad, rtol=2e-4, atol=2e-4 * max(1, np.abs(p.grad).max(initial=0)))


UNARY = {
    'neg': (lambda x: -x, np.negative), 'exp': (T.exp, np.exp), 'tanh': (T.tanh, np.tanh),
    'sigmoid': (T.sigmoid, lambda x: 1 / (1 + np.exp(-x))), 'relu': (T.relu, lambda x: np.where(x > 0, x, 0)),
    'abs': (abs, np.abs), 'square': (lambda x: x**2, np.square), 'cube': (lambda x: x**3, lambda x: x * x * x),
    'reciprocal': (lambda x: 1 / x, np.reciprocal), 'power 0': (lambda x: x**0, np.ones_like),
    'scale and shift': (lambda x: 3 - 2 * x / 5 + 1, lambda x: 4 - 0.4 * x), 'base 2': (lambda x: 2**x, np.exp2),
    'clip': (lambda x: x.clip(-0.2, 0.3), lambda x: np.clip(x, -0.2, 0.3)),
    'clip above': (lambda x: clip(x, max=0.3), lambda x: np.minimum(x, 0.3)), 'T': (lambda x: x.T, np.transpose),
    'used twice': (lambda x: x * x.tanh() + x, lambda x: x * np.tanh(x) + x),
    'ravel': (lambda x: x.reshape(-1), np.ravel),
    'index None': (lambda x: x[None, ..., None] * 2, lambda x: x[None, ..., None] * 2),
}
POSITIVE = {
    'log': (T.log, np.log), 'sqrt': (T.sqrt, np.sqrt), 'power 1.7': (lambda x: x**1.7, lambda x: np.power(x, 1.7)),
    'power -2': (lambda x: x**-2, lambda x: 1 / (x * x)),
    'x to the x': (lambda x: x**x, lambda x: np.exp(x * np.log(x))),
}
BINARY = {
    'add': (lambda x, y: x + y, np.add), 'sub': (lambda x, y: x - y, np.subtract),
    'mul': (lambda x, y: x * y, np.multiply), 'div': (lambda x, y: x / y, np.divide),
    'where': (lambda x, y: where(x.data > y.data, x, y), np.maximum),
    'where with a constant': (lambda x, y: where(y.data > 0, x, 1.0) + y, lambda x, y: np.where(y > 0, x, 1) + y),
    'clip bounds': (lambda x, y: clip(x, y, y + 0.4), lambda x, y: np.clip(x, y, y + 0.4)),
}


@pytest.mark.parametrize('name', [*UNARY, *POSITIVE])
@fixed
@given(shape=shapes, seed=seeds)
def test_elementwise(name, shape, seed):
    f, reference = (UNARY | POSITIVE)[name]
    check(f, reference, points(np.random.default_rng(seed), shape, name in POSITIVE), seed=seed)


@pytest.mark.parametrize('name', [*BINARY, 'pow'])
@fixed
@given(pair=mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3), seed=seeds)
def test_broadcasting(name, pair, seed):
    rng = np.random.default_rng(seed)
    f, reference = (BINARY | {'pow': (lambda x, y: x**y, np.power)})[name]
    x, y = (points(rng, shape, name == 'pow') for shape in pair.input_shapes)
    check(f, reference, x, np.asarray(y + 0.013), seed=seed)


@pytest.mark.parametrize('name', ['sum', 'mean', 'max'])
@fixed
@given(shape=shapes, keepdims=st.booleans(), seed=seeds, data=st.data())
def test_reductions(name, shape, keepdims, seed, data):
    one = st.integers(-len(shape), len(shape) - 1)
    several = st.lists(one, unique_by=lambda i: i % len(shape)).map(tuple)
    axis = data.draw(st.none() | one | several if shape else st.none())
    options = dict(axis=axis, keepdims=keepdims)
    check(lambda x: getattr(x, name)(**options), lambda x: getattr(np, name)(x, **options),
          points(np.random.default_rng(seed), shape), seed=seed)


@fixed
@given(shape=array_shapes(max_dims=3, max_side=4), seed=seeds, data=st.data())
def test_log_softmax(shape, seed, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    check(lambda x: log_softmax(x, axis), lambda x: x - np.log(np.exp(x).sum(axis, keepdims=True)),
          points(np.random.default_rng(seed), shape), seed=seed)


@fixed
@given(batch=mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=2),
       sizes=st.tuples(*[st.integers(1, 3)] * 3), seed=seeds, vectors=st.sampled_from(['', 'l', 'r', 'lr']))
def test_matmul(batch, sizes, seed, vectors):
    rng, (n, k, m) = np.random.default_rng(seed), sizes
    left, right = batch.input_shapes
    x = points(rng, (k,) if 'l' in vectors else (*left, n, k))
    y = points(rng, (k,) if 'r' in vectors else (*right, k, m))
    check(lambda a, b: a @ b, np.matmul, x, y, seed=seed)


@fixed
@given(shape=array_shapes(max_dims=4, max_side=3), seed=seeds, data=st.data())
def test_reordering(shape, seed, data):
    x, axes = points(np.random.default_rng(seed), shape), range(len(shape))
    order = data.draw(st.permutations(axes))
    i, j = data.draw(st.sampled_from(axes)), data.draw(st.sampled_from(axes)) - len(shape)
    to = data.draw(st.permutations(shape))
    check(lambda x: x.permute(*order), lambda x: np.transpose(x, order), x, seed=seed)
    check(lambda x: x.permute([k - len(shape) for k in order]), lambda x: np.transpose(x, order), x, seed=seed)
    check(lambda x: x.transpose(i, j), lambda x: np.swapaxes(x, i, j), x, seed=seed)
    check(lambda x: x.reshape(*to), lambda x: x.reshape(to), x, seed=seed)
    check(lambda x: x.reshape(to), lambda x: x.reshape(to), x, seed=seed)


INDICES = [0, -1, slice(None), slice(3, 0, -2), ..., None, (1, 2), (slice(1, 3), None, 2), (..., 1), [0, 0, 3, 0],
           np.array([[1, 1], [0, 1]]), ([0, 0, 2], [1, 1, 0]), (slice(None), [2, 2]), (Tensor([1, 1]), 0),
           Tensor([3, 3]), np.arange(12).reshape(4, 3) % 5 == 0, np.array([True, False, True, True]),
           ([1, 1], slice(None)), np.int64(2), (None, [[0], [0]], [0, 1])]


@pytest.mark.parametrize('index', INDICES, ids=str)
def test_indexing(index):
    plain = tuple(i.data if isinstance(i, Tensor) else i for i in index) if isinstance(index, tuple) else \
        index.data if isinstance(index, Tensor) else index
    check(lambda x: x[index] * 1, lambda x: x[plain], points(np.random.default_rng(0), (4, 3)))


@fixed
@given(shape=array_shapes(max_dims=3, max_side=3), rows=st.integers(1, 5), seed=seeds, data=st.data())
def test_gather(shape, rows, seed, data):
    rng, axis = np.random.default_rng(seed), data.draw(st.integers(-len(shape), len(shape) - 1))
    size = list(shape)
    size[axis] = rows
    index = rng.integers(0, shape[axis], size)
    check(lambda x: gather(x, axis, index), lambda x: np.take_along_axis(x, index, axis), points(rng, shape), seed=seed)


@fixed
@given(shape=array_shapes(max_dims=3, max_side=3), lengths=st.lists(st.integers(0, 3), min_size=1, max_size=4),
       seed=seeds, data=st.data())
def test_joining(shape, lengths, seed, data):
    rng, n = np.random.default_rng(seed), len(shape)
    axis = data.draw(st.integers(-n, n - 1))
    parts = [points(rng, tuple(k if i == axis % n else s for i, s in enumerate(shape))) for k in lengths]
    check(lambda *xs: concatenate(xs, axis), lambda *xs: np.concatenate(xs, axis), *parts, seed=seed)
    axis = data.draw(st.integers(-n - 1, n))
    same = [points(rng, shape) for _ in lengths]
    check(lambda *xs: stack(xs, axis), lambda *xs: np.stack(xs, axis), *same, seed=seed)


def test_joining_mixes_tensors_and_arrays():
    p = Parameter([1.0, 2.0])
    concatenate([np.ones(3), p, p]).sum().backward()
    stack([p, np.zeros(2)], axis=1).sum().backward()
    np.testing.assert_array_equal(p.grad, [3, 3])


@fixed
@given(n=st.integers(1, 4), classes=st.integers(1, 4), seed=seeds)
def test_classifier_losses(n, classes, seed):
    rng = np.random.default_rng(seed)
    x, target = points(rng, (n, classes)), rng.integers(0, classes, n)
    check(lambda x: nll_loss(x, target), lambda x: -x[range(n), target].mean(), x)
    check(lambda x: cross_entropy(x, target), lambda x: (np.log(np.exp(x).sum(1)) - x[range(n), target]).mean(), x)
    with pytest.raises(IndexError, match=f'Target {classes} is out of bounds'): cross_entropy(x, [classes] * n)
    with pytest.raises(IndexError, match='Target -1 is out of bounds'): cross_entropy(Tensor(x), Tensor([-1] * n))


@fixed
@given(pair=mutually_broadcastable_shapes(num_shapes=2, max_dims=4, min_side=0, max_side=3), seed=seeds)
def test_unbroadcast_is_the_adjoint_of_broadcasting(pair, seed):
    rng, shape = np.random.default_rng(seed), pair.input_shapes[0]
    x, g = rng.normal(size=shape), rng.normal(size=pair.result_shape)
    back = unbroadcast(g, shape)
    assert back.shape == shape
    forwards = (np.broadcast_to(x, pair.result_shape) * g).sum()
    np.testing.assert_allclose(forwards, (x * back).sum(), rtol=1e-9, atol=1e-12)


# --- points where a derivative is a convention, and extreme arguments

def grad(f, x, **options):
    p = Parameter(np.asarray(x, **options))
    f(p).sum().backward()
    return p.grad


@pytest.mark.parametrize('f, x, expected', [
    (T.relu, [-1., -0., 0., 1.], [0, 0, 0, 1]), (abs, [-2., 0., 2.], [-1, 0, 1]),
    (lambda x: x.clip(0, 1), [0., 1., 2.], [1, 1, 0]), (lambda x: x**0, [0., 2.], [0, 0]),
    (lambda x: 0**x, [0., 1.], [0, 0]), (lambda x: x**x, [1., 2.], [1, 4 + 4 * math.log(2)]),
    (lambda x: x.max(), [1., 3., 3.], [0, .5, .5]), (lambda x: x.max(0), [1., 3., 3.], [0, 1, 0]),
    (lambda x: x.max((0,)), [1., 3., 3.], [0, .5, .5]), (lambda x: x.max(), [1., np.nan, 3.], [0, 1, 0]),
    (lambda x: x.max(-1), [1., np.nan, 3.], [0, 1, 0]), (T.sigmoid, [-1000., 0., 1000.], [0, .25, 0]),
    (lambda x: log_softmax(x)[..., 0], [1000., 0., -1000.], [0, 0, 0]),
    (lambda x: where(x.data > 0, x, 2 * x), [-1., 1., 0.], [2, 1, 2]),
])
def test_conventions(f, x, expected):
    np.testing.assert_allclose(grad(f, x), expected, atol=1e-300)


def test_extreme_arguments():
    np.testing.assert_allclose(T.sigmoid(Tensor([-700., 700.])).data, [np.exp(-700), 1], rtol=1e-15)
    np.testing.assert_allclose(grad(T.sigmoid, [700., -700.]), np.exp([-700., -700.]), rtol=1e-14)
    np.testing.assert_allclose(log_softmax(Tensor([1e5, 0.])).data, [0, -1e5])
    with np.errstate(divide='ignore'): assert grad(T.sqrt, [0.]) == np.inf
    assert (Parameter(np.ones((0, 3)))**2).sum().item() == 0
    assert grad(lambda x: x.mean(1, keepdims=True), np.ones((0, 3))).shape == (0, 3)
    assert grad(lambda x: x[:0], np.ones(3)).tolist() == [0, 0, 0]


def test_where_blocks_a_branch_but_not_its_nan():
    with np.errstate(divide='ignore', invalid='ignore'):    # torch does the same: 0 · ∞ on the branch not taken
        assert np.isnan(grad(lambda x: where(x.data > 0, x.sqrt() * x.log(), 0.0), [0., 1.])[0])


# --- dtypes

@pytest.mark.parametrize('dtype', ['f2', 'f4', 'f8', '>f4', '>f8'])
def test_python_numbers_take_the_other_operands_dtype(dtype):
    p = Parameter(np.ones(3, dtype))
    y = where(p > 0, (2 * p + 1 - p / 3)**2, 0.0).sigmoid().clip(0, 1).relu().mean()
    assert y.dtype == np.dtype(dtype).newbyteorder('=')
    y.backward()
    assert p.grad.dtype == p.dtype


def test_dtypes():
    assert Tensor([1, 2]).dtype == np.int64 and Tensor([1., 2]).dtype == Tensor(3.0).dtype == np.float64
    assert Tensor(True).dtype == bool and (Tensor([1, 2]) / 2).dtype == np.float64
    p = Parameter(np.ones(2, 'f4'))
    (p * np.array([1.5, 2.5])).sum().backward()         # computed in float64, returned in the parameter's dtype
    assert p.grad.dtype == np.float32 and p.grad.tolist() == [1.5, 2.5]
    for bad in ('text', None, [object()]):
        with pytest.raises(TypeError, match="can't make a Tensor"): Tensor(bad)


def test_complex():
    p = Parameter(np.ones(2, complex))
    p.grad = np.full(2, 1j)
    assert (p * 2).dtype == complex
    for loss in ((p * 2).sum(), abs(p).sum(), abs(Parameter(1.0) * 1j)):
        with pytest.raises(TypeError, match='backward is for real Tensors'): loss.backward()
    assert p.grad.tolist() == [1j, 1j]


@pytest.mark.parametrize('data', [[1, 2], np.array([True]), np.arange(3, dtype='u1'), 3])
def test_integers_cannot_require_gradients(data):
    assert not Tensor(data).requires_grad
    message = 'Only Tensors of floating point and complex dtype can require gradients'
    with pytest.raises(RuntimeError, match=message): Tensor(data, requires_grad=True)
    with pytest.raises(RuntimeError, match=message): Parameter(data)
    with pytest.raises(RuntimeError, match=message): Tensor(data).requires_grad = True


# --- backward

def test_gradients_accumulate_in_place():
    p = Parameter([1., 2.])
    (p * 3).sum().backward()
    first = p.grad
    (p * 4).sum().backward()
    assert p.grad is first and first.tolist() == [7, 7]
    p.grad = None
    p.sum().backward()
    assert p.grad.tolist() == [1, 1] and first.tolist() == [7, 7]


@pytest.mark.parametrize('f', [lambda p, q: p + q, lambda p, q: (p + q).T.T, lambda p, q: p * 1 + (q + p),
                               lambda p, q: where(p.data > 0, p, q), lambda p, q: p.reshape(2, 2) + q[:]])
def test_gradients_never_alias(f):
    p, q, seed = Parameter(np.ones((2, 2))), Parameter(np.ones((2, 2))), np.ones((2, 2))
    f(p, q).backward(seed)
    arrays = [p.grad, q.grad, p.data, q.data, seed]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])
    assert p.grad.flags.writeable and p.grad.base is None


def test_gradient_is_laid_out_like_its_parameter():
    p = Parameter(np.ones((3, 4), order='F'))
    (p * np.arange(12.).reshape(3, 4)).sum().backward()
    assert p.grad.flags.f_contiguous and p.grad.tolist() == np.arange(12.).reshape(3, 4).tolist()


AGAIN = 'Trying to backward through the graph a second time'


def test_graph_is_freed():
    p = Parameter([1., 2.])
    shared = p * p
    kept = weakref.ref(shared.exp()._edges[0][0])
    loss = shared.sum()
    loss.backward()
    for again in (loss, shared.mean(), shared * 2):
        with pytest.raises(RuntimeError, match=AGAIN): again.backward(np.ones(again.shape))
    assert p.grad.tolist() == [2, 4] and not loss.is_leaf and loss.requires_grad
    del shared, again
    loss = None
    assert kept() is None                               # no reference cycles: freed at once, not by the collector


def test_leaves_can_be_roots():
    p = Parameter(2.0)
    p.backward()
    p.backward(3.0)
    assert p.grad == 4 and p.grad.shape == ()


def test_deep_graph():
    gc.collect()
    p = Parameter(1.0)
    y = p
    for _ in range(20_000): y = y * 1.0 + 0.0
    y.backward()
    assert p.grad == 1
    y = p
    for _ in range(20_000): y = -y
    del y                                               # an unused graph of any depth can be dropped, too


def test_wide_graph_is_visited_once():
    p = Parameter(1.0)
    y = p
    for _ in range(60): y = y + y                       # 2^60 paths
    y.backward()
    assert p.grad == 2.0**60


def test_vector_jacobian_product():
    p = Parameter(np.arange(6.).reshape(2, 3))
    v = np.ones((2, 3), int)
    (p * p).backward(v)
    np.testing.assert_array_equal(p.grad, 2 * p.data)
    (p * p).backward(Tensor(v))
    np.testing.assert_array_equal(p.grad, 4 * p.data)


def test_errors_of_backward():
    p = Parameter([1., 2.])
    with pytest.raises(RuntimeError, match='grad can be implicitly created only for scalar outputs'): (p * 2).backward()
    mismatch = 'Mismatch in shape: grad_output[0] has a shape of (3,) and output[0] has a shape of (2,).'
    with pytest.raises(RuntimeError, match=re.escape(mismatch)): (p * 2).backward(np.ones(3))
    constant = 'element 0 of tensors does not require grad and does not have a grad_fn'
    for t in (Tensor(1.0), p.detach().sum()):
        with pytest.raises(RuntimeError, match=constant): t.backward()
    assert p.grad is None
    (p * 2)[:1].backward()                              # one element is scalar enough, whatever its shape
    assert p.grad.tolist() == [2, 0]


def test_recorded_values_survive_rebinding_data():
    p = Parameter([2.0])
    loss = (p * p).sum()
    p.data = np.array([5.0])
    loss.backward()
    assert p.grad.tolist() == [4]


def test_frozen_inputs_get_nothing():
    p, q = Parameter([1.]), Parameter([2.])
    q.requires_grad = False
    y = p * q
    y.sum().backward()
    assert p.grad.tolist() == [2] and q.grad is None
    p.requires_grad_(False)
    assert not (p * q).requires_grad and (p * q).is_leaf
    assert p.requires_grad_() is p and p.requires_grad


# --- leaves, .grad and .data

def test_leaf_rules():
    p = Parameter([1.])
    y = p * 2
    assert p.is_leaf and not y.is_leaf and y.requires_grad and Tensor([1.]).is_leaf and (Tensor([1.]) * 2).is_leaf
    with pytest.raises(RuntimeError, match='only change requires_grad flags of leaf variables'): y.requires_grad = False
    d = y.detach()
    assert d.is_leaf and not d.requires_grad and np.shares_memory(d.data, y.data)
    y.backward()
    assert y.grad is None


def test_grad_assignment():
    p = Parameter(np.ones((2, 2), 'f4'))
    g = np.ones((2, 2), 'f4')
    p.grad = g
    assert p.grad is g
    with pytest.raises(RuntimeError, match=r"gradient of size '\[4\]' to a tensor of size '\[2, 2\]'"):
        p.grad = g.ravel()
    with pytest.raises(RuntimeError, match="gradient with dtype 'float64' to a tensor with dtype 'float32'"):
        p.grad = g.astype('f8')
    for bad, kind in ((3, 'int'), ([[1., 1.]] * 2, 'list'), ('a', 'str'), (p, 'Parameter')):
        with pytest.raises(TypeError, match=f'an ndarray or None but got grad of type {kind}'): p.grad = bad
    assert p.grad is g
    p.grad = None
    assert p.grad is None
    s = Parameter(1.0)
    s.grad = 2 * s.data                                 # NumPy turns 0-d arithmetic into a scalar
    assert isinstance(s.grad, np.ndarray) and s.grad.shape == ()


def test_data_assignment():
    p = Parameter(1.0)
    p.data = p.data * 2
    assert isinstance(p.data, np.ndarray) and p.item() == 2
    with pytest.raises(RuntimeError, match='must be floating point or complex'): p.data = np.array(1)
    with pytest.raises(TypeError, match="can't make a Tensor"): p.data = 'text'
    assert p.item() == 2
    with pytest.raises(AttributeError): p.unknown = 1


@pytest.mark.parametrize('array', [np.ones(3), np.array(2.0), np.ones((4, 6))[::2, 1::3], np.ones((2, 3)).T, np.ones(0),
                                   np.ones(3, '>f4'), np.ones(2, 'f2'), np.ones(2, complex)],
                         ids=lambda a: f'{a.shape}{a.dtype.str}')
def test_parameter_shares_memory(array):
    p = Parameter(array)
    assert p.data is array and p.requires_grad and p.is_leaf and Parameter(p).data is array and Tensor(p).data is array
    p.data[...] = 7
    assert (array == 7).all()


def test_in_place_arithmetic():
    array = np.ones(2)
    p = Parameter(array)
    with pytest.raises(RuntimeError, match='a leaf Variable that requires grad is being used in an in-place'): p -= 1
    with no_grad():
        same = p
        p -= 0.5 * np.ones(2)
        p *= Tensor([2., 4.])
        p /= 2
        p **= 2
        p += 1
    assert p is same and p.data is array and array.tolist() == [1.25, 2.0]
    y = p * 1
    before = y
    y += 1                                              # recorded: a new Tensor, and the old one keeps its value
    assert y is not before and before.data.tolist() == [1.25, 2.0]
    total = Tensor(0.0)
    total += y.sum()                                    # a constant that becomes part of the graph
    total.backward()
    assert p.grad.tolist() == [1, 1]
    with pytest.raises(TypeError, match='unsupported operand'): p += 'a'


# --- no_grad

def test_no_grad():
    p = Parameter([1.])
    with no_grad():
        assert not is_grad_enabled() and not (p * 2).requires_grad
        with enable_grad(): assert (p * 2).requires_grad
        assert not is_grad_enabled()
        assert Parameter([1.]).requires_grad
    assert is_grad_enabled()
    with pytest.raises(ZeroDivisionError), no_grad(): 1 / 0
    assert is_grad_enabled()

    @no_grad()
    def countdown(n): return [is_grad_enabled()] + (countdown(n - 1) if n else [])
    assert countdown(3) == [False] * 4 and is_grad_enabled() and countdown.__name__ == 'countdown'


def test_no_grad_is_per_thread():
    seen, entered, leave = [], threading.Event(), threading.Event()

    def other():
        seen.append(is_grad_enabled())
        with no_grad():
            entered.set()
            leave.wait(10)

    with no_grad():
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(10)
    assert is_grad_enabled() and seen == [True]
    leave.set()
    thread.join()


def test_threads_record_independently():
    out = [None] * 8

    def work(i):
        p = Parameter(np.full(4, float(i)))
        for _ in range(50): ((p * p).sum() * 0.01).backward()
        out[i] = p.grad

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads: t.start()
    for t in threads: t.join()
    for i, g in enumerate(out): np.testing.assert_allclose(g, np.full(4, float(i)))


# --- a Tensor among Python objects

def test_identity_as_key():
    p, q = Parameter([1., 2.]), Parameter([1., 2.])
    state = {p: 'p', q: 'q'}
    assert state[p] == 'p' and state[q] == 'q' and len({p, q, p}) == 2 and hash(p) != hash(q)
    assert weakref.ref(p)() is p


def test_comparisons_are_arrays():
    a, b = Tensor([1., 2., 3.]), np.array([3., 2., 1.])
    for result, expected in [(a < b, [1, 0, 0]), (a <= b, [1, 1, 0]), (a > 2, [0, 0, 1]), (a >= a, [1, 1, 1]),
                             (a == b, [0, 1, 0]), (a != b, [1, 0, 1]), (b == a, [0, 1, 0]), (2 < a, [0, 0, 1])]:
        assert type(result) is np.ndarray and result.tolist() == expected
    assert a.argmax() == 2 and Tensor([[1., 2.], [4., 3.]]).argmax(1).tolist() == [1, 0]
    assert (a == 'text') is False and (a != None) is True     # noqa: E711


def test_ndarray_on_the_left():
    p, a = Parameter([1., 2.]), np.array([3., 4.])
    for y in (a + p, a - p, a * p, a / p, a**p, a @ p, np.float64(2) * p, np.eye(2) @ p, np.array(2.0) - p):
        assert isinstance(y, Tensor) and y.requires_grad
    with pytest.raises(TypeError, match=r'np.add does not record gradients: use x \+ y'): a += p
    assert a.tolist() == [3, 4]
    with pytest.raises(TypeError, match='unsupported operand'): p + 'a'
    with pytest.raises(TypeError, match='unsupported operand'): [1, 2] - p


@pytest.mark.parametrize('tensor', [Parameter([1., 2.]), Tensor([1., 2.])], ids=['parameter', 'constant'])
@pytest.mark.parametrize('call, instead', [
    (np.sin, 'x.detach().numpy() for the array alone, or write the operation with optim_nb.tensor.op'),
    (np.exp, 'x.exp(…)'), (np.abs, 'abs(x)'), (np.square, 'x**2'), (np.sum, 'x.sum(…)'), (np.mean, 'x.mean(…)'),
    (np.max, 'x.max(…)'), (lambda x: np.clip(x, 0, 1), 'x.clip(…)'), (lambda x: np.reshape(x, (2, 1)), 'x.reshape(…)'),
    (lambda x: np.maximum(x, 0), 'optim_nb.tensor.where'), (lambda x: np.floor_divide([1, 2], x), None),
    (lambda x: np.add.reduce(x), 'x + y'), (lambda x: np.add(x, x, out=np.zeros(2)), 'x + y'),
])
def test_numpy_functions_say_what_to_use(tensor, call, instead):
    with pytest.raises(TypeError, match=re.escape(f'does not record gradients: use {instead or "x.detach()"}')): call(tensor)
    assert tensor.data.tolist() == [1, 2]


def test_numpy_functions_that_harm_nothing():
    p, c = Parameter([[1., 2.]]), Tensor([[1., 2.]])
    assert (np.ndim(p), np.shape(p), np.size(p)) == (2, (1, 2), 2)
    assert np.stack([c, c]).shape == (2, 1, 2) and np.where(c > 1, c, 0).tolist() == [[0, 2]]
    assert np.array_equal(np.add(np.ones(2), p).data, [[2, 3]]) and np.add(np.ones(2), p).requires_grad
    np.testing.assert_allclose(c, [[1, 2]])


def test_leaving_the_tape():
    a, p = Tensor([1., 2.]), Parameter([1., 2.])
    assert a.numpy() is a.data and np.asarray(a).tolist() == [1, 2] and np.asarray(a, 'f4').dtype == np.float32
    assert np.shares_memory(np.asarray(a), a.data) and not np.shares_memory(np.array(a), a.data)
    for f in (p.numpy, lambda: np.asarray(p), lambda: np.stack([p, p]), (p * 2).numpy):
        with pytest.raises(RuntimeError, match=r"Can't call numpy\(\) on Tensor that requires grad"): f()
    assert p.detach().numpy() is p.data


def test_python_protocols():
    t, s = Parameter(np.arange(6.).reshape(3, 2)), Tensor(2.5)
    assert len(t) == 3 and [row.shape for row in t] == [(2,)] * 3
    assert (t.size, t.ndim, t.shape, t.T.shape) == (6, 2, (3, 2), (2, 3))
    sum(row.sum() for row in t).backward()
    assert t.grad.tolist() == [[1, 1]] * 3
    assert (s.item(), float(s), int(s), bool(s)) == (2.5, 2.5, 2, True) and f'{s:.2f}|{s}' == '2.50|tensor(2.5)'
    assert type(s.item()) is float and Tensor([[3]]).item() == 3
    for f in (t.item, lambda: float(t), lambda: bool(t)):
        with pytest.raises(RuntimeError, match='a Tensor with 6 elements cannot be converted to Scalar'): f()
    with pytest.raises(TypeError, match=r'len\(\) of a 0-d tensor'): len(s)
    with pytest.raises(TypeError, match='iteration over a 0-d tensor'): iter(s)
    with pytest.raises(TypeError): s[0] = 1


def test_repr():
    p = Parameter([1., 2.5])
    assert repr(p) == 'Parameter containing:\ntensor([1. , 2.5], requires_grad=True)'
    assert repr(p * 2) == 'tensor([2., 5.], grad_fn=<mul>)' and repr(p.sum()) == 'tensor(3.5, grad_fn=<sum>)'
    assert repr(Tensor([1, 2])) == 'tensor([1, 2])' and repr(Tensor(np.float32(1))) == 'tensor(1., dtype=float32)'
    assert repr(Tensor(np.eye(2))) == 'tensor([[1., 0.],\n        [0., 1.]])'


@pytest.mark.parametrize('array', [np.arange(3.), np.array(2.0), np.ones((2, 4), 'f4')[:, ::2],
                                   np.ones((3, 2), order='F')], ids=str)
def test_pickle_and_deepcopy(array):
    p = Parameter(array)
    p.grad = np.ones_like(array)
    for q in (pickle.loads(pickle.dumps(p)), copy.deepcopy(p)):
        assert type(q) is Parameter and q.requires_grad and q.is_leaf and q.dtype == p.dtype
        np.testing.assert_array_equal(q.data, p.data)
        assert not np.shares_memory(q.data, p.data)
    assert pickle.loads(pickle.dumps(p)).grad is None   # as in torch: a pickle holds data and flag
    q = copy.deepcopy(p)
    assert q.grad is not p.grad and q.grad.tolist() == p.grad.tolist()
    assert copy.copy(p).data is p.data
    pair, other = copy.deepcopy([p, p, array]), copy.deepcopy(Tensor(array))
    assert pair[0] is pair[1] and pair[0].data is pair[2] and type(other) is Tensor and not other.requires_grad
    with pytest.raises(RuntimeError, match='Only Tensors created explicitly by the user'): copy.deepcopy(p * 2)
    r = pickle.loads(pickle.dumps(p * 2))
    assert r.is_leaf and r.requires_grad


def test_own_operation():
    @op
    def softplus(x): return np.logaddexp(0, x), lambda g: g / (1 + np.exp(-x))
    check(softplus, lambda x: np.log1p(np.exp(x)), points(np.random.default_rng(0), (3, 2)))


def test_star_import_leaves_builtins_alone():
    names = {}
    exec('from optim_nb.tensor import *', names)
    assert not {'sum', 'max', 'min', 'abs', 'pow'} & names.keys() and names['Parameter'] is Parameter


# --- live parity where torch is installed

@fixed
@given(seed=seeds, dtype=st.sampled_from(['f4', 'f8']))
def test_parity_with_torch(seed, dtype):
    torch = pytest.importorskip('torch')
    F, rng = torch.nn.functional, np.random.default_rng(seed)
    arrays = [rng.normal(size=s).astype(dtype) for s in [(6, 4), (4, 5), (5,), (5, 3)]]
    target, index = rng.integers(0, 3, 6), rng.integers(0, 4, (6, 2))

    def network(x, w1, b, w2, cat, lib):
        hidden = (x.clip(-1, 1) @ w1 + b).tanh() * (w1.abs().sqrt().mean(0) + 1)
        picked = lib.gather(x, 1, lib.index(index)).sigmoid().max() + x.max() + (x * x + 1).log().sum(0).exp().sum()
        logits = cat([hidden, hidden.relu()], 1)[:, 2:7] @ w2
        return lib.loss(logits) + picked / 3 - b[None].T.reshape(5)[[0, 0]].sum() ** 2

    ours = SimpleNamespace(gather=gather, index=np.asarray, loss=lambda z: cross_entropy(z, target))
    theirs = SimpleNamespace(gather=torch.gather, index=torch.tensor,
                             loss=lambda z: F.cross_entropy(z, torch.tensor(target)))
    a, b = [Parameter(x.copy()) for x in arrays], [torch.tensor(x, requires_grad=True) for x in arrays]
    loss, expected = network(*a, concatenate, ours), network(*b, torch.cat, theirs)
    loss.backward()
    expected.backward()
    tol = dict(rtol=1e-4, atol=1e-5) if dtype == 'f4' else dict(rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(loss.item(), expected.item(), **tol)
    for p, q in zip(a, b): np.testing.assert_allclose(p.grad, q.grad.numpy(), **tol)
