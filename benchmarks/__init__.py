"""What a run costs, next to raw Dask in the same run: one question a file, ``python -m benchmarks`` for all."""
