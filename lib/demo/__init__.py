"""Data sets made here, so that everything can be tried offline, and the demo's leaderboard."""
