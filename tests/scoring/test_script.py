"""The forms of run(), in the real process."""

import httpx
import pytest

from tests.scoring.conftest import Serve

SCHEMA = """
    from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType as Kind
    from inference_schema.schema_decorators import input_schema, output_schema

    def init(): pass

    @input_schema("num", Kind(1))
    @input_schema("text", Kind("a"))
    @output_schema(Kind([1]))
    def run(num, text="b"):
        return [num, text]
"""


def test_run_may_ask_for_the_headers(serve: Serve) -> None:
    source = "def init(): pass\ndef run(data, request_headers): return [data, request_headers['X-Colour']]"
    with serve(source).client() as client:
        assert client.post("/score", content="x", headers={"x-colour": "red"}).json() == ["x", "red"]


def test_run_may_have_more_arguments_with_defaults(serve: Serve) -> None:
    with serve("def init(): pass\ndef run(data, factor=3): return data * factor").client() as client:
        assert client.post("/score", content="x").json() == "xxx"


@pytest.mark.parametrize(
    ("content", "content_type", "status", "message"),
    [
        ('{"num": 1}', "text/plain", 415, "Expects Content-Type to be application/json"),
        ("[1]", "application/json", 400, "POST body should be a JSON dictionary."),
        ("", "application/json", 400, "POST body is empty. Expecting a JSON dictionary."),
        ("{", "application/json", 400, "POST body could not be decoded as JSON: Expecting property name"),
        ('{"text": "x"}', "application/json", 400, "A value is not provided for the 'num' parameter."),
        ('{"num": "x"}', "application/json", 500, "An unexpected error occurred in scoring script."),
    ],
)
def test_a_schema_refuses_what_does_not_fit(
    serve: Serve, content: str, content_type: str, status: int, message: str
) -> None:
    pytest.importorskip("inference_schema")
    with serve(SCHEMA).client() as client:
        response = client.post("/score", content=content, headers={"Content-Type": content_type})
    assert response.status_code == status
    assert response.json()["message"].startswith(message)


def test_a_schema_gives_run_its_parameters_by_name(serve: Serve) -> None:
    pytest.importorskip("inference_schema")
    with serve(SCHEMA).client() as client:
        assert client.post("/score", json={"num": 2, "text": "x", "more": 1}).json() == [2, "x"]
        assert client.post("/score", json={"num": 2}).json() == [2, "b"]
        assert client.get("/score?num=3&text=y").json() == [3, "y"]
        assert client.get("/swagger.json").json()["definitions"]["ServiceInput"]["example"] == {"num": 1, "text": "a"}


def test_rawhttp_gets_the_request_and_answers_any_method(serve: Serve) -> None:
    source = """
        from azureml.contrib.services.aml_request import AMLRequest, rawhttp
        from azureml.contrib.services.aml_response import AMLResponse

        def init(): pass

        @rawhttp
        def run(request):
            assert isinstance(request, AMLRequest)
            if request.method == "GET":
                return {"args": request.args, "all": request.args.getlist("a"), "path": request.path}
            if request.method == "OPTIONS":
                return AMLResponse("options", 200)
            if request.is_json:
                return request.get_json()
            return AMLResponse(request.get_data()[::-1], 201, {"Content-Type": request.headers["content-type"]})
    """
    with serve(source).client() as client:
        assert client.get("/score?a=1&a=2&b=").json() == {
            "args": {"a": "1", "b": ""},
            "all": ["1", "2"],
            "path": "/score",
        }
        assert client.options("/score").text == "options"
        assert client.post("/score", json={"x": 1}).json() == {"x": 1}
        image: httpx.Response = client.post("/score", content=b"\x00\xff", headers={"Content-Type": "image/png"})
        assert (image.status_code, image.content, image.headers["content-type"]) == (201, b"\xff\x00", "image/png")


def test_a_pickle_finds_the_classes_of_the_script_by_its_name(serve: Serve) -> None:
    source = """
        import pickle
        class Scaler:
            factor = 3
        def init():
            global model
            model = pickle.loads(pickle.dumps(Scaler()))
        def run(data):
            return [type(model).__module__, model.factor]
    """
    with serve(source).client() as client:
        assert client.post("/score").json() == ["score", 3]


def test_init_and_run_share_the_main_thread(serve: Serve) -> None:
    source = """
        import sqlite3, threading
        def init():
            global base
            base = sqlite3.connect(":memory:")
        def run(data):
            assert threading.current_thread() is threading.main_thread()
            return base.execute("select 7").fetchone()
    """
    with serve(source).client() as client:
        assert client.post("/score").json() == [7]
