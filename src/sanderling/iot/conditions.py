"""Whether a message fulfils a route's condition.

Rules: three-valued logic, in which only true routes; what is not there is undefined, and so is a comparison of
different types; the body is read only when the message says it is JSON in a Unicode encoding.
"""

import json
import math
from dataclasses import dataclass, field

from sanderling.iot.condition_parser import UNDEFINED, BodyPath, Constant, Node, Operation, Property, Undefined, parse
from sanderling.iot.message import Message

_ENCODINGS = {"utf-8": "utf-8", "utf-16": "utf-16", "utf-32": "utf-32"}


@dataclass(frozen=True, slots=True)
class Condition:
    """A parsed condition. An empty text is always true."""

    text: str
    tree: Node = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Read a condition. Raises Invalid."""
        return cls(text, parse(text) if text.strip() else Constant(True))

    def is_true(self, message: Message) -> bool:
        """Whether *message* fulfils the condition."""
        return _Evaluation(message).value(self.tree) is True


class _Evaluation:
    """One message under examination; its body is parsed at most once."""

    def __init__(self, message: Message) -> None:
        self._message = message
        self._folded = {name.lower(): value for name, value in message.properties.items()}
        self._body: object = _NOT_READ

    def value(self, node: Node) -> object:
        match node:
            case Constant():
                return node.value
            case Property():
                return self._property(node)
            case BodyPath():
                return self._at(node.steps)
        if node.name in ("and", "or"):
            return self._logic(node)
        values = [self.value(operand) for operand in node.operands]
        if node.name == "??":
            return values[0] if not isinstance(values[0], Undefined) else values[1]
        if node.name == "not":
            return not values[0] if isinstance(values[0], bool) else UNDEFINED
        if len(values) == 2 and node.name in _COMPARE:
            return _compare(node.name, values[0], values[1])
        if node.name in _PREDICATES:
            return _PREDICATES[node.name](values[0])
        if node.name == "twin_change_includes":
            return UNDEFINED if not isinstance(values[0], str) else self._at(tuple(values[0].split("."))) != UNDEFINED
        if any(isinstance(value, Undefined) for value in values):
            return UNDEFINED
        return _number_of(node.name, values) if node.name in _NUMERIC else _text_of(node.name, values)

    def _logic(self, node: Operation) -> object:
        decisive = node.name == "or"
        values = [self.value(operand) for operand in node.operands]
        if any(value is decisive for value in values):
            return decisive
        return not decisive if all(value is (not decisive) for value in values) else UNDEFINED

    def _property(self, node: Property) -> object:
        if node.scope == "application":
            return self._application(node.name)
        if node.scope == "any":
            if (value := self._application(f"${node.name}")) is not UNDEFINED:
                return value
            if (value := self._at((node.name,))) is not UNDEFINED:
                return value
        return self._system(node.name)

    def _application(self, name: str) -> object:
        value = self._folded.get(name.lower(), UNDEFINED)
        return UNDEFINED if value is None else value

    def _system(self, name: str) -> object:
        message = self._message
        known: dict[str, str | None] = {key.lower(): value for key, value in message.system_properties.items()}
        known["connectiondeviceid"] = message.device_id
        known["connectionmoduleid"] = message.module_id
        known["outputname"] = message.output
        value = known.get(name.lower())
        return UNDEFINED if value is None else value

    def _at(self, steps: tuple[str | int, ...]) -> object:
        if self._body is _NOT_READ:
            self._body = _read_body(self._message)
        value = self._body
        for step in steps:
            if isinstance(step, str):
                value = value.get(step, UNDEFINED) if isinstance(value, dict) else UNDEFINED
            else:
                value = value[step] if isinstance(value, list) and step < len(value) else UNDEFINED
        return value


_NOT_READ = object()
_COMPARE = ("=", "!=", "<>", "<", "<=", ">", ">=")
_NUMERIC = ("+", "-", "*", "/", "%", "negative", "power", "abs", "exp", "square", "ceiling", "floor", "sign", "sqrt")
_PREDICATES = {
    "is_bool": lambda value: isinstance(value, bool),
    "is_defined": lambda value: not isinstance(value, Undefined),
    "is_null": lambda value: value is None,
    "is_number": lambda value: _is_number(value),
    "is_string": lambda value: isinstance(value, str),
}


def _read_body(message: Message) -> object:
    content_type = message.system_properties.get("contentType", "")
    encoding = _ENCODINGS.get(message.system_properties.get("contentEncoding", "").lower())
    if content_type.partition(";")[0].strip().lower() != "application/json" or encoding is None:
        return UNDEFINED
    try:
        return json.loads(message.body.decode(encoding))
    except (ValueError, RecursionError):
        return UNDEFINED


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _compare(name: str, left: object, right: object) -> object:
    if isinstance(left, Undefined) or isinstance(right, Undefined):
        return UNDEFINED
    is_equality = name in ("=", "!=", "<>")
    if left is None or right is None:
        return (left is right) is (name == "=") if is_equality else UNDEFINED
    if isinstance(left, bool) and isinstance(right, bool):
        return (left == right) is (name == "=") if is_equality else UNDEFINED
    if isinstance(left, str) and isinstance(right, str):
        return _order(name, (left > right) - (left < right))
    if _is_number(left) and _is_number(right):
        assert isinstance(left, int | float)
        assert isinstance(right, int | float)
        if math.isnan(left) or math.isnan(right):
            return name in ("!=", "<>")
        return _order(name, (left > right) - (left < right))
    return UNDEFINED


def _order(name: str, sign: int) -> bool:
    return {"=": sign == 0, "<": sign < 0, "<=": sign <= 0, ">": sign > 0, ">=": sign >= 0}.get(name, sign != 0)


def _number_of(name: str, values: list[object]) -> object:
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) != len(values):
        return UNDEFINED
    try:
        return _calculate(name, [float(number) for number in numbers])
    except OverflowError:
        return math.inf
    except (ZeroDivisionError, ValueError):
        return math.nan  # as IoT Edge has it for /0, %0 and the root of a negative number


def _calculate(name: str, numbers: list[float]) -> float:
    first, second = numbers[0], numbers[-1]
    match name:
        case "+":
            return first + second
        case "-":
            return first - second
        case "*":
            return first * second
        case "/":
            return first / second
        case "%":
            return math.fmod(first, second)
        case "power":
            return math.pow(first, second)
        case "negative":
            return -first
        case "abs":
            return abs(first)
        case "exp":
            return math.exp(first)
        case "square":
            return first * first
        case "ceiling":
            return float(math.ceil(first))
        case "floor":
            return float(math.floor(first))
        case "sign":
            return float((first > 0) - (first < 0))
    return math.sqrt(first)


def _text_of(name: str, values: list[object]) -> object:
    if name == "as_number":
        return _as_number(values[0])
    first, second = values[0], values[-1]
    if name == "substring":
        return _substring(values)
    if not isinstance(first, str) or not all(isinstance(value, str) for value in values):
        return UNDEFINED
    assert isinstance(second, str)
    match name:
        case "||" | "concat":
            return "".join(str(value) for value in values)
        case "length":
            return len(first)
        case "lower":
            return first.lower()
        case "upper":
            return first.upper()
        case "index_of":
            return first.find(second)
        case "starts_with":
            return first.startswith(second)
        case "ends_with":
            return first.endswith(second)
    return second in first


def _as_number(value: object) -> object:
    if _is_number(value):
        return value
    if not isinstance(value, str) or "_" in value:
        return UNDEFINED
    try:
        return float(value)
    except ValueError:
        return UNDEFINED


def _substring(values: list[object]) -> object:
    text, numbers = values[0], values[1:]
    if not isinstance(text, str):
        return UNDEFINED
    places: list[int] = []
    for number in numbers:
        if not isinstance(number, int | float) or not math.isfinite(number) or number < 0:
            return UNDEFINED
        places.append(int(number))
    return text[places[0] :] if len(places) == 1 else text[places[0] : places[0] + places[1]]
