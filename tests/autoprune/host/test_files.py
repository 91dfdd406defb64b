"""Single files that bring components."""

from __future__ import annotations

import pickle
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from autoprune.errors import PluginError, SpecError
from autoprune.host.binding import bind, load_spec, spec_from_mapping
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Scorer
from autoprune.spec import Spec, read_text

from ..spec.broken_specs import GOOD
from .toys import L1, toy_host

MINE = """
    from __future__ import annotations
    from autoprune.plugin import Metric, Scorer, Recovery
    from fractions import Fraction

    class _Shared(Scorer):
        power: int = 2

    class Mine(_Shared):
        name = "mine"
        kept: list[Half] = []
        def score(self, group, ctx):
            raise NotImplementedError

    class Half(Recovery):
        name = "half"
        def recover(self, pruned, ctx): ...
"""
BROKEN = {
    "does-not-compile": ("x = 1\ndef f(:\n    pass", 2, "SyntaxError: "),
    "raises": ("x = 1\ny = x / 0\n", 2, "ZeroDivisionError: division by zero"),
    "raises-in-a-function": ("def f():\n    return {}['a']\n\nf()\n", 2, "KeyError: 'a'"),
    "misses-a-module": ("\nimport no_such_package_anywhere\n", 2, "ModuleNotFoundError: No module named"),
    "exits": ("raise SystemExit(3)\n", 1, "SystemExit: 3"),
    "brings-nothing": ("x = 1\n", 1, "it defines no component class with a name, and implements no hook"),
    "half-a-scorer": (
        "from autoprune.plugin import Scorer\n\nclass Half(Scorer):\n    name = 'half'\n",
        3,
        "Half does not implement score",
    ),
    "one-metric": (
        (
            "from autoprune.plugin import Cost, Evaluator, Metric\nclass One(Evaluator):\n name = 'one'\n"
            " metrics = Metric('one', '', 'minimize', Cost.FORWARD)\n def evaluate(self): ...\n"
        ),
        2,
        "One has a Metric for metrics; write a tuple: metrics = (…,)",
    ),
    "no-cost": (
        "from autoprune.plugin import Metric\nMetric('a', '', 'minimize', 'forward')\n",
        2,
        "metric a: cost is one of Cost.EXACT, Cost.TIMING, Cost.FORWARD, Cost.ATTACK, not 'forward'",
    ),
    "blind": (
        "from autoprune.plugin import Evaluator\nclass Blind(Evaluator):\n name = 'blind'\n def evaluate(self): ...\n",
        2,
        "Blind has no metrics; give it metrics: ClassVar[tuple[Metric, ...]], or declares()",
    ),
    "direction": (
        "from autoprune.plugin import Cost, Metric\n\nrecall = Metric('recall', '', 'maximise', Cost.FORWARD)\n",
        3,
        "ValueError: metric recall: direction is minimize or maximize, not 'maximise'",
    ),
    "unmarked-hook": ("def autoprune_trial_finished(study, result): ...\n", 1, "mark every hook with"),
    "hook-raises": (
        "from autoprune.plugin import hookimpl\n@hookimpl\ndef autoprune_components():\n    raise KeyError('gone')\n",
        4,
        "KeyError: 'gone'",
    ),
}


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a plugin file."""

    def write(source: str = MINE, name: str = "my_plugin.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(textwrap.dedent(source))
        return path

    return write


@pytest.fixture
def spec(tmp_path: Path) -> Callable[..., Path]:
    """Writes the good spec with a scorer of one's own, and its plugin files."""

    def write(*plugins: str, scorer: str = "{use: mine, power: 3}") -> Path:
        path = tmp_path / "spec.yaml"
        text = GOOD.replace("{use: taylor, batches: 4}", scorer)
        path.write_text(f"{text}plugins: [{', '.join(plugins)}]\n" if plugins else text)
        return path

    return write


def test_brings_the_named_classes_that_it_defines(file: Callable[..., Path]) -> None:
    host = toy_host()
    plugin = host.load_file(file())
    assert [component.name for component in plugin.components] == ["mine", "half"]
    assert (plugin.name, plugin.file, plugin.error) == ("my_plugin", file().resolve(), None)
    assert host.provider(host.components(Scorer)["mine"]) == plugin
    assert host.provider(L1).file is None
    assert str(plugin) == f"my_plugin ({file().resolve()})"
    assert plugin in host.plugins


def test_a_hook_says_what_it_brings_and_may_watch(file: Callable[..., Path]) -> None:
    hooks = """
        from autoprune.plugin import hookimpl

        class Other(Mine):
            name = "other"

        @hookimpl
        def autoprune_components():
            return [Other]

        seen = []

        @hookimpl
        def autoprune_trial_finished(result):
            seen.append(result)
    """
    host = toy_host()
    plugin = host.load_file(file(textwrap.dedent(MINE) + textwrap.dedent(hooks)))
    assert [component.name for component in plugin.components] == ["other"]
    host.hook.autoprune_trial_finished(study=None, result=7)
    assert sys.modules[plugin.components[0].__module__].seen == [7]


def test_a_file_may_watch_alone(file: Callable[..., Path]) -> None:
    source = "from autoprune.plugin import hookimpl\n@hookimpl\ndef autoprune_trial_finished(result): ...\n"
    assert PluginHost([]).load_file(file(source)).components == ()


