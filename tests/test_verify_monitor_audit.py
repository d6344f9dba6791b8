"""The audit: one table of what trains, moves, drifts and is left out."""

from __future__ import annotations

import json
import math

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F
from torch import nn

from gradlint.verify import audit
from gradlint.verify.monitors.kinds import components, covering, kind_of


class LoRA(nn.Module):
    """A frozen linear layer and its low-rank adaptation, whose second factor starts at zero."""

    def __init__(self, width):
        super().__init__()
        self.base_layer = nn.Linear(width, width)
        self.lora_A = nn.Linear(width, 2, bias=False)
        self.lora_B = nn.Linear(2, width, bias=False)
        nn.init.zeros_(self.lora_B.weight)
        self.base_layer.requires_grad_(False)

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(x))


class Encoder(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.embed = nn.Linear(width, width)
        self.layers = nn.ModuleList([LoRA(width) for _ in range(2)])
        self.embed.requires_grad_(False)

    def forward(self, x):
        x = self.embed(x)
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return x


class Contrastive(nn.Module):
    """Two encoders, the first with LoRA, the second frozen, and a projection head each."""

    def __init__(self, cut=False):
        super().__init__()
        self.tile_encoder = Encoder()
        self.methylation_trunk = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.1))
        self.image_projection = nn.Linear(6, 4)
        self.gene_proj = nn.Linear(6, 4)
        self.methylation_trunk.requires_grad_(False)
        self.methylation_trunk.eval()
        self.cut = cut

    def forward(self, image, gene):
        features = self.tile_encoder(image)
        image = F.normalize(self.image_projection(features.detach() if self.cut else features), dim=-1)
        gene = F.normalize(self.gene_proj(self.methylation_trunk(gene)), dim=-1)
        return F.cross_entropy(10 * image @ gene.T, torch.arange(len(image), device=image.device))


def contrastive(cut=False):
    torch.manual_seed(0)
    model = Contrastive(cut)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    return model, optimizer, (torch.randn(5, 6), torch.randn(5, 6))


def groups(result):
    return {(each.part, each.kind): each for each in result.groups}


def texts(remarks):
    return [each.text for each in remarks]


def test_healthy_fine_tuning_in_one_table():
    result = audit(*contrastive())
    assert result.ok and bool(result)
    assert result.problems == ()
    table = groups(result)
    base, lora = table["tile_encoder", "base"], table["tile_encoder", "LoRA"]
    assert (base.tensors, base.trains, base.gradient, base.held, base.moved, base.gradient_norm) == (6, 0, 0, 0, 0, None)
    assert (lora.tensors, lora.size, lora.trains, lora.held, lora.moved) == (4, 48, 4, 4, 4)
    assert lora.gradient == 2  # the first factors wait for the second ones to leave zero
    assert table["image_projection", "projection head"].gradient == 2
    assert table["gene_proj", "projection head"].moved == 2
    trunk = table["methylation_trunk", "base"]
    assert (trunk.trains, trunk.held, trunk.moved, trunk.mode) == (0, 0, 0, "eval")


def test_zero_gradient_is_a_note_when_it_is_only_the_beginning():
    result = audit(*contrastive())
    later = {row.name: row.later for row in result.rows if row.later}
    assert later == {f"tile_encoder.layers.{index}.lora_A.weight": "nonzero" for index in (0, 1)}
    assert any("lora_A" in text and "other numbers" in text for text in texts(result.notes))


def test_zero_gradient_that_stays_zero_is_a_problem():
    class Dead(nn.Module):
        def __init__(self):
            super().__init__()
            self.gated, self.plain, self.gate = nn.Linear(3, 3), nn.Linear(3, 3), nn.Parameter(torch.zeros(()))
            self.branch = nn.Linear(3, 3)

        def forward(self, x):
            return (self.plain(x) + self.gate * self.gated(x) + 0.0 * self.branch(x)).square().mean()

    torch.manual_seed(0)
    model = Dead()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)  # a warm-up that has not begun must not make the gate look dead
    result = audit(model, optimizer, torch.randn(4, 3))
    assert [each.names for each in result.problems] == [("branch.weight", "branch.bias")]
    assert "stays zero" in result.problems[0].text
    assert {name for each in result.notes for name in each.names} >= {"gated.weight", "gated.bias"}
    first = audit(model, optimizer, torch.randn(4, 3), recheck=False)
    assert first.ok
    assert any("exactly zero" in text and "branch.*" in text for text in texts(first.notes))


