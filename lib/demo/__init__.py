"""Data sets made here, so that everything can be tried offline: synthetic people and their leaderboard."""
