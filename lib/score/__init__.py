"""Everything after training: runs, predictions, metrics, ensembles, submissions, the ledger."""
