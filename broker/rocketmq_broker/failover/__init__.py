"""Who is master of a broker group: a lease, elections, in-sync sets. Decisions are pure here; their effects are in `succession`."""
