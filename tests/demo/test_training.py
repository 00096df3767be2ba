import json
from pathlib import Path

import pytest
import yaml

from sanderling.demo import score
from sanderling.demo.training import train


def test_the_script_says_what_the_model_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = train(tmp_path)
    assert training.accuracy > 0.95
    assert len(training.digits) == len(training.truth) == len(training.expected) == 360
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(tmp_path))
    score.init()
    assert score.run(json.dumps({"data": training.digits})) == training.expected
    assert training.script.read_text() == Path(score.__file__).read_text()


def test_the_environment_pins_what_training_used(tmp_path: Path) -> None:
    import sklearn

    environment = yaml.safe_load(train(tmp_path).environment.read_text())
    assert f"scikit-learn=={sklearn.__version__}" in environment["dependencies"][-1]["pip"]


def test_two_trainings_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = train(tmp_path / "a"), train(tmp_path / "b")
    assert first.model.read_bytes() == second.model.read_bytes()
    assert first.expected == second.expected
