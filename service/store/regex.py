"""A guard for regular expressions from callers: it admits only those that MongoDB answers truly and soon.

MongoDB's PCRE gives up after 200,000 steps at one place of a text, or where groups call too deep, and then answers
"no match", which would be a lie (seen: `a.*a.*y|xb` misses a text of 632 characters, a's that end in `xb`). What it
does not give up can hold a server for a minute, deaf to time limits. So a pattern is read here first: whatever could
start either is refused, and the steps of its worst case are counted.
"""

import re
import string
from collections import Counter
from dataclasses import dataclass
from math import comb

MAX_PATTERN_LENGTH = 128
MAX_STEPS = 200_000
"""PCRE's match limit, as MongoDB builds it, for one place of a text; the estimate here is never below its count."""

MAX_STEPS_IN_ALL = 100_000_000
"""From all places of a text; about half a second, in which nothing can interrupt MongoDB."""

QUANTIFIER = re.compile(r"(?:[*+?]|\{(?P<least>\d{1,5})(?P<open>,(?P<most>\d{1,5})?)?\})[?+]?", re.ASCII)
CHARACTER_CLASS = re.compile(r"\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]", re.DOTALL)
ESCAPE = re.compile(
    r"\\(?:[dDwWsShHvVNbBAzZtnrf]|x[0-9A-Fa-f]{2}|x\{[0-9A-Fa-f]{1,6}\}|[pP]\{\^?\w+\}|[^\w])", re.ASCII
)

ESCAPE_OR_CLASS = re.compile(f"{ESCAPE.pattern}|{CHARACTER_CLASS.pattern}", re.ASCII | re.DOTALL)

Count = Counter[int]
"""A number that grows with the text, as {how many unbounded quantifiers: coefficient}."""


@dataclass(frozen=True, slots=True)
class Effort:
    """What a part of a pattern can cost: in how many ways it can match, and PCRE's calls to itself on these ways."""

    ways: Count
    calls: Count

    def then(self, following: "Effort") -> "Effort":
        """This part and then another: that one is tried after each way of this one."""
        return Effort(_multiply(self.ways, following.ways), self.calls + _multiply(self.ways, following.calls))


ONE_CHARACTER = Effort(Count({0: 1}), Count())
GROUP_CALLS = 3
"""For each turn of a group that repeats: into it, out of it, on to what follows."""

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
    if "\0" in pattern:
        raise RefusedPatternError("write NUL as \\x00", pattern.index("\0"))
    reader = _PatternReader(pattern)
    effort = reader.read()
    # Among n characters there are comb(n + k, k) ways to divide them between k unbounded quantifiers.
    steps = sum(calls * comb(max_text_length + unbounded, unbounded) for unbounded, calls in effort.calls.items())
    allowed = min(MAX_STEPS, MAX_STEPS_IN_ALL // max_text_length)
    if steps > allowed:
        raise RefusedPatternError(
            f"too many repetitions: {steps:,} steps on {max_text_length} characters, {allowed:,} are allowed",
            reader.last_quantifier,
        )


class _PatternReader:
    """Reads PCRE's plain part by recursive descent."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.position = 0
        self.last_quantifier = 0

    def read(self) -> Effort:
        effort = self._alternatives()
        if self.position < len(self.pattern):
            self._refuse("a ) without its (")
        return effort

    def _refuse(self, rule: str, position: int | None = None) -> None:
        raise RefusedPatternError(rule, self.position if position is None else position)

    def _next(self) -> str:
        return self.pattern[self.position : self.position + 1]

    def _alternatives(self) -> Effort:
        efforts = [self._sequence()]
        while self._next() == "|":
            self.position += 1
            efforts.append(self._sequence())
        if len(efforts) == 1:
            return efforts[0]
        ways, calls = Count(), Count({0: len(efforts)})
        for effort in efforts:
            ways += effort.ways
            calls += effort.calls
        return Effort(ways, calls)

    def _sequence(self) -> Effort:
        effort = ONE_CHARACTER  # or none: what cannot go two ways costs nothing
        while self._next() not in {"", "|", ")"}:
            effort = effort.then(self._quantified())
        return effort

    def _quantified(self) -> Effort:
        start = self.position
        is_group = self._next() == "("
        effort = self._group() if is_group else self._character()
        quantifier = QUANTIFIER.match(self.pattern, self.position)
        if quantifier is None:
            return effort
        if is_group and _is_composed(self.pattern[start + 1 : self.position - 1]):
            self._refuse("a quantifier over a group that repeats, alternates or holds a group")
        self.last_quantifier = self.position
        self.position = quantifier.end()
        if QUANTIFIER.match(self.pattern, self.position):
            self._refuse("a quantifier over a quantifier")
        ways = _repetitions(quantifier)
        if not is_group:
            return Effort(ways, ways)
        turns = ways + Count({0: int(quantifier["least"] or 1)})
        return Effort(ways, _multiply(turns, Count({0: GROUP_CALLS})))

    def _group(self) -> Effort:
        start = self.position
        if self.pattern.startswith("(?", start) and not self.pattern.startswith("(?:", start):
            self._refuse("of the groups that start with (? only (?: is allowed, no look-around")
        if self.pattern.startswith("(*", start):
            self._refuse("no PCRE verbs")
        self.position += 3 if self.pattern.startswith("(?:", start) else 1
        effort = self._alternatives()
        if self._next() != ")":
            self._refuse("a ( without its )", start)
        self.position += 1
        return Effort(effort.ways, effort.calls + effort.ways + Count({0: 1}))

    def _character(self) -> Effort:
        match self._next():
            case "\\":
                found = ESCAPE.match(self.pattern, self.position)
                rule = "this escape is not allowed; there are no backreferences"
            case "[":
                found = CHARACTER_CLASS.match(self.pattern, self.position)
                rule = "a [ without its ]"
            case "*" | "+" | "?":
                found, rule = None, "a quantifier with nothing to repeat"
            case "{" if self.pattern.startswith("{,", self.position):
                found, rule = None, "write {0, instead of {, which PCRE's versions understand differently"
            case _:
                self.position += 1
                return ONE_CHARACTER
        if found is None:
            self._refuse(rule)
        else:
            self.position = found.end()
        return ONE_CHARACTER


def _is_composed(inside: str) -> bool:
    """Whether a group holds a quantifier, an alternative or a group."""
    plain = ESCAPE_OR_CLASS.sub("", inside.removeprefix("?:"))
    return QUANTIFIER.search(plain) is not None or "|" in plain or "(" in plain


def _repetitions(quantifier: re.Match[str]) -> Count:
    """In how many ways one character, or a group, can repeat."""
    if quantifier[0][0] == "?":
        return Count({0: 2})
    if quantifier[0][0] in "*+" or (quantifier["open"] and not quantifier["most"]):
        return Count({1: 1})
    least = int(quantifier["least"])
    return Count({0: max(int(quantifier["most"] or least) - least, 0) + 1})


def _multiply(left: Count, right: Count) -> Count:
    product = Count()
    for left_degree, left_coefficient in left.items():
        for right_degree, right_coefficient in right.items():
            product[left_degree + right_degree] += left_coefficient * right_coefficient
    return product
