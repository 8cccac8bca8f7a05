"""Benchmarks, run by hand: `python -m tests.bench.NAME [--quick] [--json FILE]`; results are kept in results/."""