def test_a_dead_unit_comes_to_life_with_another_input():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[0].bias.zero_()

    x = torch.tensor([[-1.0, -1.0], [-0.5, 3.0]])
    result = audit(model, None, x[:1])
    assert not result.ok  # all inputs like it are negative
    assert audit(model, None, x).ok


def test_cut_encoder_is_named():
    result = audit(*contrastive(cut=True))
    assert not result
    (problem,) = result.problems
    assert set(problem.names) == {f"tile_encoder.layers.{i}.lora_{factor}.weight" for i in (0, 1) for factor in "AB"}
    assert "No gradient arrives" in problem.text
    assert "4 tensors, 48 parameters" in problem.text


def test_trainable_and_in_no_optimizer():
    model, _, batch = contrastive()
    optimizer = torch.optim.SGD(model.image_projection.parameters(), lr=0.1)
    result = audit(model, optimizer, batch)
    (problem,) = result.problems
    assert "Trainable, but in no optimizer" in problem.text
    assert "gene_proj.weight" in problem.names and "image_projection.weight" not in problem.names
    assert "built before" not in problem.text


def test_a_part_replaced_after_the_optimizer_was_built():
    model, optimizer, batch = contrastive()
    model.image_projection = nn.Linear(6, 4)
    result = audit(model, optimizer, batch)
    (problem,) = result.problems
    assert problem.names == ("image_projection.weight", "image_projection.bias")
    assert "was it built before the part was replaced?" in problem.text
    assert any("holds 2 tensors that the model does not have" in text for text in texts(result.notes))


def test_frozen_parameters_that_move_are_a_problem_and_in_the_optimizer_a_note():
    model, _, batch = contrastive()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    result = audit(model, optimizer, batch)
    assert result.ok
    assert any("`methylation_trunk.*`" in text and "Frozen, and in an optimizer" in text for text in texts(result.notes))
    for parameter in model.methylation_trunk.parameters():
        parameter.grad = torch.ones_like(parameter)

    def step():
        model(*batch).backward()
        optimizer.step()

    result = audit(model, optimizer, step)
    (problem,) = result.problems
    assert "`methylation_trunk.*`" in problem.text and "Frozen, but moved" in problem.text
    assert any("left from before" in text for text in texts(result.notes))


def test_buffers_that_drift_in_a_frozen_part():
    model, optimizer, batch = contrastive()
    model.train()
    result = audit(model, optimizer, batch)
    (problem,) = result.problems
    assert set(problem.names) == {
        f"methylation_trunk.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
    }
    drift = {each.name: each.change for each in result.buffers}
    assert f"{max(drift['methylation_trunk.1.running_mean'], drift['methylation_trunk.1.running_var']):.2e}" in problem.text
    assert "Buffers drift in a frozen part" in problem.text
    assert any("Dropout is active in a frozen part: `methylation_trunk.2`" in text for text in texts(result.notes))
    assert groups(result)["methylation_trunk", "base"].mode == "train"


def test_buffers_of_a_part_that_trains_may_move():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    result = audit(model, torch.optim.SGD(model.parameters(), lr=0.1), torch.randn(4, 3))
    assert result.ok
    assert [each.moved for each in result.buffers] == [True] * 3


def test_a_moving_average_teacher_is_no_problem():
    torch.manual_seed(0)
    student, teacher = (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)) for _ in range(2))
    model = nn.ModuleDict({"student": student, "teacher": teacher})
    teacher.requires_grad_(False).eval()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    x = torch.randn(4, 3)

    def step():
        optimizer.zero_grad()
        F.mse_loss(student(x), teacher(x)).backward()
        optimizer.step()
        with torch.no_grad():
            for old, new in zip(teacher.state_dict().values(), student.state_dict().values(), strict=True):
                old.copy_((0.9 * old + 0.1 * new).to(old.dtype)) if old.is_floating_point() else old.copy_(new)

    result = audit(model, optimizer, step)
    assert result.ok
    assert next(row for row in result.rows if row.name == "student.0.bias").seen.change < 1e-6  # only rounding errors reach it
    assert any("`teacher.*`" in text and "moving average" in text for text in texts(result.notes))


def test_nan_gradients_and_losses():
    model, optimizer, (image, gene) = contrastive()
    result = audit(model, optimizer, (image * float("nan"), gene))
    assert any("The loss is nan" in text for text in texts(result.problems))
    assert any("NaN or infinity in the gradient" in text for text in texts(result.problems))
    text = json.dumps(result.as_dict(), allow_nan=False)
    assert json.loads(text)["loss"] == "nan"


def test_parameters_that_are_not_finite():
    model, optimizer, batch = contrastive()
    with torch.no_grad():
        model.methylation_trunk[0].bias[0] = float("inf")
    result = audit(model, optimizer, batch)
    assert any(
        each.names == ("methylation_trunk.0.bias",) and "NaN or infinity in the value" in each.text for each in result.problems
    )


