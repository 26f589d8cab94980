"""What every other package shares: names, records, properties, settings and the seams to clock and files.

Nothing here opens a socket, and nothing here knows who uses it.
"""
