"""The rows: they keep the schema, name things that exist, and say what PyTorch does."""

from __future__ import annotations

import fnmatch
import importlib
import inspect
import json
import pickle
import time
import tomllib
import warnings
from pathlib import Path
from typing import Any

import pytest

from gradlint.knowledge import Knowledge, KnowledgeError, Row, load, loader

FILES = sorted(path for path in Path(loader.__file__).parent.glob("*.toml") if path.stem != "index")
TORCH_ROWS = [row for row in load().rows() if row.name.startswith("torch.") and row.effect != "framework"]
NAMED = [row for row in TORCH_ROWS if "*" not in row.name]
PROBED = [row for row in NAMED if row.get("probe")]


def extra(tmp_path: Path, text: str) -> Knowledge:
    """The knowledge with one more file of the given text."""
    path = tmp_path / "ours.toml"
    path.write_text(text, encoding="utf-8")
    return Knowledge([path])


# --- what ships ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_file_keeps_the_schema_and_is_indexed(path: Path) -> None:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    loader.check(str(path), content)
    index = loader._index()
    for section in ("api", "framework"):
        for name, table in content.get(section, {}).items():
            for one in (name, *table.get("also", ())):
                root = one.partition(".")[0]
                assert path.stem in index.get(root, ()), f"index.toml does not send {root} to {path.stem}"


def test_no_name_is_told_twice() -> None:
    places: dict[str, str] = {}
    for path in FILES:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        for name, table in content.get("api", {}).items():
            for one in (name, *table.get("also", ())):
                assert one not in places, f"{one} stands in {places[one]} and in {path.stem}"
                places[one] = path.stem


def test_index_names_only_files_that_exist() -> None:
    stems = {path.stem for path in FILES}
    named = {stem for stems_of_root in loader._index().values() for stem in stems_of_root}
    assert named == stems


def test_bases_have_rows() -> None:
    knowledge = load()
    for row in list(knowledge.rows()):
        for base in row.bases:
            assert knowledge.get(base) is not None, f"{row.name}: base {base} has no row"


def test_every_row_is_plain_json() -> None:
    for row in load().rows():
        assert json.loads(json.dumps(row.as_json()))["name"] == row.name


def test_rows_of_torch_load_quickly() -> None:
    loader._built_in.cache_clear()
    start = time.process_time()
    Knowledge().get("torch.Tensor.detach")
    assert time.process_time() - start < 0.5  # about 0.015 s here; the bound only catches a change of kind


def test_a_library_loads_only_when_asked_for() -> None:
    loader._built_in.cache_clear()
    Knowledge().get("numpy.mean")
    assert loader._built_in.cache_info().currsize == 1


# --- look-up ---------------------------------------------------------------------------------------------------------------


def effect(row: Row | None) -> str | None:
    return row.effect if row else None


def test_exact_alias_and_unknown_names() -> None:
    knowledge = load()
    assert effect(knowledge.get("torch.Tensor.detach")) == "cut"
    assert knowledge.get("torch.Tensor.no_such_thing") is None
    assert knowledge.get("our_package.helper") is None
    assert knowledge.get("torch") is None
    for alias, name in {
        "torch.nn.modules.linear.Linear": "torch.nn.Linear",
        "torch.nn.modules.module.Module.eval": "torch.nn.Module.eval",
        "torch.optim.adam.Adam": "torch.optim.Adam",
        "torch.optim.lr_scheduler.StepLR": "torch.optim.lr_scheduler.StepLR",
        "torch.optim.swa_utils.AveragedModel": "torch.optim.swa_utils.AveragedModel",
        "torch.autograd.grad_mode.no_grad": "torch.no_grad",
        "torch.cuda.amp.autocast": "torch.amp.autocast",
        "torch.cuda.amp.grad_scaler.GradScaler.scale": "torch.amp.GradScaler.scale",
        "torch.distributions.normal.Normal": "torch.distributions.Normal",
    }.items():
        assert knowledge.canonical(alias) == name
        row = knowledge.get(alias)
        assert row is not None and row.name == name


