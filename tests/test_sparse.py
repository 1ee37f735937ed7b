"""Sparse gradients: what a SparseGrad is, and what every optimizer does with one."""
import copy, pickle
import numpy as np, pytest
from conftest import normal, parameters, same
from optim_nb import Adam, AdamW, Parameter, SGD, SparseAdam
from optim_nb.tensor import SparseGrad, embedding

MESSAGES = {Adam: "Adam does not support sparse gradients, please consider SparseAdam instead"}
MESSAGES[AdamW] = MESSAGES[Adam]


def sparse(rows, shape=(6, 3), dtype=np.float64, seed=0): return SparseGrad(rows, normal((len(rows), *shape[1:]), dtype, seed), shape)


@pytest.mark.parametrize("rows", [[], [2], [5, 0, 5, 5, 1], list(range(6))], ids=str)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex128])
def test_rows_are_summed_and_sorted(rows, dtype):
    values = normal((len(rows), 3), dtype)
    g, dense = SparseGrad(rows, values, (6, 3)), np.zeros((6, 3), dtype)
    np.add.at(dense, rows, values)
    np.testing.assert_allclose(g.to_dense(), dense, atol=8 * np.finfo(dtype).eps)
    assert g.indices.tolist() == sorted(set(rows)) and g.dtype == dtype and g.shape == (6, 3)
    assert not np.shares_memory(g.values, values)


@pytest.mark.parametrize("rows, values, shape, error", [
    ([6], np.ones((1, 3)), (6, 3), IndexError), ([-1], np.ones((1, 3)), (6, 3), IndexError), ([[1]], np.ones((1, 3)), (6, 3), ValueError),
    ([1.0], np.ones((1, 3)), (6, 3), ValueError), ([1], np.ones((2, 3)), (6, 3), ValueError), ([1], np.ones((1, 4)), (6, 3), ValueError),
    ([1], np.ones(1), (), ValueError)])
def test_what_does_not_fit_is_refused(rows, values, shape, error):
    with pytest.raises(error): SparseGrad(rows, values, shape)


def test_indices_cannot_be_moved_out_of_range():
    with pytest.raises(ValueError, match="read-only"): sparse([1]).indices[0] = 99


def test_arithmetic_and_copies():
    a, b, dense = sparse([1, 4]), sparse([4, 0], seed=1), normal((6, 3))
    for total in (a + b, b + a):
        assert isinstance(total, SparseGrad)
        np.testing.assert_array_equal(total.to_dense(), a.to_dense() + b.to_dense())
    for total in (a + dense, dense + a): np.testing.assert_array_equal(total, a.to_dense() + dense)
    np.testing.assert_array_equal((0.5 * a).to_dense(), 0.5 * a.to_dense())
    for twin in (copy.deepcopy(a), pickle.loads(pickle.dumps(a))): assert same(twin.to_dense(), a.to_dense())
    assert same(np.asarray(a), a.to_dense()) and np.linalg.norm(a) == np.linalg.norm(a.values)
    with pytest.raises(ValueError, match="shapes"): a + sparse([1], (5, 3))


def test_a_gradient_is_checked_when_it_is_assigned():
    p = Parameter(np.ones((6, 3)))
    p.grad = sparse([1])
    for bad, error in ((sparse([1], (5, 3)), "size"), (sparse([1], dtype=np.float32), "dtype")):
        with pytest.raises(RuntimeError, match=error): p.grad = bad


@pytest.mark.parametrize("index, error", [([7], IndexError), ([-1], IndexError), ([0.5], TypeError)])
def test_embedding_refuses(index, error):
    with pytest.raises(error): embedding(index, Parameter(np.ones((6, 3))), sparse=True)


def as_all(case, params, dense):
    "Do all steps with sparse gradients, or with the arrays that they stand for."
    opt = case(params)
    for t, rows in enumerate(([1, 4, 1], [0], [4, 5], [])):
        for i, p in enumerate(params):
            g = sparse(rows, p.data.shape, p.data.dtype, (t, i))
            p.grad = g.to_dense() if dense else g
        opt.step()
    return opt


def refusal(case):
    "The message with which an optimizer refuses sparse gradients, or None."
    try: case.cls.sparse(case(params := parameters((6, 3))), case(params).param_groups[0])
    except RuntimeError as error: return str(error)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.complex64])
@pytest.mark.parametrize("order", "CF")
def test_taken_or_refused(case, unchanged, either_look, dtype, order):
    """Where it is taken, as its dense array is on the touched rows at least; where refused, in torch's words, and nothing changes."""
    if not case.complex and np.dtype(dtype).kind == "c": dtype = np.float32
    made = [Parameter(np.array(normal((6, 3), dtype, i), order=order)) for i in range(2)]
    params, twins = made, copy.deepcopy(made)
    if message := refusal(case):
        assert message == MESSAGES.get(case.cls, f"{case.cls.__name__} does not support sparse gradients") or "weight_decay" in message
        opt = case(params)
        for p in params: p.grad = sparse([1], p.data.shape, dtype)
        with unchanged(opt), pytest.raises(RuntimeError, match=f"^{message}$"): opt.step()
        return
    opt = as_all(case, params, dense=False)
    assert all(np.isfinite(p.data).all() for p in params)
    if issubclass(case.cls, SparseAdam): return  # which moves the touched rows alone: test_sparse_adam.py
    other = as_all(case, twins, dense=True)
    for p, q in zip(params, twins):
        assert same(p.data, q.data)
        for key, value in opt.state[p].items(): assert same(value, other.state[q][key])


def test_sparse_values_that_share_memory_are_read_before_they_are_written(either_look):
    a, b = Parameter(np.array([[1.0], [2.0]])), Parameter(np.zeros((2, 1)))
    a.grad, g = np.ones((2, 1)), SparseGrad([0, 1], a.data, (2, 1))
    g.values, b.grad = a.data, g
    SGD([a, b], lr=1.0).step()
    assert a.data.tolist() == [[0], [1]] and b.data.tolist() == [[-1], [-2]]


def test_zero_grad_and_state_dicts():
    p = Parameter(normal((6, 3)))
    opt = SGD([p], lr=0.1, momentum=0.9)
    p.grad = sparse([1, 2])
    opt.step()
    opt.zero_grad(set_to_none=False)
    assert isinstance(p.grad, SparseGrad) and not len(p.grad.indices)
    twin = Parameter(p.data.copy())
    again = SGD([twin], lr=0.1, momentum=0.9)
    again.load_state_dict(opt.state_dict())
    for q, o in ((p, opt), (twin, again)):
        q.grad = sparse([5])
        o.step()
    assert same(p.data, twin.data)
    opt.zero_grad()
    assert p.grad is None
