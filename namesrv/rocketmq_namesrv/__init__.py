"""RocketMQ's name server: which topic lives on which broker, at which address, and a small key-value store.

`routes` decides, `kv` keeps, `processor` answers, `app` owns sockets and time. Name servers share nothing with each other.
"""
