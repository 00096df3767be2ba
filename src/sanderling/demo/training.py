"""A classifier of handwritten digits, and the files that an image of it is built from."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import joblib
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

HELD_OUT_SHARE = 0.2
SEED = 7
PINNED = ("scikit-learn", "numpy", "scipy", "joblib")


@dataclass(frozen=True, slots=True)
class Training:
    """What training gave.

    digits: the held-out digits, 64 numbers from 0 to 16 each.
    truth: which digit each of them is.
    expected: what the model in `model` itself says of each; it was loaded from the file again.
    """

    model: Path
    script: Path
    environment: Path
    trained_on: int
    digits: Sequence[Sequence[float]]
    truth: Sequence[int]
    expected: Sequence[int]

    @property
    def accuracy(self) -> float:
        """The share of held-out digits that the model gets right."""
        right = sum(e == t for e, t in zip(self.expected, self.truth, strict=True))
        return right / len(self.truth)


def train(folder: Path) -> Training:
    """Train on the digits that scikit-learn ships and write model.pkl, score.py and myenv.yml into *folder*."""
    digits, truth = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        digits, truth, test_size=HELD_OUT_SHARE, random_state=SEED, stratify=truth
    )
    model_file = folder / "model.pkl"
    joblib.dump(SVC(gamma=0.001, C=10).fit(train_x, train_y), model_file)
    script = folder / "score.py"
    script.write_bytes((files("sanderling.demo") / "score.py").read_bytes())
    environment = folder / "myenv.yml"
    environment.write_text(environment_text())
    return Training(
        model=model_file,
        script=script,
        environment=environment,
        trained_on=len(train_x),
        digits=test_x.tolist(),
        truth=test_y.tolist(),
        expected=joblib.load(model_file).predict(test_x).tolist(),
    )


def environment_text() -> str:
    """The conda environment file, with the versions that are training here."""
    lines = ["name: digits", "dependencies:", "  - python=3.11", "  - pip:"]
    return "\n".join([*lines, *(f"      - {name}=={version(name)}" for name in PINNED)]) + "\n"
