"""Conda names that need no conda.

`FROM_CONDA` is for projects that are one and the same on PyPI (conda name to
PyPI name); it holds only what is certain. `REPLACED` are packages of azureml
whose work sanderling_scoring does.
"""

_SAME = """
attrs beautifulsoup4 boto3 catboost certifi click cloudpickle cython
dill fastapi flask gensim h5py httpx imbalanced-learn jinja2
joblib lightgbm lxml matplotlib narwhals networkx nltk numba
numexpr numpy onnx onnxruntime openpyxl packaging pandas patsy
pillow plotly polars prometheus_client protobuf psutil pyarrow pydantic
python-dateutil pytz pywavelets pyyaml regex requests scikit-image scikit-learn
scipy seaborn setuptools shap simplejson six skl2onnx spacy
sqlalchemy statsmodels sympy tabulate tensorflow threadpoolctl tqdm transformers
typing_extensions tzdata urllib3 werkzeug wheel xgboost xlrd zstandard
"""

FROM_CONDA: dict[str, str] = {
    **{name: name for name in _SAME.split()},
    "matplotlib-base": "matplotlib",
    "py-xgboost": "xgboost",
    "msgpack-python": "msgpack",
    "seaborn-base": "seaborn",
}

REPLACED = frozenset(
    {
        "azureml-defaults",
        "azureml-core",
        "azureml-sdk",
        "azureml-model-management-sdk",
        "azureml-inference-server-http",
        "azureml-contrib-server",
        "azureml-contrib-services",
        "azureml-monitoring",
        "azureml-train",
        "azureml-train-core",
        "azureml-pipeline",
        "azureml-pipeline-core",
        "azureml-pipeline-steps",
        "azureml-telemetry",
        "azureml-widgets",
    }
)
