"""The text of a route's condition as a tree.

    or     := and (OR and)*
    and    := comparison (AND comparison)*
    comparison := concat ((= | != | <> | < | <= | > | >=) concat)?
    concat := sum (|| sum)*          sum := product ((+ | -) product)*       product := unary ((* | / | %) unary)*
    unary  := (- | NOT) unary | coalesced                                    coalesced := primary (?? primary)*
    primary := literal | property | function(...) | ( or )

Rules: what can be known to be wrong without a message is refused here (an unknown function, a number compared with
text); the tree is bounded in length and depth.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal as Choice

from sanderling.errors import Invalid

MAX_CHARS = 8192
_MAX_DEPTH = 40

Kind = Choice["number", "string", "boolean", "any"]


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal; `UNDEFINED` for the word ``undefined``."""

    value: object


@dataclass(frozen=True, slots=True)
class Property:
    """An application property ``name``; ``$name`` looks in three places; ``{$name}`` is a system property."""

    name: str
    scope: Choice["application", "any", "system"]


@dataclass(frozen=True, slots=True)
class BodyPath:
    """``$body.a.b[0]``."""

    steps: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator or function with its operands."""

    name: str
    operands: "tuple[Node, ...]"


Node = Constant | Property | BodyPath | Operation


class Undefined:
    """The value of what is not there. Compared with anything, it gives itself."""

    def __repr__(self) -> str:
        return "UNDEFINED"


UNDEFINED = Undefined()

# name -> (least and most operands, what it returns)
FUNCTIONS: Mapping[str, tuple[int, int, Kind]] = {
    **dict.fromkeys(("abs", "exp", "square", "ceiling", "floor", "sign", "sqrt", "as_number"), (1, 1, "number")),
    "power": (2, 2, "number"),
    **dict.fromkeys(("is_bool", "is_defined", "is_null", "is_number", "is_string"), (1, 1, "boolean")),
    "concat": (2, 20, "string"),
    "length": (1, 1, "number"),
    "lower": (1, 1, "string"),
    "upper": (1, 1, "string"),
    "substring": (2, 3, "string"),
    "index_of": (2, 2, "number"),
    "starts_with": (2, 2, "boolean"),
    "ends_with": (2, 2, "boolean"),
    "contains": (2, 2, "boolean"),
    "twin_change_includes": (1, 1, "boolean"),
}
_COMPARISONS = ("=", "!=", "<>", "<", "<=", ">", ">=")
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<hex>0[xX][0-9A-Fa-f]+)
    | (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<system>\{\$[A-Za-z_][A-Za-z0-9_.-]*\})
    | (?P<dollar>\$[A-Za-z_][A-Za-z0-9_]*)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<operator>\|\||\?\?|<=|>=|<>|!=|==|[-+*/%<>=().,\[\]])
    )""",
    re.VERBOSE | re.DOTALL,
)


def parse(text: str) -> Node:
    """Return the tree of a whole condition. Raises Invalid."""
    node, rest = parse_prefix(text)
    if rest:
        raise Invalid(f"the condition goes on where it should end: {rest[:60]!r}")
    return node


