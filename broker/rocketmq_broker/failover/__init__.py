"""Who is master of a broker group: election by a lease, in-sync sets, fencing, switchover. Decisions here are pure, effects in `succession`."""
