"""A guard for regular expressions from callers: it admits only those that MongoDB answers truly and soon.

MongoDB's PCRE gives up after 200,000 steps at one place of a text, or where groups call too deep, and then answers
"no match", which would be a lie (seen: `a.*a.*y|xb` misses a text of 632 characters, a's that end in `xb`). What it
does not give up can hold a server for a minute, deaf to time limits. So a pattern is read here first: whatever could
start either is refused, and the steps of its worst case are counted.
"""

import re
import string
from collections import Counter
from math import comb

MAX_PATTERN_LENGTH = 128
MAX_STEPS = 200_000
"""PCRE's match limit, as MongoDB builds it."""

QUANTIFIER = re.compile(r"(?:[*+?]|\{(?P<least>\d{1,5})(?P<open>,(?P<most>\d{1,5})?)?\})[?+]?")
CHARACTER_CLASS = re.compile(r"\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]", re.DOTALL)
ESCAPE = re.compile(
    r"\\(?:[dDwWsShHvVNbBAzZtnrf]|x[0-9A-Fa-f]{2}|x\{[0-9A-Fa-f]{1,6}\}|[pP]\{\^?\w+\}|[^\w])", re.ASCII
)

Steps = Counter[int]
"""Ways to match, as a polynomial: {number of unbounded quantifiers: coefficient}."""

_literals = str.maketrans({character: f"\\{character}" for character in string.punctuation} | {"\0": r"\x00"})


class RefusedPatternError(ValueError):
    """A pattern that is not admitted: which rule it breaks, and at which character, counted from 0."""

    def __init__(self, rule: str, position: int) -> None:
        super().__init__(f"{rule} (at character {position})")


def literal_pattern(text: str) -> str:
    """A pattern that finds the text itself, anywhere."""
    return text.translate(_literals)


def check_pattern(pattern: str, max_text_length: int) -> None:
    """Admit a pattern of at most 128 characters for texts of at most so many, or raise RefusedPatternError."""
    reader = _PatternReader(pattern)
    steps = sum(ways * comb(max_text_length + unbounded, unbounded) for unbounded, ways in reader.read().items())
    if steps > MAX_STEPS:
        raise RefusedPatternError(
            f"too many repetitions: {steps:,} steps on {max_text_length} characters, {MAX_STEPS:,} are allowed",
            reader.last_quantifier,
        )


class _PatternReader:
    """Reads PCRE's plain part by recursive descent."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.position = 0
        self.last_quantifier = 0

    def read(self) -> Steps:
        steps = self._alternatives()
        if self.position < len(self.pattern):
            self._refuse("a ) without its (")
        return steps

    def _refuse(self, rule: str, position: int | None = None) -> None:
        raise RefusedPatternError(rule, self.position if position is None else position)

    def _next(self) -> str:
        return self.pattern[self.position : self.position + 1]

    def _alternatives(self) -> Steps:
        steps = self._sequence()
        while self._next() == "|":
            self.position += 1
            steps += self._sequence()
        return steps

    def _sequence(self) -> Steps:
        steps = Steps({0: 1})
        while self._next() not in {"", "|", ")"}:
            steps = _multiply(steps, self._quantified())
        return steps

    def _quantified(self) -> Steps:
        start = self.position
        atom = self._group() if self._next() == "(" else self._character()
        quantifier = QUANTIFIER.match(self.pattern, self.position)
        if quantifier is None:
            return atom
        inside = self.pattern[start + 1 : self.position - 1]
        if self.pattern[start] == "(" and _is_composed(inside):
            self._refuse("a quantifier over a group that repeats, alternates or holds a group")
        self.last_quantifier = self.position
        self.position = quantifier.end()
        if QUANTIFIER.match(self.pattern, self.position):
            self._refuse("a quantifier over a quantifier")
        return _repetitions(quantifier)

    def _group(self) -> Steps:
        start = self.position
        if self.pattern.startswith("(?", start) and not self.pattern.startswith("(?:", start):
            self._refuse("of the groups that start with (? only (?: is allowed, no look-around")
        if self.pattern.startswith("(*", start):
            self._refuse("no PCRE verbs")
        self.position += 3 if self.pattern.startswith("(?:", start) else 1
        steps = self._alternatives()
        if self._next() != ")":
            self._refuse("a ( without its )", start)
        self.position += 1
        return steps

    def _character(self) -> Steps:
        match self._next():
            case "\\":
                found = ESCAPE.match(self.pattern, self.position)
                rule = "this escape is not allowed; there are no backreferences"
            case "[":
                found = CHARACTER_CLASS.match(self.pattern, self.position)
                rule = "a [ without its ]"
            case "*" | "+" | "?":
                found, rule = None, "a quantifier with nothing to repeat"
            case _:
                self.position += 1
                return Steps({0: 1})
        if found is None:
            self._refuse(rule)
        else:
            self.position = found.end()
        return Steps({0: 1})


def _is_composed(inside: str) -> bool:
    """Whether a group holds a quantifier, an alternative or a group."""
    plain = CHARACTER_CLASS.sub("", ESCAPE.sub("", inside.removeprefix("?:")))
    return QUANTIFIER.search(plain) is not None or "|" in plain or "(" in plain


def _repetitions(quantifier: re.Match[str]) -> Steps:
    if quantifier[0][0] == "?":
        return Steps({0: 2})
    if quantifier[0][0] in "*+" or (quantifier["open"] and not quantifier["most"]):
        return Steps({1: 1})
    least = int(quantifier["least"])
    return Steps({0: max(int(quantifier["most"] or least) - least, 0) + 1})


def _multiply(left: Steps, right: Steps) -> Steps:
    product = Steps()
    for left_degree, left_ways in left.items():
        for right_degree, right_ways in right.items():
            product[left_degree + right_degree] += left_ways * right_ways
    return product
