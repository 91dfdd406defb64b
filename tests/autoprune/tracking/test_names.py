from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprune.spec import Document
from autoprune.tracking._records import key
from autoprune.tracking._store import quietly
from autoprune.tracking._uri import page_base, tracking_uri
from autoprune.tracking.links import shown_at

names = st.text(max_size=300) | st.text(alphabet="a./[]-_ 0:层", max_size=300)


@pytest.fixture(scope="module")
def validation():
    with quietly():
        import mlflow.utils.validation

        return mlflow.utils.validation


@pytest.mark.slow
@given(name=names, prefix=st.sampled_from(["ratio", "objective", ""]))
def test_mlflow_takes_every_key(validation, name, prefix):
    made = key(prefix, name)
    validation._validate_metric_name(made)
    validation._validate_param_name(made)
    assert len(made) <= 250
    assert made.startswith(prefix)


@given(first=names, second=names)
def test_different_names_get_different_keys(first, second):
    assert (key("ratio", first) == key("ratio", second)) == (first == second)


def test_plain_names_stay_as_they_are():
    assert key("ratio", "layer1.0.conv1") == "ratio/layer1.0.conv1"
    assert key("", "search.sampler.use") == "search.sampler.use"


@pytest.fixture
def resolve(synthetic, tmp_path):
    """The URI of a study whose spec lies in ``specs`` and says that."""

    def resolve(uri=None, **options):
        study = synthetic.study(tmp_path / "study", uri=uri)
        study.spec._document = Document(folder=tmp_path / "specs")
        return tracking_uri(study, **options)

    return resolve


def test_a_path_in_the_spec_is_relative_to_the_spec(resolve, tmp_path):
    assert resolve("sqlite:///db/mlflow.db") == f"sqlite:///{tmp_path}/specs/db/mlflow.db"
    assert resolve("sqlite:///../m.db?timeout=1") == f"sqlite:///{tmp_path}/m.db?timeout=1"
    assert resolve("sqlite:////var/m.db") == "sqlite:////var/m.db"
    assert resolve("sqlite:///:memory:") == "sqlite:///:memory:"
    assert resolve("https://mlflow.example/team") == "https://mlflow.example/team"


def test_where_a_study_is_shown(synthetic, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = synthetic.study(tmp_path / "my runs" / "study", uri="https://me:secret@host/team/")
    study.folder.mkdir(parents=True)
    assert shown_at(study) is None, "nothing is there yet"
    (study.folder / "mlflow.json").write_text('{"study": "a1", "run_id": "b2", "experiment_id": "3"}')
    assert shown_at(study).startswith("https://host/team/#/experiments/3/runs?viewStateShareKey=autoprune-b2&")
    local = synthetic.study(study.folder, uri="sqlite:///m.db")
    assert shown_at(local) == "autoprune ui 'my runs/study'"
    assert shown_at(synthetic.study(study.folder, uri="databricks")) is None
    assert shown_at(synthetic.study(study.folder, tracking={"enabled": False})) is None


def test_the_spec_beats_the_environment_beats_an_earlier_session_beats_the_default(resolve, tmp_path, monkeypatch):
    here = Path.cwd()
    earlier = "sqlite:////elsewhere/mlflow.db"
    assert resolve() == f"sqlite:///{here}/mlflow.db"
    assert resolve(earlier=earlier) == earlier
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///env.db")
    assert resolve(earlier=earlier) == f"sqlite:///{here}/env.db"
    assert resolve("http://spec.example", earlier=earlier) == "http://spec.example"


@pytest.mark.parametrize(
    ("uri", "base"),
    [
        ("http://me:secret@host:5000/", "http://host:5000"),
        ("https://host/mlflow/", "https://host/mlflow"),
        ("https://me@host/mlflow/", "https://host/mlflow"),
        ("http://me:a/b@c:d#e@host:5000/x", "http://host:5000/x"),
        ("postgresql+psycopg2://me:secret@db/mlflow", "http://127.0.0.1:5000"),
        ("databricks", None),
        ("databricks://profile", None),
    ],
)
def test_where_the_pages_are(uri, base):
    assert page_base(uri) == base