def test_members_follow_bases() -> None:
    knowledge = load()
    assert effect(knowledge.member("torch.optim.adamw.AdamW", "step")) == "step"
    assert effect(knowledge.member("torch.nn.Linear", "parameters")) == "iterate"
    assert effect(knowledge.member("torch.distributions.Beta", "rsample")) == "flow"
    assert effect(knowledge.member("torch.distributions.Beta", "sample")) == "nondifferentiable"
    assert effect(knowledge.member("torch.optim.lr_scheduler.StepLR", "step")) == "scheduler-step"
    assert knowledge.member("torch.nn.Linear", "no_such_thing") is None
    assert knowledge.member("our_package.Thing", "step") is None


def test_methods_by_bare_name() -> None:
    knowledge = load()
    assert [row.name for row in knowledge.by_method("item")] == ["torch.Tensor.item"]
    assert knowledge.by_method("no_such_thing") == ()


def test_exact_wins_over_pattern_and_the_longer_pattern_over_the_shorter(tmp_path: Path) -> None:
    knowledge = extra(
        tmp_path,
        """
        [api."ours.*"]
        effect = "python"
        [api."ours.deep.*"]
        effect = "constant"
        [api."ours.deep.exact"]
        effect = "flow"
        [api."ours.*.load_weights"]
        effect = "factory"
        """,
    )
    assert effect(knowledge.get("ours.anything")) == "python"
    assert effect(knowledge.get("ours.a.b")) == "python"
    assert effect(knowledge.get("ours.deep.other")) == "constant"
    assert effect(knowledge.get("ours.deep.exact")) == "flow"
    assert effect(knowledge.get("ours.nets.Net.load_weights")) == "factory"
    assert knowledge.get("ours") is None
    assert knowledge.get("oursother.x") is None
    assert effect(knowledge.member("ours.nets.Net", "load_weights")) == "factory"
    assert knowledge.member("ours.nets.Net", "other") is None, "a class pattern says nothing of the class's members"


def test_circular_bases_and_aliases_end(tmp_path: Path) -> None:
    knowledge = extra(
        tmp_path,
        """
        [api."ours.A"]
        effect = "module"
        bases = ["ours.B"]
        [api."ours.B"]
        effect = "module"
        bases = ["ours.A"]
        [alias]
        "ours.x" = "ours.y"
        "ours.y" = "ours.x"
        """,
    )
    assert list(knowledge.lineage("ours.A")) == ["ours.A", "ours.B"]
    assert knowledge.member("ours.A", "nothing") is None
    assert knowledge.get("ours.x.f") is None


def test_user_rows_win_and_the_built_in_stay_as_they_were(tmp_path: Path) -> None:
    text = '[api."torch.Tensor.detach"]\neffect = "flow"\n[api."ours.Trainer.backprop"]\neffect = "backward"\nloss = 0\n'
    knowledge = extra(tmp_path, text)
    assert effect(knowledge.get("torch.Tensor.detach")) == "flow"
    assert effect(knowledge.get("torch.Tensor.item")) == "python"
    assert [row.effect for row in knowledge.by_method("detach")] == ["flow"]
    row = knowledge.member("ours.Trainer", "backprop")
    assert row is not None and row.get("loss") == 0 and row.library == "ours"
    assert effect(load().get("torch.Tensor.detach")) == "cut"
    assert knowledge.fingerprint() != load().fingerprint()


def test_user_framework(tmp_path: Path) -> None:
    knowledge = extra(
        tmp_path,
        """
        [framework."ours.Task"]
        returns_loss = ["loss_step"]
        manages_grad = true
        [api."ours.SpecialTask"]
        effect = "module"
        bases = ["ours.Task"]
        """,
    )
    row = knowledge.framework("ours.SpecialTask")
    assert row is not None and row.get("returns_loss") == ("loss_step",)
    assert knowledge.framework("torch.nn.Linear") is None


def test_pickles_by_its_files(tmp_path: Path) -> None:
    knowledge = extra(tmp_path, '[api."ours.f"]\neffect = "cut"\n')
    again = pickle.loads(pickle.dumps(knowledge))
    assert effect(again.get("ours.f")) == "cut"
    row = knowledge.get("torch.Tensor.item")
    assert pickle.loads(pickle.dumps(row)) == row and hash(row) == hash(pickle.loads(pickle.dumps(row)))


