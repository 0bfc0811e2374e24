"""What is learned and scored: attributes, soft targets, probability tables, ordered attributes."""
