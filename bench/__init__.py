"""Measurements: what is fast, beside its limit in the same run."""
