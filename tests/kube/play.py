"""A small API server in memory: pods, nodes, events and leases that are listed, watched, made, patched,
bound and deleted; and what it does wrong when told to.

POST /SCENE/stage/faults {"list": [...], "watch": [...]} spoils the next ones, in that order:
    list:   429 500 drop cut garbage gone (the page's token is no longer known) huge
    write:  429 500 403 drop (of one object, reading it included)
    watch:  429 500 drop cut end garbage silent gone (410) gone-event gone-reason error-event huge bytes
POST /SCENE/stage/compact  forgets the events so far: a watch from before is gone
POST /SCENE/stage/hangup   ends every watch, as a restart does
POST /SCENE/stage/blind    takes changes from here on out of running watches (a lost event)
GET  /SCENE/stage/log      the queries so far
"""
import json
import threading
import time
import uuid

ANNOTATION_BYTES_MAX = 256 << 10  # of one object
PLURALS = {"pods": "Pod", "nodes": "Node", "events": "Event", "leases": "Lease"}


def status(code, reason, message):
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message,
            "code": code, "metadata": {}}


def merge(into, patch, strategic=False):
    """RFC 7386; or as the server merges its own kinds, as far as a node's conditions need it."""
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value, strategic)
        elif strategic and key == "conditions" and isinstance(into.get(key), list):
            types = [c["type"] for c in value]
            into[key] = [c for c in into[key] if c["type"] not in types] + value
        else:
            into[key] = value


def annotation_bytes(obj):
    """As the server counts them: names and values."""
    annotations = obj["metadata"].get("annotations") or {}
    return sum(len(name.encode()) + len(value.encode()) for name, value in annotations.items())


def matches(obj, query):
    field = query.get("fieldSelector")
    if field and field.startswith("metadata.name="):
        if obj["metadata"]["name"] != field.split("=", 1)[1]:
            return False
    elif field:
        assert field.startswith("spec.nodeName="), field
        if obj.get("spec", {}).get("nodeName", "") != field.split("=", 1)[1]:
            return False
    label = query.get("labelSelector")
    if label:
        key, value = label.split("=", 1)
        return obj["metadata"].get("labels", {}).get(key) == value
    return True


class Scene:
    def __init__(self):
        self.changed = threading.Condition()
        self.objects = {}
        self.version = 1000
        self.events = []  # (version, plural, space, before, after)
        self.floor = 0
        self.hangups = 0
        self.is_blind = False
        self.faults = {"list": [], "watch": [], "write": []}
        self.log = {"list": [], "watch": [], "write": []}

    def store(self, key, after):
        """With self.changed held. AFTER None deletes."""
        before = self.objects.get(key)
        self.version += 1
        if after is None:
            del self.objects[key]
        else:
            after["metadata"]["resourceVersion"] = str(self.version)
            self.objects[key] = after
        self.events.append((self.version, key[0], key[1], json.loads(json.dumps(before)),
                            json.loads(json.dumps(after))))
        self.changed.notify_all()

    def fault(self, verb):
        return self.faults[verb].pop(0) if self.faults[verb] else None


