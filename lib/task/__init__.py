"""What a model learns and how it is scored: attributes, soft targets, ordered attributes."""
