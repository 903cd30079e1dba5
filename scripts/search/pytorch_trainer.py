#!/usr/bin/env python3
"""Trains a config with PyTorch, behind the command line of `trainer train`, for searches on PyTorch.

    TRAINER=target/release/trainer scripts/search/pytorch_trainer.py serve SOCKET &
    PYTORCH_SOCKET=SOCKET scripts/search/pytorch_trainer.py train --config FILE --data DIR --budget-tokens N …

The server loads PyTorch and numpy once, and each run is a fork of it; its python3 must have both. Without
PYTORCH_SOCKET, a run loads them itself. These variables are read, from the server's environment if there is
one:

    PYTORCH        eager, or compile: torch.compile then makes the model and both optimizers, as in
                   karpathy/autoresearch
    PYTORCH_SPEED  the factor by which training seconds are divided: 1.43 gives eager PyTorch the speed of
                   torch.compile without the compiling

Training seconds are those of the loop alone: two steps that do not count come first, so that compiling costs
nothing. The trainer makes the frame of the report, by a run of one step, and evaluates the weights that
PyTorch trained. Only the parts that searches of `--range few` meet are here; a config with others is refused.
"""
import argparse
import json
import os
import pathlib
import socket
import socketserver
import sys


class Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """Serves one run per connection, with one line each way."""

    max_children = 4


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        import pytorch_training

        said = pytorch_training.run(parse(json.loads(self.rfile.readline())))
        self.wfile.write(json.dumps(said).encode())


def serve(path):
    import pytorch_training  # noqa: F401: loaded here, so that each fork has it already

    pathlib.Path(path).unlink(missing_ok=True)
    with Server(path, Handler) as server:
        server.serve_forever()


def ask(path, arguments):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(json.dumps(arguments).encode() + b"\n")
        said = connection.makefile().read()
    return (
        json.loads(said)
        if said
        else sys.exit("the server's run died; its error stands where the server was started")
    )


def parse(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["train"])
    parser.add_argument("--config", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--budget-tokens", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cap-seconds", type=float, default=1e9)
    parser.add_argument("--evaluation-tokens", type=int, default=131_072)
    parser.add_argument("--splits", default="validation")
    parser.add_argument("--min-steps", type=int, help="as the trainer's; nothing here")
    parser.add_argument("--json", action="store_true", help="as the trainer's; always so here")
    return parser.parse_args(arguments)


def main():
    if sys.argv[1:2] == ["serve"]:
        return serve(sys.argv[2])
    args, path = parse(sys.argv[1:]), os.environ.get("PYTORCH_SOCKET")
    if path:
        said = ask(path, sys.argv[1:])
    else:
        import pytorch_training

        said = pytorch_training.run(args)
    print(json.dumps(said))
    return 0 if said["event"] == "finished" else 1


if __name__ == "__main__":
    sys.exit(main())
