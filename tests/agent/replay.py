# SPDX-License-Identifier: Apache-2.0
"""Calls of a device plugin replayed: all requests are bytes before the clock starts, one write sends them on one
connection, a stream each, and of the answers only the frames are read. So a latency holds what the agent does and next to
nothing of the client, which on a machine of two cores would work beside it."""
import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, GOAWAY = 0, 1, 4, 6, 7
END_STREAM, ACK, END_HEADERS = 1, 1, 4
STREAMS_SETTING = 3
HEAD = 9  # bytes before a frame's payload


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def text(value):
    """A header's text, not Huffman coded; up to 126 bytes."""
    return bytes([len(value)]) + value.encode()


def headers(method):
    """HPACK: indexed where the static table has the pair, else never kept."""
    return (b"\x83\x86" + b"\x04" + text(f"/v1beta1.DevicePlugin/{method}") + b"\x01" + text("localhost") +
            b"\x0f\x10" + text("application/grpc") + b"\x00" + text("te") + text("trailers"))


def device_ids(ids):
    """PreStartContainerRequest, and no other one: repeated string = 1."""
    return b"".join(b"\x0a" + bytes([len(name)]) + name.encode() for name in ids)


class Connection:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(40)
        self.socket.connect(path)
        self.left = b""
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0))
        self.most = None  # streams at once, by the server's settings
        while self.most is None:
            for kind, flags, _, payload in self.frames():
                if kind == SETTINGS and not flags & ACK:
                    said = dict(struct.unpack_from(">HI", payload, at) for at in range(0, len(payload), 6))
                    self.most = said.get(STREAMS_SETTING, 1 << 31)

    def frames(self):
        """Of one read; what must be answered is."""
        self.left += self.socket.recv(1 << 16)
        at, out = 0, []
        while len(self.left) - at >= HEAD:
            size = int.from_bytes(self.left[at:at + 3], "big")
            if len(self.left) - at - HEAD < size:
                break
            kind, flags, stream = struct.unpack_from(">BBI", self.left, at + 3)
            payload = self.left[at + HEAD:at + HEAD + size]
            at += HEAD + size
            if kind in (SETTINGS, PING) and not flags & ACK:
                self.socket.sendall(frame(kind, ACK, 0, payload if kind == PING else b""))
            if kind == GOAWAY:
                raise AssertionError(f"the agent hung up: {payload}")
            out.append((kind, flags, stream, payload))
        self.left = self.left[at:]
        return out

    def replay(self, method, all_ids):
        """[(milliseconds, whether it was granted)] of calls that go all at once: a granted one has a message."""
        assert len(all_ids) <= self.most, f"{self.most} streams at most"
        block = headers(method)
        wire = b""
        for i, ids in enumerate(all_ids):
            message = device_ids(ids)
            wire += frame(HEADERS, END_HEADERS, 2 * i + 1, block)
            wire += frame(DATA, END_STREAM, 2 * i + 1, struct.pack(">BI", 0, len(message)) + message)
        granted, done = set(), {}
        since = time.monotonic()
        self.socket.sendall(wire)
        while len(done) < len(all_ids):
            read = self.frames()
            now = time.monotonic()
            for kind, flags, stream, _ in read:
                if kind == DATA:
                    granted.add(stream)
                if stream and flags & END_STREAM:
                    done[stream] = (now - since) * 1000
        return [(done[2 * i + 1], 2 * i + 1 in granted) for i in range(len(all_ids))]

    def close(self):
        self.socket.close()
