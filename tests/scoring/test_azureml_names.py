"""Where a script finds its model: azureml's lookup, inside a process of its own."""

from pathlib import Path

import pytest

from sanderling_scoring.azureml_names import (
    Model,
    ModelNotFoundException,
    ModelPathNotFoundException,
    UserErrorException,
)
from tests.scoring.conftest import Serve


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An app's root with one file model of two versions (and a tenth), and one folder model."""
    for name in ("digits/1/model.pkl", "digits/2/model.pkl", "digits/10/model.pkl", "net/1/weights/a.bin"):
        path = tmp_path / "azureml-models" / name
        path.parent.mkdir(parents=True)
        path.write_text(name)
    monkeypatch.setenv("AML_APP_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_version_the_highest_number_is_taken(root: Path) -> None:
    assert Model.get_model_path("digits") == str(root / "azureml-models/digits/10/model.pkl")


def test_a_version_is_taken_as_given(root: Path) -> None:
    assert Model.get_model_path("digits", version=2) == str(root / "azureml-models/digits/2/model.pkl")
    assert Model.get_model_path("digits", 1) == str(root / "azureml-models/digits/1/model.pkl")


def test_a_folder_model_is_its_folder(root: Path) -> None:
    assert Model.get_model_path("net") == str(root / "azureml-models/net/1/weights")


def test_a_file_in_the_working_directory_is_the_second_choice(root: Path) -> None:
    (root / "local.pkl").touch()
    assert Model.get_model_path("local.pkl") == "./local.pkl"


def test_a_miss_lists_what_is_there(root: Path) -> None:
    with pytest.raises(ModelNotFoundException, match=r"in root at \./nothing\..*digits/1/model\.pkl.*net/1/weights"):
        Model.get_model_path("nothing")
    with pytest.raises(ModelNotFoundException, match="version 3 of model digits not found"):
        Model.get_model_path("digits", version=3)


def test_a_miss_says_when_there_is_nothing_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AML_APP_ROOT", str(tmp_path))
    with pytest.raises(ModelNotFoundException, match="There are no models in"):
        Model.get_model_path("nothing")


def test_a_file_name_of_one_model_only_is_understood_with_a_warning(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Model.get_model_path("weights") == str(root / "azureml-models/net/1/weights")
    assert "no model is registered as 'weights'" in capsys.readouterr().err
    with pytest.raises(ModelNotFoundException):
        Model.get_model_path("model.pkl")


def test_a_version_folder_with_two_entries_is_refused(root: Path) -> None:
    (root / "azureml-models/digits/10/second").touch()
    with pytest.raises(ModelPathNotFoundException, match="can contain only 1 file or folder"):
        Model.get_model_path("digits")


def test_a_version_that_is_no_number_is_refused(root: Path) -> None:
    with pytest.raises(UserErrorException):
        Model.get_model_path("digits", version="1")  # type: ignore[arg-type]


def test_a_name_does_not_leave_the_models_folder(root: Path) -> None:
    with pytest.raises(ModelNotFoundException):
        Model.get_model_path("../azureml-models/digits")
    with pytest.raises(ModelNotFoundException):
        Model.get_model_path("")


def test_a_script_imports_the_names_and_finds_its_model_both_ways(serve: Serve, root: Path) -> None:
    source = """
        import os
        from azureml.core import VERSION, Model as First
        from azureml.core.model import Model
        from azureml.exceptions import WebserviceException
        import azureml.contrib.services.aml_request
        import azureml.core.model as module

        def init():
            assert First is Model and module.Model is Model

        def run(data):
            folder = os.getenv("AZUREML_MODEL_DIR")
            return [Model.get_model_path("digits"), open(os.path.join(folder, "digits", "2", "model.pkl")).read()]
    """
    with serve(source, env={"AZUREML_MODEL_DIR": str(root / "azureml-models")}).client() as client:
        assert client.post("/score").json() == [str(root / "azureml-models/digits/10/model.pkl"), "digits/2/model.pkl"]
