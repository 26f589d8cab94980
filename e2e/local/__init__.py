"""Our own processes on this machine: crashes, bad input, bad configuration."""
