"""Everything that trains a model: the recipe, and each ingredient that it puts together."""