def test_a_loss_without_a_graph():
    model, optimizer, batch = contrastive()
    model.requires_grad_(False)
    result = audit(model, optimizer, batch)
    assert texts(result.problems) == ["The loss has no graph: no gradient can reach anything"]


def test_updates_too_small_for_their_type():
    torch.manual_seed(0)
    model = nn.Linear(4, 4).to(torch.bfloat16)
    with torch.no_grad():
        model.weight.fill_(1.0)
        model.bias.fill_(1.0)
    result = audit(model, torch.optim.SGD(model.parameters(), lr=1e-6), torch.randn(3, 4, dtype=torch.bfloat16))
    (problem,) = result.problems
    assert "but not moved" in problem.text and "too small" in problem.text


def test_no_step_of_the_optimizer_is_a_note():
    model, optimizer, batch = contrastive()
    result = audit(model, optimizer, lambda: model(*batch).backward())
    assert result.ok
    assert any("No optimizer stepped" in text for text in texts(result.notes))


def test_between_backward_and_step_nothing_is_run():
    model, optimizer, batch = contrastive(cut=True)
    model(*batch).backward()
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    result = audit(model, optimizer)
    assert calls == []
    assert not result.ran
    (problem,) = result.problems
    assert "No gradient arrives" in problem.text and len(problem.names) == 4
    assert groups(result)["image_projection", "projection head"].gradient == 2
    assert groups(result)["image_projection", "projection head"].moved is None
    assert "no step was run" in str(result)


def test_before_any_backward_only_switches_and_membership_are_judged():
    model, optimizer, _ = contrastive()
    assert audit(model, optimizer).ok
    assert not audit(model, torch.optim.SGD(model.image_projection.parameters(), lr=0.1)).ok
    unknown = audit(model)
    assert unknown.ok
    assert unknown.groups[0].held is None


def test_gradient_norm_is_that_at_the_optimizer_step():
    model, optimizer, batch = contrastive()

    def step():
        optimizer.zero_grad()
        for _ in range(2):
            (model(*batch) / 2).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        optimizer.step()
        optimizer.zero_grad()

    result = audit(model, optimizer, step)
    assert math.hypot(*(row.seen.gradient_norm or 0 for row in result.rows)) == pytest.approx(1e-3, rel=1e-2)


def test_everything_is_put_back():
    model, optimizer, batch = contrastive()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    dice = torch.get_rng_state()
    audit(model, optimizer, batch)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(dice, torch.get_rng_state())
    assert not optimizer.state
    assert all(p.grad is None for p in model.parameters())
    assert all(not p._backward_hooks for p in model.parameters())


def test_kinds_of_ones_own():
    model, optimizer, batch = contrastive()
    result = audit(model, optimizer, batch, kinds={"heads": ["*_proj*"], "seed": "tile_encoder"})
    assert {(each.part, each.kind) for each in result.groups} == {
        ("tile_encoder", "seed"),
        ("methylation_trunk", "base"),
        ("image_projection", "heads"),
        ("gene_proj", "heads"),
    }


def test_text_of_both_tables():
    result = audit(*contrastive(cut=True))
    text = result.render(parameters=True)
    assert text.splitlines()[0].startswith("18 tensors, 284 parameters, 104 of them trainable (36.6 %); loss ")
    header = text.splitlines()[2].split()
    assert header == [
        "part",
        "kind",
        "tensors",
        "parameters",
        "requires",
        "grad",
        "gradient",
        "optimizer",
        "moved",
        "|grad|",
        "mode",
    ]
    row = next(line for line in text.splitlines() if line.startswith("image_projection  ")).split()
    assert row[:9] == ["image_projection", "projection", "head", "2", "28", "2", "2", "2", "2"]
    assert "\nProblems:\n  No gradient arrives: `tile_encoder.layers.0.lora_A.weight`" in text
    detail = next(line for line in text.splitlines() if line.startswith("tile_encoder.layers.0.lora_A.weight"))
    assert detail.split()[1:3] == ["LoRA", "2×6"]
    assert "none, later none" in detail
    assert "No problem found." in str(audit(*contrastive()))


def test_plain_data_holds_what_the_table_shows():
    result = audit(*contrastive())
    data = json.loads(json.dumps(result.as_dict()))
    assert data["ok"] and data["ran"]
    row = next(each for each in data["parameters"] if each["name"] == "gene_proj.weight")
    assert (row["part"], row["kind"], row["trains"], row["held"], row["gradient"], row["moved"]) == (
        "gene_proj",
        "projection head",
        True,
        True,
        "nonzero",
        True,
    )
    assert row["learning_rate"] == 1e-3
    assert row["gradient_norm"] > 0
    assert {each["name"] for each in data["buffers"]} == {
        f"methylation_trunk.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
    }


