"""A language model behind a server on this machine, as far as a test can tell: it knows one thing of every question."""

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Speaks the formats of OpenAI's chat completions and completions, and keeps what it was sent.

    Args:
        write: the reply to a prompt and all that was sent with it; where None, `write_reply` of the prompt.
    """

    def __init__(self, write: Callable[[str, dict], str] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.write = write or (lambda prompt, _: write_reply(prompt))
        self.payloads: list[tuple[str, dict]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.payloads.append((self.path, payload))
        prompt = payload["messages"][-1]["content"] if "messages" in payload else payload["prompt"]
        text = self.server.write(prompt if isinstance(prompt, str) else prompt[0], payload)
        for stop in payload["stop"]:
            text = text.split(stop)[0]
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "text": text, "finish_reason": "stop"}
        body = json.dumps({"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def say(question: str) -> str:
    """What the server's model thinks of a question."""
    return f"It is known of this:\n{question}"


def write_reply(prompt: str) -> str:
    """The answer to the last question of a prompt, fenced in one of the ways of chat models."""
    text = say(re.findall(r"^Question: (.*)$", prompt, re.MULTILINE)[-1])
    forms = [
        f"{text}\n```",
        f"```\n{text}\n```",
        text,
        f"```text\n{text}\n```\nAnything else?",
        f"# Explanation:\n```\n{text}\n```",
        f"Here it is:\n\n```\n{text}\n```",
        f"{text}\n```\n\n# Query:\n```\nQuestion: another\n```\n\n# Explanation:\n```\nno\n```",
    ]
    return forms[len(text) % len(forms)]
