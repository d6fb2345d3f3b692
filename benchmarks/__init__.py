"""Benchmarks: Nadi beside a plain build of the same job, on the same machine, by turns."""
