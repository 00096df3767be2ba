"""AMLRequest, AMLResponse and `@rawhttp`, without Flask.

In azureml the first two are Flask's classes. Scripts use a small part of them,
which is here under the same names; files of a multipart form are not.
"""

from __future__ import annotations

import json as _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Optional, TypeVar, Union

    from sanderling_scoring.http_parser import Request

    Function = TypeVar("Function", bound=Callable[..., Any])

_MARK = "_sanderling_is_rawhttp"


def rawhttp(run: Function) -> Function:
    """Mark run() as one that takes an AMLRequest and answers GET, POST and OPTIONS itself."""
    setattr(run, _MARK, True)
    return run


def is_rawhttp(run: object) -> bool:
    """Whether run() was decorated with `@rawhttp`."""
    return getattr(run, _MARK, False) is True


class Headers:
    """Header fields in order; names compare without case; one name may come more than once."""

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields = [(str(name), str(value)) for name, value in fields]

    def get(self, name: str, default: Any = None) -> Any:
        """Return the first value of that name."""
        for known, value in self._fields:
            if known.lower() == name.lower():
                return value
        return default

    def add(self, name: str, value: Any) -> None:
        """Append one more field."""
        self._fields.append((str(name), str(value)))

    def items(self) -> list[tuple[str, str]]:
        """Return all fields as (name, value)."""
        return list(self._fields)

    def keys(self) -> list[str]:
        """Return all names, in order."""
        return [name for name, _ in self._fields]

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return str(value)

    def __setitem__(self, name: str, value: Any) -> None:
        self._fields = [field for field in self._fields if field[0].lower() != name.lower()]
        self.add(name, value)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Any:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


class Arguments(dict):  # type: ignore[type-arg]  # a generic base costs the import of typing
    """The query's parameters: the first value by name, all of them with `getlist`."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        super().__init__()
        self._lists: dict[str, list[str]] = {}
        for name, value in pairs:
            self._lists.setdefault(name, []).append(value)
            self.setdefault(name, value)

    def getlist(self, name: str) -> list[str]:
        """Return every value given under that name."""
        return list(self._lists.get(name, ()))


class AMLRequest:
    """What a `@rawhttp` run() is given: one HTTP request."""

    def __init__(self, request: Request) -> None:
        path, _, query = request.target.partition("?")
        self.method = request.method
        self.path = path
        self.full_path = request.target
        self.query_string = query.encode("ascii")
        self.url = f"http://{request.headers.get('host', 'localhost')}{request.target}"
        self.headers = Headers((name.title(), value) for name, value in request.headers.items())
        self.data = request.body
        self.content_type = request.headers.get("content-type")
        self.content_length = len(request.body)
        self._args: Optional[Arguments] = None

    @property
    def args(self) -> Arguments:
        """The query's parameters."""
        if self._args is None:
            from urllib.parse import parse_qsl

            self._args = Arguments(parse_qsl(self.query_string.decode("ascii"), keep_blank_values=True))
        return self._args

    @property
    def is_json(self) -> bool:
        """Whether the body says of itself that it is JSON."""
        kind = (self.content_type or "").partition(";")[0].strip().lower()
        return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))

    @property
    def json(self) -> Any:
        """The body, parsed; raises ValueError when it is no JSON."""
        return self.get_json()

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """Return the body, parsed; with `silent`, None when it is no JSON."""
        try:
            if not (force or self.is_json):
                raise ValueError("the request's content type is not application/json")
            return _json.loads(self.data)
        except ValueError:
            if silent:
                return None
            raise

    def get_data(self, cache: bool = True, as_text: bool = False, parse_form_data: bool = False) -> Union[bytes, str]:
        """Return the body as bytes, or as text."""
        return self.data.decode("utf-8", "replace") if as_text else self.data


class AMLResponse:
    """What a script answers when it chooses status and header fields itself.

    *message* None is `{}`; with `json_str` it is turned into JSON; else it is
    sent as it is: text, bytes, or an iterable of text.
    """

    def __init__(
        self,
        message: Any,
        status_code: int,
        response_headers: Optional[dict[str, str]] = None,
        json_str: bool = False,
        run_function_failed: bool = False,
    ) -> None:
        self.status_code = int(status_code)
        self.headers = Headers()
        if message is None or json_str:
            self.headers.add("Content-Type", "application/json")
            self.set_data("{}" if message is None else _json.dumps(message))
        else:
            if not isinstance(message, (bytes, bytearray)) or not response_headers:
                self.headers.add("Content-Type", "text/html; charset=utf-8")
            self.set_data(message)
        self.headers["x-ms-run-function-failed"] = str(bool(run_function_failed))
        for name, value in (response_headers or {}).items():
            if name.lower() == "content-type":
                self.headers[name] = value
                continue
            for part in str(value).split(","):
                self.headers.add(name, part.strip())

    def get_data(self, as_text: bool = False) -> Union[bytes, str]:
        """Return the body."""
        return self._data.decode() if as_text else self._data

    def set_data(self, value: Any) -> None:
        """Replace the body."""
        if isinstance(value, str):
            self._data = value.encode()
        elif isinstance(value, (bytes, bytearray, memoryview)):
            self._data = bytes(value)
        else:
            self._data = b"".join(part.encode() if isinstance(part, str) else bytes(part) for part in value)

    @property
    def data(self) -> bytes:
        """The body."""
        return self._data
