-- Broadcasts bytes when the transaction commits; see realtime.send.
CREATE OR REPLACE FUNCTION realtime.send_binary(payload bytea, event text, topic text, private boolean DEFAULT true)
    RETURNS void
    LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM pg_catalog.set_config('realtime.topic', send_binary.topic, true);
    INSERT INTO realtime.messages (binary_payload, event, topic, private, extension)
    VALUES (send_binary.payload, send_binary.event, send_binary.topic, send_binary.private, 'broadcast');
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'WarnSendingBroadcastMessage: %', SQLERRM;
END
$$;
