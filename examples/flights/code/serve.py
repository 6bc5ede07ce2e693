"""Serves the model that train.py wrote: POST /predict with `{"instances": [{...}]}`."""

import json
import os
import pathlib
import signal
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import xgboost

import features

MODEL = pathlib.Path(os.environ["MOONSHOT_INPUTS"]) / "model"
BOOSTER = xgboost.Booster(model_file=MODEL / "model.json")
BOOSTER.set_param({"nthread": 1})
WORDS = json.loads((MODEL / "words.json").read_text())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(200, {"ready": True})

    def do_POST(self) -> None:
        try:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            instances = json.loads(body)["instances"]
            table = pd.DataFrame(instances).reindex(columns=features.COLUMNS)
        except (KeyError, TypeError, ValueError) as error:
            self.answer(400, {"error": f'send {{"instances": [{{...}}]}}: {error}'})
            return
        predicted = BOOSTER.inplace_predict(features.matrix(table, WORDS))
        self.answer(200, {"predictions": [round(float(minutes), 2) for minutes in predicted]})

    def answer(self, status: int, value: dict) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def server_bind(self) -> None:
        # The standard server looks up its own name here, which can take many seconds.
        socketserver.TCPServer.server_bind(self)


def main() -> None:
    server = Server((os.environ["MOONSHOT_BIND"], int(os.environ["PORT"])), Handler)
    # `shutdown` waits for the serving loop, so it must not be called from it.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"serving on port {os.environ['PORT']}", flush=True)
    server.serve_forever()


main()
