"""The plugin host against real distributions on disk, healthy and broken."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic_core import PydanticCustomError

from autoprune.host.plugins import Plugin, PluginHost
from autoprune.plugin import Evaluator, ExactEvaluator, Recovery, Scorer, hookimpl

from .toys import COMPONENTS, L1, L2, Macs, Taylor, ToyPlugin, _Toy, toy_host

HEALTHY = """
    from autoprune.plugin import Scorer, hookimpl

    class {cls}(Scorer):
        name = "{name}"
        def score(self, group, ctx):
            raise NotImplementedError

    @hookimpl
    def autoprune_components():
        return [{cls}]

    seen = []

    @hookimpl
    def autoprune_trial_finished(study, result):
        seen.append(result)
"""
BROKEN = {
    "import-error": (
        "import no_such_package_anywhere",
        "ModuleNotFoundError: No module named 'no_such_package_anywhere'",
    ),
    "syntax-error": ("def f(:\n    pass", "SyntaxError: "),
    "raises": ("raise RuntimeError('no\\n  licence')", "RuntimeError: no licence"),
    "exits": ("import sys; sys.exit('bye')", "SystemExit: bye"),
    "no-hook": ("x = 1", "it implements no hook: mark every hook with @autoprune.hookimpl"),
    "unmarked": (
        "def autoprune_components(): return []",
        "autoprune_components: mark every hook with @autoprune.hookimpl",
    ),
    "half-marked": (
        """
        from autoprune.plugin import hookimpl
        @hookimpl
        def autoprune_components(): return []
        def autoprune_study_started(study): pass
        """,
        "autoprune_study_started: mark every hook",
    ),
    "misspelt": (
        """
        from autoprune.plugin import hookimpl
        @hookimpl
        def autoprune_trial_finnished(study, result): pass
        """,
        "autoprune has no hook 'autoprune_trial_finnished'; did you mean 'autoprune_trial_finished'?",
    ),
    "wrong-argument": (
        """
        from autoprune.plugin import hookimpl
        @hookimpl
        def autoprune_trial_finished(trial): pass
        """,
        "PluginValidationError: ",
    ),
    "hook-raises": (
        """
        from autoprune.plugin import hookimpl
        @hookimpl
        def autoprune_components(): raise KeyError("gone")
        """,
        "KeyError: 'gone'",
    ),
    "hook-exits": (
        """
        from autoprune.plugin import hookimpl
        @hookimpl
        def autoprune_components():
            yield from ()
            raise SystemExit(3)
        """,
        "SystemExit: 3",
    ),
    "no-method": (
        """
        from autoprune.plugin import Scorer, hookimpl
        class Half(Scorer):
            name = "half"
        @hookimpl
        def autoprune_components(): return [Half]
        """,
        "Half does not implement score",
    ),
    "no-name": (
        """
        from autoprune.plugin import Scorer, hookimpl
        class Nameless(Scorer):
            def score(self, group, ctx): ...
        @hookimpl
        def autoprune_components(): return [Nameless]
        """,
        "Nameless has no name of its own",
    ),
    "no-metrics": (
        """
        from autoprune.plugin import Evaluator, hookimpl
        class Blind(Evaluator):
            name = "blind"
            def evaluate(self, model, ctx): ...
        @hookimpl
        def autoprune_components(): return [Blind]
        """,
        "Blind has no metrics",
    ),
    "unresolved-type": (
        """
        from __future__ import annotations
        from typing import TYPE_CHECKING
        from autoprune.plugin import Scorer, hookimpl
        if TYPE_CHECKING:
            from pathlib import Path
        class Late(Scorer):
            name = "late"
            path: Path
            def score(self, group, ctx): ...
        @hookimpl
        def autoprune_components(): return [Late]
        """,
        "Path",
    ),
    "called-use": (
        """
        from autoprune.plugin import Scorer, hookimpl
        class Use(Scorer):
            name = "uses"
            use: int = 1
            def score(self, group, ctx): ...
        @hookimpl
        def autoprune_components(): return [Use]
        """,
        "Use has an option called use",
    ),
    "no-class": (
        """
        from autoprune.plugin import hookimpl
        @hookimpl
        def autoprune_components(): return ["l1"]
        """,
        "'l1' is no component class; derive it from one of Task, ModelSource, DataSource, Scorer",
    ),
    "twice": (
        """
        from autoprune.plugin import Scorer, hookimpl
        class A(Scorer):
            name = "same"
            def score(self, group, ctx): ...
        class B(A):
            name = "same"
        @hookimpl
        def autoprune_components(): return [A, B]
        """,
        "brings the scorer 'same' more than once",
    ),
}


def distribution(folder: Path, name: str, source: str, *, version: str = "1.0", entry: str | None = None) -> None:
    """Lay out an installed distribution with one plugin module, as pip would."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(textwrap.dedent(source))
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[autoprune]\n{entry or name} = {module}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of distributions; its modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for module in set(sys.modules) - before:
        del sys.modules[module]


