"""An unmodified realtime-py client on a channel: broadcasts, presence, private channels. README.md tells the contract."""

import asyncio
import json
import os
import sys

from realtime import AsyncRealtimeClient


def say(kind, **fields):
    print(json.dumps({"kind": kind, **fields}, default=str), flush=True)


def people(state):
    return {
        key: [{name: value for name, value in meta.items() if name != "presence_ref"} for meta in metas]
        for key, metas in state.items()
    }


def on_broadcast(message):
    meta = message.get("meta")
    say("broadcast", event=message["event"], payload=message["payload"], **({"meta": meta} if meta else {}))


def on_system(payload):
    say("system", **(payload if isinstance(payload, dict) else payload.model_dump()))


def on_status(status, error):
    say("status", status=status.value, **({"message": str(error)} if error else {}))


async def commands():
    """The lines of stdin as values, until it ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        if line.strip():
            yield json.loads(line)


async def main():
    url = os.environ["ROWCAST_URL"].rstrip("/") + os.environ.get("SOCKET_PATH", "/realtime/v1")
    client = AsyncRealtimeClient(url, os.environ["ROWCAST_KEY"])
    await client.connect()
    if token := os.environ.get("ROWCAST_TOKEN"):
        await client.set_auth(token)

    config = {
        "broadcast": {"ack": False, "self": False},
        "presence": {"key": "", "enabled": False},
        "private": False,
        **json.loads(os.environ.get("CHANNEL_CONFIG", "{}")),
    }
    channel = client.channel(os.environ.get("TOPIC", "test"), {"config": config})
    # This library calls back by the event's name, and has no name for all of them.
    for event in os.environ.get("EVENTS", "e").split(","):
        channel.on_broadcast(event, on_broadcast)
    channel.on_system(on_system)
    if os.environ.get("PRESENCE"):
        channel.on_presence_sync(lambda: say("sync", state=people(channel.presence_state())))
        channel.on_presence_join(lambda key, _, new: say("join", key=key, count=len(new)))
        channel.on_presence_leave(lambda key, _, left: say("leave", key=key, count=len(left)))
    joining = None
    if not os.environ.get("NOT_JOINED"):
        # In the background, so that commands are obeyed while the join is pending.
        joining = asyncio.create_task(channel.subscribe(on_status))

    async for command in commands():
        try:
            match command["cmd"]:
                case "send":
                    await channel.send_broadcast(command["event"], command["payload"])
                    say("sent", result="ok")
                case "http_send":
                    sent = bytes(command["bytes"]) if "bytes" in command else command["payload"]
                    await channel.http_send(command["event"], sent)
                    say("sent", result="ok")
                case "track":
                    await channel.track(command["payload"])
                case "untrack":
                    await channel.untrack()
                case "set_auth":
                    await client.set_auth(command["token"])
                case "unsubscribe":
                    await client.remove_channel(channel)
                    say("unsubscribed", result="ok")
                case "exit":
                    break
                case other:
                    say("error", message=f"no command is called {other}")
        except Exception as error:
            say("error", message=str(error))
    if joining:
        joining.cancel()
    await client.close()


asyncio.run(main())
