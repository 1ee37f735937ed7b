"""The examples people know from PyTorch, run as they are written, imports aside."""
import numpy as np, pytest
import optim_nb as optim
from optim_nb import Parameter


def gradient(params, seed=0):
    rng = np.random.default_rng(seed)
    for p in params: p.grad = rng.normal(size=p.data.shape).astype(p.data.dtype)


def test_minimise_a_parabola():
    x = Parameter(np.array(4.0))
    optimizer = optim.Adam([x], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        loss = (x - 5) ** 2
        loss.backward()
        optimizer.step()
    assert abs(x.item() - 5) < 0.1 and loss.item() < 1e-2 and x.data.shape == ()


def test_two_groups():
    base, classifier = [Parameter(np.ones((2, 2))), Parameter(np.ones(2))], [Parameter(np.ones(3))]
    optimizer = optim.SGD([{'params': base}, {'params': classifier, 'lr': 1e-3}], lr=1e-2, momentum=0.9)
    for p in base + classifier: p.grad = np.ones_like(p.data)
    optimizer.step()
    for p in base: np.testing.assert_allclose(p.data, 0.99, rtol=1e-15)
    np.testing.assert_allclose(classifier[0].data, 0.999, rtol=1e-15)
    assert [g["lr"] for g in optimizer.param_groups] == [1e-2, 1e-3]
    assert [g["momentum"] for g in optimizer.param_groups] == [0.9, 0.9]


def test_weight_decay_for_weights_but_not_for_biases():
    weight, bias = Parameter(np.array([2.0])), Parameter(np.array([2.0]))
    optimizer = optim.SGD([{'params': [weight], 'weight_decay': 1e-5}, {'params': [bias], 'weight_decay': 0}], lr=1e-2)
    for p in (weight, bias): p.grad = np.zeros_like(p.data)
    optimizer.step()
    assert weight.data == pytest.approx(2 * (1 - 1e-7), rel=1e-15) and weight.data < 2 and bias.data == 2


def test_step_with_a_closure():
    weight, inputs, target = Parameter(np.array([3.0, -1.0])), np.eye(2), np.zeros(2)
    optimizer, losses = optim.SGD([weight], lr=0.25), []
    for _ in range(3):
        def closure():
            optimizer.zero_grad()
            output = inputs @ weight
            loss = ((output - target) ** 2).sum()
            loss.backward()
            return loss
        losses.append(optimizer.step(closure).item())
    assert losses == [10.0, 2.5, 0.625]


def test_two_players():
    opt = type("Options", (), dict(lr=0.0002, b1=0.5))
    beta1, generator, discriminator = opt.b1, [Parameter(np.ones(3))], [Parameter(np.ones((2, 3)))]
    optimizer_G = optim.Adam(generator, lr=opt.lr, betas=(beta1, 0.999))
    optimizer_D = optim.Adam(discriminator, lr=opt.lr, betas=(beta1, 0.999))
    for _ in range(3):
        for optimizer, player in ((optimizer_D, discriminator), (optimizer_G, generator)):
            optimizer.zero_grad()
            gradient(player)
            optimizer.step()
    assert optimizer_G.param_groups[0]["betas"] == (0.5, 0.999)
    assert optimizer_D.state[discriminator[0]]["step"] == 3
    assert np.abs(generator[0].data - 1).max() == pytest.approx(6e-4, rel=1e-3)


@pytest.mark.parametrize("make", [lambda p: optim.SGD(p, lr=0.1, momentum=0.9), lambda p: optim.Adam(p, lr=1e-2),
                                  lambda p: optim.AdamW(p, lr=1e-2, amsgrad=True)])
def test_save_and_resume(make):
    def run(params, optimizer, steps):
        for t in steps:
            gradient(params, t)
            optimizer.step()
    params = [Parameter(np.ones((3, 2))), Parameter(np.ones(5, np.float32))]
    optimizer = make(params)
    run(params, optimizer, range(4))
    checkpoint, arrays = optimizer.state_dict(), [p.data.copy() for p in params]
    run(params, optimizer, range(4, 9))
    again = [Parameter(a) for a in arrays]
    resumed = make(again)
    resumed.load_state_dict(checkpoint)
    run(again, resumed, range(4, 9))
    for p, q in zip(params, again): assert p.data.tobytes() == q.data.tobytes()


def test_extra_keys_in_a_group():
    layers = [Parameter(np.ones(2)), Parameter(np.ones(2))]
    groups = [{'params': [p], 'lr_scale': 0.5 ** i, 'name': f'layer {i}'} for i, p in enumerate(layers)]
    optimizer = optim.AdamW(groups, lr=1e-3)
    for group in optimizer.param_groups: group['lr'] = 1e-3 * group['lr_scale']
    gradient(layers)
    optimizer.step()
    assert [g['name'] for g in optimizer.param_groups] == ['layer 0', 'layer 1']
    saved = optimizer.state_dict()
    assert [g['lr_scale'] for g in saved['param_groups']] == [1, 0.5]
    fresh = optim.AdamW([{'params': [p]} for p in layers])
    fresh.load_state_dict(saved)
    assert [(g['name'], g['lr']) for g in fresh.param_groups] == [('layer 0', 1e-3), ('layer 1', 5e-4)]


def test_unfreeze_in_mid_training():
    backbone, head = [Parameter(np.ones(3))], [Parameter(np.ones(2))]
    optimizer = optim.Adam(head, lr=1e-3)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    for epoch in range(4):
        if epoch == 2: optimizer.add_param_group({'params': backbone, 'lr': 1e-4})
        optimizer.zero_grad()
        gradient(head + backbone, epoch)
        optimizer.step()
        scheduler.step()
    assert optimizer.state[head[0]]["step"] == 4 and optimizer.state[backbone[0]]["step"] == 2
    assert scheduler.get_last_lr() == [2.5e-4, 5e-5] and (backbone[0].data != 1).all()


def test_a_training_loop():
    "A classifier on separable data, written exactly as for PyTorch."
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    y = (x @ [1.0, -2.0] > 0).astype(int)
    w1, b1 = Parameter(rng.normal(size=(2, 16)) / 2), Parameter(np.zeros(16))
    w2, b2 = Parameter(rng.normal(size=(16, 2)) / 4), Parameter(np.zeros(2))
    optimizer = optim.AdamW([w1, b1, w2, b2], lr=0.05)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=20, gamma=0.3)
    for epoch in range(50):
        optimizer.zero_grad()
        logits = (x @ w1 + b1).relu() @ w2 + b2
        loss = -logits.log_softmax(1)[np.arange(200), y].mean()
        loss.backward()
        optimizer.step()
        scheduler.step()
    assert loss.item() < 0.05 and (logits.argmax(1) == y).mean() > 0.98
    assert scheduler.get_last_lr() == pytest.approx([0.05 * 0.3**2])
