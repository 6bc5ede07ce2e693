"""Streams messages through the gateway, each sent after the answer to the one before, and looks at errors."""

import queue
import sys
import time

import grpc

channel = grpc.insecure_channel(sys.argv[1], options=[("grpc.default_authority", "echo.default")])
echo = channel.stream_stream("/test.Echo/Echo")
fail = channel.unary_unary("/test.Echo/Fail")
hang = channel.unary_unary("/test.Echo/Hang")


def code(call, message, **options):
    try:
        call(message, **options)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    raise AssertionError("an error was expected")


# The gateway hears of a replica a moment after its App is ready.
deadline = time.time() + 30
while code(fail, b"ABORTED")[0] != "ABORTED":
    assert time.time() < deadline, code(fail, b"ABORTED")
    time.sleep(0.1)

words = queue.Queue()
words.put(b"word 0")
answers = echo(iter(words.get, None), timeout=30)
n_words = 0
for answer in answers:
    assert answer == f"WORD {n_words}".encode(), answer
    n_words += 1
    # The next one is sent only now.
    words.put(f"word {n_words}".encode() if n_words < 100 else None)
assert n_words == 100, n_words
big = bytes(3 << 20)
assert list(echo(iter([big, big]), timeout=30)) == [big, big]

assert code(fail, b"INVALID_ARGUMENT") == ("INVALID_ARGUMENT", "as asked")
assert code(fail, b"INTERNAL") == ("INTERNAL", "as asked")
assert code(fail, b"UNAVAILABLE") == ("UNAVAILABLE", "as asked")
name, details = code(hang, b"x")
assert name == "DEADLINE_EXCEEDED" and "did not answer in 3 s" in details, (name, details)
assert code(hang, b"x", timeout=0.5)[0] == "DEADLINE_EXCEEDED"
print(f"{n_words} messages there and back, one by one; errors as the program made them")
