"""Notebooks as a program: their parameters, the stages, and the command that runs them headless."""
