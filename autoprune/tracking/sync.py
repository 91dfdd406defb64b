"""Sending MLflow what it lacks of a study that has ended, was killed or was not recorded, for ``autoprune sync``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Never

from autoprune.errors import StudyError, TrackingError
from autoprune.host.plugins import PluginHost
from autoprune.plugin.results import FrontPoint, StudyInfo, StudyOutcome
from autoprune.spec.secrets import hint_of, masked
from autoprune.tracking._recorder import Recorder
from autoprune.tracking._registry import Version, check_name, register
from autoprune.tracking._state import own_uri
from autoprune.tracking._store import Store, cause_of
from autoprune.tracking._uri import given_uri
from autoprune.tracking.aliases import aliases
from autoprune.tracking.health import MISSING, installed


@dataclass(frozen=True)
class Sent:
    """What MLflow lacked, and has now."""

    trials: int
    models: int
    facts: Mapping[str, str]
    """Where it is: ``run_id``, ``experiment_id``, ``tracking_uri`` and the links."""
    versions: tuple[Version, ...] = ()
    """Of the registered model, those that aliases name."""


def send(
    study: StudyInfo,
    outcome: StudyOutcome,
    *,
    uri: str | None = None,
    name: str | None = None,
    host: PluginHost | None = None,
) -> Sent:
    """Record what is missing, each trial and each model once; nothing is run or opened.

    A study bears a mark, by which it is found at any server. So it may be sent to several, to each as often as one
    likes; where it goes when none is named stays as it was.

    Args:
        study: The study.
        outcome: How it stands.
        uri: Another store than the study's own; a path starts in the current folder.
        name: Of a registered model, to register the members that `aliases` names.
        host: Knows the components; the installed plugins if None.

    Raises:
        TrackingError: MLflow is not installed, cannot be reached or does not take something.
        StudyError: The name is none for MLflow, or a member that is to be registered has no saved model.
    """
    if not installed():
        raise TrackingError(MISSING)
    named = {}
    if name is not None:
        check_name(name)
        named = aliases(study, outcome, host or PluginHost())
        for point in named.values():
            if point.trial.model is None:
                raise StudyError(
                    f"trial {point.trial.number} has no saved model; autoprune resume {study.folder} measures again"
                )
    elsewhere = None if uri is None else given_uri(uri)
    sender = _Sender(
        study.model_copy(update={"finished": outcome.trials}),
        elsewhere=None if elsewhere == own_uri(study) else elsewhere,
    )
    facts = sender.start() or {}
    sender.finish(outcome.model_copy(update={"interrupted": outcome.interrupted and not _ended(study, outcome)}))
    versions = () if name is None else sender.register(name, named)
    return Sent(sender.sent["trials"], sender.sent["models"], facts, versions)


def _ended(study: StudyInfo, outcome: StudyOutcome) -> bool:
    """Whether a search of too few trials was ended by its own limits: then its front was measured on the test split."""
    limited = study.spec.search.timeout is not None or study.spec.search.patience is not None
    return limited and bool(outcome.front.points) and all(point.test for point in outcome.front.points)


class _Sender(Recorder):
    """Records as a search does, but whatever goes wrong ends it."""

    _searches = False

    def register(self, name: str, points: Mapping[str, FrontPoint]) -> tuple[Version, ...]:
        """Register members of the front, and move the aliases to them.

        Raises:
            TrackingError: MLflow cannot be reached, or does not take it.
        """
        found: list[Version] = []

        def step(store: Store) -> None:
            models = {
                model.tags.get("autoprune.trial"): model
                for model in store.models(self._experiment, "autoprune.study", self._mark)
                if model.ready and model.tags.get("autoprune.front") == "true"
            }
            named = {alias: models[str(point.trial.number)] for alias, point in points.items()}
            found.extend(register(store.uri, name, named, mark=self._mark))

        self._attempt("a registered model", step, final=True)
        return tuple(found)

    def _warn(self, what: str, error: Exception, *, final: bool) -> Never:  # noqa: ARG002  as the recorder calls it
        missing = len(self._results.keys() - self._children.keys())
        what = f"{missing} of {len(self._results)} trials" if what == "trials" else what
        where, cause = masked(self._uri, whole=True), f"{cause_of(error, self._uri)}{hint_of(self._uri)}"
        raise TrackingError(f"MLflow at {where} lacks {what} of study {self._study.name}: {cause}") from error