def test_once_however_often_and_by_whatever_path(file: Callable[..., Path], tmp_path: Path) -> None:
    host = toy_host()
    plugin = host.load_file(file())
    assert host.load_file(tmp_path / "." / "my_plugin.py") is plugin
    assert host.load_file(file(name="copies/copy.py")) is plugin
    assert len(host.files) == 1
    assert host.components(Scorer)["mine"]


def test_two_hosts_share_the_classes_and_they_can_be_sent(file: Callable[..., Path]) -> None:
    first, second = toy_host(), toy_host()
    (mine, _) = first.load_file(file()).components
    assert second.load_file(file(name="elsewhere.py")).components[0] is mine
    assert pickle.loads(pickle.dumps(mine(power=5))) == mine(power=5)


def test_a_file_that_changed_is_not_taken_for_the_old_one(file: Callable[..., Path]) -> None:
    host = toy_host()
    host.load_file(file())
    changed = file(MINE.replace('"mine"', '"others"'))
    with pytest.raises(PluginError, match=r"my_plugin\.py: has changed since it was loaded"):
        host.load_file(changed)
    assert toy_host().load_file(changed).components[0].name == "others"


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_wrong_is_told_with_its_line(kind: str, file: Callable[..., Path], spec: Callable[..., Path]) -> None:
    source, line, message = BROKEN[kind]
    path, host = file(source), toy_host()
    with pytest.raises(PluginError) as caught:
        host.load_file(path)
    assert str(caught.value).startswith(f"{path.resolve()}:{line}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [plugin.name for plugin in host.plugins] == ["toys"]
    with pytest.raises(SpecError) as refused:
        load_spec(spec("./my_plugin.py"), host=host)
    # One line: what would have come from the file is not missed besides.
    assert str(refused.value) == f"{spec('./my_plugin.py')}:14:11: plugins.0: {caught.value}"


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"none\.py: cannot be read: No such file or directory"):
        PluginHost([]).load_file(tmp_path / "none.py")
    with pytest.raises(PluginError, match=r"cannot be read: Is a directory"):
        PluginHost([]).load_file(tmp_path)


def test_ctrl_c_while_a_file_runs_is_not_swallowed(file: Callable[..., Path]) -> None:
    with pytest.raises(KeyboardInterrupt):
        PluginHost([]).load_file(file("raise KeyboardInterrupt"))


def test_a_name_that_is_taken_is_used_by_neither(file: Callable[..., Path], spec: Callable[..., Path]) -> None:
    file(MINE.replace('"mine"', '"taylor"'))
    with pytest.raises(SpecError, match=r"several plugins bring the scorer 'taylor': toys .* another name"):
        load_spec(spec("my_plugin.py", scorer="{use: taylor}"), host=toy_host())


class TestSpecs:
    def test_files_are_found_beside_the_spec(
        self, file: Callable[..., Path], spec: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        file(name="parts/my_plugin.py")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        host = toy_host()
        checked = load_spec(spec("./parts/my_plugin.py"), host=host)
        assert checked.plugins == ["./parts/my_plugin.py"]
        assert bind(checked, host).scorers[0].component.reference() == {"use": "mine", "power": 3, "kept": []}
        # Another host brings them, too, when it needs them.
        assert bind(checked, toy_host()).scorers[0].component == bind(checked, host).scorers[0].component

    def test_files_come_from_the_caller(self, file: Callable[..., Path], spec: Callable[..., Path]) -> None:
        checked = load_spec(spec(), host=toy_host(), plugins=[file()])
        assert bind(checked, toy_host()).scorers[0].component.name == "mine"
        with pytest.raises(SpecError, match="no scorer is called 'mine'"):
            load_spec(spec(), host=toy_host())
        file("import no_such_package_anywhere")
        with pytest.raises(PluginError, match="no_such_package_anywhere"):
            load_spec(spec(), host=toy_host(), plugins=[file("import no_such_package_anywhere")])

    def test_kept_copies_stand_in_for_what_the_spec_names(
        self, file: Callable[..., Path], spec: Callable[..., Path]
    ) -> None:
        path, copy = spec("gone.py"), file(name="kept/gone.py")
        checked = load_spec(path, host=toy_host(), kept=[copy])
        assert bind(checked, toy_host()).scorers[0].component.name == "mine"
        with pytest.raises(SpecError, match=r"14:11: plugins\.0: .*gone\.py: cannot be read"):
            load_spec(path, host=toy_host())

    def test_specs_in_python_bring_theirs(self, file: Callable[..., Path], tmp_path: Path) -> None:
        file()
        data = read_text(GOOD)[0].data | {"scorer": {"use": "mine"}, "plugins": ["my_plugin.py"]}
        checked = spec_from_mapping(data, folder=tmp_path, host=toy_host())
        assert bind(checked, toy_host()).scorers[0].component.name == "mine"
        with pytest.raises(SpecError, match=r"plugins\.0: .*cannot be read"):
            spec_from_mapping(data, folder=tmp_path / "elsewhere", host=toy_host())

    def test_specs_made_as_objects_bring_theirs(self, file: Callable[..., Path]) -> None:
        data = read_text(GOOD)[0].data | {"scorer": {"use": "mine"}, "plugins": [str(file())]}
        assert bind(Spec.model_validate(data), toy_host()).scorers[0].component.name == "mine"
        with pytest.raises(SpecError, match="cannot be read"):
            bind(Spec.model_validate(data | {"plugins": ["nowhere.py"]}), toy_host())
