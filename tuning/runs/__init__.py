"""Where a cell runs and where its result is kept: cell, local pool, cluster, store."""
