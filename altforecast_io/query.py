"""SQL over the lake: an in-memory DuckDB with one view per table.

What belongs here: opening DuckDB over Parquet files and exporting to it. What does not: hot reads of the API (they use
`Lake.hot`). No process shares a .duckdb file: every process opens its own over the same Parquet.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from altforecast.errors import InputError
from altforecast.tables import TABLES, Table
from altforecast_io.lake import Lake

_DUCK_TYPES = {
    "String": "VARCHAR",
    "Float32": "REAL",
    "Float64": "DOUBLE",
    "Int64": "BIGINT",
    "Boolean": "BOOLEAN",
    "List(Float64)": "DOUBLE[]",
}


def connect(lake: Lake) -> duckdb.DuckDBPyConnection:
    """A new in-memory connection in UTC with a view for each table; tables without files are empty views."""
    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone='UTC'")
    connection.execute("SET autoinstall_known_extensions=false")
    connection.execute("SET autoload_known_extensions=false")
    for spec in TABLES.values():
        connection.execute(f'CREATE VIEW "{spec.name}" AS {_view_query(lake, spec)}')
    return connection


def _view_query(lake: Lake, spec: Table) -> str:
    if not lake.files(spec.name):
        columns = ", ".join(f'CAST(NULL AS {_duck_type(str(c.dtype))}) AS "{c.name}"' for c in spec.columns)
        return f"SELECT {columns} WHERE false"
    pattern = "timeframe=*/????-??.parquet" if spec.by_timeframe else "????-??.parquet"
    glob = str(lake.root / spec.name / pattern).replace("'", "''")
    columns = ", ".join(f'"{c.name}"' for c in spec.columns)
    return f"SELECT {columns} FROM read_parquet('{glob}', hive_partitioning=false, union_by_name=true)"


def _duck_type(dtype: str) -> str:
    return "TIMESTAMPTZ" if dtype.startswith("Datetime") else _DUCK_TYPES[dtype]


def export(lake: Lake, path: Path) -> dict[str, int]:
    """Copy every table into a new DuckDB file for analysts; returns rows per table. Raises InputError if the file exists."""
    if path.exists():
        raise InputError("file", str(path), "exists already; give a new name")
    connection = connect(lake)
    try:
        connection.execute(f"ATTACH '{str(path).replace(chr(39), chr(39) * 2)}' AS out")
    except duckdb.Error as error:
        raise InputError("file", str(path), f"cannot be written: {str(error).splitlines()[0]}") from None
    counts = {}
    for name in TABLES:
        connection.execute(f'CREATE TABLE out."{name}" AS SELECT * FROM "{name}"')
        row = connection.execute(f'SELECT count(*) FROM out."{name}"').fetchone()
        counts[name] = int(row[0]) if row else 0
    connection.execute("DETACH out")
    connection.close()
    return counts
