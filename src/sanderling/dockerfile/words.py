"""Words of an instruction: split, with variables put in and quotes taken off.

Source: Docker's Dockerfile reference, "Environment replacement".
"""

import re
from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SPECIAL = re.compile(r"[0-9@*#]")
MAX_DEPTH = 20
MAX_TEXT = 1 << 20


class WordInvalid(ValueError):
    """A word cannot be read; the message says why."""


def split_words(text: str, escape: str) -> list[str]:
    """*text* split at blanks that are neither quoted nor escaped; quotes and escapes stay. Raises WordInvalid."""
    words, word, quote, position = list[str](), "", "", 0
    while position < len(text):
        c = text[position]
        if quote:
            if c == escape and quote == '"' and position + 1 < len(text):
                word += c
                position += 1
                c = text[position]
            elif c == quote:
                quote = ""
        elif c.isspace():
            if word:
                words.append(word)
            word, c = "", ""
        elif c in "'\"":
            quote = c
        elif c == escape and position + 1 < len(text):
            word += c
            position += 1
            c = text[position]
        word += c
        position += 1
    if quote:
        raise WordInvalid(f"a {quote} is opened and not closed")
    return [*words, word] if word else words


def expand(word: str, variables: Mapping[str, str], escape: str) -> str:
    """*word* with variables put in and quotes and escapes taken off. Raises WordInvalid."""
    found = _Expansion(word, variables, escape, 0).run("")
    if len(found) > MAX_TEXT:
        raise WordInvalid("it gets too long with its variables")
    return found


class _Expansion:
    def __init__(self, text: str, variables: Mapping[str, str], escape: str, depth: int) -> None:
        self.text, self.variables, self.escape, self.depth = text, variables, escape, depth
        self.position = 0
        if depth > MAX_DEPTH:
            raise WordInvalid("variables are nested too deep")

    def run(self, stop: str) -> str:
        """Read up to the character *stop*, which is left; up to the end when it is empty."""
        found = list[str]()
        while self.position < len(self.text):
            c = self.text[self.position]
            if stop and c == stop:
                return "".join(found)
            self.position += 1
            if c == "'":
                found.append(self._single())
            elif c == '"':
                found.append(self._double())
            elif c == "$":
                found.append(self._variable())
            elif c == self.escape:
                found.append(self._take() if self.position < len(self.text) else "")
            else:
                found.append(c)
        if stop:
            raise WordInvalid("a '${' is opened and not closed")
        return "".join(found)

    def _take(self) -> str:
        self.position += 1
        return self.text[self.position - 1]

    def _single(self) -> str:
        end = self.text.find("'", self.position)
        if end < 0:
            raise WordInvalid("a ' is opened and not closed")
        piece, self.position = self.text[self.position : end], end + 1
        return piece

    def _double(self) -> str:
        found = list[str]()
        while self.position < len(self.text):
            c = self._take()
            if c == '"':
                return "".join(found)
            if c == "$":
                found.append(self._variable())
            elif c == self.escape and self.position < len(self.text):
                following = self._take()
                found.append(following if following in ('"', "$", self.escape) else c + following)
            else:
                found.append(c)
        raise WordInvalid('a " is opened and not closed')

    def _variable(self) -> str:
        if self.text[self.position : self.position + 1] == "{":
            self.position += 1
            return self._braced()
        match = _NAME.match(self.text, self.position)
        if match is None:
            if _SPECIAL.match(self.text, self.position):
                self.position += 1
                return ""  # a shell's own, of which there is none
            return "$"
        self.position = match.end()
        return self.variables.get(match[0], "")

    def _braced(self) -> str:
        match = _NAME.match(self.text, self.position)
        if match is None:
            raise WordInvalid("after '${' comes the name of a variable")
        name, self.position = match[0], match.end()
        value = self.variables.get(name)
        counts_empty = self.text[self.position : self.position + 1] == ":"
        self.position += counts_empty
        sign = self.text[self.position : self.position + 1]
        if not counts_empty and sign == "}":
            self.position += 1
            return value or ""
        if sign not in ("-", "+", "?") or not sign:
            raise WordInvalid(f"'${{{name}' can be followed by '}}', ':-', ':+' or ':?'")
        self.position += 1
        inner = _Expansion(self.text, self.variables, self.escape, self.depth + 1)
        inner.position = self.position
        other = inner.run("}")
        self.position = inner.position + 1
        is_set = value is not None and not (counts_empty and not value)
        if sign == "-":
            return value or "" if is_set else other
        if sign == "+":
            return other if is_set else ""
        if not is_set:
            raise WordInvalid(f"the variable {name} is not set: {other or 'it must be'}")
        return value or ""
