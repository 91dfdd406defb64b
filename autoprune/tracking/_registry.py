"""MLflow's model registry: members of a front as versions of one model, with aliases."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoprune.errors import StudyError
from autoprune.tracking._stored import StoredModel
from autoprune.tracking.aliases import ALIASES

_MODEL, _STUDY = "autoprune.model", "autoprune.study"


@dataclass(frozen=True)
class Version:
    """A version of a registered model."""

    number: str
    trial: int
    aliases: tuple[str, ...]
    new: bool
    """Whether it was not there before."""


def check_name(name: str) -> None:
    """Refuse what MLflow or its search cannot take for the name of a registered model.

    Raises:
        StudyError: It is none.
    """
    if not re.fullmatch(r"[^/:'\"`%\s]([^/:'\"`%]*[^/:'\"`%\s])?", name):
        raise StudyError(f"{name!r} is no name for a registered model: it holds none of / : ' \" ` %")


def register(uri: str, name: str, models: Mapping[str, StoredModel], *, mark: str) -> list[Version]:
    """Register models, each once, and move the aliases to them; call it inside `quietly`.

    Args:
        uri: Of the store that has the models.
        name: Of the registered model, which is made where there is none.
        models: By alias.
        mark: Of the study. Of its versions, those aliases go that it has no model for any more.

    Returns:
        The versions that the aliases name, each once.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(uri)
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(name)
    there: list[Any] = []
    token = None
    while token != "":
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        there += page
        token = page.token or ""
    known = {version.tags[_MODEL]: str(version.version) for version in there if _MODEL in version.tags}
    ours = {str(version.version) for version in there if version.tags.get(_STUDY) == mark}
    found: dict[str, Version] = {}
    for alias, model in models.items():
        before = found.get(model.model_id)
        number = before.number if before else known.get(model.model_id)
        if number is None:
            tags = {key: model.tags[key] for key in (_STUDY, "autoprune.trial", "autoprune.digest")}
            number = str(
                client.create_model_version(
                    name,
                    f"models:/{model.model_id}",
                    run_id=model.run_id,
                    tags={**tags, _MODEL: model.model_id},
                    description=model.tags.get("mlflow.note.content"),
                    model_id=model.model_id,
                ).version
            )
        client.set_registered_model_alias(name, alias, number)
        aliases = (*before.aliases, alias) if before else (alias,)
        trial, new = int(model.tags["autoprune.trial"]), model.model_id not in known
        found[model.model_id] = Version(number, trial, aliases, new)
    for alias, number in client.get_registered_model(name).aliases.items():
        if alias not in models and str(number) in ours and alias in ALIASES:
            client.delete_registered_model_alias(name, alias)
    return list(found.values())
