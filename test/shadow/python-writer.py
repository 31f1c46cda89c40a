#!/usr/bin/env python3
"""A connected writer without any library: JSON-RPC 2.0 with Content-Length framing over a Unix socket.

Usage: python-writer.py SOCKET METADATA.json FLAG
Creates the file FLAG while it is frozen.
"""
import json
import os
import socket
import sys

PATH, METADATA, FLAG = sys.argv[1:4]


def send(stream, message):
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    stream.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    stream.flush()


def receive(stream):
    length = None
    while True:
        line = stream.readline()
        if not line:
            return None
        if line == b"\r\n":
            return json.loads(stream.read(length))
        name, value = line.split(b":", 1)
        if name.lower() == b"content-length":
            length = int(value)


def thaw():
    if os.path.exists(FLAG):
        os.unlink(FLAG)


def answer(request):
    event = request["event"]
    if event == "identify":
        with open(METADATA, encoding="utf-8") as file:
            return {"result": "ok", "metadata": json.load(file)}
    if event == "freeze":
        open(FLAG, "w", encoding="utf-8").close()
    elif event in ("thaw", "abort"):
        thaw()
    elif event == "post-snapshot":
        stamps = [
            {"logicalPath": c["logicalPath"], "name": c["name"], "backupStamp": "python " + c.get("previousBackupStamp", "first")}
            for c in request["components"]
        ]
        return {"result": "ok", "components": stamps}
    return {"result": "ok"}


connection = socket.socket(socket.AF_UNIX)
connection.connect(PATH)
with connection.makefile("rwb") as stream:
    send(stream, {"id": 1, "method": "writer.register", "params": {"protocol": "umbra-writer-1", "name": "python"}})
    while (message := receive(stream)) is not None:
        if message.get("method") == "event":
            send(stream, {"id": message["id"], "result": answer(message["params"])})
        elif "error" in message:
            sys.exit(message["error"]["message"])
# The coordinator has gone: a freeze must not outlive it.
thaw()
