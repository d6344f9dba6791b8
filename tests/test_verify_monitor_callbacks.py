"""The monitors in loops: one's own, Lightning's, and the Trainer's. The frameworks are stood in for by what they call."""

from __future__ import annotations

import importlib
import math
import sys
import types
import warnings

import pytest

torch = pytest.importorskip("torch")
from torch import nn

from gradlint.verify import GradientGainMonitor, LoopMonitor
from gradlint.verify.monitors.loop import AuditError, find_blocks


class Deep(nn.Module):
    def __init__(self, depth=3):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(depth)])
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.head(x).square().mean()


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules()) + sum(
        len(p._backward_hooks or ()) for p in model.parameters()
    )


def training(monitor, model, optimizer, steps):
    """Returns how many hooks there were in each step."""
    found = []
    for _ in range(steps):
        with monitor.step():
            found.append(hooks(model))
            optimizer.zero_grad()
            model(torch.randn(2, 4)).backward()
            optimizer.step()
    return found


def test_gains_are_measured_every_so_many_steps_and_hooks_are_on_only_then():
    torch.manual_seed(0)
    model = Deep()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = LoopMonitor(model, optimizer, blocks="layers", every=3, audit=False)
    assert training(monitor, model, optimizer, 7) == [3, 0, 0, 3, 0, 0, 3]
    assert [step for step, _ in monitor.history] == [0, 3, 6]
    assert all(stats["num_missing"] == 0 and math.isfinite(stats["mean_gain"]) for _, stats in monitor.history)


def test_what_is_measured_is_what_the_monitor_measures():
    torch.manual_seed(0)
    model = Deep()
    x = torch.randn(2, 4)
    loop = LoopMonitor(model, blocks=model.layers, audit=False)
    with loop.step(), GradientGainMonitor(model.layers) as monitor:
        model(x).backward()
    assert loop.history == [(0, monitor.summary_stats())]


def test_the_first_step_is_audited_and_training_is_not_disturbed():
    def train(watched):
        torch.manual_seed(0)
        model = Deep()
        optimizer = torch.optim.Adam(model.parameters())
        monitor = LoopMonitor(model, optimizer, blocks="layers", audit=watched, on_problem="raise")
        training(monitor, model, optimizer, 3)
        return monitor, list(model.parameters())

    (watched, one), (plain, other) = train(True), train(False)
    assert watched.audit is not None and watched.audit.ok and watched.audit.ran
    assert plain.audit is None
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_problems_warn_raise_or_are_kept():
    def start(on_problem):
        model = Deep()
        model.spare = nn.Linear(4, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return LoopMonitor(model, optimizer, on_problem=on_problem), model, optimizer

    with pytest.warns(UserWarning, match=r"No gradient arrives: `spare\.\*`"):
        training(*start("warn"), 1)
    with pytest.raises(AuditError, match="No gradient arrives") as caught:
        training(*start("raise"), 1)
    assert not caught.value.audit.ok
    monitor, model, optimizer = start("ignore")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training(monitor, model, optimizer, 1)
    assert monitor.audit is not None and not monitor.audit.ok


def test_accumulation_is_audited_when_the_optimizer_steps():
    torch.manual_seed(0)
    model = Deep()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = LoopMonitor(model, optimizer)
    for index in range(4):
        with monitor.step():
            model(torch.randn(2, 4)).backward()
            if index == 3:
                optimizer.step()
        assert (monitor.audit is not None) == (index == 3)
    assert all(group.moved == group.tensors for group in monitor.audit.groups)


def test_an_error_in_the_step_takes_the_hooks_off():
    model = Deep()
    monitor = LoopMonitor(model, torch.optim.SGD(model.parameters(), lr=0.1), blocks="layers")
    with pytest.raises(ZeroDivisionError), monitor.step():
        assert hooks(model) > 3
        raise ZeroDivisionError
    assert hooks(model) == 0


def test_ways_to_say_which_blocks():
    model = Deep()
    layers = list(model.layers)
    assert find_blocks(model, "layers") == layers
    assert find_blocks(model, model.layers) == layers
    assert find_blocks(model, lambda m: m.layers[:2])[0] is layers[0]
    with pytest.raises(ValueError, match="no module `blocks`"):
        find_blocks(model, "blocks")
    with pytest.raises(TypeError, match="not Linear"):
        find_blocks(model, model.head)
    with pytest.raises(ValueError, match="number of steps"):
        LoopMonitor(model, every=0)
    with pytest.raises(ValueError, match="'warn', 'raise' or 'ignore'"):
        LoopMonitor(model, on_problem="scream")


# Lightning ----------------------------------------------------------------------------------------------------------------


def without(monkeypatch, *packages):
    """Nothing of these packages can be imported, and our modules that did are loaded anew."""
    for name in list(sys.modules):
        if name.partition(".")[0] in packages:
            monkeypatch.delitem(sys.modules, name)
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)
    for module in ("lightning", "trainer"):
        monkeypatch.delitem(sys.modules, f"gradlint.verify.monitors.{module}", raising=False)


class Callback:
    """The part of Lightning's base class that matters: it exists."""


@pytest.fixture(params=["lightning.pytorch", "pytorch_lightning"])
def lightning_monitor(request, monkeypatch):
    without(monkeypatch, "lightning", "pytorch_lightning")
    module = types.ModuleType(request.param)
    module.Callback = Callback
    if request.param == "lightning.pytorch":
        package = types.ModuleType("lightning")
        package.pytorch = module
        monkeypatch.setitem(sys.modules, "lightning", package)
    monkeypatch.setitem(sys.modules, request.param, module)
    return importlib.import_module("gradlint.verify.monitors.lightning").LightningGradientMonitor


