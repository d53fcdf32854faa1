"""A turn over gRPC, delta by delta: python examples/chat.py SESSION TEXT."""

import sys

import grpc

from turnwire.v1.message_pb2 import Message
from turnwire.v1.part_pb2 import Part, Text
from turnwire.v1.turn_service_pb2 import ChatRequest
from turnwire.v1.turn_service_pb2_grpc import TurnServiceStub

session, text = sys.argv[1:3]
server = sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1:50051"
turns = TurnServiceStub(grpc.insecure_channel(server))
message = Message(parts=[Part(text=Text(text=text))])
for frame in turns.Chat(ChatRequest(parent=session, message=message)):
    for event in frame.events:
        if event.HasField("text_delta"):
            print(event.cursor, repr(event.text_delta.text))