def load(site: Path) -> PluginHost:
    """The host with that folder's plugins alone."""
    found = [e for d in importlib.metadata.distributions(path=[str(site)]) for e in d.entry_points]
    return PluginHost(found)


def records(host: PluginHost) -> dict[str, Plugin]:
    return {plugin.name: plugin for plugin in host.plugins}


def test_healthy_distributions(site: Path) -> None:
    distribution(site, "good-scorers", HEALTHY.format(cls="Good", name="good"), version="2.1")
    host = load(site)
    (plugin,) = host.plugins
    assert (plugin.name, plugin.distribution, plugin.version, plugin.error) == (
        "good-scorers",
        "good-scorers",
        "2.1",
        None,
    )
    assert str(plugin) == "good-scorers (good-scorers 2.1)"
    cls = host.components(Scorer)["good"]
    assert host(Scorer, "good") is cls
    assert host.provider(cls) == plugin
    assert Scorer.model_validate({"use": "good"}, context=host) == cls()
    host.hook.autoprune_trial_finished(study=None, result=7)
    assert sys.modules["good_scorers"].seen == [7]


@pytest.mark.slow
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_is_told_of_and_the_others_load(
    kind: str, site: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, cause = BROKEN[kind]
    distribution(site, "a-good", HEALTHY.format(cls="First", name="first"))
    distribution(site, "broken", source, version="0.3")
    distribution(site, "z-good", HEALTHY.format(cls="Last", name="last"))
    host = load(site)
    found = records(host)
    assert set(host.components(Scorer)) == {"first", "last"}
    assert found["a-good"].error is None
    assert found["z-good"].error is None
    broken = found["broken"]
    assert (broken.distribution, broken.version, broken.components) == ("broken", "0.3", ())
    assert broken.error is not None
    assert cause in broken.error
    assert "\n" not in broken.error
    assert caplog.messages == [f"plugin broken (broken 0.3) is left out: {broken.error}"]
    host.hook.autoprune_study_started(study=None)
    host.hook.autoprune_trial_finished(study=None, result=1)
    assert sys.modules["a_good"].seen == sys.modules["z_good"].seen == [1]


def test_all_broken_plugins_together(site: Path) -> None:
    """Nobody is blamed for another one's fault."""
    for kind, (source, _) in BROKEN.items():
        distribution(site, f"broken-{kind}", source)
    distribution(site, "a-good", HEALTHY.format(cls="First", name="first"))
    distribution(site, "z-good", HEALTHY.format(cls="Last", name="last"))
    found = records(load(site))
    assert len(found) == len(BROKEN) + 2
    for kind, (_, cause) in BROKEN.items():
        assert cause in str(found[f"broken-{kind}"].error)
    assert found["a-good"].error is found["z-good"].error is None


def test_ctrl_c_while_a_plugin_loads_is_not_swallowed(site: Path) -> None:
    distribution(site, "slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load(site)


def test_ctrl_c_in_a_registration_hook_is_not_swallowed() -> None:
    class Slow:
        @hookimpl
        def autoprune_components(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PluginHost([]).register(Slow(), name="slow")


def test_two_plugins_of_one_name_are_both_named_and_neither_is_used(site: Path) -> None:
    source = HEALTHY.format(cls="Own", name="{own}")
    both = """
    class Shared(Own):
        name = "shared"

    @hookimpl(specname="autoprune_components")
    def more():
        return [Shared]
    """
    for name in ("one", "two"):
        distribution(site, name, source.format(own=f"own-{name}") + both, version=f"{len(name)}.0")
    host = load(site)
    clash = "several plugins bring the scorer 'shared': one (one 3.0) and two (two 3.0); uninstall all but one"
    assert [plugin.error for plugin in host.plugins] == [clash, clash]
    assert set(host.components(Scorer)) == {"own-one", "own-two"}
    with pytest.raises(PydanticCustomError) as caught:
        host(Scorer, "shared")
    assert caught.value.message() == clash
    assert host.provider(host.plugins[1].components[0]).name == "two"


def test_an_entry_point_to_what_is_not_there(site: Path) -> None:
    distribution(site, "absent", "x = 1")
    (site / "absent-1.0.dist-info" / "entry_points.txt").write_text("[autoprune]\nabsent = absent:plugin\n")
    assert "has no attribute 'plugin'" in str(load(site).plugins[0].error)


def test_two_distributions_may_call_their_plugins_alike(site: Path) -> None:
    for name in ("one", "two"):
        distribution(site, name, HEALTHY.format(cls="Own", name=f"own-{name}"), entry="extra")
    host = load(site)
    assert [(plugin.name, plugin.distribution, plugin.error) for plugin in host.plugins] == [
        ("extra", "one", None),
        ("extra", "two", None),
    ]
    assert set(host.components(Scorer)) == {"own-one", "own-two"}


def test_one_module_under_two_names(site: Path) -> None:
    distribution(site, "twin", HEALTHY.format(cls="Twin", name="twin"))
    (site / "twin-1.0.dist-info" / "entry_points.txt").write_text("[autoprune]\na = twin\nb = twin\n")
    host = load(site)
    assert [plugin.error for plugin in host.plugins] == [None, "is registered already, under another name"]
    host.hook.autoprune_trial_finished(study=None, result=1)
    assert sys.modules["twin"].seen == [1]


@pytest.mark.slow
def test_installed_plugins_are_found_by_entry_point(site: Path) -> None:
    """In a process of its own, as a user's would be."""
    distribution(site, "found", HEALTHY.format(cls="Found", name="found-scorer"))
    script = "from autoprune.host.plugins import PluginHost; print([p.name for p in PluginHost().plugins])"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {script}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'found'" in done.stdout


_OWN = "; your own is one class, see docs/plugins/scorer.md"
_OWN_EVALUATOR = _OWN.replace("scorer", "evaluator")


class TestLookUp:
    def test_components_of_a_kind_in_order(self) -> None:
        host = toy_host()
        assert list(host.components(Scorer)) == ["l1", "l2", "taylor"]
        assert list(host.components(Recovery)) == ["bn-recalibration", "fine-tune", "none", "repair"]
        assert list(host.components(Evaluator)) == ["accuracy", "fgsm", "latency", "macs", "pgd"]
        assert list(host.components(ExactEvaluator)) == []

    @pytest.mark.parametrize(
        ("contract", "name", "message"),
        [
            (Scorer, "tailor", "no scorer is called 'tailor'; did you mean 'taylor'?"),
            (Scorer, "hessian", "no scorer is called 'hessian'; known: l1, l2, taylor" + _OWN),
            (Scorer, "pgd", "no scorer is called 'pgd'; 'pgd' is of kind evaluator"),
            (Scorer, 3, "no scorer is called 3; known: l1, l2, taylor" + _OWN),
            (Scorer, None, "no scorer is called None; known: l1, l2, taylor" + _OWN),
            (ExactEvaluator, "macs", "no evaluator is called 'macs'" + _OWN_EVALUATOR),
        ],
    )
    def test_unknown_names(self, contract: Any, name: Any, message: str) -> None:
        with pytest.raises(PydanticCustomError) as caught:
            toy_host()(contract, name)
        assert caught.value.message() == message

    def test_one_name_in_two_kinds_is_fine(self) -> None:
        class Random(_Toy, Scorer):
            name: ClassVar[str] = "nsga2"

        host = toy_host(Random)
        assert host(Scorer, "nsga2") is Random

    def test_observers_need_bring_no_component(self) -> None:
        class Observer:
            @hookimpl
            def autoprune_study_started(self, study: Any) -> dict[str, str]:
                return {"run_id": "7"}

        host = PluginHost([])
        host.register(Observer(), name="observer")
        host.register(ToyPlugin(*COMPONENTS), name="toys")
        assert [plugin.error for plugin in host.plugins] == [None, None]
        assert host.hook.autoprune_study_started(study=None) == [{"run_id": "7"}]

    def test_clashes_come_from_plugins_registered_by_hand_too(self) -> None:
        host = toy_host()
        host.register(ToyPlugin(L1), name="mine")
        assert set(host.components(Scorer)) == {"l2", "taylor"}
        assert host.components(Scorer) == {"l2": L2, "taylor": Taylor}
        assert "toys (registered by hand) and mine (registered by hand)" in str(host.plugins[0].error)
        assert host.provider(Macs).name == "toys"