class LightningModule(Deep):
    """What a callback sees of a module."""

    def __init__(self):
        super().__init__()
        self.logged = []

    def log_dict(self, values):
        self.logged.append(values)


def fit(callback, module, optimizer, batches):
    """The calls of a fit, in Lightning's order."""
    trainer = types.SimpleNamespace(optimizers=[optimizer])
    callback.on_train_start(trainer, module)
    try:
        for index in range(batches):
            batch = torch.randn(2, 4)
            callback.on_train_batch_start(trainer, module, batch, index)
            optimizer.zero_grad()
            loss = module(batch)
            loss.backward()
            optimizer.step()
            callback.on_train_batch_end(trainer, module, {"loss": loss}, batch, index)
    except BaseException as error:
        callback.on_exception(trainer, module, error)
        raise
    callback.on_train_end(trainer, module)


def test_lightning_callback_logs_gains_and_audits(lightning_monitor):
    torch.manual_seed(0)
    assert issubclass(lightning_monitor, Callback)
    module = LightningModule()
    callback = lightning_monitor("layers", every=2)
    assert callback.history == [] and callback.audit is None
    fit(callback, module, torch.optim.SGD(module.parameters(), lr=0.1), 4)
    assert [step for step, _ in callback.history] == [0, 2]
    assert len(module.logged) == 2
    assert module.logged[0]["grad_gain/mean_gain"] == callback.history[0][1]["mean_gain"]
    assert callback.audit.ok
    assert hooks(module) == 0


def test_lightning_callback_raises_and_cleans_up(lightning_monitor):
    module = LightningModule()
    module.spare = nn.Linear(2, 2)
    callback = lightning_monitor(lambda m: m.layers, on_problem="raise")
    with pytest.raises(AssertionError, match="No gradient arrives"):
        fit(callback, module, torch.optim.SGD(module.parameters(), lr=0.1), 1)
    assert hooks(module) == 0


def test_without_lightning_the_name_says_what_to_install(monkeypatch):
    without(monkeypatch, "lightning", "pytorch_lightning")
    with pytest.raises(ImportError, match="pip install lightning"):
        import gradlint.verify

        gradlint.verify.LightningGradientMonitor  # noqa: B018


# Trainer ------------------------------------------------------------------------------------------------------------------


class TrainerCallback:
    """The part of the Trainer's base class that matters: every event is a method that does nothing."""

    def __getattr__(self, name):
        if name.startswith("on_"):
            return lambda *arguments, **parts: None
        raise AttributeError(name)


@pytest.fixture
def trainer_monitor(monkeypatch):
    without(monkeypatch, "transformers")
    module = types.ModuleType("transformers")
    module.TrainerCallback = TrainerCallback
    monkeypatch.setitem(sys.modules, "transformers", module)
    return importlib.import_module("gradlint.verify.monitors.trainer").TrainerGradientMonitor


def train(callback, model, optimizer, steps, accumulate=2):
    """The events of a training, in the Trainer's order, with what it logs after every second step."""
    state, control, logged = types.SimpleNamespace(global_step=0), object(), []

    class Wrapped(torch.optim.Optimizer):  # as the library that the Trainer trains with does it: an optimizer by name only
        def __init__(self, optimizer):
            self.optimizer = optimizer

        @property
        def param_groups(self):
            return self.optimizer.param_groups

    parts = {"model": model, "optimizer": Wrapped(optimizer), "lr_scheduler": None}
    callback.on_train_begin(None, state, control, **parts)
    for _ in range(steps):
        callback.on_step_begin(None, state, control, **parts)
        for index in range(accumulate):
            model(torch.randn(2, 4)).backward()
            if index < accumulate - 1:
                callback.on_substep_end(None, state, control, **parts)
        callback.on_pre_optimizer_step(None, state, control, **parts)
        optimizer.step()
        model.zero_grad()
        state.global_step += 1
        callback.on_step_end(None, state, control, **parts)
        if state.global_step % 2 == 0:
            logs = {"loss": 1.0}
            callback.on_log(None, state, control, logs=logs, **parts)
            logged.append(logs)
    callback.on_train_end(None, state, control, **parts)
    return logged


def test_trainer_callback_reports_gains_and_audits(trainer_monitor):
    torch.manual_seed(0)
    assert issubclass(trainer_monitor, TrainerCallback)
    model, reports = Deep(), []
    callback = trainer_monitor("layers", every=3, report=lambda step, stats: reports.append((step, stats)))
    assert callback.history == [] and callback.audit is None
    logged = train(callback, model, torch.optim.AdamW(model.parameters(), lr=1e-3), 6)
    assert [step for step, _ in callback.history] == [0, 3]
    assert [step for step, _ in reports] == [1, 4]
    assert [("grad_gain/mean_gain" in logs) for logs in logged] == [True, True, False]
    assert logged[0]["grad_gain/mean_gain"] == reports[0][1]["grad_gain/mean_gain"] == callback.history[0][1]["mean_gain"]
    assert callback.audit.ok
    assert all(row.seen.gradient == "nonzero" and row.seen.moved for row in callback.audit.rows)
    assert hooks(model) == 0


def test_trainer_callback_warns_of_parameters_outside_the_optimizer(trainer_monitor):
    model = Deep()
    with pytest.warns(UserWarning, match=r"Trainable, but in no optimizer: `layers\.\*`"):
        train(trainer_monitor(), model, torch.optim.SGD(model.head.parameters(), lr=0.1), 1)


def test_without_transformers_the_name_says_what_to_install(monkeypatch):
    without(monkeypatch, "transformers")
    with pytest.raises(ImportError, match="pip install transformers"):
        importlib.import_module("gradlint.verify.monitors.trainer")