# --- the libraries around torch --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "lightning.LightningModule",
        "lightning.pytorch.LightningModule",
        "pytorch_lightning.LightningModule",
        "pytorch_lightning.core.LightningModule",
        "pytorch_lightning.core.module.LightningModule",
        "lightning.pytorch.core.module.LightningModule",
    ],
)
def test_lightning_module_under_each_of_its_names(name: str) -> None:
    framework = load().framework(name)
    assert framework is not None and "training_step" in framework.get("returns_loss")
    assert effect(load().member(name, "manual_backward")) == "backward"
    assert effect(load().member(name, "parameters")) == "iterate"


def test_trainers_return_a_loss_from_compute_loss_only() -> None:
    for name in ("transformers.Trainer", "transformers.Seq2SeqTrainer", "transformers.trainer.Trainer", "trl.SFTTrainer"):
        framework = load().framework(name)
        assert framework is not None
        assert framework.get("returns_loss") == ("compute_loss",)
        assert framework.get("own_backward") == ("training_step",)
        assert effect(load().member(name, "train")) == "fit"


@pytest.mark.parametrize(
    ("name", "wanted", "norm"),
    [
        ("transformers.AutoModel.from_pretrained", "factory", "none"),
        ("transformers.AutoModelForCausalLM.from_pretrained", "factory", "none"),
        ("transformers.ResNetModel.from_pretrained", "factory", "maybe"),
        ("transformers.AutoBackbone.from_pretrained", "factory", "maybe"),
        ("transformers.AutoTokenizer.from_pretrained", "constant", None),
        ("transformers.BertTokenizerFast.from_pretrained", "constant", None),
        ("transformers.AutoConfig.from_pretrained", "constant", None),
        ("transformers.AutoModel.from_config", "factory", "none"),
        ("transformers.BertModel", "module", "none"),
        ("diffusers.UNet2DConditionModel.from_pretrained", "factory", "none"),
        ("diffusers.DDPMScheduler.from_pretrained", "constant", None),
        ("diffusers.DDPMScheduler", "constant", None),
        ("diffusers.StableDiffusionPipeline.from_pretrained", "constant", None),
        ("torchvision.models.resnet50", "factory", "batch"),
        ("torchvision.models.resnet.resnet50", "factory", "batch"),
        ("torchvision.models.regnet_y_400mf", "factory", "batch"),
        ("torchvision.models.vit_b_16", "factory", "none"),
        ("torchvision.models.vgg16", "factory", "none"),
        ("torchvision.models.detection.fasterrcnn_resnet50_fpn", "factory", "maybe"),
        ("torchvision.models.ResNet50_Weights", "constant", None),
        ("timm.create_model", "factory", "maybe"),
        ("bitsandbytes.optim.AdamW8bit", "optimizer", None),
        ("torch.utils.data.DataLoader", "constant", None),
    ],
)
def test_what_comes_out_of_a_factory(name: str, wanted: str, norm: str | None) -> None:
    row = load().get(name)
    assert effect(row) == wanted
    assert row is not None and row.get("norm") == norm


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("resnet50", "batch"),
        ("resnet50.a1_in1k", "batch"),
        ("resnet50_gn", "none"),
        ("tf_efficientnet_b0", "batch"),
        ("efficientnet_b0_gn", "none"),
        ("vit_base_patch16_224", "none"),
        ("vit_small_resnet26d_224", None),
        ("resnetv2_50", None),
        ("vgg16", "none"),
        ("vgg16_bn", "batch"),
        ("convnext_tiny", "none"),
    ],
)
def test_timm_names_tell_the_norm(name: str, norm: str | None) -> None:
    row = load().get("timm.create_model")
    assert row is not None
    told = next(
        (kind for kind in ("none", "batch") if any(fnmatch.fnmatchcase(name, glob) for glob in row.get(f"{kind}_names"))), None
    )
    assert told == norm


