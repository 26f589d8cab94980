"""POP: the broker hands out messages for a time, takes acknowledgements one by one, and gives again what was not acknowledged."""
