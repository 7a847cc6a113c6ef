"""An unmodified realtime-py client that subscribes to row changes and tells what it gets. README.md tells the contract."""

import asyncio
import json
import os
import sys

from realtime import AsyncRealtimeClient


def say(kind, **fields):
    print(json.dumps({"kind": kind, **fields}, default=str), flush=True)


def listen(channel, bindings):
    for number, binding in enumerate(bindings):
        wanted = {key: binding.get(key) for key in ("table", "schema", "filter", "select")}

        def on_change(payload, number=number):
            data = payload["data"]
            change = {key: data.get(key) for key in ("schema", "table", "commit_timestamp", "errors", "columns")}
            say(
                "change",
                binding=number,
                ids=payload["ids"],
                eventType=data["type"],
                new=data.get("record") or {},
                old=data.get("old_record") or {},
                **change,
            )

        channel.on_postgres_changes(binding.get("event", "*"), on_change, **wanted)

    def on_system(payload):
        payload = payload if isinstance(payload, dict) else payload.model_dump()
        say("system", **payload)
        if payload["extension"] == "postgres_changes" and payload["status"] == "ok":
            say("subscribed")

    channel.on_system(on_system)


async def commands():
    """The lines of stdin as values, until it ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        if line.strip():
            yield json.loads(line)


async def main():
    url = os.environ["ROWCAST_URL"].rstrip("/") + os.environ.get("SOCKET_PATH", "/realtime/v1")
    retries = int(os.environ.get("MAX_RETRIES", 5))
    client = AsyncRealtimeClient(url, os.environ["ROWCAST_KEY"], max_retries=retries)
    try:
        await client.connect()
    except Exception as error:
        say("error", message=str(error))
        return
    if token := os.environ.get("ROWCAST_TOKEN"):
        await client.set_auth(token)

    channel = client.channel(os.environ.get("TOPIC", "test"))
    listen(channel, json.loads(os.environ.get("BINDINGS", '[{"event": "*", "schema": "public"}]')))

    def on_status(status, error):
        say("status", status=status.value, **({"message": str(error)} if error else {}))

    # In the background, so that commands are obeyed while the join is pending.
    joining = asyncio.create_task(channel.subscribe(on_status))

    async for command in commands():
        match command["cmd"]:
            case "set_auth":
                await client.set_auth(command["token"])
            case "unsubscribe":
                await client.remove_channel(channel)
                say("unsubscribed", result="ok")
            case "exit":
                break
            case other:
                say("error", message=f"no command is called {other}")
    joining.cancel()
    await client.close()


asyncio.run(main())