class Stage:
    def __init__(self):
        self.lock = threading.Lock()
        self.scenes = {}

    def serve(self, request, name, path, query):
        with self.lock:
            scene = self.scenes.setdefault(name, Scene())
        parts = path.strip("/").split("/")
        if parts[0] == "stage":
            self.direct(request, scene, parts[1])
            return
        parts = parts[2:] if parts[0] == "api" else parts[3:]
        space = ""
        if parts[0] == "namespaces":
            space, parts = parts[1], parts[2:]
        plural, rest = parts[0], parts[1:]
        if not rest and request.command == "GET":
            (self.watch if query.get("watch") else self.list)(request, scene, plural, space, query)
        else:
            self.write(request, scene, plural, space, rest)

    @staticmethod
    def direct(request, scene, what):
        with scene.changed:
            if what == "log":
                request.reply(200, scene.log)
                return
            if what == "faults":
                scene.faults.update(json.loads(request.body))
            elif what == "compact":
                scene.version += 1
                scene.floor = scene.version
                scene.events.clear()
            elif what == "blind":
                scene.is_blind = True
            scene.hangups += what in ("hangup", "compact")
            scene.changed.notify_all()
        request.reply(200, {})

    @staticmethod
    def spoil(request, fault):
        """True when FAULT was the whole answer."""
        if fault == "429":
            request.reply(429, status(429, "TooManyRequests", "slow down"), {"Retry-After": "1"})
        elif fault in ("500", "403"):
            request.reply(int(fault), status(int(fault), "InternalError", "etcd is away"))
        elif fault == "gone":
            request.reply(410, status(410, "Expired", "too old resource version"))
        elif fault == "drop":
            request.drop()
        elif fault == "silent":
            request.wait_for_peer(60)
        elif fault == "garbage":
            request.reply(200, b"}{ this is not JSON")
        else:
            return False
        return True

    def list(self, request, scene, plural, space, query):
        with scene.changed:
            scene.log["list"].append(query)
            fault = scene.fault("list")
            keys = sorted(k for k in scene.objects if k[0] == plural and (not space or k[1] == space) and
                          matches(scene.objects[k], query))
            items = [scene.objects[k] for k in keys]
            version = scene.version
        if fault == "gone" and "continue" not in query:
            with scene.changed:
                scene.faults["list"].insert(0, fault)
            fault = None
        if self.spoil(request, fault):
            return
        at = int(query.get("continue", "0"))
        limit = int(query.get("limit", len(items) or 1))
        page = items[at:at + limit]
        meta = {"resourceVersion": str(version)}
        if at + limit < len(items):
            meta["continue"] = str(at + limit)
        if fault == "huge" and page:
            page = [dict(page[0], padding="x" * (3 << 20))] + page[1:]
        body = json.dumps({"kind": PLURALS[plural] + "List", "apiVersion": "v1", "metadata": meta,
                           "items": page or None}).encode()
        if fault == "cut":
            request.head(200, len(body))
            request.wfile.write(body[:len(body) * 2 // 3])
            request.drop()
        else:
            request.reply(200, body)

    def watch(self, request, scene, plural, space, query):
        version = int(query["resourceVersion"])
        with scene.changed:
            scene.log["watch"].append(query)
            fault = scene.fault("watch")
            hangups = scene.hangups
            expired = version < scene.floor
        if self.spoil(request, "gone" if expired else fault):
            return
        request.head(200)
        if fault == "gone-event":
            self.send(request, "ERROR", status(410, "Expired", "too old resource version: 1 (2)"))
        elif fault == "gone-reason":
            self.send(request, "ERROR", {"kind": "Status", "reason": "Expired", "message": "too old"})
        elif fault == "error-event":
            self.send(request, "ERROR", status(500, "InternalError", "etcd is away"))
        elif fault != "end":
            self.stream(request, scene, (plural, space, query), version, (fault, hangups))
        request.wfile.write(b"0\r\n\r\n")

    def send(self, request, kind, obj, by_bytes=False):
        line = json.dumps({"type": kind, "object": obj}).encode() + b"\n"
        for i in range(0, len(line), 7) if by_bytes else (0,):
            request.chunk(line[i:i + 7] if by_bytes else line)

    def stream(self, request, scene, what, version, how):
        plural, space, query = what
        fault, hangups = how
        end = time.monotonic() + int(query["timeoutSeconds"])
        bookmark = time.monotonic() + 0.5
        while time.monotonic() < end:
            with scene.changed:
                if not scene.events or scene.events[-1][0] <= version or scene.is_blind:
                    scene.changed.wait(0.1)
                if scene.hangups != hangups:
                    return
                fresh = [] if scene.is_blind else [e for e in scene.events if e[0] > version]
                latest = scene.version
            for number, kind, place, before, after in fresh:
                version = number
                was = before is not None and matches(before, query)
                now = after is not None and matches(after, query)
                if kind != plural or (space and place != space) or not (was or now):
                    continue
                verb = "ADDED" if not was else "MODIFIED" if now else "DELETED"
                obj = after if now else before
                obj["metadata"]["resourceVersion"] = str(number)
                if fault == "cut":
                    request.chunk(json.dumps({"type": verb, "object": obj}).encode()[:40])
                    request.drop()
                    return
                if fault == "huge":
                    fault = None
                    obj["padding"] = "x" * (3 << 20)
                self.send(request, verb, obj, fault == "bytes")
            if time.monotonic() > bookmark and not scene.is_blind:
                version = max(version, latest)
                self.send(request, "BOOKMARK", {"kind": PLURALS[plural], "metadata": {"resourceVersion": str(version)}})
                bookmark = time.monotonic() + 0.5

    def write(self, request, scene, plural, space, rest):
        body = json.loads(request.body) if request.body else {}
        with scene.changed:
            scene.log["write"].append({"method": request.command, "path": "/".join([plural, space] + rest),
                                       "body": body})
            fault = scene.fault("write")
            name = rest[0] if rest else body.get("metadata", {}).get("name")
            key = (plural, space, name)
            method = request.command
            if request.headers.get("Content-Type", "").startswith("application/strategic-merge"):
                method = "STRATEGIC"
            answer = None if fault else self.change(method, scene, key, rest[1:], body)
        if not self.spoil(request, fault):
            request.reply(*answer)

    @staticmethod
    def change(method, scene, key, sub, body):
        now = scene.objects.get(key)
        missing = (404, status(404, "NotFound", f'{key[0]} "{key[2]}" not found'))
        conflict = (409, status(409, "Conflict", f'{key[0]} "{key[2]}": the object has been modified'))
        wanted = body.get("metadata", {}) if isinstance(body, dict) else {}
        if sub == ["binding"]:
            if now is None:
                return missing
            if now["metadata"]["uid"] != wanted.get("uid") or now["spec"].get("nodeName"):
                return conflict
            bound = json.loads(json.dumps(now))
            bound["spec"]["nodeName"] = body["target"]["name"]
            bound["metadata"].setdefault("annotations", {}).update(wanted.get("annotations", {}))
            scene.store(key, bound)
            return 201, {"kind": "Status", "status": "Success", "code": 201}
        if method == "POST":
            if now is not None:
                return 409, status(409, "AlreadyExists", f'{key[0]} "{key[2]}" already exists')
            body["metadata"].setdefault("uid", str(uuid.uuid4()))
            if key[1]:
                body["metadata"]["namespace"] = key[1]
            scene.store(key, body)
            return 201, body
        if now is None:
            return missing
        if wanted.get("resourceVersion") not in (None, now["metadata"]["resourceVersion"]):
            return conflict
        if method == "DELETE":
            scene.store(key, None)
            return 200, {"kind": "Status", "status": "Success"}
        if method == "GET":
            return 200, now
        is_patch = method in ("PATCH", "STRATEGIC")
        after = json.loads(json.dumps(now if is_patch else body))
        if is_patch:
            merge(after, body, method == "STRATEGIC")
        after["metadata"]["uid"] = now["metadata"]["uid"]
        if annotation_bytes(after) > ANNOTATION_BYTES_MAX:
            return 422, status(422, "Invalid", f'{key[0]} "{key[2]}" is invalid: metadata.annotations: Too long: may not '
                                               f"be more than {ANNOTATION_BYTES_MAX} bytes")
        scene.store(key, after)
        return 200, after
