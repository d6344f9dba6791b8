"""verify_isolation: what it catches, and that everything is put back."""

from __future__ import annotations

import copy
import random

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F
from torch import nn

from gradlint.verify import Isolation, IsolationError, verify_isolation
from gradlint.verify.monitors.snapshot import Snapshot, largest_difference


class Blended(nn.Module):
    """A host and a seed that corrects it."""

    def __init__(self, normalised=False, detach=True):
        super().__init__()
        layers = [nn.Linear(6, 6), nn.BatchNorm1d(6)] if normalised else [nn.Linear(6, 6)]
        self.host = nn.Sequential(*layers)
        self.seed = nn.Linear(6, 6)
        self.detach = detach
        self.seen = 0

    def forward(self, x, target):
        self.seen += 1
        host = self.host(x)
        seed = self.seed(host.detach() if self.detach else host)
        return F.mse_loss(host.detach() + seed if self.detach else host + seed, target)


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(5, 6, generator=generator), torch.randn(5, 6, generator=generator)


def state(model, optimizer=None):
    found = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found |= {f"{name}.grad": p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    if optimizer is not None:
        for index, each in enumerate(optimizer.state_dict()["state"].values()):
            found |= {f"{index}.{key}": value.clone() for key, value in each.items() if isinstance(value, torch.Tensor)}
    return found


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_frozen_host_stays():
    model = Blended()
    model.host.requires_grad_(False)
    optimizer = torch.optim.Adam(model.seed.parameters())
    result = verify_isolation(model, "host", batch(), optimizer)
    assert isinstance(result, Isolation)
    assert result and result.isolated
    assert (result.parameters, result.buffers, result.trained, result.notes) == (2, 0, 2, ())
    assert "stayed as it is (2 parameters, 0 buffers); 2 parameters of the rest moved" in str(result)


def test_a_host_that_trains_is_named_with_the_largest_difference():
    model = Blended(detach=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(IsolationError) as caught:
        verify_isolation(model, "host", batch(), optimizer)
    assert isinstance(caught.value, AssertionError)
    twin = copy.deepcopy(model)
    twin(*batch()).backward()
    largest = twin.host[0].weight.grad.abs().max().item()
    changes = {(each.name, each.kind): each.amount for each in caught.value.result.changes}
    assert set(changes) == {(f"host.0.{name}", kind) for name in ("weight", "bias") for kind in ("parameter", "gradient")}
    assert changes["host.0.weight", "gradient"] == pytest.approx(largest, rel=1e-5)
    assert changes["host.0.weight", "parameter"] == pytest.approx(0.1 * largest, rel=1e-4)
    assert f"parameter host.0.weight moved, max difference {0.1 * largest:.3e}" in str(caught.value)


def test_result_without_raising():
    model = Blended(detach=False)
    result = verify_isolation(model, "host", batch(), torch.optim.SGD(model.parameters(), lr=0.1), check=False)
    assert not result
    assert result.as_dict()["changes"][0]["name"] == "host.0.weight"


def test_batch_normalisation_drifts_though_frozen():
    model = Blended(normalised=True)
    model.host.requires_grad_(False)
    optimizer = torch.optim.SGD(model.seed.parameters(), lr=0.1)
    with pytest.raises(IsolationError, match=r"buffer host\.1\.running_mean changed, max difference"):
        verify_isolation(model, model.host, batch(), optimizer)
    model.host.eval()
    assert verify_isolation(model, model.host, batch(), optimizer)


def test_gradient_that_arrives_counts_even_where_the_optimizer_ignores_it():
    model = Blended(detach=False)
    optimizer = torch.optim.SGD(model.seed.parameters(), lr=0.1)
    result = verify_isolation(model, "host", batch(), optimizer, check=False)
    assert {each.kind for each in result.changes} == {"gradient"}


def test_gradient_that_the_step_clears_itself_is_seen():
    model = Blended(detach=False)
    optimizer = torch.optim.SGD(model.seed.parameters(), lr=0.1)

    def step():
        model(*batch()).backward()
        optimizer.step()
        model.zero_grad()

    assert not verify_isolation(model, "host", step, optimizer, check=False)


def test_decay_moves_what_holds_a_gradient_of_zeros():
    model = Blended()
    model.host.requires_grad_(False)
    for parameter in model.host.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)

    def step():
        optimizer.zero_grad(set_to_none=False)
        model(*batch()).backward()
        optimizer.step()

    result = verify_isolation(model, "host", step, optimizer, check=False)
    assert {(each.name, each.kind) for each in result.changes} >= {("host.0.weight", "parameter")}
    assert all(each.kind == "parameter" for each in result.changes)


def test_tolerance():
    model = Blended(detach=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    model.host.requires_grad_(False)
    with torch.no_grad():
        model.host[0].weight.fill_(0.5)

    def step():
        model(*batch()).backward()
        optimizer.step()
        with torch.no_grad():
            model.host[0].weight.add_(2**-20)

    assert not verify_isolation(model, "host", step, optimizer, check=False)
    assert verify_isolation(model, "host", step, optimizer, atol=1e-5)


def test_not_a_number_is_no_tolerable_difference():
    model = Blended(detach=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1)
    x, target = batch()
    assert not verify_isolation(model, "host", (x * float("nan"), target), optimizer, atol=1e6, check=False)


@pytest.mark.parametrize("frozen", ["host", "host.*", "ho*", ["host.0.weight", "host.0.bias"]])
def test_ways_to_name_a_part(frozen):
    model = Blended()
    model.host.requires_grad_(False)
    assert verify_isolation(model, frozen, batch(), torch.optim.SGD(model.seed.parameters(), lr=0.1)).parameters == 2


def test_a_name_that_fits_nothing_suggests():
    model = Blended()
    with pytest.raises(ValueError, match=r"`hots`.*did you mean `host`"):
        verify_isolation(model, "hots", batch())
    with pytest.raises(ValueError, match="not a part of the model"):
        verify_isolation(model, nn.Linear(2, 2), batch())


def test_a_name_is_no_substring():
    model = nn.ModuleDict({"enc": nn.Linear(2, 2), "encoder": nn.Linear(2, 2)})

    def step():
        model["encoder"](model["enc"](torch.ones(1, 2)).detach()).sum().backward()

    assert verify_isolation(model, "enc", step).parameters == 2


def test_a_step_without_any_gradient_proves_nothing():
    model = Blended()
    model.host.requires_grad_(False)
    with pytest.raises(ValueError, match="no gradient to any parameter"):
        verify_isolation(model, "host", lambda: None, torch.optim.SGD(model.seed.parameters(), lr=0.1))
    model.seed.requires_grad_(False)
    with pytest.raises(ValueError, match="The loss has no graph"):
        verify_isolation(model, "host", batch())


def test_learning_rate_of_zero_is_noted():
    model = Blended()
    model.host.requires_grad_(False)
    result = verify_isolation(model, "host", batch(), torch.optim.SGD(model.seed.parameters(), lr=0.0))
    assert any("learning rate" in note for note in result.notes)


def test_without_optimizer_descent_stands_in():
    model = Blended(detach=False)
    result = verify_isolation(model, "host", batch(), check=False)
    assert {each.kind for each in result.changes} == {"parameter", "gradient"}
    assert any("stood in" in note for note in result.notes)


def test_loss_from_a_function_and_from_the_output():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    net[0].requires_grad_(False)
    optimizer = torch.optim.SGD(net[1].parameters(), lr=0.1)
    data = (torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
    result = verify_isolation(net, "0", data, optimizer, loss=F.cross_entropy)
    assert result.loss == pytest.approx(F.cross_entropy(net(data[0]), data[1]).item())
    projected = verify_isolation(net, "0", data[0], optimizer)
    assert any("random projection" in note for note in projected.notes)
    with pytest.raises(ValueError, match="holds the model's inputs and then the target"):
        verify_isolation(net, "0", data[0], optimizer, loss=F.cross_entropy)


class WithLoss(nn.Module):
    def __init__(self, pack):
        super().__init__()
        self.host, self.head, self.pack = nn.Linear(3, 3), nn.Linear(3, 3), pack

    def forward(self, x):
        return self.pack(self.head(self.host(x).detach()).square().mean())


@pytest.mark.parametrize(
    "pack", [lambda v: v, lambda v: (v, 3), lambda v: {"logits": None, "loss": v}, lambda v: [v, v.detach()]]
)
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x,), lambda x: {"x": x}])
def test_loss_and_batch_in_containers(pack, wrap):
    torch.manual_seed(0)
    model = WithLoss(pack)
    x = torch.randn(2, 3)
    result = verify_isolation(model, "host", wrap(x), torch.optim.SGD(model.parameters(), lr=0.1))
    assert result.loss == pytest.approx(model.head(model.host(x)).square().mean().item())
    assert not any("projection" in note for note in result.notes)


