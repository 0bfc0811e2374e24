"""Why a model errs, which labels may be wrong, and which of two runs is better."""
