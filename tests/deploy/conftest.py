import warnings

with warnings.catch_warnings():
    # Ray 2.60 passes pydantic a Field argument that pydantic 2.14 deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    import ray.serve  # noqa: F401
