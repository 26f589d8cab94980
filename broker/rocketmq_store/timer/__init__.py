"""The timer wheel on disk: slots of a second each, and a log of units that the slots chain; Apache's files, byte for
byte."""
