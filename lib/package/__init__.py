"""A sealed submission: a folder that reproduces one row of the ledger without network."""
