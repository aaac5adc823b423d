"""Metrics of this process, as a scrape has them."""

from prometheus_client.parser import text_string_to_metric_families

from service.observability.metrics import exposition


def value_of(name: str, **labels: str) -> float:
    """A series as it is now; what was never counted is 0."""
    samples = [
        sample
        for family in text_string_to_metric_families(exposition("")[0].decode())
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    return samples[0].value if samples else 0


def every_series() -> list[tuple[str, dict[str, str]]]:
    """The names and labels of those that there are."""
    families = text_string_to_metric_families(exposition("")[0].decode())
    return [(sample.name, sample.labels) for family in families for sample in family.samples]
