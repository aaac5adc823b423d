"""What a client takes, by its headers (RFC 9110 §12)."""

from fastapi import Request


def accepts(request: Request, header: str, *names: str) -> bool:
    """Whether it asks for this: by one of its names or `*`, and not with a weight of 0."""
    weights = _weights(request, header)
    weight = next((weights[name] for name in (*names, "*") if name in weights), 0.0)
    return weight > 0


def prefers(request: Request, media_type: str, other: str) -> bool:
    """Whether it asks for this media type by its name, and not more for the other one."""
    weights = _weights(request, "accept")
    return weights.get(media_type, 0.0) > 0 and weights[media_type] >= weights.get(other, 0.0)


def _weights(request: Request, header: str) -> dict[str, float]:
    """How much it wants each; what has no weight that can be read is not wanted."""
    weights: dict[str, float] = {}
    for item in ",".join(request.headers.getlist(header)).lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        weight = next((value.removeprefix("q=") for value in parameters if value.startswith("q=")), "")
        try:
            weights[name] = float(weight or 1)
        except ValueError:
            weights[name] = 0.0
    return weights
