"""The broker: request processors over the store, services around them, and the composition root in `app`."""