def test_varied_batches_stay_valid():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.head, self.unused = nn.Embedding(7, 4), nn.Linear(4, 7), nn.Parameter(torch.ones(1))

        def forward(self, ids, mask, labels=None):
            states = (self.words(ids) * mask.unsqueeze(-1)).sum(1)
            return {"loss": F.cross_entropy(self.head(states), labels)}

    torch.manual_seed(0)
    model = Tokens()
    batch = {"ids": torch.randint(0, 7, (3, 5)), "mask": torch.ones(3, 5, dtype=torch.uint8), "labels": torch.tensor([0, 3, 6])}
    result = audit(model, torch.optim.SGD(model.parameters(), lr=0.1), batch)
    (problem,) = result.problems
    assert problem.names == ("unused",)
    assert not any("could not be repeated" in text for text in texts(result.notes))


def test_a_repetition_that_fails_is_a_note():
    class Picky(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.unused = nn.Linear(2, 2), nn.Parameter(torch.ones(1))

        def forward(self, x):
            if not torch.equal(x, x.round()):
                raise ValueError("whole numbers only")
            return self.linear(x).sum()

    result = audit(Picky(), None, torch.tensor([[1.0, 5.0]]))
    assert [each.names for each in result.problems] == [("unused",)]
    assert any("ValueError: whole numbers only" in text for text in texts(result.notes))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("base_model.model.encoder.layer.0.attention.query.lora_A.default.weight", "LoRA"),
        ("base_model.model.encoder.layer.0.attention.query.base_layer.weight", "base"),
        ("blocks.0.attn.qkv.lora_magnitude_vector.default", "LoRA"),
        ("encoder.layers.1.adapter.down.weight", "adapter"),
        ("encoder.layers.1.adapters.task.up.bias", "adapter"),
        ("model.layers.0.mlp.ia3_l.default", "adapter"),
        ("prompt_encoder.default.embedding.weight", "adapter"),
        ("image_projection.weight", "projection head"),
        ("vision.projector.0.weight", "projection head"),
        ("img_proj.weight", "projection head"),
        ("model.text_projection.weight", "projection head"),
        ("blocks.3.attn.proj.weight", "base"),
        ("patch_embed.proj.weight", "base"),
        ("layers.0.self_attn.out_proj.weight", "base"),
        ("transformer.attention.q_proj.weight", "base"),
        ("head.weight", "head"),
        ("lm_head.weight", "head"),
        ("classifier.bias", "head"),
        ("fc2.bias", "head"),
        ("layers.0.mlp.fc1.weight", "base"),
        ("explorer.weight", "base"),
    ],
)
def test_kind_by_name(name, kind):
    assert kind_of(name) == kind


def test_components_are_as_far_as_names_agree_and_one_word_more():
    assert components(["model.encoder.a.weight", "model.encoder.b.weight", "model.head.weight"]) == {
        "model.encoder.a.weight": "model.encoder",
        "model.encoder.b.weight": "model.encoder",
        "model.head.weight": "model.head",
    }
    assert components(["weight", "bias"]) == {"weight": "weight", "bias": "bias"}
    assert components([]) == {}


def test_covering_names_the_whole_where_all_of_it_is_meant():
    universe = ["a.x.w", "a.x.b", "a.y.w", "b.w", "c"]
    assert covering(["a.x.w", "a.x.b"], universe) == ["a.x.*"]
    assert covering(["a.x.w", "a.x.b", "a.y.w", "c"], universe) == ["a.*", "c"]
    assert covering(["b.w", "a.y.w"], universe) == ["a.y.w", "b.w"]
    assert covering([], universe) == []
    assert covering(["a"], ["a", "a.b"]) == ["a"]


def test_dropped_imports_of_torch():
    import subprocess
    import sys

    code = "import sys, gradlint.verify, gradlint.verify.monitors.pytest_plugin as p; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_says_what_the_cpu_says():
    model, optimizer, batch = contrastive(cut=True)
    here = audit(model, optimizer, batch)
    model.cuda()
    there = audit(model, optimizer, tuple(each.cuda() for each in batch))
    assert texts(here.problems) == texts(there.problems)
    assert [(each.part, each.trains, each.gradient, each.held, each.moved) for each in here.groups] == [
        (each.part, each.trains, each.gradient, each.held, each.moved) for each in there.groups
    ]