def test_several_optimizers():
    model = Blended(detach=False)
    optimizers = [torch.optim.SGD(model.seed.parameters(), lr=0.1), torch.optim.Adam(model.host.parameters())]
    result = verify_isolation(model, "host", batch(), optimizers, check=False)
    assert {each.kind for each in result.changes} == {"parameter", "gradient"}


def test_data_parallel_and_compiled_names_are_those_people_know():
    model = Blended()
    model.host.requires_grad_(False)
    optimizer = torch.optim.SGD(model.seed.parameters(), lr=0.1)
    assert verify_isolation(nn.DataParallel(model), "host", batch(), optimizer).parameters == 2
    compiled = torch.compile(model, backend="eager")
    try:
        assert verify_isolation(compiled, "host", batch(), optimizer).parameters == 2
    finally:
        torch._dynamo.reset()


# Putting back -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad]
)
@pytest.mark.parametrize("warm", [False, True])
def test_model_optimizer_and_generators_are_put_back(make, warm):
    torch.manual_seed(0)
    model = Blended(normalised=True, detach=False)
    optimizer = make(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1)
    if warm:
        model(*batch(1)).backward()
        optimizer.step()
        scheduler.step()

    def step():
        optimizer.zero_grad()
        random.random()
        torch.rand(3)
        model.eval()
        model.host[0].bias.requires_grad_(False)
        loss = model(*batch())
        loss.backward()
        optimizer.step()
        scheduler.step()
        return loss

    model.train()
    before, seen, rate = state(model, optimizer), model.seen, optimizer.param_groups[0]["lr"]
    grads, held = [p.grad for p in model.parameters()], len(optimizer.state)
    dice = (random.getstate(), torch.get_rng_state())
    verify_isolation(model, "host", step, optimizer, also=[scheduler], check=False)
    assert equal(before, state(model, optimizer))
    assert len(optimizer.state) == held
    assert all(p.grad is grad for p, grad in zip(model.parameters(), grads, strict=True))
    assert model.training and model.host[1].training
    assert all(p.requires_grad for p in model.parameters())
    assert (model.seen, optimizer.param_groups[0]["lr"]) == (seen, rate)
    assert random.getstate() == dice[0]
    assert torch.equal(torch.get_rng_state(), dice[1])
    # And training goes on as if nothing had been.
    twin_loss = model(*batch(2))
    assert torch.isfinite(twin_loss)


