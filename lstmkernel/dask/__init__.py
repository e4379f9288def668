"""A network on a Dask cluster: ``score`` runs it over a collection, ``gradients`` trains it on one.

    import dask.array as da
    from lstmkernel.dask import score

    out = score(net, da.from_array(x, chunks=(-1, 1000, -1)))  # (T, B, I) -> (T, B, O), 1000 rows to a task, lazily
    y = score(net, frame["readings"], last=True)  # a column of lists, as Parquet holds sequences of unequal length

Every row gets the bits that ``net`` gives on one machine. Needs Dask: ``pip install 'lstmkernel[dask]'``.
"""

try:
    import dask.array  # noqa: F401
except ImportError as error:
    raise ImportError(
        "lstmkernel.dask: expected Dask with its arrays, which is not installed; pip install 'lstmkernel[dask]'",
        name="dask",
    ) from error

from lstmkernel.dask.scoring import score
from lstmkernel.dask.training import gradients

__all__ = ["gradients", "score"]


def __dir__() -> list[str]:
    """The public names, without modules."""
    return sorted(__all__)
