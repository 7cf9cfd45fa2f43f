"""Pods and nodes that come, change and go: list and watch as an API server does them."""


class Stage:
    def serve(self, request, scene, path, query):
        request.reply(404, {"kind": "Status", "code": 404, "reason": "NotFound", "message": path + scene + str(query)})
