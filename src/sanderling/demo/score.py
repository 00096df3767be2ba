"""The scoring script of the demo: azureml style, as it goes into the image.

Input: {"data": [[64 numbers from 0 to 16], ...]}, one list for each digit.
Output: the digits, [3, 8, ...].
"""

import json
import os
from typing import Any

import joblib
import numpy

model: Any = None


def init() -> None:
    global model
    model = joblib.load(os.path.join(os.environ["AZUREML_MODEL_DIR"], "model.pkl"))


def run(raw_data: str) -> Any:
    digits = numpy.array(json.loads(raw_data)["data"])
    return model.predict(digits).tolist()
