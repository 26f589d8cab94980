"""RocketMQ's remoting protocol: commands without I/O, and an asyncio server and client over them.

`frames` splits bytes, `commands` gives them meaning, `headers` and `bodies` are their typed contents, `peer` is one end of a
connection without sockets, `server` and `client` own the sockets.
"""
