"""The guard for regular expressions: what it admits, and what it refuses and why."""

import re
import warnings
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.store.regex import MAX_PATTERN_LENGTH, RefusedPatternError, check_pattern, literal_pattern

LENGTH = 500
_parser: Any = import_module("re._parser")

classes = st.sampled_from(["[a-c]", "[^a]", "[]]", "[\\]]", "[\\]|]", "[b]", "[a", "b]", "[", "]"])
quantifiers = st.sampled_from(["*", "+", "?", "*?", "{2}", "{1,3}", "{2,}", "{", "}"])
groups = st.sampled_from(["(", "(?:", ")", "|", "(?=", "(*"])
characters = st.sampled_from(["a", "b", ".", " ", "é", "^", "$", "\\d", "\\w", "\\b", "\\.", "\\\\", "\\x41", "\\"])
patterns = st.lists(classes | quantifiers | groups | characters, max_size=30).map("".join)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "a",
        "北京",
        "^Ada",
        "a$",
        "a|b|",
        "(a|b)c",
        "(?:a|b)",
        "()",
        "((a))",
        "(abc)*",
        "(?:abc)+",
        "(abc){2,5}",
        "a*bc+",
        "a*?b+?",
        "a++b",
        "a{2}b{2,}c{2,5}",
        "a{b}",
        "a{",
        "[abc]",
        "[^abc]*",
        "[]a]",
        "[^]a]",
        "[a\\]b]",
        "[*+(|)]+",
        "([|*])+",
        "([\\]|])+",
        "(\\|)+",
        "(\\()*",
        "[[:alpha:]]",
        "[\\d.]+",
        "\\d\\w\\s\\b",
        "\\.\\*\\(",
        "\\x41\\x{1F600}",
        "\\p{Lu}\\P{Greek}",
        "\\n\\t",
        ".*",
        "a.*b.*c",
        "[a-z]+@[a-z]+\\.org",
        "[{,]",
        "\\{,3}",
        "]",
        "}",
    ],
)
def test_a_plain_pattern_is_admitted(pattern: str) -> None:
    check_pattern(pattern, LENGTH)


@pytest.mark.parametrize(
    ("pattern", "rule", "position"),
    [
        ("(a", "a ( without its )", 0),
        ("a)", "a ) without its (", 1),
        ("(a))", "a ) without its (", 3),
        ("[a", "a [ without its ]", 0),
        ("[a\\]", "a [ without its ]", 0),
        ("*a", "nothing to repeat", 0),
        ("a|+", "nothing to repeat", 2),
        ("(?a)", "only (?: is allowed", 0),
        ("a**", "a quantifier over a quantifier", 2),
        ("a{2}{3}", "a quantifier over a quantifier", 4),
        ("a*{2}", "a quantifier over a quantifier", 2),
        ("a{,3}", "write {0, instead of {,", 1),
        ("{,", "write {0, instead of {,", 0),
        ("(a{,}b)", "write {0, instead of {,", 2),
        ("a\0b", "write NUL as \\x00", 1),
        ("(a*)*", "repeats, alternates or holds a group", 4),
        ("(a+)+$", "repeats, alternates or holds a group", 4),
        ("(a|b)*", "repeats, alternates or holds a group", 5),
        ("^(a|b)*$", "repeats, alternates or holds a group", 6),
        ("(?:a?)+", "repeats, alternates or holds a group", 6),
        ("(a{2}){3}", "repeats, alternates or holds a group", 6),
        ("((a))*", "repeats, alternates or holds a group", 5),
        ("(?:(?:a))?", "repeats, alternates or holds a group", 9),
        ("(x(?:a|b)y){2}", "repeats, alternates or holds a group", 11),
        ("([a]|b)+", "repeats, alternates or holds a group", 7),
        ("(\\\\|b)+", "repeats, alternates or holds a group", 6),
        ("([\\]]|[b])+", "repeats, alternates or holds a group", 10),
        ("([\\]]*[b]?)*$", "repeats, alternates or holds a group", 11),
        ("([^\\]]*[b])+", "repeats, alternates or holds a group", 11),
        ("(a)\\1", "no backreferences", 3),
        ("\\g{1}", "no backreferences", 0),
        ("\\k<name>", "no backreferences", 0),
        ("a\\", "this escape is not allowed", 1),
        ("\\Qa\\E", "this escape is not allowed", 0),
        ("\\R", "this escape is not allowed", 0),
        ("\\X", "this escape is not allowed", 0),
        ("\\C", "this escape is not allowed", 0),
        ("\\K", "this escape is not allowed", 0),
        ("\\G", "this escape is not allowed", 0),
        ("(?=a)", "no look-around", 0),
        ("(?!a)", "no look-around", 0),
        ("(?<=a)b", "no look-around", 0),
        ("(?<!a)b", "no look-around", 0),
        ("(?>a)", "only (?: is allowed", 0),
        ("(?i)a", "only (?: is allowed", 0),
        ("(?<name>a)", "only (?: is allowed", 0),
        ("(?P<name>a)", "only (?: is allowed", 0),
        ("(?R)", "only (?: is allowed", 0),
        ("(?1)", "only (?: is allowed", 0),
        ("(?#)", "only (?: is allowed", 0),
        ("(?|a)", "only (?: is allowed", 0),
        ("a(?C1)", "only (?: is allowed", 1),
        ("(*UTF8)a", "no PCRE verbs", 0),
        ("(*LIMIT_MATCH=9)a", "no PCRE verbs", 0),
        ("a(*SKIP)", "no PCRE verbs", 1),
    ],
)
def test_each_rule_refuses_and_says_where(pattern: str, rule: str, position: int) -> None:
    with pytest.raises(RefusedPatternError) as caught:
        check_pattern(pattern, LENGTH)

    assert rule in str(caught.value)
    assert str(caught.value).endswith(f"(at character {position})")


