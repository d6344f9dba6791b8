"""The monitors amid mixed precision, data-parallel training, and tensors of other kinds."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")
from torch import nn

from gradlint.verify import GradientGainMonitor, assert_gradients_flow, audit, verify_isolation
from gradlint.verify.monitors.scalars import measure, read
from gradlint.verify.monitors.stepping import is_step


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.host, self.seed = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        host = self.host(x)
        return host + self.seed(host.detach())


@pytest.fixture
def process_group(tmp_path):
    if not torch.distributed.is_available():
        pytest.skip("torch without distributed")
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_distributed_data_parallel(process_group):
    torch.manual_seed(0)
    net = Net()
    net.host.requires_grad_(False)
    model = nn.parallel.DistributedDataParallel(net)
    optimizer = torch.optim.SGD(net.seed.parameters(), lr=0.1)
    x = torch.randn(3, 4)
    result = audit(model, optimizer, x)
    assert result.ok
    assert [row.name for row in result.rows] == ["host.weight", "host.bias", "seed.weight", "seed.bias"]
    assert verify_isolation(model, "host", x, optimizer)
    with GradientGainMonitor([net.host, net.seed]) as monitor:
        model(x).sum().backward()
        assert monitor.norms()[0] is None and monitor.norms()[1] is not None


def test_mixed_precision_with_a_scaler():
    torch.manual_seed(0)
    model = Net()
    model.host.requires_grad_(False)
    optimizer = torch.optim.SGD(model.seed.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    x = torch.randn(3, 4)

    def step():
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(x).float().square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss

    before = scaler.state_dict()
    with GradientGainMonitor([model.host, model.seed]) as monitor:
        result = audit(model, optimizer, step, also=[scaler])
        assert result.ok
        assert monitor.norms()[1] > 0
    assert scaler.state_dict() == before
    # The norms are those that the optimizer saw, the scale taken out.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(x).float().square().mean().backward()
    seen = {row.name: row.seen.gradient_norm for row in result.rows}
    assert seen["seed.weight"] == pytest.approx(model.seed.weight.grad.norm().item(), rel=1e-2)


def test_compiled_model_in_assertions():
    model = Net()
    compiled = torch.compile(model, backend="eager")
    x = torch.randn(3, 4)
    try:
        compiled(x)  # compiled before there is any hook
        assert_gradients_flow(compiled, x, trains=["host", "seed"], isolated=[("seed", "host")])
    finally:
        torch._dynamo.reset()


@pytest.mark.parametrize(
    ("tensor", "norms"),
    [
        (torch.tensor([3.0, -4.0]), {"l2": 5, "l1": 7, "linf": 4, "mean": 7}),
        (torch.tensor([3 + 4j, 0j]), {"l2": 5, "l1": 5, "linf": 5, "mean": 5}),
        (torch.tensor([3.0, -4.0], dtype=torch.float64), {"l2": 5, "l1": 7, "linf": 4, "mean": 7}),
        (torch.tensor([3.0, -4.0], dtype=torch.bfloat16), {"l2": 5, "l1": 7, "linf": 4, "mean": 7}),
        (torch.tensor([]), {"l2": 0, "l1": 0, "linf": 0, "mean": 0}),
        (torch.tensor([[0.0, 3.0], [4.0, 0.0]]).to_sparse(), {"l2": 5, "l1": 7, "linf": 4, "mean": 7}),
    ],
)
def test_norms_of_tensors_of_other_kinds(tensor, norms):
    assert {kind: read([measure(tensor, kind)])[0] for kind in norms} == pytest.approx(norms)


def test_sixteen_bit_norms_are_kept_in_more():
    assert all(
        measure(torch.ones(2, dtype=torch.float16), kind).dtype == torch.float32 for kind in ("l2", "l1", "linf", "mean")
    )


def test_reading_keeps_the_order_over_kinds_of_numbers():
    scalars = [torch.tensor(1.0), torch.tensor(2.0, dtype=torch.float64), torch.tensor(3.0), torch.tensor(math.inf)]
    assert read(scalars) == [1, 2, 3, math.inf]
    assert read([]) == []


def test_nested_tensors_are_measured_over_their_values():
    nested = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(5, 3)], layout=torch.jagged)
    assert read([measure(nested, "l2")])[0] == pytest.approx(math.sqrt(21))


def test_what_is_a_step_and_what_is_a_batch():
    class Graph:
        """A batch that can be called and moved, as graph libraries have it."""

        def __call__(self, *keys):
            return iter(keys)

        def to(self, device):
            return self

    class Step:
        def __call__(self):
            pass

    assert is_step(lambda: None) and is_step(Step()) and is_step(print)
    assert not any(map(is_step, (Graph(), torch.ones(1), [1], {"x": 1}, None)))


def test_modules_keep_their_own_hooks_and_attributes():
    model = Net()
    calls = []
    model.host.register_forward_hook(lambda *_: calls.append(1))
    model.counter = 3
    audit(model, torch.optim.SGD(model.parameters(), lr=0.1), torch.randn(2, 4))
    assert calls and model.counter == 3
    assert len(model.host._forward_hooks) == 1


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.cells, self.out = nn.Embedding(9, 6), nn.LSTM(6, 6, 2, bidirectional=True), nn.Linear(12, 9)

    def forward(self, ids):
        return self.out(self.cells(self.words(ids))[0])


class Experts(nn.Module):
    """Routes each row to one expert, so that a batch may leave some without gradient."""

    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(8, 4), nn.ModuleList([nn.Linear(8, 8) for _ in range(4)])

    def forward(self, x):
        weights = self.gate(x).softmax(-1)
        chosen, out = weights.argmax(-1), torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            rows = chosen == index
            if rows.any():
                out[rows] = expert(x[rows]) * weights[rows, index : index + 1]
        return out


def convolutional():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4), nn.GELU()
    )


def parametrized():
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    return nn.Sequential(normed, nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)))


HEALTHY = {
    "recurrent": (Recurrent, lambda: torch.randint(0, 9, (5, 3))),
    "experts": (Experts, lambda: torch.randn(3, 8)),
    "encoder": (lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2), lambda: torch.randn(3, 2, 8)),
    "sequence to sequence": (lambda: nn.Transformer(8, 2, 1, 1, 16), lambda: (torch.randn(3, 2, 8), torch.randn(4, 2, 8))),
    "convolutional": (convolutional, lambda: torch.randn(2, 3, 8, 8)),
    "parametrized": (parametrized, lambda: torch.randn(3, 4)),
}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_healthy_models_have_no_problem(name, make):
    torch.manual_seed(0)
    build, data = HEALTHY[name]
    model = build()
    result = audit(model, make(model.parameters(), lr=1e-2), data())
    assert result.problems == ()
    assert sum(group.moved for group in result.groups) > 0
