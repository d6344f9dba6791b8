"""Settings: found, checked, merged, and described by a schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gradlint.core import Confidence, Group, RuleSpec, Severity
from gradlint.session.config import Config, ConfigError, check_selectors, load, schema, settings

ROOT = Path(__file__).parents[1]
DETACH = RuleSpec("GRD102", "detach-on-loss-path", Group.GRAPH, Severity.ERROR)
BATCHNORM = RuleSpec("GRD301", "frozen-batchnorm-in-train-mode", Group.STATE, Severity.WARNING)
TRIAL = RuleSpec("GRD199", "on-trial", Group.GRAPH, Severity.ERROR, preview=True)


def loaded(folder: Path, text: str, name: str = "gradlint.toml", **options: Any) -> Config:
    (folder / name).write_text(text)
    return load([folder], cwd=folder, **options)


def test_defaults(tmp_path: Path) -> None:
    config = load([tmp_path], cwd=tmp_path)
    assert config.file is None
    assert config.root == tmp_path
    assert config.min_confidence is Confidence.MEDIUM
    assert config.enables(DETACH)
    assert not config.enables(TRIAL)


def test_every_setting_is_read(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        """
        select = ["GRD1"]
        ignore = ["GRD103"]
        extend-select = ["GRD301"]
        extend-ignore = ["GRD302"]
        min-confidence = "low"
        preview = true
        exclude = ["old"]
        extend-exclude = ["gen/**"]
        include = ["*.py"]
        force-exclude = true
        respect-gitignore = false
        knowledge = ["rows.toml"]
        roots = ["app.train.fit"]
        baseline = "base.json"
        output-format = "sarif"
        cache-dir = "tmp/cache"
        [per-file-ignores]
        "tests/**" = ["ALL"]
        [severity]
        GRD102 = "info"
        [drivers]
        "app.model:Net" = "tests.factories:net"
        [[contracts]]
        module = "app.model:Net"
        trains = ["seed"]
        isolated = [["a", "b"]]
        """,
    )
    named = {entry.name for entry in settings()}
    untouched = {name for name in named if getattr(config, name) == getattr(Config(root=tmp_path), name)}
    assert not untouched
    assert config.knowledge == (tmp_path / "rows.toml",)
    assert config.baseline == tmp_path / "base.json"
    assert config.cache_dir == tmp_path / "tmp/cache"
    assert config.ignored_in(tmp_path / "tests/deep/test_a.py") == ("ALL",)
    assert config.ignored_in(tmp_path / "src/a.py") == ()
    assert config.severity_of(DETACH) is Severity.INFO
    assert config.filters.exclude == ("old", "gen/**")
    jsonschema.validate(config.as_toml_values(), schema())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gradlint.toml", 'selct = ["GRD1"]\n', "gradlint.toml:1:1: unknown key selct; did you mean select?"),
        (
            "gradlint.toml",
            "\n  min_confidence = 'low'\n",
            "gradlint.toml:2:3: unknown key min_confidence; did you mean min-confidence?",
        ),
        ("gradlint.toml", "zzz = 1\n", "gradlint.toml:1:1: unknown key zzz"),
        ("gradlint.toml", 'select = "GRD1"\n', "gradlint.toml:1:1: select must be a list of strings"),
        ("gradlint.toml", "select = [1]\n", "gradlint.toml:1:1: select must be a list of strings"),
        ("gradlint.toml", "preview = 1\n", "gradlint.toml:1:1: preview must be true or false"),
        ("gradlint.toml", "severity = 1\n", "gradlint.toml:1:1: severity must be a table"),
        (
            "gradlint.toml",
            'min-confidence = "hihg"\n',
            "gradlint.toml:1:1: min-confidence must be one of high, medium, low; did you mean high?",
        ),
        (
            "pyproject.toml",
            '[project]\nname = "x"\n\n[tool.gradlint.severity]\n# why\nGRD102 = "eror"\n',
            "pyproject.toml:6:1: severity.GRD102 must be one of error, warning, info; did you mean error?",
        ),
        (
            "pyproject.toml",
            "[tool.other]\nselct = 1\n[tool.gradlint]\nselct = []\n",
            "pyproject.toml:4:1: unknown key selct; did you mean select?",
        ),
        (
            "pyproject.toml",
            '[[tool.gradlint.contracts]]\nmodule = "m"\ntrain = []\n',
            "pyproject.toml:3:1: unknown key train in contracts; did you mean trains?",
        ),
        (
            "pyproject.toml",
            '[[tool.gradlint.contracts]]\ntrains = ["x"]\n',
            "pyproject.toml:1:1: contracts lacks the key module",
        ),
        ("pyproject.toml", "[tool]\ngradlint = 3\n", "pyproject.toml:2:1: tool.gradlint must be a table"),
        ("gradlint.toml", "select = [\n", "gradlint.toml: this is not TOML: Invalid value"),
        ("gradlint.toml", "a = b\n", "gradlint.toml:1:5: this is not TOML: Invalid value"),
        ("gradlint.toml", 'extend = "no.toml"\n', "gradlint.toml:1:1: extend names a file that does not exist: no.toml"),
        ("gradlint.toml", 'extend = "gradlint.toml"\n', "gradlint.toml:1:1: extend leads back to gradlint.toml"),
        ("gradlint.toml", "extend = 1\n", "gradlint.toml:1:1: extend must be a string, the path of a settings file"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, name)
    assert str(caught.value) == message


def test_the_nearest_file_wins_and_a_pyproject_without_the_table_is_none(tmp_path: Path) -> None:
    inner = tmp_path / "a/b"
    inner.mkdir(parents=True)
    (tmp_path / "gradlint.toml").write_text('select = ["GRD1"]\n')
    (tmp_path / "a/pyproject.toml").write_text('[tool.ruff]\nselect = ["E"]\n')
    assert load([inner], cwd=tmp_path).select == ("GRD1",)
    (tmp_path / "a/pyproject.toml").write_text('[tool.gradlint]\nselect = ["GRD2"]\n')
    config = load([inner], cwd=tmp_path)
    assert (config.select, config.root) == (("GRD2",), tmp_path / "a")
    assert load([inner], cwd=tmp_path, isolated=True).select == ("ALL",)
    assert load([inner], cwd=tmp_path, file=Path("gradlint.toml")).select == ("GRD1",)


def test_extend(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/base.toml").write_text(
        'select = ["GRD1"]\nextend-ignore = ["GRD103"]\nbaseline = "b.json"\npreview = true\n'
        '[severity]\nGRD101 = "info"\nGRD102 = "info"\n[per-file-ignores]\n"x.py" = ["GRD1"]\n'
    )
    config = loaded(
        tmp_path,
        'extend = "shared/base.toml"\nselect = ["GRD2"]\nextend-ignore = ["GRD104"]\n[severity]\nGRD102 = "error"\n'
        '[per-file-ignores]\n"y.py" = ["GRD2"]\n',
    )
    assert config.select == ("GRD2",)
    assert config.extend_ignore == ("GRD103", "GRD104")
    assert config.baseline == tmp_path / "shared/b.json"
    assert config.preview
    assert config.severity == {"GRD101": Severity.INFO, "GRD102": Severity.ERROR}
    assert config.ignored_in(tmp_path / "shared/x.py") == ("GRD1",)
    assert config.ignored_in(tmp_path / "y.py") == ("GRD2",)


def test_extend_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('extend = "gradlint.toml"\n')
    with pytest.raises(ConfigError, match="leads back"):
        loaded(tmp_path, 'extend = "a.toml"\n')


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ("min-confidence=low", "min_confidence", Confidence.LOW),
        ('select = ["GRD1", "GRD2"]', "select", ("GRD1", "GRD2")),
        ("preview=true", "preview", True),
        ("severity={GRD1 = 'info'}", "severity", {"GRD1": Severity.INFO}),
        ("severity.GRD1=info", "severity", {"GRD1": Severity.INFO}),
        ("baseline=b.json", "baseline", Path("b.json")),
    ],
)
def test_overrides(tmp_path: Path, override: str, name: str, value: Any) -> None:
    found = getattr(load([tmp_path], cwd=tmp_path, overrides=[override]), name)
    assert found == (tmp_path / value if isinstance(value, Path) else value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("min-confidence", "neither KEY=VALUE"),
        ("min-confidense=low", "did you mean min-confidence"),
        ("preview=maybe", "preview must be true or false"),
        ("a b=1", "not KEY=VALUE"),
    ],
)
def test_overrides_that_mean_nothing(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load([tmp_path], cwd=tmp_path, overrides=[override])


def test_settings_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load([tmp_path], cwd=tmp_path, file=Path("none.toml"))
    (tmp_path / "gradlint.toml").write_bytes(b"select = ['\xff']\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        load([tmp_path], cwd=tmp_path)


@pytest.mark.parametrize(
    ("select", "ignore", "runs"),
    [
        (["ALL"], [], True),
        (["GRD1"], [], True),
        (["GRD10"], ["GRD1"], True),
        (["GRD1"], ["GRD102"], False),
        (["GRD102"], ["GRD102"], False),
        (["detach-on-loss-path"], ["GRD1"], True),
        (["GRD2"], [], False),
        ([], [], False),
        (["ALL"], ["ALL"], False),
    ],
)
def test_the_more_specific_selector_wins(select: list[str], ignore: list[str], runs: bool) -> None:
    assert Config(select=tuple(select), ignore=tuple(ignore)).enables(DETACH) is runs


def test_rules_on_trial_run_on_request() -> None:
    assert Config(preview=True).enables(TRIAL)
    assert Config(extend_select=("GRD199",)).enables(TRIAL)
    assert Config(select=("on-trial",)).enables(TRIAL)
    assert not Config(select=("GRD1",)).enables(TRIAL)


def test_unknown_rules() -> None:
    check_selectors(Config(select=("GRD1", "frozen-batchnorm-in-train-mode")), [DETACH, BATCHNORM])
    with pytest.raises(ConfigError, match=r"unknown rule detach-on-los in ignore; did you mean detach-on-loss-path\?"):
        check_selectors(Config(ignore=("detach-on-los",)), [DETACH, BATCHNORM])


def test_the_schema_is_valid_and_the_published_one_is_up_to_date() -> None:
    jsonschema.Draft7Validator.check_schema(schema())
    published = ROOT / "docs/gradlint.schema.json"
    assert json.loads(published.read_text()) == schema(), "write it anew: gradlint config --output-format json"


def test_the_schema_accepts_what_is_read_and_refuses_what_is_not() -> None:
    validator = jsonschema.Draft7Validator(schema())
    assert validator.is_valid({"extend": "a.toml", "select": ["GRD1"], "severity": {"GRD1": "info"}})
    for wrong in ({"selct": []}, {"select": "GRD1"}, {"severity": {"GRD1": "eror"}}, {"contracts": [{"trains": []}]}):
        assert not validator.is_valid(wrong)
