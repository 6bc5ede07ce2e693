"""A program that answers gRPC: echoes a stream, fails when told to, or hangs. Messages are plain bytes."""

import os
import time
from concurrent import futures

import grpc


def echo(messages, context):
    for message in messages:
        yield message.upper()


def fail(message, context):
    context.abort(grpc.StatusCode[message.decode()], "as asked")


def hang(message, context):
    time.sleep(10)
    return message


handlers = grpc.method_handlers_generic_handler("test.Echo", {
    "Echo": grpc.stream_stream_rpc_method_handler(echo),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Hang": grpc.unary_unary_rpc_method_handler(hang),
})
server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((handlers,))
server.add_insecure_port(f"127.0.0.1:{os.environ['PORT']}")
server.start()
server.wait_for_termination()