@pytest.mark.parametrize(
    ("pattern", "length"),
    [
        ("a.*b.*c", 500),  # 501 and, as 502 over 2, 125,751
        ("a.*b.*c", 583),  # 171,404, and 100,000,000 // 583 is 171,526
        ("[a-z]+@[a-z]+\\.org", 500),
        (".*.*", 500),
        ("x*y*", 500),
        (".*", 9_999),
        ("(a|b)" * 15, 500),  # five calls for each after all ways before it: 5 * (2 to the 15th - 1) is 163,835
        ("a?" * 16, 500),  # two, likewise: 2 * (2 to the 16th - 1) is 131,070
        ("[a-z]{1,400}[0-9]{1,400}", 500),  # 400 + 400 * 400
        ("a{500}b{500}", 500),
        ("(?:a.*|b.*|c.*)d", 500),  # 3 alternatives, 1 group, 3 times 501 inside and on from it
        ("(ab)*c.*", 500),
        ("(ab){66665}", 500),  # 3 * 66,666 is 199,998
        ("a.*a.*y|xb", 583),  # 2 + 584 + 170,820
    ],
)
def test_what_stays_below_the_limit_of_steps_is_admitted(pattern: str, length: int) -> None:
    check_pattern(pattern, length)


@pytest.mark.parametrize(
    ("pattern", "length", "steps"),
    [
        ("a.*b.*c.*d", 500, "21,210,503"),  # 501, 502 over 2 and 503 over 3
        (".*.*.*", 500, "21,210,503"),
        ("a.*b.*c", 1000, "502,502"),
        ("a.*b.*c", 584, "171,990"),  # 100,000,000 // 584 is 171,232
        (".*", 10_000, "10,001"),
        ("(a|b)" * 16, 500, "327,675"),
        ("a?" * 17, 500, "262,142"),
        ("a{0,600}b{0,600}", 500, "361,802"),  # 601 + 601 * 601
        ("a{2,}b{2,}c{2,}", 500, "21,210,503"),
        ("(.*|.*)(.*|.*)", 500, "1,011,021"),  # 3 + 10 * 501 + 8 * 125,751
        ("(ab)*(cd)*", 500, "380,262"),  # 3 + 6 * 501 + 3 * 125,751
        ("(ab){66666}", 500, "200,001"),
        ("a.*a.*y|xb", 584, "171,992"),
        ("a.*a.*y|xb", 632, "201,296"),  # MongoDB 6.0.5 answers truly up to 631, and is wrong from here on
        ("a{٣}?" * 18, 500, "524,286"),  # to PCRE these are 18 times a text and a }?
    ],
)
def test_what_could_take_too_many_steps_is_refused(pattern: str, length: int, steps: str) -> None:
    with pytest.raises(RefusedPatternError, match=f"too many repetitions: {steps} steps on {length} characters"):
        check_pattern(pattern, length)


