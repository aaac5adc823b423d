"""Believable documents of any type, for trying things out and for measuring; the same ones for the same seed."""

from service.samples.sampler import Sampler

__all__ = ["Sampler"]
