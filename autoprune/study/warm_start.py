"""What an earlier study gives to a new one: candidates that were good there, and probes that need not be made again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from autoprune.errors import AutopruneError, SpecError, StudyError
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Choice, Knob, TrialResult, losses
from autoprune.spec import Spec
from autoprune.study.folder import JOURNAL_FILE, StudyFolder
from autoprune.study.guide import Guide
from autoprune.study.jobs import Effect
from autoprune.study.observers import log
from autoprune.study.problem import Problem
from autoprune.study.proposal import Params
from autoprune.study.rankings import cuts
from autoprune.study.recorded import StoredStudy
from autoprune.study.space import RATIO
from autoprune.toolkit.files import json_of, malformed, plain_file
from autoprune.toolkit.spacing import spaced

WARM_START_FILE = "warm_start.json"


class WarmStart(BaseModel):
    """What a study begins with; kept in its folder, so that the earlier study may go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: tuple[Params, ...] = ()
    """Tried after the dense model and the ladder; the first few, however many, are from all of the earlier front."""
    effects: tuple[Effect, ...] = ()
    """Of probes."""

    def keep(self, folder: Path) -> None:
        """Write it into a study's folder, whole or not at all; nothing where there is nothing."""
        if not self.candidates:
            return
        unfinished = folder / f".{WARM_START_FILE}"
        unfinished.write_text(self.model_dump_json(indent=1), encoding="utf-8")
        unfinished.replace(folder / WARM_START_FILE)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """What is kept in a study's folder; None where nothing is.

        Raises:
            StudyError: It is malformed.
        """
        file = folder / WARM_START_FILE
        try:
            return cls.model_validate(json_of(plain_file(file).read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StudyError(f"{file} is malformed: {malformed(error)}") from error


@dataclass(frozen=True)
class Earlier:
    """An earlier study, as far as a new one wants to know it."""

    path: Path
    spec: Spec
    fingerprint: str | None
    """Of its problem; None where it was not recorded."""
    front: tuple[tuple[TrialResult, Params], ...]
    """Its members and what was chosen for them."""
    effects: tuple[Effect, ...]

    @classmethod
    def of(cls, spec: Spec) -> Self | None:
        """What a spec names as `search.warm_start`; None where it names nothing.

        Raises:
            SpecError: There is no study, it cannot be read, or it has no front.
        """
        if spec.search.warm_start is None:
            return None
        path = spec.document.folder / spec.search.warm_start
        try:
            return cls._read(path)
        except AutopruneError as error:
            first = str(error).splitlines()[0]
            raise SpecError([spec.document.mistake(("search", "warm_start"), first)]) from error

    @classmethod
    def _read(cls, path: Path) -> Self:
        folder = StudyFolder.open(path)
        spec = folder.spec(PluginHost())  # with plugin files of its own, which the new study need not have
        info = folder.read_info(spec)
        stored = StoredStudy(folder.name, spec=spec, journal=folder.path / JOURNAL_FILE, mode="read")
        try:
            front = stored.finals.front(stored.results, spec.objectives).members
            members = [result for result in front if result.origin != "dense"]
            chosen = stored.chosen
            effects = tuple(effect for probed in stored.probed for effect in probed.effects)
        finally:
            stored.close()
        if not members:
            raise StudyError(f"the study in {folder.path} has no pruned model on its front to begin with")
        order = spaced([losses(result.metrics, spec.objectives) for result in members])
        pairs = tuple((members[index], chosen[members[index].number]) for index in order)
        return cls(folder.path, spec, info.environment.get("fingerprint"), pairs, effects)

    def given_to(self, problem: Problem) -> WarmStart:
        """What of it is of use to another problem.

        Candidates are brought within the bounds of its search space. Probes are of use where they would come out the
        same: for the same network, samples, scorers and strategy.

        Raises:
            SpecError: No group of the earlier study is one of the problem's.
        """
        spec, space = problem.spec, problem.space
        names = [group.name for group in space.cuttable]
        if not any(name in result.ratios for result, _ in self.front for name in names):
            theirs = ", ".join(list(self.front[0][0].ratios)[:3])
            reason = f"{self.path} has no group of this model: its groups are {theirs}, …; here they are {names[0]}, …"
            raise SpecError([spec.document.mistake(("search", "warm_start"), reason)])
        asked = [
            {**chosen, **{f"{RATIO}{name}": value for name, value in result.ratios.items()}}
            for result, chosen in self.front
        ]
        candidates = tuple({knob.name: _within(knob, each) for knob in space.parameters} for each in asked)
        return WarmStart(candidates=candidates, effects=self._effects(problem))

    def _effects(self, problem: Problem) -> tuple[Effect, ...]:
        if _resting_on(self.spec) != _resting_on(problem.spec) or self.fingerprint != problem.fingerprint:
            return ()
        guide = Guide.of(problem)
        wanted = {(group.name, units) for group in guide.probed for units in cuts(group)}
        return tuple(
            effect
            for effect in self.effects
            if effect.cut.scorer in guide.scorers and (effect.cut.group, effect.cut.units) in wanted
        )


def warm_start(problem: Problem, earlier: Earlier | None, tell: Callable[[str], None]) -> WarmStart:
    """What a study begins with.

    Args:
        problem: The study's.
        earlier: What its spec names; None where it names nothing.
        tell: Hears, in words, what that is.
    """
    if earlier is None:
        return WarmStart()
    given = earlier.given_to(problem)
    search, count = problem.spec.search, len(given.candidates)
    reused = f" and {len(given.effects)} probes" if given.effects else ""
    tell(f"beginning with {count} candidates{reused} of {earlier.path}")
    if (first := 1 + search.ladder + count) >= search.trials:
        log.warning(
            "the dense model, the ladder and the front of %s are %d of %d trials: search.trials leaves none for the"
            " search itself",
            earlier.path,
            first,
            search.trials,
        )
    return given


def _within(knob: Knob, chosen: Params) -> float | str:
    """What was chosen, as near as the knob allows; the usual where nothing was."""
    if isinstance(knob, Choice):
        return str(chosen[knob.name]) if chosen.get(knob.name) in knob.options else knob.default
    value = chosen.get(knob.name, knob.default)
    if isinstance(value, str):  # an option of that name was one of several words
        return knob.default
    value = min(max(value, knob.low), knob.high)
    return float(round(value)) if knob.whole else value


def _resting_on(spec: Spec) -> list[object]:
    """What of a spec probes rest on."""
    space, sampler = spec.search_space, spec.search.sampler
    return [spec.model, spec.data, spec.task, space.use, space.form, spec.scorer, spec.strategy, sampler]