@pytest.mark.parametrize(
    ("length", "allowed"), [(1, "200,000"), (500, "200,000"), (501, "199,600"), (1024, "97,656"), (10_000, "10,000")]
)
def test_a_longer_text_has_more_places_and_so_fewer_steps_for_each(length: int, allowed: str) -> None:
    with pytest.raises(RefusedPatternError, match=f"on {length} characters, {allowed} are allowed"):
        check_pattern("a{0,2000}b{0,2000}", length)


@given(patterns, st.integers(1, 1024))
@example("(" * MAX_PATTERN_LENGTH, 500)
@example("(" * 64 + ")" * 64, 500)
@example("a*" * 64, 1024)
@example("a{0,99999}" * 12, 1024)
def test_any_pattern_is_admitted_or_refused(pattern: str, length: int) -> None:
    try:
        check_pattern(pattern[:MAX_PATTERN_LENGTH], length)
    except RefusedPatternError as error:
        assert "(at character " in str(error)  # noqa: PT017 - and nothing else may be raised


@given(st.text(max_size=MAX_PATTERN_LENGTH), st.integers(1, 1024))
def test_any_text_is_admitted_or_refused(pattern: str, length: int) -> None:
    try:
        check_pattern(pattern, length)
    except RefusedPatternError as error:
        assert "(at character " in str(error)  # noqa: PT017


@given(patterns)
@example("([\\]]*[b]?)*")
@example("([^\\]]|[b])+")
def test_what_is_admitted_repeats_nothing_that_repeats_or_alternates(pattern: str) -> None:
    try:
        check_pattern(pattern, LENGTH)
    except RefusedPatternError:
        return
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            parsed = _parser.parse(pattern)
    except re.error as error:
        # What PCRE and Python refuse alike is left to the server to say.
        known = {"nothing to repeat", "min repeat greater than max repeat", "unterminated character set"}
        assert error.msg in known or error.msg.startswith("bad character range")  # noqa: PT017
    else:
        assert not any(holds_choices(repeated) for repeated in repeated_parts(parsed))


def repeated_parts(parsed: Iterable[Any]) -> Iterator[Any]:
    """What stands under each quantifier, as Python's own parser reads the pattern."""
    for operator, argument in parsed:
        name = str(operator)
        if name.endswith("_REPEAT"):
            yield argument[2]
        for inner in inner_parts(name, argument):
            yield from repeated_parts(inner)


def holds_choices(parsed: Iterable[Any]) -> bool:
    return any(
        str(operator).endswith("_REPEAT")
        or str(operator) == "BRANCH"
        or any(holds_choices(inner) for inner in inner_parts(str(operator), argument))
        for operator, argument in parsed
    )


def inner_parts(name: str, argument: Any) -> list[Any]:
    if name.endswith("_REPEAT"):
        return [argument[2]]
    if name == "SUBPATTERN":
        return [argument[3]]
    return list(argument[1]) if name == "BRANCH" else []


@given(st.text(), st.text(max_size=20), st.text())
def test_a_literal_finds_its_text_anywhere(before: str, text: str, after: str) -> None:
    assert re.search(literal_pattern(text), before + text + after)
    assert re.fullmatch(literal_pattern(text), text)


@given(
    st.text(alphabet="ab.*+\\[]()^$|?{}-_\0\n ", max_size=6), st.text(alphabet="ab.*+\\[]()^$|?{}-_\0\n ", max_size=12)
)
def test_a_literal_finds_nothing_else(text: str, other: str) -> None:
    found = re.search(literal_pattern(text), other)

    assert (found is not None) == (text in other)


@given(st.text(max_size=20))
def test_a_literal_has_no_null_byte_and_the_server_takes_it(text: str) -> None:
    assert "\0" not in literal_pattern(text)