def parse_prefix(text: str) -> tuple[Node, str]:
    """Return the tree of the condition that *text* begins with, and the text after it (from ``INTO``)."""
    if len(text) > MAX_CHARS:
        raise Invalid(f"a condition has at most {MAX_CHARS} characters")
    parser = _Parser(text)
    node = parser.parse_or()
    if parser.kind_of(node) not in ("boolean", "any"):
        raise Invalid("the condition is not true or false: compare something")
    return node, text[parser.position :].lstrip()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    end: int


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self.position = 0
        self._depth = 0

    def parse_or(self) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise Invalid(f"the condition is nested deeper than {_MAX_DEPTH} levels")
        node = self._chain(self._parse_and, ("or",), None)
        self._depth -= 1
        return node

    def kind_of(self, node: Node) -> Kind:
        """What *node* gives when it gives anything."""
        match node:
            case Constant(value=bool()):
                return "boolean"
            case Constant(value=int() | float()):
                return "number"
            case Constant(value=str()) | Property(scope="application"):
                return "string"
            case Operation(name="and" | "or" | "not"):
                return "boolean"
            case Operation(name="+" | "-" | "*" | "/" | "%"):
                return "number"
            case Operation(name="||"):
                return "string"
            case Operation(name=name) if name in _COMPARISONS:
                return "boolean"
            case Operation(name=name) if name in FUNCTIONS:
                return FUNCTIONS[name][2]
        return "any"

    def _parse_and(self) -> Node:
        return self._chain(self._parse_comparison, ("and",), None)

    def _parse_comparison(self) -> Node:
        left = self._parse_concat()
        token = self._peek()
        if token is None or token.text not in (*_COMPARISONS, "=="):
            return left
        if token.text == "==":
            raise Invalid("'==' is not an operator of conditions: write '='")
        self.position = token.end
        right = self._parse_concat()
        kinds = {self.kind_of(left), self.kind_of(right)} - {"any"}
        if len(kinds) > 1:
            raise Invalid(f"{' and '.join(sorted(kinds))} cannot be compared; as_number(...) makes a number of text")
        return Operation(token.text, (left, right))

    def _parse_concat(self) -> Node:
        return self._chain(self._parse_sum, ("||",), None)

    def _parse_sum(self) -> Node:
        return self._chain(self._parse_product, ("+", "-"), "number")

    def _parse_product(self) -> Node:
        return self._chain(self._parse_unary, ("*", "/", "%"), "number")

    def _parse_unary(self) -> Node:
        token = self._peek()
        if token is not None and token.text.lower() in ("-", "not"):
            self.position = token.end
            self._depth += 1
            if self._depth > _MAX_DEPTH:
                raise Invalid(f"the condition is nested deeper than {_MAX_DEPTH} levels")
            operand = self._parse_unary()
            self._depth -= 1
            if token.text == "-":
                self._demand(operand, "number", "-")
                return Operation("negative", (operand,))
            # NOT binds tighter than a comparison in IoT Edge's grammar: NOT a = 'b' is refused, NOT (a = 'b') is meant.
            if self.kind_of(operand) not in ("boolean", "any"):
                raise Invalid("NOT works on what is true or false; put the comparison in parentheses")
            return Operation("not", (operand,))
        return self._chain(self._parse_primary, ("??",), None)

    def _parse_primary(self) -> Node:
        token = self._peek()
        if token is None:
            raise Invalid(f"the condition ends too early, or has an unknown sign: {self._rest()!r}")
        self.position = token.end
        match token.kind:
            case "hex":
                return Constant(int(token.text, 16))
            case "number":
                return Constant(float(token.text) if any(c in token.text for c in ".eE") else int(token.text[:400]))
            case "string":
                return Constant(re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL))
            case "system":
                return Property(token.text[2:-1], "system")
            case "dollar":
                return self._parse_body() if token.text == "$body" else Property(token.text[1:], "any")
            case "name":
                return self._parse_name(token)
        if token.text != "(":
            raise Invalid(f"the condition has {token.text!r} where a value should be")
        node = self.parse_or()
        self._expect(")")
        return node

    def _parse_name(self, token: _Token) -> Node:
        word = token.text.lower()
        words: dict[str, object] = {"true": True, "false": False, "null": None, "undefined": UNDEFINED}
        if word in words:
            return Constant(words[word])
        if word in ("and", "or", "not", "into", "where", "from", "select"):
            raise Invalid(f"the condition has the word {token.text!r} where a value should be")
        following = self._peek()
        if following is None or following.text != "(":
            name = token.text
            while (dot := self._peek()) is not None and dot.text == "." and (part := self._after_dot(dot)) is not None:
                name, self.position = f"{name}.{part.text}", part.end
            return Property(name, "application")
        if word not in FUNCTIONS:
            raise Invalid(f"{token.text!r} is not a function of conditions")
        self.position = following.end
        operands = [self.parse_or()]
        while (comma := self._peek()) is not None and comma.text == ",":
            self.position = comma.end
            operands.append(self.parse_or())
        self._expect(")")
        least, most, _ = FUNCTIONS[word]
        if not least <= len(operands) <= most:
            raise Invalid(f"the function {word!r} takes {least if least == most else f'{least} to {most}'} values")
        return Operation(word, tuple(operands))

    def _parse_body(self) -> Node:
        steps: list[str | int] = []
        while (token := self._peek()) is not None and token.text in (".", "["):
            if token.text == ".":
                if (part := self._after_dot(token)) is None:
                    raise Invalid("after '$body.' comes the name of a field")
                steps.append(part.text)
                self.position = part.end
                continue
            self.position = token.end
            index = self._peek()
            if index is None or index.kind not in ("number", "string"):
                raise Invalid("between '[' and ']' is the number of an element")
            self.position = index.end
            steps.append(index.text[1:-1] if index.kind == "string" else _index(index.text))
            self._expect("]")
        return BodyPath(tuple(steps))

    def _chain(self, parse_operand: Callable[[], Node], names: tuple[str, ...], kind: Kind | None) -> Node:
        node = parse_operand()
        while (token := self._peek()) is not None and token.text.lower() in names:
            self.position = token.end
            right = parse_operand()
            if kind is not None:
                self._demand(node, kind, token.text)
                self._demand(right, kind, token.text)
            node = Operation(token.text.lower(), (node, right))
        return node

    def _demand(self, node: Node, kind: Kind, operator: str) -> None:
        if self.kind_of(node) not in (kind, "any"):
            raise Invalid(f"{operator!r} works on a {kind}; as_number(...) makes a number of text")

    def _peek(self) -> _Token | None:
        found = _TOKEN.match(self._text, self.position)
        if found is None or found.lastgroup is None:
            return None
        return _Token(found.lastgroup, found[found.lastgroup], found.end())

    def _after_dot(self, dot: _Token) -> _Token | None:
        found = _TOKEN.match(self._text, dot.end)
        if found is None or found.lastgroup != "name":
            return None
        return _Token("name", found["name"], found.end())

    def _expect(self, text: str) -> None:
        token = self._peek()
        if token is None or token.text != text:
            raise Invalid(f"the condition lacks a {text!r} before {self._rest()!r}")
        self.position = token.end

    def _rest(self) -> str:
        return self._text[self.position : self.position + 60].strip()


def _index(text: str) -> int:
    if not text.isdigit() or len(text) > 9:
        raise Invalid("between '[' and ']' is the number of an element")
    return int(text)