def test_optimizers_of_other_packages_have_the_members_of_torch_optimizers() -> None:
    for name in ("bitsandbytes.optim.Adam8bit", "timm.optim.Lamb", "transformers.Adafactor", "lion_pytorch.Lion"):
        assert effect(load().member(name, "step")) == "step"
        assert effect(load().member(name, "zero_grad")) == "zero-grad"


# --- what a user's file may not hold ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ('[api."a.f"]\neffect = "detatch"', 'api."a.f"', "unknown effect 'detatch'"),
        ('[api."a.f"]\neffect = "backwards"', 'api."a.f"', "Did you mean 'backward'?"),
        ('[api."a.f"]\neffect = "framework"', 'api."a.f"', "unknown effect"),
        ('[api."a.f"]\nkind = "data"', 'api."a.f"', "has no effect"),
        ('[api."a.f"]\neffect = "cut"\nknid = "data"', 'api."a.f"', "Did you mean 'kind'?"),
        ('[api."a.f"]\neffect = "cut"\nkind = "dta"', 'api."a.f"', 'It must be "detach" or "data"'),
        ('[api."a.f"]\neffect = "flow"\nloss = 1', 'api."a.f"', "It must be true or false"),
        ('[api."a.f"]\neffect = "backward"\nloss = true', 'api."a.f"', "It must be a number"),
        ('[api."a.f"]\neffect = "flow"\nalso = "a.g"', 'api."a.f"', "It must be a list of texts"),
        ('[api."a.f"]\neffect = "flow"\nalso = ["g"]', 'api."a.f"', "lacks its module"),
        ('[api."a.*.*"]\neffect = "flow"', 'api."a.*.*"', "not a qualified name"),
        ('[api."*.f"]\neffect = "flow"', 'api."*.f"', "not a qualified name"),
        ('[api."a.f()"]\neffect = "flow"', 'api."a.f()"', "not a qualified name"),
        ('[api]\n"a.f" = "cut"', 'api."a.f"', "must be a table"),
        ('[apis."a.f"]\neffect = "flow"', "apis", "Did you mean 'api'?"),
        ("api = 3", "api", "must be a table"),
        ('[alias]\n"a.f" = 3', 'alias."a.f"', "must be a text"),
        ('[framework."a.T"]\nreturn_loss = ["x"]', 'framework."a.T"', "Did you mean 'returns_loss'?"),
        ("effect = ", "", "not TOML"),
    ],
)
def test_bad_row_is_refused_with_file_key_and_remedy(tmp_path: Path, text: str, key: str, words: str) -> None:
    with pytest.raises(KnowledgeError) as caught:
        extra(tmp_path, text)
    error = caught.value
    assert error.file.endswith("ours.toml") and error.key == key and words in str(error) and error.remedy
    assert str(error).startswith(error.file)


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KnowledgeError, match="cannot be read"):
        Knowledge([tmp_path / "absent.toml"])
    (tmp_path / "latin.toml").write_bytes(b"# \xff\xfe")
    with pytest.raises(KnowledgeError, match="UTF-8"):
        Knowledge([tmp_path / "latin.toml"])


# --- the rows of torch against torch ---------------------------------------------------------------------------------------

INSTANCE_ATTRIBUTES = {"torch.nn.Module.training", "torch.optim.Optimizer.param_groups"}


def resolve(name: str) -> Any:
    """The object of a qualified name, importing modules on the way."""
    parts = name.split(".")
    thing: Any = importlib.import_module(parts[0])
    for end, part in enumerate(parts[1:], start=2):
        thing = getattr(thing, part) if hasattr(thing, part) else importlib.import_module(".".join(parts[:end]))
    return thing


def test_torch_names_exist() -> None:
    pytest.importorskip("torch")
    absent = []
    for row in NAMED:
        if row.name not in INSTANCE_ATTRIBUTES:
            try:
                resolve(row.name)
            except (ImportError, AttributeError):
                absent.append(row.name)
    assert absent == []


