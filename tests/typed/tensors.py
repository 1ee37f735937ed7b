"""Tensors in user code, which type checkers must accept as it stands (test_typing.py) and which must run."""
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray
from optim_nb import Parameter, Tensor, enable_grad, no_grad
from optim_nb.tensor import cross_entropy, exp, gather, is_grad_enabled, log_softmax, op, stack, where

w, b = Parameter(np.zeros((3, 2))), Parameter(np.zeros(2))
x, y = np.ones((4, 3)), np.zeros(4, int)
assert_type(x @ w, Tensor)
assert_type(2 * w - w / 3 + x.T @ x @ w, Tensor)
assert_type(np.float32(2) * w, Tensor)
assert_type(-(w**2).mean(0), Tensor)
loss = ((x @ w + b) ** 2).mean()
assert_type(loss, Tensor)
loss.backward()
assert_type(w.data, np.ndarray)
assert_type(w.grad, np.ndarray | None)
assert w.grad is not None
w.data -= 0.1 * w.grad
w.grad = None
w.data = np.zeros((3, 2))
with no_grad(), enable_grad(): pass
with no_grad(): w -= 0.1 * np.ones((3, 2))
assert_type(w, Parameter)
assert_type(w.shape, tuple[int, ...])
assert_type(loss.item(), float)
assert_type(w[0, 1:], Tensor)
assert_type(w.T.reshape(-1).sum(), Tensor)
assert_type(exp(w).clip(0, 1).max(1, keepdims=True), Tensor)
assert_type(where(w.data > 0, w, 0.0), Tensor)
assert_type(stack([w, w]), Tensor)
assert_type(cross_entropy(x @ w, y), Tensor)
accuracy = (x @ w.data + b.data).argmax(1) == y
assert_type(w > 0, np.ndarray)
rows: list[Tensor] = [row for row in w]
by_parameter: dict[Tensor, str] = {w: "w", b: "b"}
print(f"{loss:.3f}", loss.item() < 1, len(w), float(loss), w.detach().numpy(), accuracy.mean(), is_grad_enabled())
print(gather(w, 1, np.zeros((3, 1), int)), w.requires_grad_(True), w.is_leaf, len(by_parameter), log_softmax(w, 1), rows)


@no_grad()
def predict(inputs: NDArray[np.float64]) -> np.ndarray: return (inputs @ w + b).data


@op
def softplus(z: np.ndarray) -> Any:
    return np.logaddexp(0, z), lambda g: g / (1 + np.exp(-z))


assert_type(predict(x), np.ndarray)
