"""Members of the front as MLflow models: the files of a saved model, and what MLflow wants to know of them.

Nothing is opened or run to store one, and nothing of the data goes along: signature and example tell the forms of
inputs and outputs that the recipe has. A model is ready when everything of it is stored; what a kill or an outage left
half done is deleted and stored anew.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoprune.host.plugins import PluginHost
from autoprune.plugin.results import FrontPoint, StudyInfo
from autoprune.structure import Recipe, read_recipe
from autoprune.structure.saved.forms import Forms
from autoprune.structure.saved.opening import asks_trust
from autoprune.structure.saved.recipe import RECIPE_FILE
from autoprune.tracking import _records as records
from autoprune.tracking import pyfunc
from autoprune.tracking._store import Store
from autoprune.tracking._stored import StoredModel

_MOST_EXAMPLE = 200_000
"""Numbers in an example: it is stored as text, twice."""
_PACKAGES = {"huggingface": "transformers", "timm": "timm", "torchvision": "torchvision"}
"""What model sources need."""


@dataclass(frozen=True, eq=False)
class MemberModel:
    """The saved model of a member of the front, and what MLflow is told of it.

    Raises:
        StructureError: By `of`, if the folder holds no saved model.
    """

    study: StudyInfo
    point: FrontPoint
    run_id: str
    folder: Path
    recipe: Recipe
    digest: str
    """Of all its files."""
    asks_trust: bool
    """Whether code that it names has to run to open it."""

    @classmethod
    def of(cls, study: StudyInfo, point: FrontPoint, run_id: str, folder: Path, *, host: PluginHost) -> MemberModel:
        """Look at its files; the host knows the installed components."""
        recipe = read_recipe(folder)
        return cls(study, point, run_id, folder, recipe, _digest(folder), asks_trust(folder, recipe, host))

    @property
    def name(self) -> str:
        """Its name among the experiment's models."""
        study = re.sub(r"[^\w-]", "_", self.study.folder.name)
        return f"{study}-trial-{self.point.trial.number}"

    @property
    def uri(self) -> str:
        """By which MLflow opens it."""
        return f"runs:/{self.run_id}/{self.name}"

    @property
    def how_to_open(self) -> str:
        """The lines that load it, in Markdown."""
        uri = json.dumps(self.uri)
        live = self.recipe.form == "modules" and self.recipe.model.get("use") == "live"
        trust = self.asks_trust and not live
        option = ", dense=network" if live else ", trust=True" if trust else ""
        lines = [f"pruned = autoprune.load_pruned({uri}{option})  # for PyTorch"]
        if not live:
            config = ', model_config={"trust": True}' if trust else ""
            lines.append(f"model = mlflow.pyfunc.load_model({uri}{config})  # for arrays")
        told = ["```python", *lines, "```"]
        if live:
            told.append("The dense network was handed over from Python: nothing opens the model without one like it.")
        elif trust:
            told.append(f"{self._code()} That code runs when the model is opened.")
        elif self.recipe.form == "modules" and isinstance(path := self.recipe.portable().model.get("path"), str):
            told.append(f"The dense model is built from `{path}`, which is looked for in the current folder.")
        if self.recipe.mean is not None and self.recipe.std is not None:
            mean, std = ([round(each, 6) for each in some] for some in (self.recipe.mean, self.recipe.std))
            told.append(f"It takes inputs after `(x - mean) / std`, mean {mean}, std {std}.")
        return "\n".join(told)

    def _code(self) -> str:
        """What has to be trusted."""
        if self.recipe.plugins:
            return f"It brings code along, `{', '.join(self.recipe.plugins)}`."
        what = json.dumps(self.recipe.model, default=str)
        return f"It names code, `{what:.300}`, which is looked for in the current folder first."

    def metrics(self) -> dict[str, float]:
        """What was measured of it, objectives alone: by these the page of models is sorted."""
        values = dict(records.member_metrics(self.point))
        if not self.point.searched:
            values = records.trial_metrics(self.study, self.point.trial) | values
        sections = ("objective", "refined", "test", "whole_test")
        wanted = [records.key(section, name) for section in sections for name in self.study.objectives]
        return {name: values[name] for name in wanted if name in values}

    def pack(self, into: Path, model: StoredModel) -> None:
        """Write what MLflow keeps of it.

        Args:
            into: A folder that is not there yet; files of the saved model are linked.
            model: Its entry in MLflow.
        """
        import mlflow.pyfunc
        from mlflow.models import Model

        meta = Model(
            artifact_path=model.location, run_id=self.run_id, model_uuid=model.model_id, model_id=model.model_id
        )
        mlflow.pyfunc.save_model(
            into,
            loader_module=pyfunc.__name__,
            mlflow_model=meta,
            signature=_signature(self.recipe),
            input_example=_example(self.recipe.inputs),
            pip_requirements=_requirements(self.recipe),
            model_config=dict(pyfunc.OPTIONS),
        )
        own = into / pyfunc.FOLDER
        for file in _files(self.folder):
            link = own / file.relative_to(self.folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            if link != own / RECIPE_FILE:
                link.symlink_to(file.resolve())
        (own / RECIPE_FILE).write_text(self.recipe.portable().model_dump_json(indent=1), encoding="utf-8")
        meta.model_size_bytes = sum(file.stat().st_size for file in _files(own))
        meta.save(str(into / "MLmodel"))


def store_models(store: Store, experiment: str, mark: str, members: Mapping[MemberModel, str]) -> int:
    """Store the models that MLflow lacks, each once, and say of the study's others that they left the front.

    Args:
        store: Where.
        experiment: Its id.
        mark: Of the study.
        members: The front's, and what is to be said of each.

    Returns:
        How many it lacked.
    """
    wanted = {(member.run_id, member.digest): member for member in members}
    there = set()
    for model in store.models(experiment, "autoprune.study", mark):
        found = (model.run_id, model.tags.get("autoprune.digest", ""))
        if not model.ready:
            store.delete_model(model.model_id)
            continue
        there.add(found)
        front = "true" if found in wanted else "false"
        if model.tags.get("autoprune.front") != front:  # one that left may be registered, so it stays
            store.tag_model(model.model_id, {"autoprune.front": front})
    missing = [member for found, member in wanted.items() if found not in there]
    for member in missing:
        _store(store, experiment, mark, member, members[member])
    return len(missing)


def _store(store: Store, experiment: str, mark: str, member: MemberModel, sentence: str) -> None:
    trial = member.point.trial
    tags = {
        "autoprune.study": mark,
        "autoprune.trial": str(trial.number),
        "autoprune.digest": member.digest,
        "autoprune.front": "true",
        "mlflow.note.content": f"{sentence}\n\n{member.how_to_open}"[: records.MOST_TAG],
    }
    params = {name: value for name, value in records.trial_params(trial).items() if "/" not in name}
    model = store.create_model(experiment, member.name, run_id=member.run_id, tags=tags, params=params)
    with tempfile.TemporaryDirectory() as folder:
        member.pack(packed := Path(folder) / "model", model)
        store.model_files(model.model_id, packed)
    store.end_model(model.model_id, run_id=member.run_id, metrics=member.metrics())


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(folder: Path) -> str:
    whole = hashlib.sha256()
    for file in _files(folder):
        with file.open("rb") as content:
            of_one = hashlib.file_digest(content, "sha256").hexdigest()
        whole.update(f"{file.relative_to(folder).as_posix()}\0{of_one}\n".encode())
    return whole.hexdigest()


def _requirements(recipe: Recipe) -> list[str]:
    """With the versions that made it; builds of one version, such as ``+cpu``, are alike."""
    names = ["autoprune", "mlflow", "torch"]
    if recipe.form == "modules" and (package := _PACKAGES.get(str(recipe.model.get("use")))):
        names.append(package)
    return [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names]


def _signature(recipe: Recipe) -> Any:
    """MLflow's; None where the forms are not known."""
    from mlflow.models import ModelSignature

    if not recipe.inputs:
        return None
    inputs = {"": recipe.inputs["0"]} if list(recipe.inputs) == ["0"] else recipe.inputs
    return ModelSignature(_schema(inputs), _schema(recipe.outputs) if recipe.outputs else None)


def _schema(forms: Forms) -> Any:
    from mlflow.types.schema import Schema, TensorSpec

    return Schema([TensorSpec(np.dtype(form.dtype), _shape(form), name or None) for name, form in forms.items()])


def _shape(form: Any) -> tuple[int, ...]:
    """Any number of samples; of whole numbers, which are tokens, any number of each, too."""
    tokens = np.dtype(form.dtype).kind in "iu"
    return (-1, *(-1 if tokens else size for size in form.shape))


def _example(forms: Forms) -> Any:
    """A sample of nothing: zeros, ones where they are whole numbers or flags; None where it would be long."""
    if not forms or sum(int(np.prod(form.shape)) for form in forms.values()) > _MOST_EXAMPLE:
        return None
    arrays: Mapping[str, Any] = {
        name: np.full((1, *form.shape), 0 if np.dtype(form.dtype).kind == "f" else 1, form.dtype)
        for name, form in forms.items()
    }
    return arrays["0"] if list(arrays) == ["0"] else arrays
