"""A collector: writes what it is sent, decoded by OpenTelemetry's own messages, as lines of JSON."""

import http.server
import json
import sys

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

out = open(sys.argv[1], "a", buffering=1)


def plain(attributes):
    return {one.key: one.value.string_value or one.value.int_value for one in attributes}


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/traces":
            request = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                service = plain(resource.resource.attributes)["service.name"]
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        out.write(json.dumps({
                            "span": span.name, "service": service, "trace": span.trace_id.hex(), "id": span.span_id.hex(),
                            "parent": span.parent_span_id.hex(), "kind": span.kind, "status": span.status.code,
                            "ms": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6, **plain(span.attributes)}) + "\n")
        elif self.path == "/v1/logs":
            request = ExportLogsServiceRequest.FromString(body)
            for resource in request.resource_logs:
                service = plain(resource.resource.attributes)["service.name"]
                for scope in resource.scope_logs:
                    for record in scope.log_records:
                        out.write(json.dumps({"log": MessageToDict(record.body).get("stringValue"), "service": service,
                                              "severity": record.severity_text}) + "\n")
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler)
server.serve_forever()