def test_training_after_a_check_is_bit_for_bit_what_it_would_have_been():
    def train(check):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 1))
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(3):
            if check:
                verify_isolation(model, "0", batch()[0], optimizer, check=False)
            optimizer.zero_grad()
            model(batch()[0]).square().mean().backward()
            optimizer.step()
        return state(model, optimizer)

    assert equal(train(False), train(True))


def test_everything_is_put_back_after_an_error():
    model = Blended(normalised=True, detach=False)
    optimizer = torch.optim.Adam(model.parameters())

    def step():
        model(*batch()).backward()
        optimizer.step()
        raise KeyError("broken")

    before = state(model, optimizer)
    with pytest.raises(KeyError, match="broken"):
        verify_isolation(model, "host", step, optimizer)
    assert equal(before, state(model, optimizer))
    assert all(not p._backward_hooks for p in model.parameters())
    assert not optimizer._optimizer_step_pre_hooks


def test_parts_that_the_step_replaces_come_back():
    model = Blended()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seed, buffer = model.seed, torch.zeros(2)
    model.register_buffer("average", buffer)

    def step():
        model(*batch()).backward()
        model.seed = nn.Linear(6, 6)
        model.average = torch.ones(2)
        model.extra = nn.Linear(1, 1)
        optimizer.add_param_group({"params": list(model.seed.parameters())})

    verify_isolation(model, "host", step, optimizer)
    assert model.seed is seed
    assert model.average is buffer and torch.equal(buffer, torch.zeros(2))
    assert not hasattr(model, "extra")
    assert [name for name, _ in model.named_children()] == ["host", "seed"]
    assert len(optimizer.param_groups) == 1


