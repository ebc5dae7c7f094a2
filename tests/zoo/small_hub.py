"""A Hugging Face hub that fits in a test: a real HTTP server which keeps what is pushed and gives it back.

It answers the requests that huggingface_hub 2.4 makes for a new repository whose files are all uploaded in the commit.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c" * 40


class SmallHub(ThreadingHTTPServer):
    """Repository -> path -> content, and the metadata of the cards that it was asked to check."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.cards: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    server: SmallHub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        repo = "/".join(path.split("/")[3:5])
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.server.repos.setdefault(name, {})
            self._json({"url": f"{self.server.url}/{name}"})
        elif path == "/api/validate-yaml":
            self.server.cards.append(json.loads(body)["content"])
            self._json({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for file in json.loads(body)["files"]
            ]
            self._json({"files": files})
        elif "/commit/" in path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.repos[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._json({"success": True, "commitUrl": f"{self.server.url}/{repo}/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self._missing("RepoNotFound")

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/.+", path):
            if found[1] not in self.server.repos:
                return self._missing("RepoNotFound")
            siblings = [{"rfilename": name} for name in self.server.repos[found[1]]]
            return self._json({"id": found[1], "sha": COMMIT, "siblings": siblings})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/.+", path):
            files = self.server.repos[found[1]]
            return self._json(
                [{"type": "file", "path": name, "size": len(files[name]), "oid": _hash(files[name])} for name in files]
            )
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            files = self.server.repos.get(found[1])
            if files is None or found[2] not in files:
                return self._missing("RepoNotFound" if files is None else "EntryNotFound")
            content = files[found[2]]
            return self._answer(content, {"ETag": f'"{_hash(content)}"', "X-Repo-Commit": COMMIT})
        return self._missing("RepoNotFound")

    do_HEAD = do_GET  # noqa: N815

    def _json(self, value: Any) -> None:
        self._answer(json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _missing(self, code: str) -> None:
        self._answer(b"", {"X-Error-Code": code}, status=404)

    def _answer(self, content: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        pass


def _hash(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()  # noqa: S324 -- git's
