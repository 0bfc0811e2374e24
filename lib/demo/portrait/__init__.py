"""Synthetic people drawn with NumPy and OpenCV alone: traits, shapes, parts of a head, photos."""
