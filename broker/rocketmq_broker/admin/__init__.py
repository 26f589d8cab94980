"""Administration: the requests of mqadmin, the dashboard, the exporter and our own command line, one module per subject."""
