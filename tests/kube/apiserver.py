#!/usr/bin/env python3
"""An HTTPS and an HTTP server on loopback that play an API server, its faults first of all.

usage: apiserver.py DIR    certificates are made in DIR; the ports are printed; ends with its input

The first part of a path names a scene; scenes share nothing, so each test has its own. What follows
is a page of faults (class Faults) or the pods of play.py.
"""
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import play  # noqa: E402


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def make_certificates(folder):
    """ca, server (127.0.0.1 and api.tranche.test), client (CN=node-a), and another ca."""
    def path(name):
        return os.path.join(folder, name)

    for ca in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-subj", f"/CN={ca}", "-keyout", path(ca + ".key"), "-out", path(ca + ".crt"))
    for name, subject, extra in (("server", "/CN=kube-apiserver", "subjectAltName=IP:127.0.0.1,DNS:api.tranche.test"),
                                 ("client", "/O=system:nodes/CN=node-a", "extendedKeyUsage=clientAuth"),
                                 ("named", "/CN=kube-apiserver", "subjectAltName=DNS:api.tranche.test")):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject,
                "-keyout", path(name + ".key"), "-out", path(name + ".csr"))
        with open(path(name + ".ext"), "w", encoding="ascii") as out:
            out.write(extra + "\n")
        openssl("x509", "-req", "-in", path(name + ".csr"), "-CA", path("ca.crt"), "-CAkey", path("ca.key"),
                "-CAcreateserial", "-days", "2", "-extfile", path(name + ".ext"), "-out", path(name + ".crt"))


def status(code, reason, message, **details):
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason,
            "code": code, "details": details}


class Faults:
    """One fault a path, counted per scene: ?n=2 spoils the first two requests."""

    def __init__(self):
        self.lock = threading.Lock()
        self.seen = {}

    def serve(self, request, scene, path, query):
        with self.lock:
            times = self.seen.setdefault((scene, path), [])
            times.append(time.monotonic())
            tries = len(times)
        page = getattr(self, "page_" + path.strip("/").split("/")[0].replace("-", "_"), None)
        if page is None:
            request.reply(404, status(404, "NotFound", f'"{path}" not found'))
        elif "n" in query and tries > int(query["n"]):
            request.reply(200, {"tries": tries, "at": [t - times[0] for t in times], "method": request.command,
                                "body": request.body.decode()})
        else:
            page(request, query)

    @staticmethod
    def page_echo(request, _query):
        request.reply(200, {"method": request.command, "path": request.path, "headers": dict(request.headers),
                            "body": request.body.decode(), "peer": request.peer_name()})

    @staticmethod
    def page_status(request, query):
        code = int(query["code"])
        request.reply(code, status(code, query.get("reason", ""), query.get("message", "")))

    @staticmethod
    def page_throttle(request, query):
        code = int(query.get("code", 429))
        headers = {"Retry-After": query["after"]} if "after" in query else {}
        request.reply(code, status(code, "TooManyRequests", "too many", retryAfterSeconds=int(query.get("detail", 0))),
                      headers)

    @staticmethod
    def page_hang(request, _query):
        request.wait_for_peer(30)

    @staticmethod
    def page_drop(request, _query):
        request.drop()

    @staticmethod
    def page_cut(request, _query):
        request.head(200, 1000)
        request.wfile.write(b'{"kind": "Pod", "metadata": {"name": "ha')
        request.drop()

    @staticmethod
    def page_slow(request, _query):
        request.head(200, 100000)
        for _ in range(300):
            request.wfile.write(b" ")
            request.wfile.flush()
            time.sleep(0.05)

    @staticmethod
    def page_huge(request, query):
        request.head(200, int(query["mb"]) << 20)
        block = b'"' + b"x" * ((1 << 20) - 2) + b'"'
        for _ in range(int(query["mb"])):
            request.wfile.write(block)

    @staticmethod
    def page_plain(request, query):
        code = int(query.get("code", 200))
        request.reply(code, query["text"].encode(), {"Content-Type": "text/html"})

    @staticmethod
    def page_redirect(request, _query):
        request.reply(302, b"", {"Location": "/x/echo"})

    @staticmethod
    def page_token(request, query):
        if request.headers.get("Authorization") == "Bearer " + query["is"]:
            request.reply(200, {"ok": True})
        else:
            request.reply(401, status(401, "Unauthorized", "Unauthorized"))


class Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults = Faults()
    stage = play.Stage()

    def log_message(self, *_):
        pass

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def handle(self):
        try:
            super().handle()
        except (OSError, ValueError):
            self.close_connection = True

    def peer_name(self):
        if not hasattr(self.connection, "getpeercert"):
            return None
        subject = (self.connection.getpeercert() or {}).get("subject", ())
        return dict(pair for part in subject for pair in part).get("commonName")

    def head(self, code, length=None, headers=None):
        self.send_response(code)
        headers = dict(headers or {})
        headers.setdefault("Content-Type", "application/json")
        if length is None:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(length)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def reply(self, code, body, headers=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.head(code, len(data), headers)
        self.wfile.write(data)

    def drop(self):
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def wait_for_peer(self, seconds):
        """Until the client hangs up."""
        self.close_connection = True
        self.connection.settimeout(seconds)
        try:
            self.connection.recv(1)
        except OSError:
            pass

    def serve(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        _, scene, rest = url.path.split("/", 2)
        if rest.startswith(("api/", "apis/", "stage/")):
            self.stage.serve(self, scene, "/" + rest, query)
        else:
            self.faults.serve(self, scene, "/" + rest, query)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, context=None):
        super().__init__(("127.0.0.1", 0), Request)
        self.context = context

    def finish_request(self, request, client_address):
        if self.context:
            request.settimeout(10)
            try:
                request = self.context.wrap_socket(request, server_side=True)
            except (OSError, ssl.SSLError):
                return
            request.settimeout(None)
        super().finish_request(request, client_address)

    def shutdown_request(self, request):
        self.close_request(request)


def tls(folder, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(folder, name + ".crt"), os.path.join(folder, name + ".key"))
    context.load_verify_locations(os.path.join(folder, "ca.crt"))
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def main(folder):
    make_certificates(folder)
    servers = [Server(tls(folder, "server")), Server(), Server(tls(folder, "named"))]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(*(server.server_address[1] for server in servers), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
