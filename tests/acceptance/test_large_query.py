"""Query strings that fill more than one packet, over a real socket."""

from tests.acceptance.process import Service
from tests.acceptance.test_logs import exchange


def ask(service: Service, query: str, authorization: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    """The status, headers and body of a list's answer, which has to be whole."""
    lines = [f"GET /api/v1/users?{query} HTTP/1.1", "Host: dossier", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in authorization.items()]
    answer = exchange(service, "\r\n".join([*lines, "", ""]).encode())

    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in fields)}
    assert len(body) == int(headers["content-length"])
    return int(status.split()[1]), headers, body


def test_a_long_query_string_is_refused_by_the_service(service: Service, authorization: dict[str, str]) -> None:
    status, headers, body = ask(service, "q=" + "x" * 60_000, authorization)

    assert (status, headers["content-type"]) == (400, "application/problem+json")
    assert b'"parameter":"q"' in body


def test_a_query_string_of_a_hundred_kilobytes_is_refused_by_name(
    service: Service, authorization: dict[str, str]
) -> None:
    for size in (65_536, 100_000, 200_000):
        status, headers, body = ask(service, "limit=1&name=" + "x" * size, authorization)

        assert (status, headers["content-type"]) == (400, "application/problem+json"), size
        assert b'"query_too_long"' in body
        assert b'"parameter":"name"' in body


def test_a_longer_url_is_refused_before_it_is_read_to_its_end(service: Service) -> None:
    for size in (300_000, 5_000_000):
        status, headers, body = ask(service, "q=" + "x" * size, {})

        assert (status, headers["content-type"]) == (414, "application/problem+json"), size
        assert b'"url_too_long"' in body
    assert service.http.get("/health").status_code == 200
    assert "Traceback" not in service.stderr


def test_headers_are_limited_together(service: Service) -> None:
    status, _, body = ask(service, "", {f"X-Filler-{number}": "x" * 7000 for number in range(20)})

    assert status == 431
    assert b'"headers_too_large"' in body


def test_what_is_no_http_is_a_problem_too(service: Service) -> None:
    answer = exchange(service, b"this is not HTTP\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"malformed_request"' in answer
    assert b"x-content-type-options: nosniff" in answer