def test_torch_aliases_lead_to_the_same_things() -> None:
    torch = pytest.importorskip("torch")
    for alias, name in {
        "torch.nn.modules.linear.Linear": "torch.nn.Linear",
        "torch.optim.adam.Adam": "torch.optim.Adam",
        "torch.autograd.grad_mode.no_grad": "torch.no_grad",
        "torch.distributions.normal.Normal": "torch.distributions.Normal",
        "torch.autograd.function.Function": "torch.autograd.Function",
    }.items():
        assert load().canonical(alias) == name
        assert resolve(alias) is resolve(name)
    assert issubclass(torch.cuda.amp.GradScaler, torch.amp.GradScaler)


def observe(value: Any, source: Any) -> str:
    """What autograd made of a result: ``flow``, ``zero``, ``raises``, ``none`` (no graph) or ``python`` (no tensor)."""
    import torch

    if not isinstance(value, torch.Tensor):
        return "python"
    if not value.requires_grad:
        return "none"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (gradient,) = torch.autograd.grad(value.sum(), source, retain_graph=True, allow_unused=True)
    except (RuntimeError, NotImplementedError):
        return "raises"
    return "zero" if gradient is None or not gradient.any() else "flow"


def promised(row: Row, effect_name: str) -> str:
    """What a row's effect must look like to ``observe``."""
    if effect_name == "nondifferentiable":
        return row.get("gradient") or "none"
    return {"flow": "flow", "cut": "none", "leaf": "none", "python": "python"}[effect_name]


@pytest.mark.parametrize("row", PROBED, ids=lambda row: row.name)
def test_probe_shows_the_effect(row: Row) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    t = torch.randn(2, 3, requires_grad=True)
    scope = {
        "torch": torch,
        "t": t,
        "u": t * 1.0,
        "p": torch.softmax(t, 1),
        "i": torch.tensor([0, 1, 2, 1]),
        "m": torch.nn.Linear(3, 3),
    }
    member = row.name.rpartition(".")[2]
    probe = row.get("probe").replace("{api}", row.name).replace("{member}", member)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = eval(probe, scope)
    source = next(iter(scope["m"].parameters())) if "m." in probe else t
    if row.effect == "constant":
        assert observe(value, source) in ("none", "python")
        return
    results = row.get("results")
    if results is None or isinstance(value, torch.Tensor):
        assert observe(value, source) == promised(row, row.effect)
        return
    assert len(results) == len(value)
    for name, element in zip(results, value, strict=True):
        assert observe(element, source) in (("flow",) if name == "flow" else ("none", "zero", "raises"))
    for field, element in zip(row.get("fields", ()), value, strict=False):
        assert getattr(value, field) is element


