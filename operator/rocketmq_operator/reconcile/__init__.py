"""From what is and what is wanted to the next safe steps: observation, pure plans with reasons, and their execution."""
