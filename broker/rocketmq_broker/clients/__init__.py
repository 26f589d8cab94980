"""Who is connected: producers, consumer groups with their members and subscriptions, orderly queue locks."""
