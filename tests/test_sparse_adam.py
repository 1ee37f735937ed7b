"""SparseAdam: what it refuses, and that untouched rows stay as they are."""
import numpy as np, pytest
from conftest import normal, same
from optim_nb import Adam, Parameter, SparseAdam, SparseGrad


def sparse(p, rows, seed=0): return SparseGrad(rows, normal((len(rows), *p.shape[1:]), p.dtype, seed), p.shape)


@pytest.mark.parametrize("options, message", [
    (dict(lr=0.0), "Invalid learning rate: 0.0"), (dict(lr=-1), "Invalid learning rate: -1"), (dict(eps=0.0), "Invalid epsilon value: 0.0"),
    (dict(betas=(1.0, 0.9)), "Invalid beta parameter at index 0: 1.0"), (dict(betas=(0.9, -1)), "Invalid beta parameter at index 1: -1")])
def test_torchs_messages(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"): SparseAdam([Parameter(np.ones(2))], **options)


def test_complex_parameters_are_refused():
    with pytest.raises(ValueError, match="SparseAdam does not support complex parameters"): SparseAdam([Parameter(np.ones(2) * 1j)])


def test_one_dense_gradient_stops_the_whole_step(unchanged):
    ps = [Parameter(normal((4, 2), seed=i)) for i in range(3)]
    opt = SparseAdam(ps)
    for t in range(2):
        for p in ps: p.grad = sparse(p, [t, 2])
        opt.step()
    ps[2].grad = np.ones((4, 2))
    with unchanged(opt), pytest.raises(RuntimeError, match="^SparseAdam does not support dense gradients, please consider Adam instead$"):
        opt.step()


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_untouched_rows_and_their_state_stay(dtype, order, either_look):
    p = Parameter(np.array(normal((6, 3), dtype), order=order))
    opt, start = SparseAdam([p], lr=0.1), p.data.copy()
    for t, rows in enumerate(([4, 1], [1], [])):
        p.grad = sparse(p, rows, t)
        opt.step()
    assert opt.state[p]["step"] == 3
    for a, b in ((p.data, start), (opt.state[p]["exp_avg"], 0), (opt.state[p]["exp_avg_sq"], 0)):
        changed = (a != b).any(1)
        assert changed.tolist() == [False, True, False, False, True, False]


def test_it_is_adam_where_every_row_is_touched_and_eps_is_scaled():
    a, b = (Parameter(normal((5, 2))) for _ in range(2))
    adam, lazy = Adam([a], lr=0.1), SparseAdam([b], lr=0.1, eps=1e-3)
    for t in range(1, 20):
        b.grad = sparse(b, range(5), t)
        a.grad = b.grad.to_dense()
        adam.param_groups[0]["eps"] = 1e-3 / np.sqrt(1 - 0.999**t)
        adam.step(), lazy.step()
    np.testing.assert_allclose(a.data, b.data, rtol=1e-12)


def test_it_is_adam_on_a_table_of_the_touched_rows():
    table = Parameter(normal((50, 3)))
    few, rows = Parameter(table.data[[3, 40, 7]]), [3, 40, 7]
    a, b = SparseAdam([table]), SparseAdam([few])
    for t in range(5):
        g = normal((3, 3), seed=t)
        table.grad, few.grad = SparseGrad(rows, g, table.shape), SparseGrad(range(3), g, few.shape)
        a.step(), b.step()
    assert same(table.data[rows], few.data)