@pytest.mark.parametrize("row", [row for row in PROBED if row.get("saves")], ids=lambda row: row.name)
def test_what_is_saved_may_not_be_changed(row: Row) -> None:
    torch = pytest.importorskip("torch")
    t = torch.rand(2, 3, requires_grad=True)
    value = eval(row.get("probe").replace("{api}", row.name), {"torch": torch, "t": t, "p": t * 0.5})
    value.add_(0.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.sum().backward()


@pytest.mark.parametrize("name", ["ReLU", "Tanh", "Sigmoid", "Softmax", "LogSoftmax", "Softmin", "GELU", "SiLU", "Softplus"])
def test_modules_that_save_their_result(name: str) -> None:
    torch = pytest.importorskip("torch")
    layer = getattr(torch.nn, name)(*((1,) if "oft" in name and name != "Softplus" else ()))
    value = layer(torch.rand(2, 3, requires_grad=True) * 0.5)
    value.add_(0.0)
    row = load().get(f"torch.nn.{name}")
    assert row is not None
    if row.get("saves"):
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            value.sum().backward()
    else:
        value.sum().backward()


def test_probes_are_many() -> None:
    assert len(PROBED) > 150


def test_modules_hold_what_their_rows_say() -> None:
    torch = pytest.importorskip("torch")
    built = {
        "torch.nn.Linear": (3, 3),
        "torch.nn.BatchNorm2d": (3,),
        "torch.nn.SyncBatchNorm": (3,),
        "torch.nn.LayerNorm": (3,),
        "torch.nn.InstanceNorm1d": (3,),
        "torch.nn.Embedding": (3, 3),
        "torch.nn.PReLU": (),
        "torch.nn.ReLU": (),
        "torch.nn.Dropout": (),
        "torch.nn.CrossEntropyLoss": (),
        "torch.nn.MultiheadAttention": (4, 2),
        "torch.nn.TransformerEncoderLayer": (4, 2),
        "torch.nn.AdaptiveLogSoftmaxWithLoss": (4, 10, [2]),
        "torch.nn.LSTM": (3, 3),
        "torch.nn.Conv2d": (3, 3, 1),
    }
    for name, arguments in built.items():
        row = load().get(name)
        assert row is not None
        module = resolve(name)(*arguments)
        assert row.get("parameters") is bool(list(module.parameters())), name
        if weights := row.get("weights"):
            assert sorted(key for key, _ in module.named_parameters(recurse=False)) == list(weights), name
        if buffers := row.get("buffers"):
            assert sorted(key for key, _ in module.named_buffers()) == list(buffers), name
        drops = any(isinstance(part, torch.nn.Dropout) for part in module.modules())
        assert drops is (row.get("dropout") is True), name


def classes(module: Any, base: type) -> set[str]:
    """Qualified names of the public classes of a module that derive from ``base``."""
    return {
        f"{module.__name__}.{name}"
        for name, thing in vars(module).items()
        if inspect.isclass(thing) and issubclass(thing, base) and not name.startswith("_")
    }


def test_every_torch_module_optimizer_scheduler_and_distribution_has_a_row() -> None:
    torch = pytest.importorskip("torch")
    knowledge = load()
    optim = torch.optim
    for module, base, effects in (
        (torch.nn, torch.nn.Module, {"module", "wrap"}),
        (optim, optim.Optimizer, {"optimizer"}),
        (optim.lr_scheduler, optim.lr_scheduler.LRScheduler, {"scheduler"}),
        (torch.distributions, torch.distributions.Distribution, {"distribution"}),
    ):
        names = classes(module, base) - {"torch.nn.Container"}
        assert len(names) > 10
        for name in sorted(names):
            assert effect(knowledge.get(name)) in effects, name


def test_every_batch_norm_and_dropout_of_torch_is_known() -> None:
    torch = pytest.importorskip("torch")
    batch, drop = torch.nn.modules.batchnorm._BatchNorm, torch.nn.modules.dropout._DropoutNd
    for name in classes(torch.nn, torch.nn.Module):
        thing, row = resolve(name), load().get(name)
        if row is not None and row.effect == "module":
            assert (row.get("norm") == "batch") is issubclass(thing, batch), name
            if issubclass(thing, drop):
                assert row.get("dropout") is True, name


def test_distributions_say_where_gradient_flows() -> None:
    torch = pytest.importorskip("torch")
    for name in classes(torch.distributions, torch.distributions.Distribution) - {"torch.distributions.Distribution"}:
        row = load().get(name)
        has = resolve(name).has_rsample  # a property where the class inherits it from what it wraps
        assert row is not None and (row.get("differentiable") == "rsample") is (has is not False), name


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "RMSprop", "Adagrad", "Adadelta", "NAdam", "RAdam", "Adamax", "ASGD"])
def test_optimizers_decay_and_skip_as_their_rows_say(name: str) -> None:
    torch = pytest.importorskip("torch")
    row = load().get(f"torch.optim.{name}")
    assert row is not None and row.get("skips_none") is True
    default = inspect.signature(getattr(torch.optim, name)).parameters["weight_decay"].default
    assert (row.get("decays") == "always") is (default != 0)

    untouched = torch.nn.Parameter(torch.ones(3))
    getattr(torch.optim, name)([untouched], lr=0.1, weight_decay=0.5).step()
    assert untouched.equal(torch.ones(3)), "without a gradient the parameter stays"

    moved = torch.nn.Parameter(torch.ones(3))
    optimizer = getattr(torch.optim, name)([moved], lr=0.1)
    moved.grad = torch.ones(3)
    optimizer.step()
    before = moved.detach().clone()
    moved.requires_grad_(False)
    moved.grad = torch.zeros(3)
    optimizer.step()
    assert (row.get("momentum") == "always") is (not moved.equal(before)) or row.get("decays") == "always"
