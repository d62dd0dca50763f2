"""through.py AUTHORITY FILE STOP

Asks the index without pause, a new connection each time, until STOP is there; one download of FILE begins
before and ends after, and goes on meanwhile: a server ends one that stands still. Prints what it saw as JSON.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import sys
import time
from contextlib import closing
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

context = ssl.create_default_context(cafile=sys.argv[1])


def ask(path: str) -> tuple[HTTPSConnection, str]:
    connection = HTTPSConnection("localhost", context=context, timeout=30)
    connection.connect()
    assert isinstance(connection.sock, ssl.SSLSocket)
    found = connection.sock.getpeercert() or {}
    connection.request("GET", path)
    return connection, str(found["serialNumber"])


serials: list[str] = []
refused: list[str] = []
asked = 0
long, _ = ask(sys.argv[2])
answer = long.getresponse()
digest = hashlib.sha256()
read_at = 0.0
while not Path(sys.argv[3]).exists():
    asked += 1
    if time.monotonic() > read_at + 1:
        read_at = time.monotonic()
        digest.update(answer.read(1 << 16))
    try:
        connection, serial = ask("/simple/")
        with closing(connection):
            page = connection.getresponse()
            page.read()
        if page.status != 200:
            refused.append(str(page.status))
        if serial not in serials:
            serials.append(serial)
    except (OSError, HTTPException) as error:
        refused.append(str(error))
digest.update(answer.read())
print(json.dumps({"asked": asked, "refused": refused, "serials": serials, "sha256": digest.hexdigest()}))