def test_a_replaced_parameter_of_another_shape_is_a_change():
    model = Blended()

    def step():
        model(*batch()).backward()
        model.host[0] = nn.Linear(6, 7)

    result = verify_isolation(model, "host", step, check=False)
    assert result.changes[0].amount == float("inf")


def test_lazy_and_meta_parameters_are_refused():
    with pytest.raises(ValueError, match=r"`0\.weight` has no value yet"):
        verify_isolation(nn.Sequential(nn.LazyLinear(2)), "0", torch.ones(1, 2))
    with pytest.raises(ValueError, match="meta device"):
        Snapshot(nn.Linear(2, 2, device="meta"))


def test_a_module_is_no_step_and_a_step_has_its_own_loss():
    with pytest.raises(TypeError, match="neither a batch nor a training step"):
        verify_isolation(Blended(), "host", nn.Linear(2, 2))
    with pytest.raises(TypeError, match="computes its own loss"):
        verify_isolation(Blended(), "host", lambda: None, loss=F.mse_loss)
    with pytest.raises(TypeError, match="no optimizer"):
        verify_isolation(Blended(), "host", batch(), optimizer=object())


def test_snapshot_as_a_context():
    model = nn.Linear(2, 2)
    weight = model.weight.detach().clone()
    with pytest.raises(ZeroDivisionError), Snapshot(model):
        with torch.no_grad():
            model.weight.zero_()
        raise ZeroDivisionError
    assert torch.equal(model.weight, weight)


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.5),
        ([float("nan")], [float("nan")], 0.0),
        ([float("inf")], [float("inf")], 0.0),
        ([float("nan")], [1.0], float("inf")),
        ([1, 2], [1, 5], 3.0),
        ([True], [False], 1.0),
        ([1.0], [1.0, 2.0], float("inf")),
        ([], [], 0.0),
        ([1 + 1j], [1 - 1j], 2.0),
    ],
)
def test_largest_difference(one, other, difference):
    assert largest_difference(torch.tensor(one), torch.tensor(other)) == difference


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn"])
def test_largest_difference_of_small_numbers(dtype):
    one = torch.tensor([1.0, 2.0]).to(getattr(torch, dtype))
    assert largest_difference(one, torch.tensor([1.0, 4.0]).to(one.dtype)) == 2.0
    assert largest_difference(one, one.clone()) == 0.0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_says_what_the_cpu_says():
    torch.manual_seed(0)
    model = Blended(normalised=True, detach=False)
    names = []
    for device in ("cpu", "cuda"):
        model.to(device)
        data = tuple(each.to(device) for each in batch())
        before, dice = state(model), torch.cuda.get_rng_state()
        result = verify_isolation(model, "host", data, torch.optim.SGD(model.parameters(), lr=0.1), check=False)
        assert equal(before, state(model))
        assert torch.equal(dice, torch.cuda.get_rng_state())
        names.append([(each.name, each.kind) for each in result.changes])
    assert names[0] == names[1]
