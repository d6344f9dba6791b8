"""assert_gradients_flow: what should train, what should stand still, and what should not reach what."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from gradlint.verify import Audit, GradientFlowError, assert_gradients_flow


class TwoHeads(nn.Module):
    """An encoder, a main head and an auxiliary one, whose input is detached or not."""

    def __init__(self, detach=True):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        self.main_head, self.aux_head = nn.Linear(4, 2), nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.ones(()))
        self.detach = detach

    def forward(self, x):
        features = self.encoder(x) * self.scale
        aux = self.aux_head(features.detach() if self.detach else features)
        return self.main_head(features).square().mean() + aux.square().mean()


def batch():
    return torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


def breaches(*arguments, **options):
    with pytest.raises(GradientFlowError) as caught:
        assert_gradients_flow(*arguments, **options)
    assert isinstance(caught.value, AssertionError)
    assert all(breach in str(caught.value) for breach in caught.value.breaches)
    return list(caught.value.breaches)


def test_everything_that_requires_grad_must_get_it_by_default():
    model = TwoHeads()
    assert isinstance(assert_gradients_flow(model, batch()), Audit)
    model.unused = nn.Linear(3, 3)
    assert breaches(model, batch()) == ["`unused.*` (2 tensors) gets no gradient"]
    model.unused.requires_grad_(False)
    assert_gradients_flow(model, batch())


@pytest.mark.parametrize("trains", ["encoder", ["encoder", "main_head", "scale"], "*_head", "encoder.0.weight"])
def test_what_trains(trains):
    model = TwoHeads()
    assert_gradients_flow(model, batch(), trains=trains, optimizer=torch.optim.Adam(model.parameters()))


def test_why_it_does_not_train():
    model = TwoHeads()
    optimizer = torch.optim.Adam(model.main_head.parameters())
    assert breaches(model, batch(), trains=["encoder", "main_head"], optimizer=optimizer) == [
        "`encoder.*` (2 tensors) is in no optimizer"
    ]
    model.encoder.requires_grad_(False)
    assert breaches(model, batch(), trains="encoder") == ["`encoder.*` (2 tensors) is frozen: requires_grad is False"]

    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.encoder(x).detach()).square().mean()

    assert breaches(Cut(), batch(), trains=["encoder", "head"]) == ["`encoder.*` (2 tensors) gets no gradient"]


def test_a_gradient_of_zero_trains_nothing_unless_it_is_the_beginning():
    class Gate(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.seed, self.alpha, self.factor = nn.Linear(4, 4), nn.Parameter(torch.zeros(())), factor

        def forward(self, x):
            return (x + self.alpha * self.factor * self.seed(x)).square().mean() + self.alpha

    assert_gradients_flow(Gate(1.0), batch(), trains="seed")
    assert breaches(Gate(0.0), batch(), trains="seed") == ["`seed.*` (2 tensors) gets only a gradient of zero"]


def test_a_learning_rate_of_zero_is_no_breach_and_a_lost_update_is():
    model = TwoHeads()
    assert_gradients_flow(model, batch(), trains="encoder", optimizer=torch.optim.SGD(model.parameters(), lr=0.0))
    low = TwoHeads()
    with torch.no_grad():
        low.main_head.weight.fill_(100.0)
    groups = [{"params": low.main_head.parameters(), "lr": 1e-9}, {"params": low.encoder.parameters()}]
    groups += [{"params": [*low.aux_head.parameters(), low.scale]}]
    found = breaches(low, batch(), trains="main_head.weight", optimizer=torch.optim.Adam(groups, lr=1e-2))
    assert found == ["`main_head.weight` did not move"]


def test_what_is_frozen():
    model = TwoHeads()
    found = breaches(model, batch(), frozen="encoder")
    assert found == ["`encoder.*` (2 tensors) is to be frozen and gets a gradient"]
    model.encoder.requires_grad_(False)
    model.encoder.append(nn.BatchNorm1d(4, affine=False))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    found = breaches(model, batch(), frozen="encoder", trains="main_head", optimizer=optimizer)
    assert len(found) == 3
    assert found[0].startswith("`encoder.2.running_mean` is to be frozen and its buffer changed, by up to ")
    model.encoder.eval()
    assert_gradients_flow(model, batch(), frozen="encoder", trains="main_head", optimizer=optimizer)


def test_what_is_frozen_and_moves_by_decay():
    model = TwoHeads()
    model.encoder.requires_grad_(False)
    for parameter in model.encoder.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)

    def step():
        optimizer.zero_grad(set_to_none=False)
        model(batch()).backward()
        optimizer.step()

    assert breaches(model, step, frozen="encoder", optimizer=optimizer) == ["`encoder.*` (2 tensors) is to be frozen and moved"]


def test_a_step_that_sends_nothing_shows_nothing():
    model = TwoHeads()
    assert "shows nothing" in breaches(model, lambda: None, frozen="encoder")[0]


def test_what_is_isolated():
    assert_gradients_flow(TwoHeads(detach=True), batch(), isolated=[("aux_head", "encoder")])
    found = breaches(TwoHeads(detach=False), batch(), isolated=[("aux_head", "encoder"), ("aux_head", "main_head")])
    assert found == ["gradient goes from `aux_head` to `encoder.*`"]
    # The main head is connected in both, and a single parameter is a part too.
    assert breaches(TwoHeads(), batch(), isolated=[("main_head", "scale")]) == ["gradient goes from `main_head` to `scale`"]


def test_isolation_sees_modules_given_as_such_and_training_steps():
    model = TwoHeads(detach=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step():
        optimizer.zero_grad()
        model(batch()).backward()
        optimizer.step()

    assert breaches(model, step, isolated=[(model.aux_head, model.encoder)]) == ["gradient goes from `aux_head` to `encoder.*`"]


def test_a_module_that_was_not_called_shows_nothing():
    model = TwoHeads()
    model.spare = nn.Linear(4, 2)
    (found,) = breaches(model, batch(), isolated=[("spare", "encoder")])
    assert found == "`spare` was not called in the step, so nothing shows that `encoder` is isolated from it"


class Checkpointed(TwoHeads):
    def __init__(self, where, reentrant, detach):
        super().__init__(detach)
        self.where, self.reentrant = where, reentrant

    def forward(self, x):
        def run(name, value):
            part = getattr(self, name)
            return checkpoint(part, value, use_reentrant=self.reentrant) if self.where == name else part(value)

        features = run("encoder", x.clone().requires_grad_()) * self.scale
        aux = run("aux_head", features.detach().requires_grad_() if self.detach else features)
        return self.main_head(features).square().mean() + aux.square().mean()


@pytest.mark.parametrize("where", ["encoder", "aux_head"])
def test_checkpoints_that_keep_the_graph_are_seen_through(where):
    pair = [("aux_head", "encoder")]
    assert_gradients_flow(Checkpointed(where, False, True), batch(), isolated=pair)
    assert breaches(Checkpointed(where, False, False), batch(), isolated=pair) == [
        "gradient goes from `aux_head` to `encoder.*`"
    ]


@pytest.mark.parametrize("where", ["encoder", "aux_head"])
def test_reentrant_checkpoints_hide_the_graph_and_that_is_said(where):
    (found,) = breaches(Checkpointed(where, True, False), batch(), isolated=[("aux_head", "encoder")])
    assert found.startswith("reentrant checkpointing hides whether gradient goes from `aux_head` to `encoder`")


def test_the_patterns_of_blending():
    class Blend(nn.Module):
        def __init__(self, option):
            super().__init__()
            self.host, self.seed, self.option = nn.Linear(4, 4), nn.Linear(4, 4), option

        def forward(self, x, target):
            host = self.host(x)
            if self.option == "B":
                host = host.detach()
            seed = self.seed(host.detach() if self.option == "A" else host)
            return F.mse_loss(0.7 * host + 0.3 * seed, target)

    data = (batch(), batch())
    assert_gradients_flow(Blend("A"), data, trains=["host", "seed"], isolated=[("seed", "host")])
    assert_gradients_flow(Blend("B"), data, trains="seed", frozen="host", isolated=[("seed", "host")])
    assert_gradients_flow(Blend("C"), data, trains=["host", "seed"])
    assert breaches(Blend("C"), data, isolated=[("seed", "host")]) == ["gradient goes from `seed` to `host.*`"]


def test_selections_that_make_no_sense():
    with pytest.raises(ValueError, match="is no module"):
        assert_gradients_flow(TwoHeads(), batch(), isolated=[("scale", "encoder")])
    with pytest.raises(ValueError, match="did you mean `encoder`"):
        assert_gradients_flow(TwoHeads(), batch(), trains="encodr")
    with pytest.raises(ValueError, match="selection is empty"):
        assert_gradients_flow(TwoHeads(), batch(), trains=[])
    with pytest.raises(TypeError, match="not of int"):
        assert_gradients_flow(TwoHeads(), batch(), trains=[3])
    with pytest.raises(ValueError, match="no parameters that a gradient could reach"):
        assert_gradients_flow(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), batch(), isolated=[("0", "1")])


def test_hooks_are_gone_and_state_is_back():
    model = TwoHeads()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    breaches(
        model, batch(), frozen="encoder", isolated=[("main_head", "encoder")], optimizer=torch.optim.Adam(model.parameters())
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(not module._forward_hooks for module in model.modules())


def test_shared_parameters_belong_to_both_names():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids):
            return self.head(self.embed(ids)).square().mean()

    assert_gradients_flow(Tied(), torch.tensor([1, 2]), trains="head")
    assert breaches(Tied(), torch.tensor([1, 2]), frozen="head") == ["`embed.weight` is to be frozen and gets a gradient"]
