"""Photos and their labels on disk: layouts, audit, corrections, reading, folds."""
